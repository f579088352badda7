"""A machine with small disks and no guest, for the tests of write-back: its disks are written from
outside, through its own QEMU while it runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt
import libvirt_qemu
import pytest

from hotspare.domain.extents import BLOCK, Extent, intersect, round_out, subtract
from hotspare.platforms.libvirt.platform import LibvirtPlatform
from hotspare.platforms.port import (
    Changes,
    DirtyContext,
    Export,
    Intent,
    PlatformAccess,
    Progress,
    Token,
    WriteBackSession,
)
from testbeds.kvm import Lab, SessionHost
from testbeds.kvm.procs import wait_for, wait_gone

from .source_reader import connect
from .target_rig import Reader, content_of

MIB = 1024 * 1024
ODD = 4 * MIB + 3 * 512
"""Bytes of a disk whose last block is a part of one."""


SOME = [Extent(n * BLOCK, BLOCK) for n in (0, 20, 32, 48, 64)]
"""Blocks of each kind: data, hole, data, zeroes that were written, and the odd end."""


needs_ovmf = pytest.mark.skipif(not Path("/usr/share/OVMF/OVMF_VARS_4M.fd").exists(),
                                reason="no OVMF")


def ignore(done: int, total: int) -> None:
    assert 0 <= done <= total


def guest_write(domain: Any, file: str, offset: int, length: int, pattern: int) -> None:
    """Write and flush as the guest would: through the device of a running machine whose disk
    ``file`` is."""
    def qmp(command: str, **arguments: Any) -> Any:
        answer = libvirt_qemu.qemuMonitorCommand(
            domain, json.dumps({"execute": command, "arguments": arguments}), 0)
        return json.loads(answer)["return"]

    front = next(b["qdev"] for b in qmp("query-block") if b["inserted"]["file"] == file)
    for words in (f"write -P {pattern} {offset} {length}", "flush"):
        # it prints to the standard output of QEMU, so that only a complaint comes back
        complaint = qmp("human-monitor-command",
                        **{"command-line": f'qemu-io -d {front} "{words}"'})
        assert complaint == "", complaint


class Machine:
    """A domain that is off, with a disk for each of ``formats``; vda, vdb, …"""

    def __init__(self, lab: Lab, host: SessionHost, formats: tuple[str, ...],
                 size: int = ODD) -> None:
        self.lab, self.host = lab, host
        self.name = f"wb-{os.urandom(3).hex()}"
        self.rule = os.urandom(4).hex()
        self.formats = {f"vd{'abcdef'[i]}": fmt for i, fmt in enumerate(formats)}
        self.paths = {d: host.storage_dir / f"{self.name}-{d}.{fmt}"
                      for d, fmt in self.formats.items()}
        self.task = 0
        for disk, path in self.paths.items():
            subprocess.run(["qemu-img", "create", "-q", "-f", self.formats[disk], str(path),
                            str(size)], check=True)
            lab.identity.own(path)
            # data, a hole, zeroes that are written, and data in the last block
            self._qemu_io(disk, "write -P 1 0 1M", "write -P 2 2M 192k", "write -z 3M 64k",
                          f"write -P 3 {size - 512} 512")
        self.define(self.xml())
        self.options: dict[str, str] = {}

    def xml(self, extra: str = "") -> str:
        disks = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type='{self.formats[d]}'/>"
            f"<source file='{p}'/><target dev='{d}' bus='virtio'/></disk>"
            for d, p in self.paths.items())
        return (f"<domain type='qemu'><name>{self.name}</name><memory unit='MiB'>16</memory>"
                "<os><type>hvm</type></os><features><acpi/></features>"
                f"<devices>{disks}{extra}</devices></domain>")

    def define(self, xml: str) -> None:
        """(Again) as ``xml`` says; what libvirt knew of it goes."""
        self.undefine()
        self.domain = self.host.conn.defineXML(xml)

    def undefine(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):
            self.host.conn.lookupByName(self.name).undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
                | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM)

    def intent(self) -> Intent:
        self.task += 1
        return Intent(self.rule, 1, self.task)

    @property
    def access(self) -> PlatformAccess:
        return PlatformAccess("test", "libvirt", self.host.uri,
                              {"socket_dir": str(self.host.socket_dir), **self.options})

    @contextmanager
    def platform(self) -> Iterator[LibvirtPlatform]:
        platform = LibvirtPlatform(self.access)
        try:
            yield platform
        finally:
            platform.close()

    # --- as its owner sees it ------------------------------------------------------------------

    def content(self, disk: str) -> bytes:
        """All bytes of a disk, by QEMU's own tool."""
        raw = self.paths[disk].with_suffix(".peek")
        subprocess.run(["qemu-img", "convert", "-U", "-f", self.formats[disk], "-O", "raw",
                        str(self.paths[disk]), str(raw)], check=True)
        try:
            return raw.read_bytes()
        finally:
            raw.unlink()

    def contents(self) -> dict[str, bytes]:
        return {disk: self.content(disk) for disk in self.paths}

    def write(self, disk: str, offset: int, length: int, pattern: int) -> None:
        """What a guest would write, while it runs, or somebody else, while it is off."""
        if self.domain.isActive():
            guest_write(self.domain, str(self.paths[disk]), offset, length, pattern)
        else:
            self._qemu_io(disk, f"write -P {pattern} {offset} {length}")

    def _qemu_io(self, disk: str, *commands: str) -> None:
        words = [word for command in commands for word in ("-c", command)]
        subprocess.run(["qemu-io", "-f", self.formats[disk], *words, str(self.paths[disk])],
                       check=True, stdout=subprocess.DEVNULL)

    def bitmaps(self, disk: str) -> dict[str, list[str]]:
        """Flags of the persistent bitmaps in a file that nobody has open."""
        done = subprocess.run(["qemu-img", "info", "-U", "--output=json", "-f",
                               self.formats[disk], str(self.paths[disk])],
                              capture_output=True, check=True)
        data = json.loads(done.stdout)["format-specific"]["data"]
        return {b["name"]: b["flags"] for b in data.get("bitmaps", ())}

    def checkpoint(self, intent: Intent, platform: LibvirtPlatform) -> Token:
        """What a published run leaves: its checkpoint, of the running machine."""
        point = platform.source.open_point(self.name, None, "off", intent)
        point.commit()
        assert point.token is not None
        return point.token

    def mark(self, intent: Intent) -> None:
        """A later checkpoint of the same rule, as one whose run was not published leaves it."""
        self.domain.checkpointCreateXML(
            f"<domaincheckpoint><name>{intent}</name><disks><disk name='vda' checkpoint='bitmap'/>"
            "</disks></domaincheckpoint>", 0)

    def start(self) -> None:
        """On, and paused: there is nothing that it could run."""
        self.domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)

    def kill9(self) -> None:
        self._kill(self.name)
        wait_for(lambda: not self.domain.isActive(), 10, "libvirt knows that it is off")

    def kill_receiver(self) -> None:
        self._kill(f"hs-rx-wb-{self.rule}")

    def _kill(self, name: str) -> None:
        pid = self.host.qemu_pids()[name]
        os.kill(pid, signal.SIGKILL)
        wait_gone(pid, 5)

    def stop(self) -> None:
        """Off in order, so that QEMU stores its bitmaps."""
        if self.domain.isActive():
            self.domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
        wait_for(lambda: not self.domain.isActive(), 10, "it is off")

    # --- what is left --------------------------------------------------------------------------

    def left(self) -> set[str]:
        def look() -> set[str]:
            places = (self.host.storage_dir, self.host.socket_dir,
                      *(Path(p) for k, p in self.options.items() if k == "scratch_dir"))
            found = {p.name for place in places for p in place.glob(f"*{self.rule}*")}
            found |= {d.name() for d in self.host.conn.listAllDomains()
                      if self.rule in d.name()}
            return found

        # a receiver that was told to end takes a moment
        wait_for(lambda: not any(n.startswith("hs-rx-") for n in look()), 10, "receivers ended")
        return look()

    def efi(self, chosen: bool = True) -> None:
        """Give it UEFI firmware; it has no variables before it is started. They lie where its
        owner has ``chosen``, or where libvirt puts them."""
        place = (f"<nvram>{self.host.storage_dir}/{self.name}_VARS.fd</nvram>" if chosen else "")
        self.define(self.xml().replace(
            "<os><type>hvm</type></os>",
            "<os firmware='efi'><type machine='q35'>hvm</type><firmware><feature enabled='no' "
            f"name='secure-boot'/></firmware>{place}</os>").replace("'MiB'>16<", "'MiB'>64<"))

    def variables(self) -> bytes | None:
        """Its UEFI variables, where libvirt keeps them."""
        found = list(self.host.base.rglob(f"{self.name}_VARS.fd"))
        return found[0].read_bytes() if found else None

    def remove(self) -> None:
        with contextlib.suppress(libvirt.libvirtError):     # a failed test may have lost it
            self.stop()
        self.undefine()
        for path in self.paths.values():
            path.unlink()


