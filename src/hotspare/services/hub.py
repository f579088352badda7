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
from typing import TypeVar

T = TypeVar("T")

_REMEMBERED = 20_000


class Hub:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next = itertools.count(int(time.time() * 1000))
        self._floor = next(self._next)
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._async: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._threads: dict[str, set[threading.Event]] = {}
        self._closed = False

    def publish(self, *topics: str) -> None:
        with self._lock:
            for topic in topics:
                self._versions[topic] = next(self._next)
                self._versions.move_to_end(topic)
                self._wake(topic)
            while len(self._versions) > _REMEMBERED:
                self._versions.popitem(last=False)

    def _wake(self, topic: str) -> None:
        for waiter in self._threads.pop(topic, ()):
            waiter.set()
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
        event = threading.Event()
        with self._lock:
            version = self._versions.get(topic, self._floor)
            if self._closed or version != seen:
                return version
            self._threads.setdefault(topic, set()).add(event)
        try:
            event.wait(timeout)
        finally:
            with self._lock:
                _remove(self._threads, topic, event)
        return self.version(topic)

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
                _remove(self._async, topic, entry)
        return self.version(topic)

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Every waiter returns now and later: the process is ending."""
        with self._lock:
            self._closed = True
            for topic in [*self._async, *self._threads]:
                self._wake(topic)


def _remove(waiters: dict[str, set[T]], topic: str, waiter: T) -> None:
    of_topic = waiters.get(topic)
    if of_topic is not None:
        of_topic.discard(waiter)
        if not of_topic:
            del waiters[topic]


def task_topic(task: int) -> str:
    return f"task {task}"


def machine_topic(machine: str) -> str:
    return f"machine {machine}"


def rule_topic(rule: str) -> str:
    return f"rule {rule}"


SCHEDULE = "schedule"
SECRETS = "secrets"
"""How a platform is reached was changed: what machines hold in memory is old."""
TOKENS = "tokens"
"""A machine was given a token, or lost it."""
