"""What tasks need and nobody writes down: how platforms are reached, the keys of rules.

In memory only, and forgotten with the last task that uses it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Any

from ..domain.codec import decode_known
from ..domain.errors import GiveUp, HotspareError
from ..platforms.port import PlatformAccess
from ..workflows.bench import Closing
from ..workflows.link import Task
from ..workflows.wire import Secrets
from .https import Away, Server

_LONGEST_PAUSE_S = 5.0


class Vault:
    """Thread-safe. ``tasks`` are the machine's live ones; the server answers for no others."""

    def __init__(self, server: Server, closing: threading.Event) -> None:
        self._server, self._closing = server, closing
        self._lock = threading.Lock()
        self._access: dict[str, tuple[int, PlatformAccess]] = {}        # with their stamp
        self._keys: dict[str, bytes] = {}

    def access(self, platform: str, tasks: Collection[Task], stamp: int | None) -> PlatformAccess:
        """``stamp`` is what the server last said is in force; None: it is away, and what was known
        stays good. Waits for the server when nothing is known."""
        with self._lock:
            known, have = self._access.get(platform, (0, None))
        if have is not None and stamp in (None, known):
            return have
        using = [task for task in tasks if platform in task.platforms]
        try:
            found = self._secrets(using, wait=have is None)
        except Away:
            if have is None:
                raise
            return have
        if found is not None and platform in found.refused:
            raise HotspareError.from_dict(found.refused[platform])
        if found is None or platform not in found.platforms:
            raise GiveUp("platform.not-found", name=platform)
        return found.platforms[platform]

    def key(self, rule: str, tasks: Collection[Task]) -> bytes:
        with self._lock:
            have = self._keys.get(rule)
        if have is not None:
            return have
        found = self._secrets([t for t in tasks if t.rule is not None and t.rule.id == rule])
        # a rebuild reads rules that are not its own
        return bytes.fromhex(found.key if found is not None
                             else self._asked(f"/rules/{rule}/key")["key"])

    def keep(self, tasks: Collection[Task]) -> None:
        """Forget what none of ``tasks`` uses."""
        platforms = {platform for task in tasks for platform in task.platforms}
        rules = {task.rule.id for task in tasks if task.rule is not None}
        with self._lock:
            self._access = {p: known for p, known in self._access.items() if p in platforms}
            self._keys = {r: key for r, key in self._keys.items() if r in rules}

    def empty(self) -> bool:
        return not self._access and not self._keys

    def _secrets(self, tasks: Collection[Task], wait: bool = True) -> Secrets | None:
        """Of the first of ``tasks`` that still is live; None when none is."""
        for task in tasks:
            try:
                found = decode_known(Secrets, self._asked(f"/tasks/{task.id}/secrets", wait))
            except HotspareError as error:
                if error.code != "task.fenced":     # that one was ended just now
                    raise
                continue
            with self._lock:
                self._access |= {p: (found.stamp, way) for p, way in found.platforms.items()}
                if task.rule is not None:
                    self._keys[task.rule.id] = bytes.fromhex(found.key)
            return found
        return None

    def _asked(self, path: str, wait: bool = True) -> Any:
        """The server's answer, waited for while it is away; without ``wait`` raises Away."""
        pause = 0.5
        while True:
            try:
                return self._server.get(path)
            except Away:
                if not wait:
                    raise
                if self._closing.wait(pause):
                    raise Closing from None
                pause = min(2 * pause, _LONGEST_PAUSE_S)
