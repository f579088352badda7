"""Full copy of a 4 GiB disk, half holes: Hotspare against nbdcopy and qemu-img.

Ours does all that a first replication does: block status, plan, copy, flushes, journal with its
syncs, digests and the digest table. The peers get what makes it fair: they know that the target
is zero, and end with a flush. Source qemu-nbd raw, target qemu-nbd qcow2 (what a receiver is).
"""
# ruff: noqa: S108, S311  (a bench works in /tmp; its noise is no secret)

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import nbd

from hotspare.dataplane.control import Control
from hotspare.dataplane.digests import digest_key
from hotspare.dataplane.engine import CopyJob, Tuning, copy_disk
from hotspare.dataplane.journal import Journal
from hotspare.dataplane.plan import PassId, plan_disk
from hotspare.dataplane.tables import DiskPasses, build_table
from hotspare.platforms.port import NbdEndpoint, Unknown

from . import common

KEY = digest_key(bytes(32))
STEP = 4 * common.MIB           # data and holes alternate in runs of this


class Fixed:
    def __init__(self, uri: str) -> None:
        self.uri = uri

    def open(self):  # type: ignore[no-untyped-def]
        from contextlib import nullcontext

        return nullcontext(NbdEndpoint(self.uri))


def make_source(path: Path, size: int) -> int:
    """A sparse file, half of it noise. Returns the bytes of data."""
    noise = random.Random(1)
    done = 0
    with path.open("wb") as file:
        file.truncate(size)
        for offset in range(0, size, 2 * STEP):
            file.seek(offset)
            file.write(noise.randbytes(STEP))
            done += STEP
        file.flush()
        os.fsync(file.fileno())
    return done


def hotspare(source: str, target: str, size: int, directory: Path, tuning: Tuning) -> None:
    """All of a first replication's data work."""
    for old in directory.glob("own.*"):
        old.unlink()
    pass_id = PassId("00000000", "vda", "bench", size)
    plan = plan_disk(directory / "own.plan", pass_id=pass_id, export=Fixed(source),
                     changes=Unknown("bench"), control=Control(), fresh=True, target_zero=True)
    with Journal(directory / "own.journal", pass_id) as journal:
        copy_disk(CopyJob(Fixed(source), Fixed(target), plan, journal, KEY, tuning=tuning),
                  Control())
        build_table(directory / "own.table", {"vda": DiskPasses(size, [(plan, journal)])}).close()


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def nbdcopy(source: str, target: str) -> None:
    run("nbdcopy", "--flush", "--destination-is-zero", source, target)


def qemu_img(source: str, target: str) -> None:
    run("qemu-img", "convert", "-n", "-W", "-m", "8", "-t", "writeback", "--target-is-zero",
        "-f", "raw", "-O", "raw", source, target)
    handle = nbd.NBD()
    handle.connect_uri(target)
    handle.flush()
    handle.shutdown()


PEERS = {"nbdcopy": nbdcopy, "qemu-img": qemu_img}


def on(medium: str, where: str, options, figures: dict[str, float],  # type: ignore[no-untyped-def]
       peers: dict[str, dict[str, float]], tuning: Tuning) -> None:
    size = options.mib * common.MIB
    with common.scratch(where) as directory, ExitStack() as stack:
        source_file, target_file = directory / "src", directory / "dst"
        data = make_source(source_file, size)
        source = stack.enter_context(common.server(
            directory / "s", "qemu-nbd", "-t", "-r", "-e", "8", "-f", "raw", "-x", "",
            "-k", str(directory / "s"), str(source_file)))

        spent: dict[str, list[float]] = {}

        def timed(name, work):  # type: ignore[no-untyped-def]
            def once() -> float:
                target_file.unlink(missing_ok=True)
                run("qemu-img", "create", "-q", "-f", "qcow2", str(target_file), str(size))
                with common.server(directory / "d", "qemu-nbd", "-t", "-e", "8", "-f", "qcow2",
                                   "-x", "", "-k", str(directory / "d"), "--cache=writeback",
                                   "--discard=unmap", str(target_file)) as target:
                    return common.seconds(lambda: work(source, target),
                                              spent.setdefault(name, []))
            return once

        own = timed("hotspare", lambda s, d: hotspare(s, d, size, directory, tuning))
        all_ours: list[float] = []
        own()   # to warm the source's cache; and what it made must be right
        run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", str(source_file),
            str(target_file))
        for name, peer in PEERS.items():
            ours, theirs = common.pairs(own, timed(name, peer), options.pairs)
            all_ours += ours
            peers[f"{name}-{medium}"] = {"ratio": common.ratio(ours, theirs)}
            figures[f"{name}-{medium}-mib-s"] = data / common.MIB / statistics.median(theirs)
        for name, used in spent.items():
            figures[f"{name}-{medium}-cpu-s-gib"] = statistics.median(used) / data * (1 << 30)
        figures[f"hotspare-{medium}-mib-s"] = data / common.MIB / statistics.median(all_ours)


def main() -> int:
    options = common.arguments(mib=4096, request_kib=0, connections=0, only=0)
    tuning = Tuning()
    if options.request_kib:
        tuning = replace(tuning, request=options.request_kib * 1024)
    if options.connections:
        tuning = replace(tuning, connections=options.connections)
    figures: dict[str, float] = {}
    peers: dict[str, dict[str, float]] = {}
    if options.only != 1:
        on("disk", "/tmp", options, figures, peers, tuning)
    if options.only != 2:
        on("tmpfs", "/dev/shm", options, figures, peers, tuning)
    common.report("full-copy", figures, peers, {
        "nbdcopy-disk": "wanted >= 0.95", "qemu-img-disk": "wanted >= 0.95",
        "nbdcopy-tmpfs": "wanted >= 1.0", "qemu-img-tmpfs": "wanted >= 1.0"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
