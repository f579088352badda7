"""Weekly ranges of bandwidth: what holds at an instant, when it changes, when a pause ends."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotspare.domain.bandwidth import UNLIMITED, Bandwidth, Range, check, open_from
from hotspare.domain.codec import decode, encode
from hotspare.domain.errors import Refused

ALL = (1, 2, 3, 4, 5, 6, 7)
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Shanghai",
         "America/Santiago", "Africa/Casablanca", "Asia/Kathmandu", "Pacific/Apia")
YEAR = (1767225600, 1798761600)         # 2026
DAY = 86400


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@st.composite
def weeks(draw: st.DrawFn) -> tuple[Range, ...]:
    """Any week without overlaps: each day is cut at some minutes, and the pieces get limits."""
    ranges = []
    for day in ALL:
        cuts = sorted({0, 1440, *draw(st.lists(st.integers(0, 1440), max_size=4))})
        for start, end in pairwise(cuts):
            limit = draw(st.sampled_from([None, 0, 0, 1000, 10**9]))
            if limit is not None:
                ranges.append(Range((day,), start, end, limit))
    return tuple(draw(st.permutations(ranges)))


bandwidths = st.builds(Bandwidth, st.sampled_from(ZONES), weeks())
instants = st.floats(*YEAR, allow_nan=False) | st.integers(*YEAR)


def by_the_wall(bandwidth: Bandwidth, instant: float) -> int | None:
    """The same by another way: what the clock on the wall shows, looked up range by range."""
    wall = datetime.fromtimestamp(int(instant), ZoneInfo(bandwidth.zone))
    minute = wall.hour * 60 + wall.minute
    found = [r.limit for r in bandwidth.ranges
             if wall.isoweekday() in r.days and r.start <= minute < r.end]
    assert len(found) <= 1
    return found[0] if found else None


@given(bandwidths, instants)
def test_the_limit_is_what_the_clock_on_the_wall_says(bandwidth: Bandwidth,
                                                      instant: float) -> None:
    check(bandwidth)
    assert bandwidth.limit_at(instant) == by_the_wall(bandwidth, instant)


@given(bandwidths, instants)
def test_nothing_changes_before_the_next_change(bandwidth: Bandwidth, instant: float) -> None:
    change = bandwidth.next_change(instant)
    now = by_the_wall(bandwidth, instant)
    last = min(change if change is not None else instant + 8 * DAY, instant + 8 * DAY)
    # every minute to it, and the second before it
    steps = range(int(instant) // 60 * 60 + 60, int(last), 60)
    assert all(by_the_wall(bandwidth, step) == now for step in [*steps, last - 1]
               if instant <= step < last)
    if change is not None:
        assert change > instant
        assert by_the_wall(bandwidth, change) != now


@given(bandwidths, instants)
def test_a_pause_ends_where_it_says(bandwidth: Bandwidth, instant: float) -> None:
    end = bandwidth.zero_until(instant)
    if end is None:
        assert all(by_the_wall(bandwidth, instant + n * 60) == 0 for n in range(7 * 24 * 60))
        return
    assert by_the_wall(bandwidth, end) != 0
    assert end == instant or by_the_wall(bandwidth, end - 1) == 0
    assert all(by_the_wall(bandwidth, step) == 0 for step in range(int(instant), int(end), 60))


@given(st.lists(bandwidths, min_size=2, max_size=2), instants)
def test_two_pauses_end_when_neither_holds(both: list[Bandwidth], instant: float) -> None:
    end = open_from(both, instant)
    last = end if end is not None else instant + 7 * DAY
    assert all(0 in [by_the_wall(b, step) for b in both]
               for step in range(int(instant), int(last), 60))
    if end is not None:
        assert 0 not in [by_the_wall(b, end) for b in both]


def test_an_empty_week_limits_nothing() -> None:
    assert UNLIMITED.limit_at(0.5) is None
    assert UNLIMITED.next_change(0.5) is None
    assert UNLIMITED.zero_until(0.5) == 0.5
    assert open_from([], 0.5) == open_from([UNLIMITED, UNLIMITED], 0.5) == 0.5


def test_one_limit_all_week_never_changes() -> None:
    flat = Bandwidth("Europe/Berlin", (Range(ALL, 0, 1440, 5),))
    assert flat.limit_at(YEAR[0]) == 5
    assert flat.next_change(YEAR[0]) is None


def test_a_week_of_zeroes_never_ends() -> None:
    stopped = Bandwidth("Europe/Berlin", (Range(ALL, 0, 720, 0), Range(ALL, 720, 1440, 0)))
    assert stopped.limit_at(YEAR[0]) == 0
    assert stopped.zero_until(YEAR[0]) is None


def test_zeroes_merge_over_midnight_and_the_end_of_the_week() -> None:
    office = Bandwidth("Asia/Shanghai", (
        Range((5,), 18 * 60, 1440, 0), Range((6, 7), 0, 1440, 0), Range((1,), 0, 6 * 60, 0),
        Range((1,), 6 * 60, 7 * 60, 1000)))
    friday = at("2026-11-27 20:00", "Asia/Shanghai")
    assert office.zero_until(friday) == at("2026-11-30 06:00", "Asia/Shanghai")
    assert office.next_change(friday) == at("2026-11-30 06:00", "Asia/Shanghai")
    assert office.next_change(at("2026-11-30 06:30", "Asia/Shanghai")) == at(
        "2026-11-30 07:00", "Asia/Shanghai")
    assert office.limit_at(at("2026-11-30 07:00", "Asia/Shanghai")) is None


def test_clocks_put_forward() -> None:
    berlin = "Europe/Berlin"        # 2026-03-29: 02:00 is 03:00
    early = Bandwidth(berlin, (Range((7,), 60, 150, 0),))          # 01:00 to 02:30
    begun = at("2026-03-29 01:00", berlin)
    assert early.zero_until(begun) == begun + 3600 == at("2026-03-29 03:00", berlin)
    inside = Bandwidth(berlin, (Range((7,), 130, 170, 0),))        # 02:10 to 02:50: not that day
    assert inside.next_change(begun) == at("2026-04-05 02:10", berlin)
    late = Bandwidth(berlin, (Range((7,), 150, 240, 0),))          # 02:30 to 04:00
    assert late.next_change(begun) == at("2026-03-29 03:00", berlin)
    assert late.zero_until(begun + 3600) == begun + 2 * 3600


def test_clocks_put_back() -> None:
    berlin = "Europe/Berlin"        # 2026-10-25: 03:00 is 02:00
    both = Bandwidth(berlin, (Range((7,), 120, 180, 0),))          # 02:00 to 03:00: two hours
    begun = at("2026-10-25 02:00", berlin)
    assert both.zero_until(begun) == begun + 2 * 3600
    half = Bandwidth(berlin, (Range((7,), 120, 150, 0),))          # 02:00 to 02:30: twice
    assert half.zero_until(begun) == begun + 1800
    assert half.limit_at(begun + 1800) is None
    assert half.next_change(begun + 1800) == begun + 3600
    assert half.zero_until(begun + 3600) == begun + 5400


def test_the_only_opening_of_the_week_falls_into_a_skipped_hour() -> None:
    berlin = "Europe/Berlin"
    closed = Bandwidth(berlin, (Range((1, 2, 3, 4, 5, 6), 0, 1440, 0), Range((7,), 0, 125, 0),
                                Range((7,), 170, 1440, 0)))
    assert closed.zero_until(at("2026-03-23 00:00", berlin)) == at("2026-04-05 02:05", berlin)


def test_pauses_that_take_turns_never_end() -> None:
    mornings = Bandwidth("UTC", (Range(ALL, 0, 720, 0),))
    evenings = Bandwidth("UTC", (Range(ALL, 720, 1440, 0),))
    assert open_from([mornings, evenings], YEAR[0]) is None
    assert open_from([mornings], YEAR[0]) == YEAR[0] + DAY / 2


@pytest.mark.parametrize(("ranges", "code"), [
    ([Range((), 0, 1, 0)], "bandwidth.days"),
    ([Range((1, 1), 0, 1, 0)], "bandwidth.days"),
    ([Range((0,), 0, 1, 0)], "bandwidth.days"),
    ([Range((8,), 0, 1, 0)], "bandwidth.days"),
    ([Range((1,), -1, 1, 0)], "bandwidth.times"),
    ([Range((1,), 5, 5, 0)], "bandwidth.times"),
    ([Range((1,), 6, 5, 0)], "bandwidth.times"),
    ([Range((1,), 0, 1441, 0)], "bandwidth.times"),
    ([Range((1,), 0, 1, -1)], "bandwidth.limit"),
    ([Range((1,), 0, 1, 2**54)], "bandwidth.limit"),
    ([Range((1, 2), 0, 60, 0), Range((2, 3), 59, 70, 5)], "bandwidth.overlap"),
    ([Range(ALL, 0, 1440, 1), Range((7,), 1439, 1440, 1)], "bandwidth.overlap"),
    ([Range((1,), n, n + 1, 0) for n in range(673)], "bandwidth.ranges"),
])
def test_what_is_no_week_is_refused(ranges: list[Range], code: str) -> None:
    with pytest.raises(Refused) as caught:
        check(Bandwidth("UTC", tuple(ranges)))
    assert caught.value.code == code
    assert code not in str(caught.value)


def test_a_zone_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="Mars"):
        check(Bandwidth("Mars/Olympus"))


def test_ranges_that_touch_do_not_overlap() -> None:
    check(Bandwidth("UTC", (Range(ALL, 0, 720, 1), Range(ALL, 720, 1440, 0))))


@given(bandwidths)
def test_it_travels_as_json(bandwidth: Bandwidth) -> None:
    assert decode(Bandwidth, encode(bandwidth)) == bandwidth
