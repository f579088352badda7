"""What this process reads of restore points: whoever merges or rewrites them ends it first."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from ...domain.errors import Reconnect
from ..port import NbdEndpoint
from .transports import DiskExport

_lock = threading.Lock()
_readers: set[PointReader] = set()


class PointReader:
    """The disks of one point that is read."""

    def __init__(self, rule: str, number: int) -> None:
        self.rule, self.number = rule, number
        self._ended = False
        self._open: list[contextlib.ExitStack] = []
        self._lock = threading.Lock()

    def __enter__(self) -> PointReader:
        with _lock:
            _readers.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            _readers.discard(self)

    @contextlib.contextmanager
    def opened(self, export: DiskExport) -> Iterator[NbdEndpoint]:
        """Raises Reconnect ``receiver.gone`` when the reader was ended."""
        stack = contextlib.ExitStack()
        with self._lock:
            if self._ended:
                raise Reconnect("receiver.gone", domain=f"reader of point {self.number}")
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


class ReaderExport:
    """Implements :class:`~hotspare.platforms.port.Export`."""

    def __init__(self, reader: PointReader, export: DiskExport) -> None:
        self._reader, self._export = reader, export

    def open(self) -> contextlib.AbstractContextManager[NbdEndpoint]:
        return self._reader.opened(self._export)


def end_readers(rule: str) -> None:
    """End all of a rule."""
    with _lock:
        found = [r for r in _readers if r.rule == rule]
    for reader in found:
        reader.end()
    with _lock:
        _readers.difference_update(found)


def numbers_read(rule: str) -> set[int]:
    """Points of a rule that are read."""
    with _lock:
        return {r.number for r in _readers if r.rule == rule}
