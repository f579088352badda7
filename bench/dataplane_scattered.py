"""20,000 scattered extents of 64 KiB, as an incremental run has them, against nbdcopy.

nbdcopy finds them as the only allocated ranges and sends the same requests of 64 KiB. Ours gets
them as a list of changed areas, and does block status, plan, journal and digests besides. On a
disk file and in memory; the peer's ratio is the one in memory, where no disk hides the work.
"""
# ruff: noqa: S108, S311, B023  (a bench works in /tmp; closures end with their turn)

from __future__ import annotations

import os
import random
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

from hotspare.dataplane.control import Control
from hotspare.dataplane.engine import CopyJob, Tuning, copy_disk
from hotspare.dataplane.journal import Journal
from hotspare.dataplane.plan import PassId, plan_disk
from hotspare.dataplane.tables import DiskPasses, build_table
from hotspare.domain.extents import BLOCK, Extent
from hotspare.platforms.port import ChangedAreas

from . import common
from .dataplane_full_copy import KEY, Fixed, run

SIZE = 10 << 30


def make_source(path: Path, number: int) -> list[Extent]:
    rng = random.Random(3)
    blocks = sorted(rng.sample(range(SIZE // BLOCK // 2), number))
    noise = rng.randbytes(BLOCK * 16)
    with path.open("wb") as file:
        file.truncate(SIZE)
        for n, block in enumerate(blocks):
            # every second block only: none touches another, so each is a request of its own
            file.seek(2 * block * BLOCK)
            file.write(noise[n % 16 * BLOCK:][:BLOCK])
        file.flush()
        os.fsync(file.fileno())
    return [Extent(2 * b * BLOCK, BLOCK) for b in blocks]


def hotspare(source: str, target: str, extents: list[Extent], directory: Path,
             tuning: Tuning | None = None) -> None:
    for old in directory.glob("own.*"):
        old.unlink()
    who = PassId("00000000", "vda", "bench", SIZE)
    plan = plan_disk(directory / "own.plan", pass_id=who, export=Fixed(source),
                     changes=ChangedAreas(extents), control=Control(), fresh=False,
                     target_zero=False)
    with Journal(directory / "own.journal", who) as journal:
        copy_disk(CopyJob(Fixed(source), Fixed(target), plan, journal, KEY,
                          tuning=tuning or Tuning()), Control())
        build_table(directory / "own.table", {"vda": DiskPasses(SIZE, [(plan, journal)])}).close()


def nbdcopy(source: str, target: str) -> None:
    run("nbdcopy", "--flush", "--destination-is-zero", "--request-size=65536", source, target)


def main() -> int:
    options = common.arguments(extents=20_000)
    figures: dict[str, float] = {}
    peers: dict[str, dict[str, float]] = {}
    for medium, where in (("disk", "/tmp"), ("tmpfs", "/dev/shm")):
        with common.scratch(where) as directory, ExitStack() as stack:
            extents = make_source(directory / "src", options.extents)
            source = stack.enter_context(common.server(
                directory / "s", "qemu-nbd", "-t", "-r", "-e", "8", "-f", "raw", "-x", "",
                "-k", str(directory / "s"), str(directory / "src")))
            target_file = directory / "dst"

            spent: dict[str, list[float]] = {}

            def timed(name, work):  # type: ignore[no-untyped-def]
                def once() -> float:
                    target_file.unlink(missing_ok=True)
                    run("qemu-img", "create", "-q", "-f", "qcow2", str(target_file), str(SIZE))
                    with common.server(directory / "d", "qemu-nbd", "-t", "-e", "8", "-f",
                                       "qcow2", "-x", "", "-k", str(directory / "d"),
                                       "--cache=writeback", str(target_file)) as target:
                        return common.seconds(lambda: work(source, target),
                                                  spent.setdefault(name, []))
                return once

            own = timed("hotspare", lambda s, d: hotspare(s, d, extents, directory))
            own()
            ours, theirs = common.pairs(own, timed("nbdcopy", nbdcopy), options.pairs)
            run("qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", str(directory / "src"),
                str(target_file))
        for name, used in spent.items():
            figures[f"{name}-{medium}-cpu-us-extent"] = (
                statistics.median(used) / options.extents * 1e6)
        figures[f"hotspare-{medium}-extents-s"] = options.extents / statistics.median(ours)
        figures[f"nbdcopy-{medium}-extents-s"] = options.extents / statistics.median(theirs)
        name = "nbdcopy" if medium == "tmpfs" else "nbdcopy-disk"
        peers[name] = {"ratio": common.ratio(ours, theirs)}
    common.report("scattered", figures, peers, {"nbdcopy": "wanted >= 1.2"})
    return 0


if __name__ == "__main__":
    sys.exit(main())
