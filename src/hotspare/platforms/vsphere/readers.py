"""What this process reads of restore points: whoever merges or rewrites them ends it first."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager

from ..port import NbdEndpoint
from .openings import Openings
from .transports import DiskExport

_lock = threading.Lock()
_readers: set[PointReader] = set()


class PointReader:
    """The disks of one point that is read."""

    def __init__(self, rule: str, number: int) -> None:
        self.rule, self.number = rule, number
        self._openings = Openings(f"reader of point {number}")

    def __enter__(self) -> PointReader:
        with _lock:
            _readers.add(self)
        return self

    def __exit__(self, *_: object) -> None:
        with _lock:
            _readers.discard(self)

    def opened(self, export: DiskExport) -> AbstractContextManager[NbdEndpoint]:
        """As :meth:`.Openings.opened`."""
        return self._openings.opened(export)

    def end(self) -> None:
        """Let all disks go."""
        self._openings.end()


class ReaderExport:
    """Implements :class:`~hotspare.platforms.port.Export`."""

    def __init__(self, reader: PointReader, export: DiskExport) -> None:
        self._reader, self._export = reader, export

    def open(self) -> AbstractContextManager[NbdEndpoint]:
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
