"""A hypervisor host for tests: a libvirtd session daemon with directories of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from . import image, procs
from .accel import detect_accel
from .errors import MissingPrerequisite, TestbedError
from .tools import SYSTEM_PATH, need
from .users import Identity, current

try:
    import libvirt
except ImportError as _error:  # pragma: no cover - depends on the machine
    raise MissingPrerequisite(
        f"Python cannot import libvirt ({_error}).",
        "Install the package python3-libvirt and use a Python that sees system packages.",
    ) from _error

# libvirt's default handler prints every error to standard error, expected ones included
libvirt.registerErrorHandler(lambda *_args: None, None)

_QEMU_CONF = """\
# virtlogd would be one more daemon to start and end for each host
stdio_handler = "file"
# an unprivileged daemon cannot load AppArmor profiles or SELinux labels for its guests
security_driver = "none"
"""


class SessionHost:
    """One libvirtd session daemon below `base`, which plays a hypervisor host.

    Two of them share nothing but the machine, and no root right is needed. `base` has to be short:
    QEMU's unix sockets below it may have 107 characters at most. It belongs below /tmp: AppArmor's
    stock profile of /usr/sbin/libvirtd, which confines a session daemon too, allows that, and the
    account that the daemon runs as could not read a directory below /root.
    """

    def __init__(self, name: str, base: Path, identity: Identity | None = None) -> None:
        self.name = name
        self.base = base
        self.identity = identity or current()
        self.storage_dir = base / "images"
        """Where disks live; the lab defines its storage pool here."""
        self.socket_dir = base / "s"
        """A short directory that this host's QEMU processes may make sockets in."""
        self.socket = base / "run/libvirt/libvirt-sock"
        self.log = base / "libvirtd.log"
        self._pid_file = base / "libvirtd.pid"
        self._connection: Any = None

    def __repr__(self) -> str:
        return f"SessionHost({self.name!r}, {self.uri!r})"

    @property
    def uri(self) -> str:
        """The libvirt URI of this host for a client on this machine."""
        return f"qemu+unix:///session?socket={self.socket}"

    @property
    def pid(self) -> int | None:
        """The id of the running daemon, None when it is down."""
        return procs.read_pid(self._pid_file, str(self._pid_file))

    @property
    def running(self) -> bool:
        """Whether the daemon runs."""
        return self.pid is not None

    def start(self, timeout: float = 60) -> None:
        """Start the daemon and wait until it answers. Guests that outlived it before are kept."""
        if self.running:
            return
        self._prepare()
        seeded = self._seed_capabilities()
        kvm = detect_accel() == "kvm"
        with self.log.open("ab") as log:
            # A process group of its own: a Ctrl-C in the terminal must reach the tests, not this
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("reaper.py")),
                 *self.identity.prefix(kvm=kvm), need("libvirtd"), "-p", str(self._pid_file)],
                env=self.environment(), cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + timeout
        while True:
            try:
                connection = self.connect()
                break
            except libvirt.libvirtError as error:
                status = process.poll()
                if status is not None:
                    raise self._failed(f"ended with status {status}") from error
                if time.monotonic() > end:
                    procs.end(self.pid or process.pid)
                    raise self._failed(f"did not answer within {timeout:.0f} s") from error
            time.sleep(0.05)
        # From here on the pid file tells the daemon, also to other processes; do not wait for it
        process.returncode = 0
        # A restarted daemon takes its running guests over in the background; a destroy() then
        # cuts the power and yet fails with "domain is not running". A call that needs QEMU's
        # answer waits for the end of it.
        for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
            with contextlib.suppress(libvirt.libvirtError):  # it died while no daemon ran
                domain.memoryStats()
        if not seeded:
            connection.getCapabilities()
            self._keep_capabilities()
        connection.close()

    def connect(self) -> Any:
        """Open and return a new libvirt connection to this host; the caller closes it."""
        return libvirt.open(self.uri)

    @property
    def conn(self) -> Any:
        """A shared libvirt connection for the test bed's own use, opened again when it broke."""
        if self._connection is not None:
            try:
                self._connection.getLibVersion()
                self._connection.getHostname()  # a real round trip
            except libvirt.libvirtError:
                self._close()
        if self._connection is None:
            self._connection = self.connect()
        return self._connection

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the daemon by a signal as a crash would, and wait; its guests run on."""
        pid = self.pid
        self._close()
        if pid is not None:
            procs.send(pid, number)
            if not procs.wait_gone(pid, 10):
                raise TestbedError(
                    f"libvirtd of host {self.name} (process {pid}) ignored signal {number.name}.",
                    "Use SIGKILL, or look at its log: " + str(self.log),
                )

    def restart(self) -> None:
        """End the daemon properly and start it again; its guests run on."""
        self.kill(signal.SIGTERM)
        self.start()

    def stop(self) -> None:
        """End every guest and the daemon. Asks no daemon for it, so a hung one is no obstacle."""
        self._close()
        for guest in self.qemu_pids().values():
            procs.send(guest, signal.SIGKILL)
            procs.wait_gone(guest, 5)
        pid = self.pid
        if pid is not None:
            procs.end(pid)
        for rest in procs.using(self.base, ("qemu", "libvirtd")):  # no pid file, or just born
            procs.send(rest, signal.SIGKILL)
            procs.wait_gone(rest, 5)

    def qemu_pids(self) -> dict[str, int]:
        """Return the QEMU process of each running guest by the guest's name."""
        found = {}
        for path in (self.base / "run/libvirt/qemu/run").glob("*.pid"):
            pid = procs.read_pid(path, str(self.base))
            if pid is not None:
                found[path.stem] = pid
        return found

    def environment(self) -> dict[str, str]:
        """Return the environment of the daemon, also right for virsh on this host."""
        return {
            "PATH": SYSTEM_PATH,
            "LC_ALL": "C",
            "HOME": str(self.base / "home"),
            "XDG_RUNTIME_DIR": str(self.base / "run"),
            "XDG_CONFIG_HOME": str(self.base / "config"),
            "XDG_CACHE_HOME": str(self.base / "cache"),
            "XDG_DATA_HOME": str(self.base / "data"),
        }

    def _prepare(self) -> None:
        self.base.mkdir(mode=0o755, exist_ok=True)
        self.identity.own(self.base)
        directories = (
            "home", "run", "config", "config/libvirt", "cache", "cache/libvirt",
            "cache/libvirt/qemu", "cache/libvirt/qemu/cache", "data", "images", "s",
        )  # fmt: skip
        for name in directories:
            path = self.base / name
            path.mkdir(mode=0o700, exist_ok=True)
            self.identity.own(path)
        config = self.base / "config/libvirt/qemu.conf"
        if not config.exists():  # a test may have put its own settings there
            config.write_text(_QEMU_CONF, "ascii")
            self.identity.own(config)

    @property
    def _capabilities(self) -> Path:
        return self.base / "cache/libvirt/qemu/cache/capabilities"

    def _capability_store(self) -> Path:
        # libvirt checks what it finds against QEMU's and its own build, so an old one does no harm
        path = image.cache_dir() / f"capabilities-{self.identity.uid}-{detect_accel()}"
        path.mkdir(exist_ok=True)
        return path

    def _seed_capabilities(self) -> bool:
        """Put earlier probing results in place; without them a first connection takes 4 to 8 s."""
        files = list(self._capability_store().glob("*.xml"))
        self._capabilities.mkdir(mode=0o700, exist_ok=True)
        self.identity.own(self._capabilities)
        for file in files:
            target = self._capabilities / file.name
            if not target.exists():
                shutil.copyfile(file, target)
                self.identity.own(target)
        return bool(files)

    def _keep_capabilities(self) -> None:
        store = self._capability_store()
        for file in self._capabilities.glob("*.xml"):
            part = store / f"{file.name}.{os.getpid()}"
            shutil.copyfile(file, part)
            part.rename(store / file.name)

    def _close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(libvirt.libvirtError):
                self._connection.close()
            self._connection = None

    def _failed(self, what: str) -> TestbedError:
        try:
            tail = self.log.read_text("utf-8", "replace").strip().splitlines()[-3:]
        except OSError:
            tail = []
        said = " ".join(tail) or "nothing"
        return TestbedError(
            f"libvirtd of host {self.name} {what}; it said: {said}.", f"Its log is {self.log}."
        )
