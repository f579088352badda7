"""What a schedule will mean, before a rule is saved with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ..domain import bandwidth, schedule
from ..domain.bandwidth import Bandwidth, Range, open_from
from ..domain.schedule import Schedule, longest_gap_s, next_run, zone_of
from .context import Actor, Context
from .kinds import KINDS
from .platforms import find as find_platform

_SHOWN: Final = 5


@dataclass(frozen=True)
class RunView:
    """``begins`` is later than ``planned`` when the run has to wait for the end of a range
    without bandwidth (the runs planned meanwhile become one with it); None: it never ends."""

    planned: float                  # seconds since the epoch
    planned_local: str              # the same in the time zone: 2027-03-28T03:00:00+02:00
    begins: float | None
    begins_local: str | None


@dataclass(frozen=True)
class PreviewView:
    time_zone: str
    runs: list[RunView]
    longest_gap_s: float            # between two planned starts, over a year


class Schedules:
    def __init__(self, context: Context) -> None:
        self._context = context

    def preview(self, actor: Actor, when: Schedule, zone: str, ranges: Sequence[Range] = (),
                source: str | None = None) -> PreviewView:
        """The next runs of a rule that is enabled now, besides the one that its start by hand
        begins at once. Raises Refused ``schedule.*``, ``bandwidth.*``."""
        actor.need("viewer")
        smallest = min(kind.smallest_interval_s for kind in KINDS.values())
        if source is not None:
            with self._context.read() as conn:
                smallest = KINDS[find_platform(conn, source).kind].smallest_interval_s
        schedule.check(when, zone, smallest)
        limits = Bandwidth(zone, tuple(ranges))
        bandwidth.check(limits)
        runs: list[RunView] = []
        begins: float | None = self._context.clock()
        planned = None
        while begins is not None and len(runs) < _SHOWN:
            planned = next_run(when, zone, begins, planned)
            begins = open_from((limits,), planned)
            runs.append(RunView(planned, _local(planned, zone), begins,
                                None if begins is None else _local(begins, zone)))
        return PreviewView(zone, runs, longest_gap_s(when, zone))


def _local(at: float, zone: str) -> str:
    return datetime.fromtimestamp(at, zone_of(zone)).isoformat(timespec="seconds")
