"""The openings of disks that their holder can let go of all at once, whoever uses them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ...domain.errors import Reconnect
from ..port import NbdEndpoint
from .transports import DiskExport


class Openings:
    def __init__(self, holder: str) -> None:
        """``holder``: for people."""
        self._holder = holder
        self._ended = False
        self._open: list[contextlib.ExitStack] = []
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def opened(self, export: DiskExport) -> Iterator[NbdEndpoint]:
        """Raises Reconnect ``receiver.gone`` when they were ended."""
        stack = contextlib.ExitStack()
        with self._lock:
            if self._ended:
                raise Reconnect("receiver.gone", domain=self._holder)
            endpoint = stack.enter_context(export.open())
            self._open.append(stack)
        try:
            yield endpoint
        finally:
            with self._lock:
                if stack in self._open:
                    self._open.remove(stack)
                    stack.close()

    def end(self) -> None:
        """Let all disks go."""
        with self._lock:
            self._ended = True
            while self._open:
                self._open.pop().close()
