"""Two disks that are nearly equal become so: only what can differ is read, what does is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hotspare.dataplane.control import Control
from hotspare.dataplane.differ import Comparison, Differences
from hotspare.dataplane.engine import copy_disk
from hotspare.dataplane.journal import ZERO, Entry, Journal
from hotspare.dataplane.layers import Layers
from hotspare.dataplane.scan import scan_disk
from hotspare.dataplane.tail import make_zero
from hotspare.domain.errors import Stopped
from hotspare.domain.extents import BLOCK, Extent
from hotspare.platforms.port import Export

from .jobs import (
    KEY,
    MIB,
    areas,
    held,
    make_job,
    make_plan,
    model_digests,
    noise,
    pass_id,
    sparse_file,
)
from .nbdservers import Servers

SIZE = 24 * MIB + 3 * 512


def scanned(path: Path, export: Export, size: int = SIZE, **more: object) -> Layers:
    """What a disk holds, as far as it was looked at."""
    plan = make_plan(path, export, size, instant="seen", fresh=False, target_zero=False, **more)
    with Journal(path / "seen.journal", plan.id) as journal:
        scan_disk(export, plan, journal, KEY, Control(), side="source")
    layers = Layers(path, size)
    with Journal(path / "seen.journal", plan.id) as journal:
        layers.add_journal(journal)
    return layers


def test_a_scan_knows_what_it_read(servers: Servers, tmp_path: Path) -> None:
    disk = sparse_file(tmp_path / "disk", SIZE, {
        0: noise(3 * MIB), 5 * MIB + 7: b"x", SIZE - 100: noise(100, 2)})
    export = servers.nbdkit("-r", "file", str(disk)).export
    with scanned(tmp_path, export) as layers:
        assert held(layers) == model_digests(disk.read_bytes())


def test_a_scan_of_areas_looks_nowhere_else(servers: Servers, tmp_path: Path) -> None:
    disk = sparse_file(tmp_path / "disk", SIZE, {0: noise(8 * MIB)})
    export = servers.nbdkit("-r", "file", str(disk)).export
    with scanned(tmp_path, export, changes=areas((MIB, 2 * BLOCK), (20 * MIB, BLOCK))) as layers:
        model = model_digests(disk.read_bytes())
        assert layers.digests(16, 2) == b"".join(model[16:18])
        assert layers.marks[320] == ZERO
        assert sum(r.blocks for r in layers.runs()) == 3


def test_one_becomes_the_other(servers: Servers, tmp_path: Path) -> None:
    content = {0: noise(8 * MIB), 10 * MIB: noise(MIB, 3), SIZE - 700: noise(700, 4)}
    ours = sparse_file(tmp_path / "ours", SIZE, content)
    theirs = sparse_file(tmp_path / "theirs", SIZE, content)
    with theirs.open("r+b") as file:
        for offset, data in ((MIB + 5, b"y"), (3 * MIB, bytes(4 * BLOCK)), (15 * MIB, b"new"),
                             (SIZE - 1, b"z")):
            file.seek(offset)
            file.write(data)
    here = servers.nbdkit("file", str(ours)).export
    there = servers.nbdkit("-r", "file", str(theirs)).export
    with scanned(tmp_path, here) as expected:
        plan = make_plan(tmp_path, there, SIZE, instant="compare", fresh=False,
                         target_zero=False, expected=expected)
        found = Comparison(there, plan, expected, KEY, Control(), "target")
        found.run()
    todo = found.write(tmp_path / "todo.plan")
    assert [e.offset for e in todo.extents()] == [MIB, 3 * MIB, 15 * MIB, SIZE // BLOCK * BLOCK]
    result = copy_disk(make_job(todo, there, here), Control())
    assert ours.read_bytes() == theirs.read_bytes()
    assert result.bytes_written == 2 * BLOCK + SIZE % BLOCK and result.zero_bytes == 4 * BLOCK


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture],
          max_examples=60)
@given(one=st.lists(st.integers(0, 3), min_size=1, max_size=40),
       other=st.lists(st.integers(0, 3), min_size=1, max_size=40))
def test_differences_by_digest(tmp_path: Path, one: list[int], other: list[int]) -> None:
    """Against a model: block contents are numbers, 0 is zero, disks may be unlike in size."""
    def layers(blocks: list[int]) -> Layers:
        made = Layers(tmp_path, len(blocks) * BLOCK)
        name = tmp_path / f"{id(blocks)}.journal"
        name.unlink(missing_ok=True)
        with Journal(name, pass_id(made.size)) as journal:
            rows = [Entry(n, 1, 1, bytes([value]) * 16) for n, value in enumerate(blocks) if value]
            journal.append(rows)
            made.add_journal(journal)
        return made

    count = max(len(one), len(other))
    wide = [[*x, *[0] * (count - len(x))] for x in (one, other)]
    with layers(one) as a, layers(other) as b:
        found = Differences(a, b)
        for _ in range(2):      # it can be iterated again
            blocks = {n for e in found for n in range(e.offset // BLOCK, e.end // BLOCK)}
            assert blocks == {n for n in range(count) if wide[0][n] != wide[1][n]}


def test_a_tail_is_made_zero_and_nothing_else(servers: Servers, tmp_path: Path) -> None:
    disk = sparse_file(tmp_path / "disk", SIZE, {0: noise(SIZE)})
    before = disk.read_bytes()
    make_zero(servers.nbdkit("file", str(disk)).export, 5 * MIB + 512, SIZE, Control())
    assert disk.read_bytes() == before[:5 * MIB + 512] + bytes(SIZE - 5 * MIB - 512)


def test_a_scan_is_stopped(servers: Servers, tmp_path: Path) -> None:
    disk = sparse_file(tmp_path / "disk", SIZE, {0: noise(SIZE)})
    export = servers.nbdkit("-r", "file", str(disk)).export
    plan = make_plan(tmp_path, export, SIZE, fresh=False, target_zero=False)
    with Journal(tmp_path / "seen.journal", plan.id) as journal, pytest.raises(Stopped):
        scan_disk(export, plan, journal, KEY, Control(stop=lambda: True), side="source")


def test_also_adds_to_the_changes(servers: Servers, tmp_path: Path) -> None:
    disk = sparse_file(tmp_path / "disk", SIZE, {0: noise(4 * MIB)})
    export = servers.nbdkit("-r", "file", str(disk)).export
    plan = make_plan(tmp_path, export, SIZE, changes=areas((MIB, BLOCK)), fresh=False,
                     target_zero=False, also=[Extent(MIB + BLOCK, BLOCK), Extent(3 * MIB, 10)])
    assert list(plan.extents()) == [Extent(MIB, 2 * BLOCK), Extent(3 * MIB, BLOCK)]
