"""How far this machine's clock is ahead of the control server's."""

from __future__ import annotations

import time
from collections import deque

_KEPT = 12                          # polls, some two minutes


def uptime() -> float:
    """Seconds that no setting of the clock changes, and that count while the host sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """From four readings of each poll, as NTP does: of the last ones, that with the least time
    on the way is believed; it is wrong by half of that at most.

    Kept against the time since the host was started, so a step of our own clock shows at once and
    a sleep of the host does not look like one."""

    def __init__(self) -> None:
        self._heard: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def heard(self, asked: float, came: float, answered: float, back: float) -> None:
        """``asked`` and ``back`` by our :func:`uptime`, ``came`` and ``answered`` by the server's
        clock."""
        on_the_way = (back - asked) - (answered - came)
        self._heard.append((on_the_way, ((came - asked) + (answered - back)) / 2))

    def ahead(self) -> float | None:
        """Seconds; None before the first poll."""
        if not self._heard:
            return None
        _, server = min(self._heard)
        return time.time() - (uptime() + server)
