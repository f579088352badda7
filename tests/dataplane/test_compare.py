"""Tracking lost: only what differs by digest is sent. And the scrub."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotspare.dataplane.control import Control
from hotspare.dataplane.digests import UNKNOWN_DIGEST
from hotspare.dataplane.engine import Tuning, copy_disk
from hotspare.dataplane.layers import Layers, folded
from hotspare.dataplane.tables import DigestTable, DiskPasses, build_table, fold
from hotspare.dataplane.throttle import Throttle
from hotspare.dataplane.verify import verify_disk
from hotspare.domain.errors import InstantLost
from hotspare.domain.extents import BLOCK, Extent

from .jobs import KEY, MIB, areas, held, make_job, make_plan, model_digests, noise, sparse_file
from .nbdservers import Servers

SIZE = 40 * MIB + 5 * 512


class Pair:
    """A source, a target that holds the source's first point, and the point's table."""

    def __init__(self, servers: Servers, path: Path) -> None:
        self.path = path
        self.raw = sparse_file(path / "src", SIZE, {0: noise(20 * MIB), 30 * MIB: noise(MIB, 4),
                                                    SIZE - 1000: noise(1000, 6)})
        self.out = sparse_file(path / "dst", SIZE, {})
        self.source = servers.nbdkit("-r", "file", str(self.raw)).export
        self.target = servers.nbdkit("file", str(self.out)).export
        plan = make_plan(path, self.source, SIZE)
        job = make_job(plan, self.source, self.target)
        copy_disk(job, Control())
        self.table = build_table(path / "t1", {"vda": DiskPasses(SIZE, [(plan, job.journal)])})

    def write(self, *pieces: tuple[int, bytes]) -> None:
        with self.raw.open("r+b") as file:
            for offset, data in pieces:
                file.seek(offset)
                file.write(data)

    def expected(self) -> Layers:
        return folded(self.path, SIZE, "vda", [self.table])

    def same(self) -> bool:
        return self.raw.read_bytes() == self.out.read_bytes()


@pytest.fixture
def pair(servers: Servers, tmp_path: Path) -> Pair:
    return Pair(servers, tmp_path)


def test_only_what_differs_is_sent(pair: Pair) -> None:
    pair.write((5 * MIB + 7, b"x"), (12 * MIB, bytes(3 * BLOCK)), (25 * MIB, noise(BLOCK, 8)),
               (SIZE - 3, b"end"))
    with pair.expected() as expected:
        plan = make_plan(pair.path, pair.source, SIZE, instant="i2", fresh=False,
                         target_zero=False, expected=expected)
        assert plan.compare
        job = make_job(plan, pair.source, pair.target, compare_with=expected)
        result = copy_disk(job, Control())
    assert pair.same()
    assert result.bytes_written == 2 * BLOCK + SIZE % BLOCK
    assert result.zero_bytes == 3 * BLOCK
    assert result.compared >= 20 * MIB
    with build_table(pair.path / "t2", {"vda": DiskPasses(SIZE, [(plan, job.journal)])}) as upper:
        assert [e.offset for e in upper.changed("vda")] == [
            5 * MIB, 12 * MIB, 25 * MIB, SIZE // BLOCK * BLOCK]
        with fold(pair.path / "t3", [pair.table, upper]) as both, \
                folded(pair.path, SIZE, "vda", [both]) as layers:
            assert held(layers) == model_digests(pair.raw.read_bytes())


def test_what_became_a_hole_is_made_zero(pair: Pair) -> None:
    import subprocess

    subprocess.run(["fallocate", "-p", "-o", str(2 * MIB + 4096), "-l", str(4 * MIB),
                    str(pair.raw)], check=True)
    with pair.expected() as expected:
        plan = make_plan(pair.path, pair.source, SIZE, instant="i2", fresh=False,
                         target_zero=False, expected=expected)
        result = copy_disk(make_job(plan, pair.source, pair.target, compare_with=expected),
                           Control())
    assert pair.same()
    assert plan.totals.zero == 4 * MIB - BLOCK
    assert result.bytes_written == 2 * BLOCK


def test_a_compare_that_lost_its_instant(pair: Pair) -> None:
    """A block that was written, but not journaled, is unknown to the next compare, also when the
    source has the old content again."""
    old = pair.raw.read_bytes()
    pair.write((0, noise(20 * MIB, 33)))
    with pair.expected() as expected:
        first = make_plan(pair.path, pair.source, SIZE, instant="i2", fresh=False,
                          target_zero=False, expected=expected)
        job = make_job(first, pair.source, pair.target, compare_with=expected,
                       throttles=[Throttle(10 * MIB)], tuning=Tuning(window=64))

        def healthy() -> None:
            if job.journal.done_bytes > 2 * MIB:
                raise InstantLost("instant.lost", tracking={})

        with pytest.raises(InstantLost):
            copy_disk(job, Control(healthy=healthy))
    assert 0 < job.journal.window * BLOCK < SIZE
    pair.write((0, old))
    with pair.expected() as expected:
        expected.add_journal(job.journal, first)
        unknown = sum(d == UNKNOWN_DIGEST for d in held(expected))
        assert 0 < unknown <= 128
        second = make_plan(pair.path, pair.source, SIZE, instant="i3", fresh=False,
                           target_zero=False, expected=expected,
                           previous=[(first, job.journal)])
        again = make_job(second, pair.source, pair.target, compare_with=expected)
        result = copy_disk(again, Control())
    assert pair.same()
    assert result.compared > 0
    passes = [(first, job.journal), (second, again.journal)]
    with build_table(pair.path / "t2", {"vda": DiskPasses(SIZE, passes)}) as table, \
            folded(pair.path, SIZE, "vda", [pair.table, table]) as layers:
        assert held(layers) == model_digests(old)


def test_a_resumed_compare_reads_the_rest_only(pair: Pair) -> None:
    pair.write((0, noise(4 * MIB, 3)))
    with pair.expected() as expected:
        plan = make_plan(pair.path, pair.source, SIZE, instant="i2", fresh=False,
                         target_zero=False, expected=expected)
        copy_disk(make_job(plan, pair.source, pair.target, compare_with=expected), Control())
        result = copy_disk(make_job(plan, pair.source, pair.target, compare_with=expected),
                           Control())
    assert result.bytes_read == 0
    assert pair.same()


@pytest.mark.parametrize("whole", [True, False])
def test_scrub_finds_what_was_changed(pair: Pair, whole: bool) -> None:
    table: DigestTable = pair.table
    with pair.expected() as expected:
        def scrub() -> tuple[Extent, ...]:
            return verify_disk(pair.target, expected, KEY, Control(), disk="vda",
                               directory=pair.path,
                               extents=None if whole else table.changed("vda")).mismatches

        assert scrub() == ()
        with pair.out.open("r+b") as file:
            for offset in (1, 3 * BLOCK, 26 * MIB, SIZE - 1):
                file.seek(offset)
                file.write(b"\x55")
            file.seek(10 * MIB)
            file.write(bytes(BLOCK))
        found = {e.offset // BLOCK for e in scrub()}
        want = {0, 3, 10 * MIB // BLOCK, SIZE // BLOCK} | ({26 * MIB // BLOCK} if whole else set())
        assert found == want


def test_incremental_with_expected_is_a_compare_too(pair: Pair) -> None:
    pair.write((0, b"new"))
    with pair.expected() as expected:
        plan = make_plan(pair.path, pair.source, SIZE, instant="i2", fresh=False,
                         target_zero=False, expected=expected, changes=areas((0, 4 * BLOCK)))
        result = copy_disk(make_job(plan, pair.source, pair.target, compare_with=expected),
                           Control())
    assert (result.bytes_written, result.compared) == (BLOCK, 3 * BLOCK)
    assert pair.same()
