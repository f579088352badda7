"""1 MiB changed on a 10 GiB disk: from the command to a durable, published restore point.

The peer is virtnbdbackup's incremental backup of the same change on a second, identical guest: it
refuses one that has checkpoints of anybody else. It writes
plain files and syncs none of them, while our point is durable when it is published; so its time
includes an fsync of what it wrote. The guest that is not measured is suspended meanwhile.

``cycle_1tib_s`` is the same on a sparse disk of 1 TiB.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import common, lab

if TYPE_CHECKING:
    from e2e.rig import Rig
    from hotspare.client.client import Client
    from testbeds.kvm import Guest, Lab

PEER = "virtnbdbackup-inc"
PROGRAM = "virtnbdbackup"
_SMALL_GIB, _LARGE_GIB = 10, 1024
_PEER_TIMEOUT_S = 300


@contextmanager
def awake(guest: Guest, other: Guest | None) -> Iterator[None]:
    """Let only ``guest`` run: one that idles under software emulation still takes of a core."""
    if other is not None:
        other.domain().suspend()
    try:
        yield
    finally:
        if other is not None:
            other.domain().resume()


class Own:
    """Runs of the rule, and what they were."""

    def __init__(self, rig: Rig, client: Client, other: Guest | None = None) -> None:
        self._rig, self._client, self._other = rig, client, other
        self.tasks: list[dict[str, Any]] = []

    def __call__(self) -> float:
        with awake(self._rig.guest, self._other):
            lab.change(self._rig.guest)
            os.sync()
            task, seconds = lab.replicate(self._client, self._rig.rule)
        written = task["figures"]["bytes_written"]
        if not common.MIB <= written <= 64 * common.MIB:
            raise RuntimeError(f"{written} bytes were copied: that was no run of 1 MiB changed")
        self.tasks.append(task)
        return seconds


class Peer:
    """virtnbdbackup on a guest of its own."""

    def __init__(self, hosts: Lab, guest: Guest, other: Guest) -> None:
        self._host, self._guest, self._other = hosts.a, guest, other
        self._output = hosts.dir / "backup"
        self._output.mkdir()
        hosts.identity.own(self._output)
        self._scratch = Path(self._host.socket_dir)     # also QEMU writes there
        # as the account of the hosts: libvirt gives root the system's daemon, never a session's
        self._command = [*hosts.identity.prefix(kvm=False), PROGRAM, "-U", "qemu:///session",
                         "-d", guest.name, "-o", str(self._output), "-S", str(self._scratch),
                         "-f", str(self._scratch / "virtnbd.sock"), "-n"]

    def __call__(self) -> float:
        with awake(self._guest, self._other):
            lab.change(self._guest)
            os.sync()
            before = {p: p.stat().st_size for p in self._files()}
            began = time.perf_counter()
            self.backup("inc")
            new = [p for p in self._files() if before.get(p) != p.stat().st_size]
            for path in [*new, self._output]:
                sync(path)
            seconds = time.perf_counter() - began
        data = max(p.stat().st_size for p in new)
        if not common.MIB <= data <= 64 * common.MIB:
            raise RuntimeError(f"{PROGRAM} wrote {data} bytes: that was no run of 1 MiB changed")
        return seconds

    def backup(self, level: str) -> None:
        done = subprocess.run(
            [*self._command, "-l", level], env=self._host.environment(), check=False, cwd="/",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=_PEER_TIMEOUT_S)
        if done.returncode:
            raise RuntimeError(f"{PROGRAM} failed: {done.stdout[-2000:]}")

    def _files(self) -> list[Path]:
        return [p for p in self._output.rglob("*") if p.is_file()]


def sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def small(pairs: int, figures: dict[str, float], peers: dict[str, dict[str, float]]) -> None:
    with lab.protected(disk_gib=_SMALL_GIB) as rig, rig.server.client() as client:
        if shutil.which(PROGRAM) is None:
            print(f"{PROGRAM} is not installed (apt install {PROGRAM}): measured without it")
            own = Own(rig, client)
            own()
            ours = [own() for _ in range(pairs)]
        else:
            guest = lab.start_guest(rig.lab, "peer", disk_gib=_SMALL_GIB, rate=0)
            peer, own = Peer(rig.lab, guest, rig.guest), Own(rig, client, guest)
            peer.backup("full")
            own(), peer()       # the first incremental run of each finds cold caches
            ours, theirs = common.pairs(own, peer, pairs)
            peers[PEER] = {"ratio": common.ratio(ours, theirs)}
            figures["virtnbdbackup_inc_s"] = statistics.median(theirs)
        figures["cycle_s"] = statistics.median(ours)
        lab.print_steps(own.tasks[1:])


def large(pairs: int, figures: dict[str, float]) -> None:
    with lab.protected(disk_gib=_LARGE_GIB) as rig, rig.server.client() as client:
        own = Own(rig, client)
        own()
        figures["cycle_1tib_s"] = statistics.median(own() for _ in range(pairs))
        lab.print_steps(own.tasks[1:])


def main() -> int:
    options = common.arguments(pairs=7, only=0)
    figures: dict[str, float] = {}
    peers: dict[str, dict[str, float]] = {}
    if options.only != 1:
        small(options.pairs, figures, peers)
    if options.only != 2:
        large(options.pairs, figures)
    common.report("cycle", figures, peers, {
        "cycle_s": "wanted <= 1.0", "cycle_1tib_s": "wanted <= 2.0", PEER: "wanted >= 1.2"})
    return 0


if __name__ == "__main__":
    sys.exit(lab.run_bench(main))
