"""How far the running tasks are: told often, so kept in memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

from ..domain.codec import encode
from ..workflows.link import Progress

STORE_EVERY_S = 10.0


@dataclass(slots=True)
class LiveProgress:
    """How far the running tasks are. The database gets it every 10 s, for a restart."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _now: dict[int, dict[str, Any]] = field(default_factory=dict)
    _stored: dict[int, float] = field(default_factory=dict)

    def put(self, task: int, progress: Progress, now: float) -> bool:
        """True when it is time to store it."""
        with self._lock:
            self._now[task] = encode(progress)
            # not the first: most runs end sooner, and their end stores the last
            due = now - self._stored.setdefault(task, now) >= STORE_EVERY_S
            if due:
                self._stored[task] = now
            return due

    def get(self, task: int) -> dict[str, Any] | None:
        with self._lock:
            return self._now.get(task)

    def drop(self, task: int) -> dict[str, Any] | None:
        with self._lock:
            self._stored.pop(task, None)
            return self._now.pop(task, None)
