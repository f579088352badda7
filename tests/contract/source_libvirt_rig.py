"""One test guest on a session libvirtd, for the sources' tests."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import libvirt

from hotspare.platforms.libvirt.platform import LibvirtPlatform
from hotspare.platforms.libvirt.source import LibvirtSource
from hotspare.platforms.port import PlatformAccess
from testbeds.kvm import Guest, Lab

# other runs of the tests on this machine have helpers, too
_MARK = os.environ.setdefault("HOTSPARE_TEST_RUN", os.urandom(8).hex())


class LibvirtRig:
    """Implements :class:`SourceRig`; the guest must run."""

    marks = 1
    off_reason = "tracking.never-ran"

    def __init__(self, lab: Lab, guest: Guest) -> None:
        self.lab, self.guest, self.vm = lab, guest, guest.name
        self.host = guest.host
        self._files = 0

    def access(self, **options: str) -> PlatformAccess:
        return PlatformAccess("test", "libvirt", self.host.uri,
                              {"socket_dir": str(self.host.socket_dir), **options})

    @contextmanager
    def platform(self, **options: str) -> Iterator[LibvirtPlatform]:
        platform = LibvirtPlatform(self.access(**options))
        try:
            yield platform
        finally:
            platform.close()

    @contextmanager
    def source(self, options: Mapping[str, str] | None = None) -> Iterator[LibvirtSource]:
        with self.platform(**dict(options or {})) as platform:
            source = platform.source
            assert isinstance(source, LibvirtSource)
            yield source

    def write(self, disk: int) -> None:
        self._files += 1
        where = "/data" if disk == 0 else f"/data{disk}"
        done = self.guest.exec(f"dd if=/dev/urandom of={where}/w{self._files % 8} bs=64k count=8 "
                               "conv=fsync 2>&1")
        assert done.rc == 0, done

    def shut_down(self) -> None:
        self.guest.shutdown()

    def power_on(self) -> None:
        self.guest.start()
        self.guest.wait_ready()
        self.guest.wait_agent()

    def running(self) -> bool:
        return self.guest.domain().state()[0] == libvirt.VIR_DOMAIN_RUNNING and (
            self.guest.exec("sync; echo ok").out == "ok\n")

    def domain(self) -> Any:
        return self.guest.domain()

    def checkpoints(self, rule: str = "") -> list[str]:
        return sorted(c.getName() for c in self.domain().listAllCheckpoints(0)
                      if rule in c.getName())

    def left(self, rule: str) -> Iterator[str]:
        yield from (f"checkpoint {n}" for n in self.checkpoints(rule))
        yield from (f"domain {d.name()}" for d in self.host.conn.listAllDomains(0)
                    if rule in d.name())
        yield from (f"pool {p.name()}" for p in self.host.conn.listAllStoragePools(0)
                    if p.name().startswith("hs-"))
        for place in (self.host.storage_dir, self.host.socket_dir):
            yield from (f"file {p}" for p in place.iterdir() if rule in p.name)
        yield from (f"process {p}" for p in helper_processes())


def helper_processes() -> list[int]:
    """Freeze helpers that outlived their parent; an idle one ends a moment after it. Those that
    an open source of this process keeps for its next freeze do not count."""
    end = time.monotonic() + 3
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
                if (b"hotspare.platforms.libvirt.freeze" in words
                        and _MARK.encode() in (entry / "environ").read_bytes()
                        and f"PPid:\t{os.getpid()}\n" not in (entry / "status").read_text()):
                    found.append(int(entry.name))
            except OSError:
                continue
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.05)
