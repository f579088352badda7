"""Who waits for what, inside this process: waiters wake at once, nothing polls the database.

A topic (``task 7``, ``machine local``) has a version that grows with each publication. A waiter
names the version that it has seen and wakes when there is another; versions do not survive a
restart, so "another" and not "higher" is what counts.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import OrderedDict

_REMEMBERED = 20_000


class Hub:
    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._next = itertools.count(int(time.time() * 1000))
        self._floor = next(self._next)
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._async: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._closed = False

    def publish(self, *topics: str) -> None:
        with self._lock:
            for topic in topics:
                self._versions[topic] = next(self._next)
                self._versions.move_to_end(topic)
                self._wake(topic)
            while len(self._versions) > _REMEMBERED:
                self._versions.popitem(last=False)
            self._lock.notify_all()

    def _wake(self, topic: str) -> None:
        for loop, event in self._async.pop(topic, ()):
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:        # the loop was closed: nobody waits there
                pass

    def version(self, topic: str) -> int:
        with self._lock:
            return self._versions.get(topic, self._floor)

    def wait(self, topic: str, seen: int, timeout: float) -> int:
        """Block until the topic's version is not ``seen``, the time is over, or close()."""
        with self._lock:
            self._lock.wait_for(
                lambda: self._closed or self._versions.get(topic, self._floor) != seen, timeout)
            return self._versions.get(topic, self._floor)

    async def wait_async(self, topic: str, seen: int, timeout: float) -> int:
        """The same in an event loop: costs no thread."""
        event = asyncio.Event()
        entry = (asyncio.get_running_loop(), event)
        with self._lock:
            version = self._versions.get(topic, self._floor)
            if self._closed or version != seen:
                return version
            self._async.setdefault(topic, set()).add(entry)
        try:
            await asyncio.wait_for(event.wait(), timeout)
        except TimeoutError:
            pass
        finally:
            with self._lock:
                waiters = self._async.get(topic)
                if waiters is not None:
                    waiters.discard(entry)
                    if not waiters:
                        del self._async[topic]
        return self.version(topic)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Every waiter returns now and later: the process is ending."""
        with self._lock:
            self._closed = True
            for topic in list(self._async):
                self._wake(topic)
            self._lock.notify_all()


def task_topic(task: int) -> str:
    return f"task {task}"


def machine_topic(machine: str) -> str:
    return f"machine {machine}"


def rule_topic(rule: str) -> str:
    return f"rule {rule}"


SCHEDULE = "schedule"
