"""The judges of the chaos see what is wrong."""

from __future__ import annotations

import pytest

from .limits import Run, Timeline, over_the_limits
from .records import RECORD, SIZE, SLOTS, Records, Wrong


@pytest.mark.parametrize(("disks", "stride"), [(1, 1), (2, 17), (3, 33)])
def test_content_of_one_instant(disks: int, stride: int) -> None:
    records = Records("vm1", disks, stride)
    for count in (0, 1, 9, 500, SLOTS * disks + 77, 3 * SLOTS * disks + 5):
        assert records.judge(records.content(count)) == count


def test_a_lost_write_is_seen() -> None:
    records = Records("vm1", 2, 17)
    before, after = records.content(399), records.content(400)
    disk, slot = records.place(300)
    at = slot * RECORD
    disks = [bytearray(content) for content in after]
    disks[disk][at:at + RECORD] = bytes(RECORD)
    with pytest.raises(Wrong, match="newest record is 400"):
        records.judge([bytes(d) for d in disks])
    # one disk of a moment later than the other
    later = [before[0], records.content(430)[1]]
    with pytest.raises(Wrong):
        records.judge(later)
    # a record that is half there, and a disk that is too short
    disks = [bytearray(content) for content in after]
    disks[disk][at + RECORD // 2:at + RECORD] = bytes(RECORD // 2)
    with pytest.raises(Wrong):
        records.judge([bytes(d) for d in disks])
    with pytest.raises(Wrong, match=f"{SIZE - RECORD} bytes"):
        records.judge([after[0], after[1][:-RECORD]])


def test_an_older_write_that_comes_back_is_seen() -> None:
    records = Records("vm1", 1, 1)
    content = bytearray(records.content(SLOTS + 100)[0])
    content[:RECORD] = records.content(1)[0][:RECORD]
    with pytest.raises(Wrong, match="slot 0"):
        records.judge([bytes(content)])


MIB = 1 << 20
BOTH = frozenset({"a", "b"})


def run(task: int, begin: float, end: float | None = None, machine: str = "m1",
        rule: str | None = None, hosts: frozenset[str] = BOTH, buffer: int = 4 * MIB) -> Run:
    return Run(task, rule or f"r{task}", machine, hosts, buffer, begin, end)


@pytest.mark.parametrize(("runs", "said"), [
    ([run(1, 1, 5), run(2, 2, 5), run(3, 5)], ""),
    ([run(1, 1), run(2, 2), run(3, 3)], "number 3 on m1, whose limit was 2"),
    ([run(1, 1), run(2, 2), run(3, 3, machine="m2"), run(4, 4, machine="m2")],
     "number 4 at a host, whose limit was 3"),
    ([run(1, 11), run(2, 12), run(3, 13)], ""),                 # the limit is 4 from 10 on
    ([run(1, 11), run(2, 12), run(3, 13), run(4, 21)], "number 4 on m1, whose limit was 1"),
    ([run(1, 11), run(2, 12), run(3, 13)], ""),                 # a lower limit ends nothing
    ([run(1, 1, 3, rule="r"), run(2, 2, rule="r")], "task 2 overlaps another of rule r"),
    ([run(1, 1, buffer=16 * MIB), run(2, 2, buffer=17 * MIB)], "over the bytes in flight"),
])
def test_what_was_begun_over_a_limit_is_seen(runs: list[Run], said: str) -> None:
    limits = Timeline({"m1": [(0.0, 2), (10.0, 4), (20.0, 1)], "m2": [(0.0, 3)]}, [(0.0, 4)])
    found = over_the_limits(runs, limits)
    assert (said in "; ".join(found)) if said else not found, found
