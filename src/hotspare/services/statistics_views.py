"""What the statistics answer. Bytes, seconds, and days of UTC."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DayView:
    """Runs that ended on a day, and what they did."""

    day: str                        # YYYY-MM-DD
    ok: int
    warning: int
    failed: int
    stopped: int
    full: int                       # runs that read a whole disk
    bytes_queried: int
    bytes_read: int
    bytes_moved: int
    bytes_zero: int
    seconds: float                  # that the runs took, together
    retries: int
    violations: int                 # times that the RPO began to be missed
    longest_gap_s: float            # oldest that the newest point became before the next one


@dataclass(frozen=True)
class TotalView:
    """The days together. ``success_ratio`` does not count runs that were stopped; None: none
    ended well or failed."""

    runs: int
    ok: int
    warning: int
    failed: int
    stopped: int
    full: int
    success_ratio: float | None
    bytes_queried: int
    bytes_read: int
    bytes_moved: int
    bytes_zero: int
    bytes_a_day: float              # moved, mean since the first of the days that has a run
    seconds: float
    mean_seconds: float | None      # of a run
    retries: int
    violations: int
    longest_gap_s: float


@dataclass(frozen=True)
class RpoView:
    """``kept`` is None while nothing is promised: no point yet, stopped, failed over."""

    target_s: float | None
    named: bool                     # the rule names it; else it follows from the schedule
    age_s: float | None             # of the newest point
    kept: bool | None
    violated_at: float | None


@dataclass(frozen=True)
class RuleStatistics:
    rule: str
    name: str
    since: str                      # first of the days
    days: int
    rpo: RpoView
    points: int
    latest_point: int | None
    latest_point_at: float | None
    size: int                       # of the disks at the newest point
    stored: int                     # bytes that the points hold
    full_runs: int                  # unexpected ones in a row, up to now
    total: TotalView
    by_day: list[DayView]           # only days that have something, oldest first


@dataclass(frozen=True)
class StorageView:
    platform: str
    platform_name: str
    storage: str
    rules: int
    points: int
    stored: int
    free: int | None                # as the platform said when it was last refreshed


@dataclass(frozen=True)
class ScopeRpoView:
    watched: int                    # rules that promise something now
    violated: int
    unprotected: int                # rules without any restore point
    oldest_age_s: float | None      # of the newest points of those that are watched


@dataclass(frozen=True)
class ScopeStatistics:
    """Of a group, or of all rules (``group`` and ``name`` are None). The days count what ran when
    the rule was in the group; the rest is of its rules now."""

    group: str | None
    name: str | None
    since: str
    days: int
    rules: int
    states: dict[str, int]
    rpo: ScopeRpoView
    points: int
    stored: int
    storages: list[StorageView]
    total: TotalView
    by_day: list[DayView]
