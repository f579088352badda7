"""The data path: disks over NBD, and what of them has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ...domain.extents import Extent


@dataclass(frozen=True, slots=True)
class NbdEndpoint:
    """Where an NBD server listens just now, on this machine."""

    uri: str                        # nbd+unix:///EXPORT?socket=PATH
    request_max: int = 2 * 1024 * 1024   # bytes of the largest request that the transport wants
    connections: int = 4            # connections that may be open at once
    complaint: Callable[[], str] = str
    """What the server says of what went wrong last; empty: nothing."""


class Export(Protocol):
    """One disk to read or write over NBD."""

    def open(self) -> AbstractContextManager[NbdEndpoint]:
        """Make the endpoint reachable; leaving the context takes down what this made (an nbdkit,
        an ssh forward). May be entered again after a connection broke. Raises Reconnect or
        GiveUp."""
        ...


@dataclass(frozen=True, slots=True)
class DirtyContext:
    """Changes are read over the export itself: block status of this NBD metadata context, where
    ``mask`` set in the flags means changed."""

    context: str
    mask: int = 1


@dataclass(frozen=True, slots=True)
class ChangedAreas:
    """Changes are listed by the platform's own call: sorted, disjoint, inside the disk."""

    areas: Iterable[Extent]


@dataclass(frozen=True, slots=True)
class Unknown:
    """No tracking for this disk in this run: everything allocated may have changed. With an older
    point at the target the data plane compares by digest. ``reason`` is a stable code."""

    reason: str


Changes = DirtyContext | ChangedAreas | Unknown
