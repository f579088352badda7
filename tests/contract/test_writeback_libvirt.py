"""A source machine takes back what its replica became, and can be put back block for block."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hotspare.domain.extents import BLOCK, Extent
from hotspare.platforms.port import Unknown
from testbeds.kvm import Lab, SessionHost

from .writeback_rig import ODD, Machine, Make, blocks, changed, overwrite, undo


@pytest.fixture
def make(lab: Lab, host_a: SessionHost) -> Iterator[Make]:
    made: list[Machine] = []

    def machine(*formats: str, **options: int) -> Machine:
        made.append(Machine(lab, host_a, "wb", formats, **options))
        return made[-1]

    yield machine
    for one in made:
        one.remove()


# 0 data, 20 a hole, 32 data, 48 zeroes that are written, 64 the odd end
SOME = blocks(0, 20, 32, 48, 64)


def test_what_is_overwritten_comes_back(make: Make) -> None:
    machine = make("qcow2", "raw")
    before = machine.contents()
    origin = machine.intent()
    with machine.platform() as platform:
        writer = platform.write_back
        assert not writer.undo_exists(machine.name, origin)
        session = writer.open(machine.name, None, origin, 1)
        assert set(session.disks) == {"vda", "vdb"} and not session.untouched
        assert [session.preserved(d) for d in session.disks] == [None, None]
        assert session.changes("vda") == Unknown("first-copy")
        assert session.changes("vdb") == Unknown("tracking.raw")
        for disk in session.disks:
            size = 4 * BLOCK + ODD % BLOCK
            assert overwrite(session, disk, SOME, 0xAA) == size
            # what is kept is not kept again: it is our own data by now
            assert overwrite(session, disk, [*blocks(0, 1), *SOME[1:]], 0xBB) == BLOCK
        session.close(sealed=False)
        session.close(sealed=False)
        for disk in before:
            now = machine.content(disk)
            assert now[:2 * BLOCK] == b"\xbb" * 2 * BLOCK and now != before[disk]
        session = writer.open(machine.name, None, origin, 1)
        kept = session.preserved("vda")
        assert kept is not None and kept.size == ODD
        assert changed(kept.export, kept.holds) == [
            Extent(0, 2 * BLOCK), *SOME[1:4], Extent(64 * BLOCK, ODD % BLOCK)]
        undo(session)
        session.close(sealed=False)
        assert machine.contents() == before
        assert writer.undo_exists(machine.name, origin)
        assert writer.clear(machine.name, origin)
        assert not writer.undo_exists(machine.name, origin)
        assert writer.clear(machine.name, origin) == []
    assert machine.left() == set()
