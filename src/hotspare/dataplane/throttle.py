"""Limits of bandwidth: token buckets that several transfers share, and the rate meter.

A transfer asks several buckets (its machine's, its rule's); the slowest wins. A bucket lends: a
request larger than what is saved up may start when the balance is positive, and the debt is paid
before the next one. So requests keep their good size at any limit, and the mean is exact.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

_BURST_S = 0.25    # what a bucket saves up while a transfer waits for something else
_DEBT_S = 0.9       # a changed limit acts within a second, so an old debt may not last longer


class Throttle:
    """A token bucket. Thread-safe: one thread may change the limit while others transfer."""

    def __init__(self, limit: int | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        """``limit`` in bytes per second; None: no limit; 0: paused."""
        self._clock = clock
        self._lock = threading.Lock()
        self._limit = limit
        self._balance = 0.0
        self._at = clock()

    @property
    def limit(self) -> int | None:
        return self._limit

    def set_limit(self, limit: int | None) -> None:
        """Takes effect at once; a transfer notices within a second."""
        with self._lock:
            if limit == self._limit:
                return
            self._settle()
            self._limit = limit
            if limit:
                self._balance = max(self._balance, -_DEBT_S * limit)

    def delay(self) -> float:
        """Seconds until the next request may start: 0 at once, infinity while paused."""
        with self._lock:
            self._settle()
            if self._limit is None:
                return 0.0
            if self._limit <= 0:
                return math.inf
            # less than a byte of debt is rounding: waiting for it might never end
            return 0.0 if self._balance > -1 else -self._balance / self._limit

    def charge(self, size: int) -> None:
        """Account for ``size`` bytes that are about to move."""
        with self._lock:
            if self._limit is not None:
                self._balance -= size

    def _settle(self) -> None:
        now = self._clock()
        passed, self._at = now - self._at, now
        if self._limit is None:
            self._balance = 0.0
        elif self._limit > 0:
            burst = self._limit * _BURST_S
            self._balance = min(burst, self._balance + passed * self._limit)


def admit(throttles: Iterable[Throttle], size: int) -> float:
    """0 when ``size`` bytes may move now (they are then charged), else seconds to wait."""
    throttles = tuple(throttles)
    wait = max((t.delay() for t in throttles), default=0.0)
    if wait > 0:
        return wait
    for throttle in throttles:
        throttle.charge(size)
    return 0.0


def paused(throttles: Iterable[Throttle]) -> bool:
    """True while any of them stands at 0."""
    return any(t.limit == 0 for t in throttles)


def request_limit(throttles: Iterable[Throttle]) -> int | None:
    """Bytes of the largest request that keeps a low limit smooth (an eighth second's worth)."""
    limits = [t.limit for t in throttles if t.limit]
    return min(limits) // 8 if limits else None


class RateMeter:
    """Mean bytes per second over the last 10 s."""

    WINDOW_S = 10.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._samples: deque[tuple[float, int]] = deque()
        self._sum = 0

    def add(self, size: int) -> None:
        now = self._clock()
        # Samples of the same quarter second are one: at most 41 are kept.
        if self._samples and now - self._samples[-1][0] < 0.25:
            at, old = self._samples[-1]
            self._samples[-1] = (at, old + size)
        else:
            self._samples.append((now, size))
        self._sum += size
        self._forget(now)

    def rate(self) -> float:
        now = self._clock()
        self._forget(now)
        return self._sum / max(0.25, min(self.WINDOW_S, now - self._began))

    def _forget(self, now: float) -> None:
        while self._samples and now - self._samples[0][0] > self.WINDOW_S:
            self._sum -= self._samples.popleft()[1]
