"""Weekly limits of bandwidth: which holds now, when that changes, when a pause ends.

Ranges mean the clock on the wall of their zone. When clocks are put forward, what the skipped hour
holds is skipped with it; when they are put back, the repeated hour is limited twice, as it says.
Instants are seconds since the epoch.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from itertools import pairwise
from typing import Final
from zoneinfo import ZoneInfo

from .errors import Refused
from .schedule import DAY_S, zone_of

DAY_MINUTES: Final = 24 * 60
LARGEST: Final = 2**53              # bytes per second; JSON numbers are exact up to here
MOST_RANGES: Final = 7 * 24 * 4

_WEEK_S: Final = 7 * DAY_S
_MONDAY: Final = 4 * DAY_S          # 1970-01-05 was one
_HORIZON_S: Final = 2 * _WEEK_S + DAY_S     # one range a week may fall into a skipped hour once


@dataclass(frozen=True, slots=True)
class Range:
    """One limit on some days of the week. A range over midnight is two."""

    days: tuple[int, ...]           # 1 Monday … 7 Sunday
    start: int                      # minutes of the day, 0…1439
    end: int                        # later than start, up to 1440; exclusive
    limit: int                      # bytes per second; 0 stops the transfer


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Outside its ranges there is no limit. Checked by :func:`check` when it was set."""

    zone: str = "UTC"
    ranges: tuple[Range, ...] = ()

    def limit_at(self, at: float) -> int | None:
        """Bytes per second; 0: paused; None: no limit."""
        return next(self._stretches(at))[1] if self.ranges else None

    def next_change(self, at: float) -> float | None:
        """The first instant after ``at`` with another limit than at ``at``; None: there is none."""
        if not self.ranges:
            return None
        stretches = self._stretches(at)
        _, now = next(stretches)
        return next((begin for begin, limit in stretches if limit != now), None)

    def zero_until(self, at: float) -> float | None:
        """The first instant from ``at`` on whose limit is not 0: ``at`` itself when nothing is
        paused then, None when the pause never ends."""
        return open_from((self,), at)

    def _stretches(self, at: float) -> Iterator[tuple[float, int | None]]:
        """From ``at`` on, for two weeks: an instant, and the limit from it to the next one."""
        zone = zone_of(self.zone)
        edges, limits = _week(self.ranges)
        now: float = at
        while now < at + _HORIZON_S:
            second = math.floor(now)
            offset = _offset(zone, second)
            place = (second + offset - _MONDAY) % _WEEK_S
            index = bisect_right(edges, place)
            yield now, limits[index - 1]
            # a step of a day at most, in which a zone changes its offset once at most
            now = second + min(edges[index] - place, DAY_S)
            if _offset(zone, int(now)) != offset:
                now = _offset_change(zone, second, int(now))


UNLIMITED: Final = Bandwidth()


def open_from(several: Iterable[Bandwidth], at: float) -> float | None:
    """The first instant from ``at`` on at which none of them is 0; None: there is none."""
    limiting = [b for b in several if b.ranges]
    found = at
    while found < at + _HORIZON_S:
        ends = [_zero_end(b, found) for b in limiting]
        if None in ends:
            return None
        latest = max((e for e in ends if e is not None), default=found)
        if latest == found:
            return found
        found = latest
    return None


def check(bandwidth: Bandwidth) -> None:
    """Raises Refused ``schedule.zone``, ``bandwidth.*``."""
    zone_of(bandwidth.zone)
    if len(bandwidth.ranges) > MOST_RANGES:
        raise Refused("bandwidth.ranges", count=len(bandwidth.ranges), largest=MOST_RANGES)
    for span in bandwidth.ranges:
        days = set(span.days)
        if not days or len(days) < len(span.days) or not days <= set(range(1, 8)):
            raise Refused("bandwidth.days")
        if not 0 <= span.start < span.end <= DAY_MINUTES:
            raise Refused("bandwidth.times", start=span.start, end=span.end, largest=DAY_MINUTES)
        if not 0 <= span.limit <= LARGEST:
            raise Refused("bandwidth.limit", value=span.limit, largest=LARGEST)
    for (_, end, _), (start, _, _) in pairwise(_spans(bandwidth.ranges)):
        if start < end:
            day, second = divmod(start, DAY_S)
            raise Refused("bandwidth.overlap", day=day + 1,
                          time=f"{second // 3600:02}:{second // 60 % 60:02}")


def _zero_end(bandwidth: Bandwidth, at: float) -> float | None:
    return next((begin for begin, limit in bandwidth._stretches(at) if limit != 0), None)


def _spans(ranges: tuple[Range, ...]) -> list[tuple[int, int, int]]:
    """First second of the week, the one after the last, limit: sorted."""
    return sorted(((day - 1) * DAY_S + r.start * 60, (day - 1) * DAY_S + r.end * 60, r.limit)
                  for r in ranges for day in r.days)


@lru_cache(1024)
def _week(ranges: tuple[Range, ...]) -> tuple[list[int], list[int | None]]:
    """Seconds of the week at which a limit begins, and these limits; the end of the week last."""
    edges: list[int] = []
    limits: list[int | None] = []
    done = 0
    for start, end, limit in [*_spans(ranges), (_WEEK_S, _WEEK_S, 0)]:
        if done < start:
            edges.append(done)
            limits.append(None)
        edges.append(start)
        limits.append(limit)
        done = end
    return edges, limits


def _offset(zone: ZoneInfo, at: int) -> int:
    offset = datetime.fromtimestamp(at, zone).utcoffset()
    assert offset is not None
    return int(offset.total_seconds())


def _offset_change(zone: ZoneInfo, before: int, after: int) -> int:
    """The first second of the other offset, which ``after`` has and ``before`` has not."""
    old = _offset(zone, before)
    while after - before > 1:
        middle = (before + after) // 2
        if _offset(zone, middle) == old:
            before = middle
        else:
            after = middle
    return after