# --- what a workflow does ------------------------------------------------------------------------


def changed(export: Export, changes: Changes) -> list[Extent]:
    """The extents that ``changes`` names."""
    assert isinstance(changes, DirtyContext), changes
    found: list[Extent] = []
    with export.open() as endpoint:
        handle = connect(endpoint, changes.context)
        offset = 0
        while offset < handle.get_size():
            entries: list[int] = []
            handle.block_status(handle.get_size() - offset, offset,
                                lambda *a, into=entries: into.extend(a[2]) or 0)
            for length, flags in zip(entries[::2], entries[1::2], strict=True):
                if flags & changes.mask:
                    found.append(Extent(offset, min(length, handle.get_size() - offset)))
                offset += length
        handle.shutdown()
    return found


def overwrite(session: WriteBackSession, disk: str, extents: list[Extent], pattern: int,
              progress: Progress = ignore) -> int:
    """Preserve, then write; returns what preserve says."""
    copied = session.preserve(disk, extents, progress)
    with Reader(session.disks[disk]) as handle:
        for offset, length in intersect(extents, [Extent(0, handle.get_size())]):
            handle.pwrite(bytes([pattern]) * length, offset)
        handle.flush()
    return copied


def put_back(session: WriteBackSession) -> None:
    """Put back all that was preserved, as a failback that is undone does."""
    for disk, export in session.disks.items():
        kept = session.preserved(disk)
        if kept is None:
            continue
        extents = changed(kept.export, kept.holds)
        with Reader(kept.export) as old, Reader(export) as new:
            for offset, length in extents:
                data = bytes(old.pread(length, offset))
                if data.count(0) == len(data):
                    new.zero(length, offset)
                else:
                    new.pwrite(data, offset)
            new.flush()
        session.resize(disk, kept.size)


def check_kept(machine: Machine, session: WriteBackSession, before: Mapping[str, bytes]) -> None:
    """Whatever is not as it was before is preserved, and all that is preserved is what was."""
    for disk, export in session.disks.items():
        kept = session.preserved(disk)
        held = [] if kept is None else changed(kept.export, kept.holds)
        if kept is not None:
            old = content_of(kept.export)
            assert all(old[e.offset:e.end] == before[disk][e.offset:e.end] for e in held), disk
        now = content_of(export)
        other = [Extent(at, BLOCK) for at in range(0, len(now), BLOCK)
                 if now[at:at + BLOCK] != before[disk][at:at + BLOCK]]
        assert list(subtract(round_out(other, len(now)), held)) == [], disk


def blocks(*numbers: int) -> list[Extent]:
    return [Extent(n * BLOCK, BLOCK) for n in numbers]


Make = Callable[..., Machine]
