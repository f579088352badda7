"""Plans against models: what is read, what is made zero, and what of it is left."""

from __future__ import annotations

import itertools
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotspare.dataplane.blocks import Marks, block_count
from hotspare.dataplane.blockstatus import ALLOCATION, HOLE, ZERO, iterate_status
from hotspare.dataplane.connection import connected
from hotspare.dataplane.control import Control
from hotspare.dataplane.plan import Plan, PlanRun, _classify, round_in, write_plan
from hotspare.domain.errors import GiveUp, TrackingUnusable
from hotspare.domain.extents import BLOCK, Extent, merge, round_out
from hotspare.platforms.port import DirtyContext

from .jobs import MIB, areas, make_plan, noise, pass_id, sparse_file
from .nbdservers import Servers, create_qcow2

GRAIN = BLOCK // 4


@st.composite
def extents(draw: st.DrawFn, size: int) -> list[Extent]:
    """Sorted extents in quarter blocks; some touch."""
    cuts = sorted(draw(st.lists(st.integers(0, size // GRAIN + 1), max_size=16)))
    pairs = zip(cuts[::2], cuts[1::2], strict=False)
    return [Extent(low * GRAIN, min(size, high * GRAIN) - low * GRAIN) for low, high in pairs
            if min(size, high * GRAIN) > low * GRAIN]


@st.composite
def disks(draw: st.DrawFn) -> tuple[int, list[Extent], list[Extent]]:
    size = draw(st.integers(1, 12 * BLOCK))
    return size, draw(extents(size)), draw(extents(size))


@given(disks())
def test_data_and_zero_against_a_model(disk: tuple[int, list[Extent], list[Extent]]) -> None:
    size, changed, zeros = disk
    zero_bytes = set(itertools.chain.from_iterable(
        range(o // 512, -(-(o + n) // 512)) for o, n in merge(zeros)))
    exact = [z for z in merge(zeros)]
    want: dict[int, bool] = {}
    for block in range(block_count(size)):
        low, high = block * BLOCK, min(size, (block + 1) * BLOCK)
        if any(o < high and o + n > low for o, n in changed):
            want[block] = any(o <= low and o + n >= high for o, n in exact)
    runs = list(_classify(round_out(merge(changed), size), round_in(exact, size)))
    got = {b: run.zero for run in runs for b in range(run.first, run.first + run.blocks)}
    assert got == want
    assert sum(run.blocks for run in runs) == len(got), "no block twice"
    assert [r.first for r in runs] == sorted(r.first for r in runs)
    assert zero_bytes is not None


@given(st.integers(1, 300), st.lists(st.tuples(st.integers(0, 299), st.integers(1, 80),
                                               st.integers(0, 4)), max_size=20))
def test_marks_against_a_model(count: int, sets: list[tuple[int, int, int]]) -> None:
    marks, model = Marks(count), [0] * count
    for first, length, state in sets:
        marks.set(first, length, state)
        for block in range(first, min(count, first + length)):
            model[block] = state
    assert [marks[b] for b in range(count)] == model
    flat = [0] * count
    for run in marks.runs():
        flat[run.first:run.first + run.blocks] = [run.state] * run.blocks
    assert flat == model
    low, high = count // 3, count - count // 4
    clear = {b for f, n in marks.clear_runs(low, high) for b in range(f, f + n)}
    assert clear == {b for b in range(low, high) if not model[b]}


def test_a_plan_file_is_whole_or_refused(tmp_path: Path) -> None:
    rng = random.Random(4)
    runs, at = [], 0
    for _ in range(50_000):
        at += rng.randrange(1, 5)
        runs.append(PlanRun(at, n := rng.randrange(1, 9), rng.random() < 0.3))
        at += n
    path = tmp_path / "p"
    plan = write_plan(path, pass_id(at * BLOCK - 17), runs, fresh=True, target_zero=False)
    assert list(Plan(path)) == runs
    assert plan.totals.data + plan.totals.zero == sum(r.blocks for r in runs) * BLOCK - 17
    assert plan.totals.runs == len(runs)
    whole = path.read_bytes()
    for damaged in (whole[:-8], whole[:5000] + b"\xff" + whole[5001:], whole[:100], b""):
        path.write_bytes(damaged)
        with pytest.raises(GiveUp) as caught:
            Plan(path)
        assert caught.value.code == "plan.damaged"


def test_only_changed_areas_are_planned(servers: Servers, tmp_path: Path) -> None:
    size = 64 * MIB + 100
    raw = sparse_file(tmp_path / "src", size, {0: noise(2 * MIB), 50 * MIB: noise(MIB)})
    source = servers.nbdkit("-r", "file", str(raw))
    plan = make_plan(tmp_path, source.export, size, target_zero=False, changes=areas(
        (10, 1), (MIB - 1, 2), (20 * MIB + 1, BLOCK * 3), (size - 1, 1)))
    assert list(plan) == [PlanRun(0, 1, False), PlanRun(15, 2, False),
                          PlanRun(320, 4, True), PlanRun(1024, 1, True)]
    assert list(plan.extents())[-1] == Extent(64 * MIB, 100)


def test_dirty_bitmap(servers: Servers, tmp_path: Path) -> None:
    image = create_qcow2(tmp_path / "img", 8 * MIB)
    subprocess.run(["qemu-img", "bitmap", "--add", str(image), "b0"], check=True)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 100k", "-c", "write -z 4M 1M",
                    str(image)], check=True, stdout=subprocess.DEVNULL)
    source = servers.qemu(image, "qcow2", read_only=True, options=("-B", "b0"))
    plan = make_plan(tmp_path, source.export, 8 * MIB, target_zero=False, fresh=False,
                     changes=DirtyContext("qemu:dirty-bitmap:b0"))
    assert list(plan) == [PlanRun(16, 2, False), PlanRun(64, 16, True)]
    with pytest.raises(TrackingUnusable):
        make_plan(tmp_path, source.export, 8 * MIB, changes=DirtyContext("qemu:dirty-bitmap:no"))


def test_a_hole_alone_is_data(servers: Servers, tmp_path: Path) -> None:
    script = ("case $1 in get_size) echo 1M;; can_extents) exit 0;; thread_model) "
              "echo parallel;; pread) dd if=/dev/zero bs=$3 count=1 2>/dev/null;; "
              "extents) echo 0 512k hole; echo 512k 512k hole,zero;; *) exit 2;; esac")
    path = tmp_path / "plugin.sh"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    source = servers.nbdkit("-r", "sh", str(path))
    plan = make_plan(tmp_path, source.export, MIB, target_zero=False)
    assert list(plan) == [PlanRun(0, 8, False), PlanRun(8, 8, True)]


def test_short_replies_and_many_extents(servers: Servers, tmp_path: Path) -> None:
    """A server that answers with one extent at a time, and ranges that are not the whole disk."""
    size = 48 * MIB
    pieces = {n * 2 * BLOCK: noise(BLOCK, n) for n in range(size // BLOCK // 2)}
    raw = sparse_file(tmp_path / "src", size, pieces)
    source = servers.nbdkit("-r", "--filter=noextents", "file", str(raw))
    with connected(source.export, "source", Control(), context=ALLOCATION) as (_, (nbd, *_rest)):
        found = list(iterate_status(nbd, ALLOCATION, [Extent(0, size)], Control()))
    assert [(s.offset, s.length, s.flags) for s in found] == [(0, size, 0)]
    source = servers.nbdkit("-r", "file", str(raw))
    ranges = [Extent(BLOCK // 2, 5 * BLOCK), Extent(20 * MIB, 20 * MIB)]
    with connected(source.export, "source", Control(), context=ALLOCATION) as (_, (nbd, *_rest)):
        found = list(iterate_status(nbd, ALLOCATION, ranges, Control()))
    assert sum(s.length for s in found) == sum(n for _, n in ranges)
    for s in found:
        assert s.flags in (0, HOLE | ZERO)
        assert s.flags == (0 if s.offset // BLOCK % 2 == 0 else HOLE | ZERO)


def test_a_disk_that_shrank_inside_a_block(servers: Servers, tmp_path: Path) -> None:
    size = 3 * MIB + 512
    source = servers.nbdkit("-r", "memory", str(size))
    plan = make_plan(tmp_path, source.export, size, fresh=False, target_zero=False,
                     changes=areas((0, 1)), base_size=4 * MIB)
    assert [(r.first, r.blocks) for r in plan] == [(0, 1), (48, 1)]
