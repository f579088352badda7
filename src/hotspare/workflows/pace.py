"""The bandwidth of a running task: weekly ranges by this machine's clock, and pauses.

The rule's ranges drive a token bucket of the task's own, the DR machine's one that all its tasks
share; the lower limit wins. A limit of 0 pauses: shown at the rule, and no instant is taken.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from ..dataplane.throttle import Throttle
from ..domain.bandwidth import Bandwidth, open_from
from ..platforms.port import PointInTime

if TYPE_CHECKING:
    from .bench import Bench

_AHEAD_S: Final = 10.0
"""An instant that would be paused so soon is not taken: taking it lasts some seconds itself."""

_NO_END: Final = {"pause.rule": "pause.rule-no-end", "pause.machine": "pause.machine-no-end"}
_UNKNOWN: Final[dict[str, Any]] = {"code": ""}


class Pace:
    """Used by the task's own thread, in the middle of a transfer many times a second."""

    def __init__(self, bench: Bench, machine: Throttle) -> None:
        self._bench = bench
        self._own, self._machine = Throttle(), machine
        # What the rule shows: an earlier process of this task may have left it paused.
        self._shown: dict[str, Any] | None = _UNKNOWN

    @property
    def throttles(self) -> tuple[Throttle, ...]:
        return self._own, self._machine

    @property
    def waiting(self) -> bool:
        """Whether the task was paused when it was last followed."""
        return self._shown not in (None, _UNKNOWN)

    def follow(self, ahead_s: float = 0.0) -> bool:
        """Make the limits those of now, and show a pause or its end. False: paused, or about to
        be within ``ahead_s`` seconds."""
        limits, now = self._bench.limits(), time.time()
        ranges = {"pause.rule": limits.bandwidth, "pause.machine": limits.machine_bandwidth}
        for throttle, bandwidth in zip(self.throttles, ranges.values(), strict=True):
            throttle.set_limit(bandwidth.limit_at(now))
        for at in (now, now + ahead_s):
            code = next((c for c, b in ranges.items() if b.limit_at(at) == 0), None)
            if code is not None:
                self._show(code, at, ranges)
                return False
        self._go_on()
        return True

    def gate(self) -> None:
        """Wait until an instant may be taken, with nothing open meanwhile."""
        self._bench.clear()
        while self.closes():
            self._bench.wait(0.25)

    def closes(self) -> bool:
        """Whether an instant that is taken now would be paused at once."""
        return not self.follow(_AHEAD_S)

    def outlasts(self, point: PointInTime, longest_s: float) -> bool:
        """Whether the pause holds ``point`` open for longer than it may be, or is known to be
        going to. A machine that is off has no snapshot to grow old."""
        if not self.waiting or point.vm.power == "off":
            return False
        assert self._shown is not None
        until = self._shown["fields"]["until"]
        return until is None or max(until, time.time()) - point.taken_at > longest_s

    def _show(self, code: str, at: float, ranges: dict[str, Bandwidth]) -> None:
        until = open_from(ranges.values(), at)
        code = _NO_END[code] if until is None else code
        reason = {"code": code, "fields": {"until": until}}
        if reason != self._shown:
            if not self.waiting:
                self._bench.say(code, until=until)
            self._bench.link.pause(self._bench.task, reason)
            self._shown = reason

    def _go_on(self) -> None:
        if self._shown is not None:
            if self.waiting:
                self._bench.say("pause.over")
            self._bench.link.pause(self._bench.task, None)
            self._shown = None
