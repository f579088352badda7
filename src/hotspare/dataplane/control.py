"""What a long transfer asks its caller: shall it stop, is the instant still good; what it reports.

Every loop of the data plane calls :meth:`Control.tick` at least four times a second, so that an
operator's stop is seen within a second also when a server hangs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..domain.errors import Stopped

TURN_S = 0.2
"""Longest time in seconds that any loop waits before it looks at its control again."""


@dataclass(frozen=True, slots=True)
class TransferProgress:
    """How far a transfer of one or more disks is. Bytes are data bytes of the plan, zero extents
    not counted; ``done`` includes what an earlier, interrupted run completed."""

    done: int
    total: int
    rate: float                     # bytes per second, mean over 10 s
    seconds_left: float | None      # None while the rate is 0
    disks: dict[str, tuple[int, int]]   # disk id -> done, total


def _never() -> bool:
    return False


def _nothing() -> None:
    return None


def _silent(_: TransferProgress) -> None:
    return None


@dataclass(slots=True)
class Control:
    """The caller's side of a transfer. All three functions are called from the transfer's own
    thread; ``stop`` must be cheap, ``healthy`` is called once a second and may raise (its error
    ends the transfer, the journal is kept)."""

    stop: Callable[[], bool] = _never
    healthy: Callable[[], None] = _nothing
    progress: Callable[[TransferProgress], None] = _silent
    _next_health: float = field(default=0.0, init=False)

    def tick(self) -> None:
        """Raises Stopped when asked to stop, or what ``healthy`` raises."""
        self.check_stop()
        now = time.monotonic()
        if now >= self._next_health:
            self.healthy()
            self._next_health = time.monotonic() + 1.0

    def check_stop(self) -> None:
        """Raises Stopped when asked to stop."""
        if self.stop():
            raise Stopped("task.stopped")

    def sleep(self, seconds: float) -> None:
        """Wait, watching for a stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.tick()
            time.sleep(min(left, TURN_S))
