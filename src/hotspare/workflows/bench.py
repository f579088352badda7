"""What a running task works with: its platforms, its folder, its voice; retries are here.

Live things (connections, an open instant, a session) cannot be journalled. They hang on the bench,
are opened when first asked for, and after a crash are found again by the task's intent.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ..dataplane.throttle import Throttle
from ..dataplane.tuning import Tuning
from ..domain.errors import GiveUp, HotspareError, Reconnect, Retry, Stopped
from ..platforms.port import Platform, PlatformAccess
from .link import Limits, Link, Progress, RuleSettings, Task
from .pace import Pace

T = TypeVar("T")

_ATTEMPTS = 6
_LONGEST_WAIT_S = 15.0


class Closing(BaseException):
    """The process is about to end: let everything go, record nothing. Work goes on at the next
    start."""


@dataclass
class Tools:
    """What the process gives to every task."""

    link: Link
    borrow: Callable[[PlatformAccess], Platform]
    give_back: Callable[[PlatformAccess, Platform, bool], None]  # the last: fit to be used again
    temp_dir: Path
    throttle: Throttle = field(default_factory=Throttle)    # of the machine: its tasks share it
    tuning: Tuning = field(default_factory=Tuning)
    closing: threading.Event = field(default_factory=threading.Event)


class Bench:
    """One task's bench. Used by the task's own thread only, except where said otherwise."""

    def __init__(self, task: Task, tools: Tools) -> None:
        self.task = task
        self.tools = tools
        self.link = tools.link
        self.pace = Pace(self, tools.throttle)
        self.figures: dict[str, Any] = {}       # what the task has done so far; see count()
        self._platforms: dict[str, tuple[PlatformAccess, Platform]] = {}
        self._limits = Limits()
        self._limits_at = 0.0
        self._live = ExitStack()
        self.live: dict[str, Any] = {}

    # --- what the task is about ---

    @property
    def rule(self) -> RuleSettings:
        if self.task.rule is None:
            raise GiveUp("task.no-rule", task=self.task.id)
        return self.task.rule

    @property
    def temp_dir(self) -> Path:
        """The rule's temporary directory, its own or the DR machine's."""
        return Path(self.rule.temp_dir or self.tools.temp_dir)

    @property
    def folder(self) -> Path:
        """The rule's folder in the temporary directory (made by :mod:`.temp_dir`)."""
        return self.temp_dir / f"hs-{self.rule.id}"

    def platform(self, platform_id: str) -> Platform:
        if platform_id not in self._platforms:
            access = self.link.access(platform_id)
            self._platforms[platform_id] = (access, self.tools.borrow(access))
        return self._platforms[platform_id][1]

    @property
    def source(self) -> Platform:
        return self.platform(self.rule.source)

    @property
    def target(self) -> Platform:
        return self.platform(self.rule.target)

    @property
    def key(self) -> bytes:
        return self.link.rule_key(self.rule.id)

    # --- live things ---

    def keep(self, name: str, value: T, close: Callable[[], object]) -> T:
        """Keep a live thing until the bench is cleared; ``close`` must be safe to call twice."""
        self.live[name] = value
        self._live.callback(close)
        return value

    def clear(self, *, broken: bool = False) -> None:
        """Let all live things go, connections included. What they stand for stays."""
        self.live.clear()
        try:
            self._live.close()
        except HotspareError:
            broken = True           # the connection is gone with what hung on it
        self._live = ExitStack()
        for access, platform in self._platforms.values():
            self.tools.give_back(access, platform, not broken)
        self._platforms.clear()

    # --- control; these may be called from any thread ---

    def limits(self) -> Limits:
        """The task's limits, at most half a second old."""
        now = time.monotonic()
        if now - self._limits_at > 0.5:
            self._limits, self._limits_at = self.link.limits(self.task), now
        return self._limits

    def check_stop(self) -> None:
        """Raise when the task was stopped or the process ends."""
        if self.tools.closing.is_set():
            raise Closing
        if self.limits().stop:
            raise Stopped("task.stopped", task=self.task.id)

    def say(self, code: str, level: str = "info", **fields: Any) -> None:
        """A line in the rule's log."""
        self.link.log(self.task, level, code, fields)  # type: ignore[arg-type]

    def count(self, **amounts: float) -> None:
        """Add to the task's figures."""
        for name, amount in amounts.items():
            self.figures[name] = self.figures.get(name, 0) + amount

    def progress(self, step: str, done: int, total: int, **more: Any) -> None:
        self.link.progress(self.task, Progress(step=step, done=done, total=total, **more))

    def wait(self, seconds: float) -> None:
        """Sleep, but notice a stop within half a second."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self.check_stop()
            time.sleep(min(left, 0.25))

    # --- retries: drivers never retry by themselves ---

    def attempt(self, work: Callable[[], T]) -> T:
        """Run ``work``; on Retry and Reconnect again, with growing waits, a bounded number of
        times. The last error is raised as it is."""
        for turn in range(1, _ATTEMPTS + 1):
            try:
                return work()
            except (Retry, Reconnect) as error:
                if turn == _ATTEMPTS:
                    raise
                pause = min(_LONGEST_WAIT_S, 0.5 * 2**turn)
                if isinstance(error, Retry):
                    pause = max(pause, min(error.after_s, _LONGEST_WAIT_S))
                else:
                    self.clear(broken=True)
                if "retries" in self.figures:
                    self.count(retries=1)
                self.say("task.retry", "warning", error=error.code, wait_s=pause, turn=turn)
                self.wait(pause)
        raise AssertionError("unreachable")
