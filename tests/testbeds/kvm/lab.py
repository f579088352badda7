"""A lab: two hosts with storage, and guests on them."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import shutil
import signal
import tempfile
import threading
import uuid as uuids
import weakref
from pathlib import Path
from types import FrameType, TracebackType
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

import libvirt

from . import image, procs
from .accel import detect_accel
from .errors import TestbedError
from .guest import Guest, interval
from .host import SessionHost
from .ssh import SshServer
from .users import Identity, current

Firmware = Literal["bios", "uefi"]
Boot = Literal["disk", "kernel"]
Bus = Literal["virtio", "scsi"]

# skipped work that costs a second under emulation
QUICK = "nokaslr mitigations=off no_timer_check cryptomgr.notests audit=0"
PARENT = "HOTSPARE_TESTBED_DIR"
POOLS = {"a": "images", "b": "hotspare"}
_PREFIX = "hs-"
_STATE = "lab.json"
_active: weakref.WeakSet[Lab] = weakref.WeakSet()


class Lab:
    """Two hosts, "a" (pool `images`) and "b" (pool `hotspare`), in one directory that goes with it.

    Use it as a context manager. It also ends at the process's exit and on SIGTERM. What a process
    that was killed leaves is found by its state file and removed by `python -m testbeds.kvm down`.
    """

    def __init__(
        self,
        *,
        detached: bool = False,
        parent: Path | None = None,
        _attach: Path | None = None,
    ) -> None:
        self.detached = detached
        self.guests: dict[str, Guest] = {}
        self._owner = os.getpid()
        self._ssh: dict[str, SshServer] = {}
        self._lock = threading.RLock()
        self._stopped = False
        if _attach is None:
            self.identity = current()
            # /tmp and not TMPDIR: socket paths below it must stay shorter than 108 characters
            parent = parent or _default_parent()
            if len(str(parent)) > 16:
                raise TestbedError(
                    f"The directory {parent} is too long a path for QEMU's sockets.",
                    f"Use one of at most 16 characters (option --dir or variable {PARENT}), "
                    "or leave the default, /tmp.",
                )
            self.dir = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self.dir.chmod(0o755)
            self.identity.own(self.dir)
        else:
            state = json.loads((_attach / _STATE).read_text("utf-8"))
            self.dir = _attach
            self.detached = bool(state["detached"])
            self.identity = Identity(*state["identity"])
        self.a = SessionHost("a", self.dir / "a", self.identity)
        self.b = SessionHost("b", self.dir / "b", self.identity)
        self.hosts = {"a": self.a, "b": self.b}
        if _attach is not None:
            for item in state["guests"]:
                self.guests[item["name"]] = Guest(
                    self.hosts[item["host"]], item["name"], Path(item["serial"]),
                    tuple(Path(path) for path in item["disks"]), item["agent"],
                )  # fmt: skip

    @classmethod
    def attach(cls, directory: Path) -> Lab:
        """Return a handle on a lab that another process made."""
        return cls(_attach=directory)

    def __enter__(self) -> Lab:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Lab:
        """Start both hosts and define their pools."""
        if not self.detached:
            _active.add(self)
            _stop_on_termination()
        try:
            self._save()
            for name in ("logs", "boot"):
                (self.dir / name).mkdir(mode=0o755, exist_ok=True)
                self.identity.own(self.dir / name)
            # copies: the account of the hosts may not be able to read our cache
            guest = image.build()
            for source in (guest.kernel, guest.initrd):
                target = self.dir / "boot" / source.name
                if not target.exists():
                    shutil.copyfile(source, target)
                    self.identity.own(target)
            for host in self.hosts.values():
                host.start()
                self._pool(host)
        except BaseException:
            self.stop()
            raise
        return self

    def pool_name(self, host: SessionHost) -> str:
        """Return the name of a host's storage pool."""
        return POOLS[host.name]

    def define_guest(
        self,
        host: SessionHost,
        name: str,
        firmware: Firmware = "bios",
        *,
        disks: int = 1,
        agent: bool = True,
        memory_mib: int | None = None,
        fmt: image.DiskFormat = "qcow2",
        disk_gib: int = 1,
        network: Literal["user"] | None = "user",
        machine: str = "q35",
        rate: float = 10.0,
        boot: Boot = "disk",
        bus: Bus = "virtio",
        uuid: str | None = None,
        video: bool = True,
        dhcp: bool = False,
        extra_devices: str = "",
    ) -> Guest:
        """Make a guest's disks and define it; it is not started.

        `rate` is in journal records a second (0: none). `boot="kernel"` skips firmware and boot
        loader, which halves the time to boot; the disks are the same, so a copy of them still boots
        by firmware. Memory is 96 MiB by default, and 256 under UEFI, where GRUB needs that to find
        room for the kernel. With `dhcp` it asks for an address beside its fixed one, and listens on
        port 80. `extra_devices` is XML put among the devices as it is.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}", name):
            raise ValueError(f"{name!r} is no good guest name: use letters, digits, dot and hyphen")
        if boot == "kernel" and firmware == "uefi":
            raise ValueError("boot='kernel' goes round the firmware; use it with firmware='bios'")
        least = 256 if firmware == "uefi" else 96
        if memory_mib is not None and memory_mib < least:
            raise ValueError(f"the guest needs {least} MiB to boot this way, not {memory_mib}")
        arguments = f"hs.interval={interval(rate)} hs.disks={disks} hs.dhcp={int(dhcp)}"
        guest_image = image.build()
        paths = []
        for number in range(disks):
            path = host.storage_dir / f"{name}-{number}.{fmt}"
            if path.exists():
                raise TestbedError(f"The disk {path} exists.", "Use another guest name.")
            if number == 0:
                guest_image.boot_disk(path, fmt=fmt, size_gib=disk_gib, arguments=arguments)
            else:
                guest_image.data_disk(path, fmt=fmt, size_gib=disk_gib, label=f"hsdata{number}")
            self.identity.own(path)
            paths.append(path)
        serial = self.dir / "logs" / f"{host.name}-{name}.log"
        with contextlib.suppress(libvirt.libvirtError):
            host.conn.storagePoolLookupByName(POOLS[host.name]).refresh()
        host.conn.defineXML(
            self._domain_xml(
                name, paths, fmt, serial, firmware=firmware, agent=agent,
                memory_mib=memory_mib or least, network=network, machine=machine,
                boot=boot, bus=bus, uuid=uuid, video=video,
                extra_devices=extra_devices, arguments=arguments,
            )
        )  # fmt: skip
        guest = Guest(host, name, serial, tuple(paths), agent)
        self.guests[name] = guest
        self._save()
        return guest

    def guest(self, host: SessionHost, name: str, serial_log: Path | None = None) -> Guest:
        """Return a handle on a domain that something else made, such as a replica.

        Without a serial log, readiness and verification are asked of its agent.
        """
        return Guest(host, name, serial_log)

    def remove_guest(self, guest: Guest) -> None:
        """Remove a guest with its disks and console log."""
        guest.remove()
        if guest.serial_log is not None:
            guest.serial_log.unlink(missing_ok=True)
        self.guests.pop(guest.name, None)
        self._save()

    @property
    def ssh(self) -> SshServer:
        """An SshServer that reaches both hosts by their sockets, started on first use."""
        return self._ssh_server("ssh", None)

    def ssh_for(self, host: SessionHost) -> SshServer:
        """Return a host's own SshServer, started on first use.

        Its sessions have that host's environment, so that plain qemu+ssh://.../session finds it.
        """
        return self._ssh_server(f"ssh-{host.name}", host.environment())

    def _ssh_server(self, name: str, environment: dict[str, str] | None) -> SshServer:
        with self._lock:
            if name not in self._ssh:
                self._ssh[name] = SshServer(self.dir / name, self.identity, environment).start()
            return self._ssh[name]

    def stop(self) -> None:
        """End every guest and daemon and remove the directory. Calling it again does nothing."""
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
            _active.discard(self)
            for name in ("ssh", *(f"ssh-{host}" for host in self.hosts)):
                SshServer(self.dir / name, self.identity).stop()  # also those of an attached lab
            for host in self.hosts.values():
                host.stop()
            for pid in procs.using(self.dir, ("qemu", "libvirtd", "sshd", "virt-ssh-helper")):
                procs.send(pid, signal.SIGKILL)
                procs.wait_gone(pid, 5)
            shutil.rmtree(self.dir, ignore_errors=True)
            if self.dir.exists():  # something was still writing; once more, and now with errors
                shutil.rmtree(self.dir)

    def _save(self) -> None:
        state = {
            "detached": self.detached,
            "owner": None if self.detached else [self._owner, procs.start_time(self._owner)],
            "identity": [self.identity.name, self.identity.uid, self.identity.gid],
            "guests": [
                {
                    "name": guest.name,
                    "host": guest.host.name,
                    "serial": str(guest.serial_log),
                    "disks": [str(path) for path in guest.disk_paths],
                    "agent": guest.agent,
                }
                for guest in self.guests.values()
            ],
        }
        part = self.dir / f".{_STATE}"
        part.write_text(json.dumps(state, indent=1), "utf-8")
        part.replace(self.dir / _STATE)

    def _pool(self, host: SessionHost) -> None:
        name = POOLS[host.name]
        try:
            pool = host.conn.storagePoolLookupByName(name)
        except libvirt.libvirtError:
            xml = (
                f"<pool type='dir'><name>{name}</name>"
                f"<target><path>{escape(str(host.storage_dir))}</path></target></pool>"
            )
            pool = host.conn.storagePoolDefineXML(xml)
            pool.setAutostart(1)
        if not pool.isActive():
            pool.create()

    def _domain_xml(
        self, name: str, paths: list[Path], fmt: str, serial: Path, *, firmware: Firmware,
        agent: bool, memory_mib: int, network: str | None, machine: str, boot: Boot, bus: Bus,
        uuid: str | None, video: bool, extra_devices: str, arguments: str,
    ) -> str:  # fmt: skip
        kvm = detect_accel() == "kvm"
        start = ""
        if boot == "kernel":
            line = f"console=tty0 console=ttyS0 panic=-1 quiet {QUICK} {arguments}"
            start = (
                f"<kernel>{escape(str(self.dir))}/boot/vmlinuz</kernel>"
                f"<initrd>{escape(str(self.dir))}/boot/initrd.gz</initrd>"
                f"<cmdline>{escape(line)}</cmdline>"
            )
        # libvirt finds OVMF by the descriptors that the distribution ships, so no path is needed
        efi = firmware == "uefi"
        secure = "<firmware><feature enabled='no' name='secure-boot'/></firmware>" if efi else ""
        devices = []
        letter = "vd" if bus == "virtio" else "sd"
        for number, path in enumerate(paths):
            devices.append(
                f"<disk type='file' device='disk'><driver name='qemu' type='{fmt}' "
                f"discard='unmap'/><source file={quoteattr(str(path))}/>"
                f"<target dev='{letter}{chr(ord('a') + number)}' bus='{bus}'/></disk>"
            )
        if bus == "scsi":
            devices.append("<controller type='scsi' index='0' model='virtio-scsi'/>")
        if network:
            devices.append(f"<interface type='{network}'><model type='virtio'/></interface>")
        if agent:
            devices.append(
                "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/>"
                "</channel>"
            )
        if video:
            devices.append("<video><model type='vga' vram='16384' heads='1'/></video>")
        return (
            f"<domain type='{'kvm' if kvm else 'qemu'}'><name>{name}</name>"
            f"<uuid>{uuid or uuids.uuid4()}</uuid>"
            f"<memory unit='MiB'>{memory_mib}</memory><vcpu>1</vcpu>"
            f"<os{' firmware=' + quoteattr('efi') if efi else ''}>"
            f"<type arch='x86_64' machine={quoteattr(machine)}>hvm</type>{secure}{start}</os>"
            "<features><acpi/></features><on_poweroff>destroy</on_poweroff>"
            "<on_reboot>restart</on_reboot><on_crash>destroy</on_crash><devices>"
            f"{''.join(devices)}{extra_devices}"
            f"<serial type='file'><source path={quoteattr(str(serial))} append='on'/></serial>"
            "<memballoon model='none'/></devices></domain>"
        )


def _default_parent() -> Path:
    return Path(os.environ.get(PARENT) or "/tmp")


def find_labs(parent: Path | None = None) -> list[Path]:
    """Return the directories of all labs on this machine that we may manage."""
    found = []
    for state in (parent or _default_parent()).glob(f"{_PREFIX}*/{_STATE}"):
        with contextlib.suppress(OSError):
            if os.geteuid() in (0, state.stat().st_uid):
                found.append(state.parent)
    return sorted(found)


def is_stale(directory: Path) -> bool:
    """Return whether the process that made a lab is gone without having removed it."""
    try:
        owner = json.loads((directory / _STATE).read_text("utf-8"))["owner"]
    except (OSError, ValueError, KeyError):
        return False
    return owner is not None and procs.start_time(owner[0]) != owner[1]


def is_detached(directory: Path) -> bool:
    """Return whether a lab was made to outlive the command that made it."""
    try:
        return bool(json.loads((directory / _STATE).read_text("utf-8"))["detached"])
    except (OSError, ValueError, KeyError):
        return False


def detached_labs(directories: list[Path]) -> list[Path]:
    """Return those of the labs that outlive the command that made them."""
    return [directory for directory in directories if is_detached(directory)]


def _stop_all() -> None:
    for lab in list(_active):
        if lab._owner == os.getpid():
            lab.stop()


atexit.register(_stop_all)


def _stop_on_termination() -> None:
    """Also clean up on SIGTERM. SIGINT needs nothing: it raises and atexit runs."""
    if threading.current_thread() is not threading.main_thread():
        return
    previous = signal.getsignal(signal.SIGTERM)
    if previous is _terminated or previous not in (signal.SIG_DFL, None):
        return  # someone else's handler decides; atexit does the rest when it exits
    signal.signal(signal.SIGTERM, _terminated)


def _terminated(number: int, _frame: FrameType | None) -> None:
    _stop_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
