"""Schedules against a virtual clock over years, in zones whose clocks change in different ways.

What a day's run is, the tests work out without the code under test: they look for the first quarter
of an hour of the day at which the wall shows the start time or later."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hotspare.domain.codec import decode, encode
from hotspare.domain.errors import Refused
from hotspare.domain.schedule import (
    DAY_S,
    Schedule,
    check,
    longest_gap_s,
    next_run,
    next_runs,
    zone_of,
)

ZONES = ("Europe/Berlin", "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe", "UTC",
         "Asia/Beirut", "America/Nuuk")
"""Lord Howe changes its clocks by half an hour, Beirut and Nuuk back over midnight."""
FIRST, LAST = date(2026, 1, 1), date(2027, 12, 31)
TIMES = ("00:00", "00:15", "01:30", "02:00", "02:15", "02:30", "02:45", "03:00", "03:15",
         "12:00", "23:30")
DAILY = Schedule("daily", at="02:30")


def days() -> Iterator[date]:
    return (FIRST + timedelta(n) for n in range((LAST - FIRST).days + 1))


def at(zone: str, *when: int, fold: int = 0) -> float:
    return datetime(*when, tzinfo=ZoneInfo(zone), fold=fold).timestamp()  # type: ignore[arg-type]


def wall(zone: str, instant: float) -> str:
    return datetime.fromtimestamp(instant, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S %z")


@cache
def quarters(zone: str) -> dict[date, list[tuple[str, int]]]:
    """By the date that the wall shows, each quarter of an hour: time on the wall, and instant."""
    begin = int(datetime(2025, 12, 30, tzinfo=UTC).timestamp())
    found: dict[date, list[tuple[str, int]]] = {}
    where = ZoneInfo(zone)
    for instant in range(begin, begin + 735 * DAY_S, 15 * 60):
        shown = datetime.fromtimestamp(instant, where)
        found.setdefault(shown.date(), []).append((shown.strftime("%H:%M"), instant))
    return found


def expected(zone: str, day: date, time: str) -> float:
    """The first quarter of an hour of the day whose wall time is not before ``time``; where the
    clocks skip the rest of the day, midnight."""
    return next((instant for shown, instant in quarters(zone)[day] if shown >= time),
                quarters(zone)[day][-1][1] + 15 * 60)


def walk(schedule: Schedule, zone: str) -> list[float]:
    """All starts of the two years, each asked for at the one before."""
    now, end = at(zone, 2025, 12, 31, 23, 59, 59), at(zone, 2028, 1, 1)
    runs: list[float] = []
    last: float | None = None
    while (now := next_run(schedule, zone, now, last)) < end:
        last = now
        runs.append(now)
    return runs


# --- two years -----------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("time", TIMES)
def test_daily_runs_once_a_day_at_its_time(zone: str, time: str) -> None:
    assert walk(Schedule("daily", at=time), zone) == [expected(zone, d, time) for d in days()]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("weekdays", [(7,), (1, 4), (1, 2, 3, 4, 5, 6, 7), (6, 7)])
def test_weekly_runs_on_its_days_only(zone: str, weekdays: tuple[int, ...]) -> None:
    assert walk(Schedule("weekly", at="02:30", weekdays=weekdays), zone) == [
        expected(zone, d, "02:30") for d in days() if d.isoweekday() in weekdays]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("day", [1, 28, 29, 30, 31])
def test_monthly_runs_each_month_on_the_last_day_of_short_ones(zone: str, day: int) -> None:
    months = [(year, month) for year in (2026, 2027) for month in range(1, 13)]
    assert walk(Schedule("monthly", at="02:30", day=day), zone) == [
        expected(zone, date(y, m, min(day, monthrange(y, m)[1])), "02:30") for y, m in months]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("every_s", [900, 3600, 5 * 3600, DAY_S])
def test_intervals_are_absolute_seconds(zone: str, every_s: int) -> None:
    runs = walk(Schedule("interval", every_s=every_s), zone)
    assert {b - a for a, b in itertools.pairwise(runs)} == {every_s}
    assert len(runs) == pytest.approx(730 * DAY_S / every_s, abs=1)


def test_a_leap_years_last_day_of_february() -> None:
    monthly = Schedule("monthly", at="12:00", day=31)
    assert [wall("UTC", r)[:10] for r in next_runs(monthly, "UTC", at("UTC", 2028, 1, 31, 12),
                                                   None, 3)] == [
        "2028-02-29", "2028-03-31", "2028-04-30"]


# --- the changes themselves -----------------------------------------------------------------------


@pytest.mark.parametrize(("zone", "time", "after", "runs"), [
    ("Europe/Berlin", "02:30", (2027, 3, 27, 12), [     # 02:00 -> 03:00
        "2027-03-28 03:00:00 +0200", "2027-03-29 02:30:00 +0200"]),
    ("Europe/Berlin", "02:30", (2027, 10, 30, 12), [    # 03:00 -> 02:00: the first 02:30
        "2027-10-31 02:30:00 +0200", "2027-11-01 02:30:00 +0100"]),
    ("America/New_York", "02:15", (2027, 3, 13, 12), [
        "2027-03-14 03:00:00 -0400", "2027-03-15 02:15:00 -0400"]),
    ("America/New_York", "01:30", (2027, 11, 6, 12), [
        "2027-11-07 01:30:00 -0400", "2027-11-08 01:30:00 -0500"]),
    ("Australia/Lord_Howe", "02:15", (2027, 10, 2, 12), [   # 02:00 -> 02:30
        "2027-10-03 02:30:00 +1100", "2027-10-04 02:15:00 +1100"]),
    ("Australia/Lord_Howe", "01:45", (2027, 4, 3, 12), [    # 02:00 -> 01:30
        "2027-04-04 01:45:00 +1100", "2027-04-05 01:45:00 +1030"]),
    ("Asia/Beirut", "00:00", (2027, 3, 27, 12), [           # 00:00 -> 01:00
        "2027-03-28 01:00:00 +0300", "2027-03-29 00:00:00 +0300"]),
    ("Asia/Shanghai", "02:30", (2027, 3, 27, 12), [
        "2027-03-28 02:30:00 +0800", "2027-03-29 02:30:00 +0800"]),
])
def test_the_day_of_the_change(zone: str, time: str, after: tuple[int, ...],
                               runs: list[str]) -> None:
    found = next_runs(Schedule("daily", at=time), zone, at(zone, *after), None, 2)
    assert [wall(zone, r) for r in found] == runs


def test_in_the_repeated_hour_the_run_of_the_day_is_over() -> None:
    """Asked between the two 02:30, and at the second one."""
    for now in (at("Europe/Berlin", 2027, 10, 31, 2, 45),
                at("Europe/Berlin", 2027, 10, 31, 2, 30, fold=1)):
        assert wall("Europe/Berlin", next_run(DAILY, "Europe/Berlin", now, None)) == (
            "2027-11-01 02:30:00 +0100")


# --- intervals -----------------------------------------------------------------------------------


def test_an_interval_with_a_start_time_begins_there_and_keeps_its_grid() -> None:
    grid = Schedule("interval", every_s=5 * 3600, at="02:30")
    zone, now = "Europe/Berlin", at("Europe/Berlin", 2027, 3, 27, 12)
    runs = next_runs(grid, zone, now, None, 3)
    assert [wall(zone, r) for r in runs] == [
        "2027-03-28 03:00:00 +0200", "2027-03-28 08:00:00 +0200", "2027-03-28 13:00:00 +0200"]
    # Two days without a process: one run, on the grid.
    late = next_run(grid, zone, runs[2] + 48 * 3600, runs[2])
    assert late == runs[2] + 50 * 3600


def test_an_interval_without_a_start_time_counts_from_the_start() -> None:
    assert next_runs(Schedule("interval", every_s=600), "UTC", 1000.5, None, 2) == [
        1600.5, 2200.5]


def test_a_clock_that_was_put_back_does_not_stop_an_interval() -> None:
    assert next_run(Schedule("interval", every_s=600), "UTC", 1e9, 1e9 + 31 * DAY_S) <= 1e9 + 600


# --- properties ----------------------------------------------------------------------------------

instants = st.floats(at("UTC", 2026, 1, 1), at("UTC", 2027, 12, 1), allow_nan=False)
times = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
calendar_schedules = st.one_of(
    st.builds(Schedule, st.just("daily"), at=times),
    st.builds(Schedule, st.just("weekly"), at=times,
              weekdays=st.sets(st.integers(1, 7), min_size=1).map(lambda s: tuple(sorted(s)))),
    st.builds(Schedule, st.just("monthly"), at=times, day=st.integers(1, 31)))
interval_schedules = st.builds(Schedule, st.just("interval"),
                               every_s=st.integers(10, 31 * DAY_S), at=st.none() | times)


@given(calendar_schedules | interval_schedules, st.sampled_from(ZONES), instants)
def test_any_schedule_is_stored_and_read_back(schedule: Schedule, zone: str,
                                              _now: float) -> None:
    check(schedule, zone, 10)
    assert decode(Schedule, encode(schedule)) == schedule


@settings(max_examples=300)
@given(calendar_schedules, st.sampled_from(ZONES), instants)
@example(DAILY, "Europe/Berlin", at("Europe/Berlin", 2027, 3, 28, 3))
@example(DAILY, "Europe/Berlin", at("Europe/Berlin", 2027, 10, 31, 2, 59, fold=1))
def test_runs_by_the_calendar(schedule: Schedule, zone: str, now: float) -> None:
    """Strictly increasing, never two of a local day, none skipped, in reach of the longest gap."""
    runs = next_runs(schedule, zone, now, None, 12)
    assert runs[0] > now
    assert all(a < b for a, b in itertools.pairwise(runs))
    local = [_day_meant(schedule, datetime.fromtimestamp(r, ZoneInfo(zone))) for r in runs]
    assert len(set(local)) == len(local)
    meant = [d for d in (local[0] + timedelta(n) for n in range((local[-1] - local[0]).days + 1))
             if _means(schedule, d)]
    assert local == meant
    gap = longest_gap_s(schedule, zone)
    assert all(b - a <= gap for a, b in itertools.pairwise(runs))


def _day_meant(schedule: Schedule, shown: datetime) -> date:
    """The day whose run this is: in Nuuk the clocks skip the last hour of a day in March, and a
    run of that hour starts at midnight."""
    assert schedule.at is not None
    late = shown.strftime("%H:%M") < schedule.at
    return shown.date() - timedelta(days=late)


def _means(schedule: Schedule, day: date) -> bool:
    if schedule.kind == "monthly":
        last = (day + timedelta(1)).day == 1
        assert schedule.day is not None
        return day.day == schedule.day or (last and day.day < schedule.day)
    return schedule.kind == "daily" or day.isoweekday() in schedule.weekdays


@settings(max_examples=300)
@given(calendar_schedules | interval_schedules, st.sampled_from(ZONES), instants,
       st.floats(0, 100 * DAY_S))
def test_missed_runs_are_one(schedule: Schedule, zone: str, now: float, down_s: float) -> None:
    """After a time that nobody ran anything, the next run is the one that never being down would
    have had next, and it lies after now: none is made up for twice."""
    first = next_run(schedule, zone, now, None)
    later = first + down_s
    after = next_run(schedule, zone, later, first)
    assert after > later
    if schedule.kind != "interval":
        steady = next_runs(schedule, zone, first, first, 110)
        assert after == steady[bisect_right(steady, later)]
    else:
        assert schedule.every_s is not None
        steps = (after - first) / schedule.every_s
        assert steps == pytest.approx(round(steps), abs=1e-6)
        assert after - later <= schedule.every_s + 1e-6


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("schedule", "code"), [
    (Schedule("interval"), "schedule.interval"),
    (Schedule("interval", every_s=9), "schedule.interval"),
    (Schedule("interval", every_s=31 * DAY_S + 1), "schedule.interval"),
    (Schedule("interval", every_s=60, weekdays=(1,)), "schedule.field"),
    (Schedule("interval", every_s=60, day=1), "schedule.field"),
    (Schedule("interval", every_s=60, at="2:30"), "schedule.time"),
    (Schedule("daily"), "schedule.no-start-time"),
    (Schedule("daily", at="24:00"), "schedule.time"),
    (Schedule("daily", at="12:60"), "schedule.time"),
    (Schedule("daily", at="1２:00"), "schedule.time"),     # a digit, but not one of ours
    (Schedule("daily", at="02:30", every_s=60), "schedule.field"),
    (Schedule("weekly", at="02:30"), "schedule.weekdays"),
    (Schedule("weekly", at="02:30", weekdays=(0,)), "schedule.weekdays"),
    (Schedule("weekly", at="02:30", weekdays=(1, 8)), "schedule.weekdays"),
    (Schedule("weekly", at="02:30", weekdays=(1, 1)), "schedule.weekdays"),
    (Schedule("monthly", at="02:30"), "schedule.day"),
    (Schedule("monthly", at="02:30", day=0), "schedule.day"),
    (Schedule("monthly", at="02:30", day=32), "schedule.day"),
])
def test_what_is_no_schedule(schedule: Schedule, code: str) -> None:
    with pytest.raises(Refused) as caught:
        check(schedule, "UTC", 10)
    assert caught.value.code == code


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "../../etc/passwd", "/etc/passwd", "Europe",
                                  "right/UTC", "a\0b", "x" * 300, "ü"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(Refused) as caught:
        check(DAILY, zone, 10)
    assert (caught.value.code, caught.value.fields) == ("schedule.zone", {"zone": zone})


def test_the_platform_says_the_shortest_interval() -> None:
    check(Schedule("interval", every_s=10), "UTC", 10)
    with pytest.raises(Refused):
        check(Schedule("interval", every_s=59), "UTC", 60)


@pytest.mark.parametrize(("schedule", "zone", "gap"), [
    (Schedule("interval", every_s=900), "Europe/Berlin", 900),
    (DAILY, "UTC", DAY_S),
    (DAILY, "Europe/Berlin", DAY_S + 3600),
    (DAILY, "Australia/Lord_Howe", DAY_S + 1800),
    (Schedule("weekly", at="02:30", weekdays=(1, 4)), "UTC", 4 * DAY_S),
    (Schedule("weekly", at="02:30", weekdays=(3,)), "UTC", 7 * DAY_S),
    (Schedule("monthly", at="02:30", day=31), "UTC", 31 * DAY_S),
])
def test_longest_gap(schedule: Schedule, zone: str, gap: float) -> None:
    assert longest_gap_s(schedule, zone) == gap


def test_zones_are_looked_up_once() -> None:
    assert zone_of("Europe/Berlin") is zone_of("Europe/Berlin")
