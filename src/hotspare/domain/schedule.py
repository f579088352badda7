"""When a rule runs: the schedule, and the instants that it means in a time zone.

Instants are seconds since the epoch. A change to or from daylight-saving time neither skips nor
doubles a run by the calendar: a local time that does not exist that day means the first instant
after the gap, one that exists twice means the first of the two. Intervals count absolute seconds.
"""

from __future__ import annotations

import math
import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from typing import Final, Literal
from zoneinfo import ZoneInfo

from .errors import Refused

DAY_S: Final = 24 * 3600
LARGEST_S: Final = 31 * DAY_S
_AT = re.compile(r"([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Fields that the kind does not name are left at their defaults."""

    kind: Literal["interval", "daily", "weekly", "monthly"]
    every_s: int | None = None          # interval: seconds from start to start
    at: str | None = None               # HH:MM, local; interval: of the first start, None: at once
    weekdays: tuple[int, ...] = ()      # weekly: 1 Monday … 7 Sunday
    day: int | None = None              # monthly: 1…31; the last day of a shorter month


_FIELDS: Final = {"interval": {"every_s", "at"}, "daily": {"at"}, "weekly": {"at", "weekdays"},
                  "monthly": {"at", "day"}}


def check(schedule: Schedule, zone: str, smallest_s: int) -> None:
    """Raises Refused ``schedule.*`` when this is no schedule, or runs more often than each
    ``smallest_s`` seconds, what the source platform can."""
    zone_of(zone)
    for field in ("every_s", "at", "weekdays", "day"):
        if getattr(schedule, field) not in (None, ()) and field not in _FIELDS[schedule.kind]:
            raise Refused("schedule.field", kind=schedule.kind, field=field)
    if schedule.kind == "interval":
        if schedule.every_s is None or not smallest_s <= schedule.every_s <= LARGEST_S:
            raise Refused("schedule.interval", smallest=smallest_s, largest=LARGEST_S)
    elif schedule.at is None:
        raise Refused("schedule.no-start-time", kind=schedule.kind)
    if schedule.at is not None and not _AT.fullmatch(schedule.at):
        raise Refused("schedule.time", value=schedule.at)
    days = schedule.weekdays
    if schedule.kind == "weekly" and not (
            days and len(set(days)) == len(days) and set(days) <= set(range(1, 8))):
        raise Refused("schedule.weekdays")
    if schedule.kind == "monthly" and (schedule.day is None or not 1 <= schedule.day <= 31):
        raise Refused("schedule.day")


def next_run(schedule: Schedule, zone: str, after: float, last: float | None) -> float:
    """The first start later than ``after``, however many were missed before it.

    ``last`` is any earlier start of an interval's grid. Without one the grid begins at the next
    ``at``, or one interval after ``after`` when the rule is started at ``after`` itself."""
    if schedule.kind == "interval" and (last is not None or schedule.at is None):
        assert schedule.every_s is not None
        begin = after if last is None else last
        steps = math.floor((after - begin) / schedule.every_s) + 1
        found = begin + steps * schedule.every_s
        return found if found > after else found + schedule.every_s     # the division was rounded
    where = zone_of(zone)
    day = datetime.fromtimestamp(after, where).date()
    while True:
        if _runs_on(schedule, day):
            at = _instant(day, schedule.at or "00:00", where)
            if at > after:
                return at
        day += timedelta(days=1)


def next_runs(schedule: Schedule, zone: str, after: float, last: float | None,
              count: int) -> list[float]:
    """The first ``count`` starts later than ``after``."""
    runs: list[float] = []
    for _ in range(count):
        after = last = next_run(schedule, zone, after, last)
        runs.append(after)
    return runs


def longest_gap_s(schedule: Schedule, zone: str) -> float:
    """The longest time from one start to the next that the schedule allows."""
    match schedule.kind:
        case "interval":
            return float(schedule.every_s or 0)
        case "daily":
            days = 1
        case "weekly":
            week = sorted(schedule.weekdays)
            days = max(b - a for a, b in pairwise([*week, week[0] + 7]))
        case "monthly":
            days = 31
    return days * DAY_S + _set_back_s(zone)


@cache
def zone_of(name: str) -> ZoneInfo:
    """The time zone of that IANA name. Raises Refused ``schedule.zone``."""
    try:
        # Copies of the database that count leap seconds, or hide their names, are no zones.
        if name.startswith(("right/", "posix/", "localtime")):
            raise ValueError(name)
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):     # KeyError: ZoneInfoNotFoundError
        raise Refused("schedule.zone", zone=name) from None


def _runs_on(schedule: Schedule, day: date) -> bool:
    match schedule.kind:
        case "weekly":
            return day.isoweekday() in schedule.weekdays
        case "monthly":
            assert schedule.day is not None
            return day.day == min(schedule.day, monthrange(day.year, day.month)[1])
    return True                         # daily, and the first start of an interval


def _instant(day: date, at: str, zone: ZoneInfo) -> float:
    wall = datetime.combine(day, time.fromisoformat(at), zone)
    other = wall.replace(fold=1)
    instant = wall.timestamp()
    if _offset_s(wall) >= _offset_s(other):     # there is such a time; the first if there are two
        return instant
    # In a gap the one reading lies before the change, the other after it: search between them.
    before, after = int(other.timestamp()), int(instant)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset_s(datetime.fromtimestamp(middle, zone)) < _offset_s(other):
            before = middle
        else:
            after = middle
    return float(after)


def _offset_s(at: datetime) -> float:
    offset = at.utcoffset()
    assert offset is not None
    return offset.total_seconds()


@cache
def _set_back_s(zone: str) -> float:
    """By how much the zone's clocks are put back at most in a year to come."""
    start = datetime(2032, 1, 1, 12, tzinfo=UTC)
    offsets = [_offset_s((start + timedelta(days=n)).astimezone(zone_of(zone)))
               for n in range(367)]
    return max(a - b for a, b in pairwise(offsets))
