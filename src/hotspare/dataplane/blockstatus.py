"""Block status of an NBD export: which parts are allocated, zero, or changed.

Requests are pipelined, since each costs a round trip (44 ms were seen under TLS), and long, since
a server answers for gigabytes at once; but a reply may be as short as one extent.
"""

from __future__ import annotations

import errno
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..domain.errors import GiveUp, TrackingUnusable
from ..domain.extents import Extent
from .connection import Broken, Connection, Loop
from .control import TURN_S, Control

ALLOCATION = "base:allocation"
HOLE = 1
ZERO = 2

_IN_FLIGHT = 16
_MOST = (1 << 32) - 65536       # the length field has 32 bits; 64 KiB less keeps it aligned
_HELD = 1 << 16                 # extents that a reply which is not yet wanted may hold
_ATTEMPTS = 4
_STALL_S = 60.0


class Status(NamedTuple):
    """``flags`` hold for ``length`` bytes from ``offset`` on."""

    offset: int
    length: int
    flags: int


class _Piece:
    """One range that is asked for, and what is known of it so far (length, flags, …)."""

    __slots__ = ("asked", "at", "busy", "end", "entries", "failures", "offset")

    def __init__(self, offset: int, end: int) -> None:
        self.offset = offset
        self.end = end
        self.at = offset            # known up to here
        self.asked = offset         # the running request began here
        self.entries = array("Q")
        self.busy = False
        self.failures = 0


def iterate_status(connection: Connection, context: str, ranges: Iterable[Extent],
                   control: Control) -> Iterator[Status]:
    """Sorted, merged block status of ``context`` for the sorted ``ranges``.

    The connection must have asked for ``context`` alone, and is used by nothing else meanwhile.
    Memory is bounded for a disk of any size: 16 replies are held. Raises TrackingUnusable when
    the server does not offer the context, Broken, GiveUp ``nbd.block-status`` after retries.
    """
    if not connection.handle.can_meta_context(context):
        raise TrackingUnusable("tracking.context-missing", context=context)
    start = end = flags = 0
    for offset, length, found in _walk(connection, context, ranges, control):
        if offset == end and found == flags:
            end += length
            continue
        if end > start:
            yield Status(start, end - start, flags)
        start, end, flags = offset, offset + length, found
    if end > start:
        yield Status(start, end - start, flags)


def _walk(connection: Connection, context: str, ranges: Iterable[Extent],
          control: Control) -> Iterator[tuple[int, int, int]]:
    loop = Loop([connection])
    pieces = _pieces(ranges)
    queue: deque[_Piece] = deque()

    def ask(piece: _Piece) -> None:
        piece.busy = True
        piece.asked = piece.at
        connection.block_status(piece.end - piece.at, piece.at,
                                lambda c, start, entries: learn(piece, c, start, entries),
                                answered, piece)

    def learn(piece: _Piece, found: str, start: int, entries: list[int]) -> None:
        if found != context or start != piece.at:
            return
        total = sum(entries[::2])
        if piece.at + total <= piece.end:
            piece.entries.extend(entries)
            piece.at += total
            return
        for i in range(0, len(entries), 2):
            # the last extent may reach beyond what was asked for
            length = min(entries[i], piece.end - piece.at)
            if length > 0:
                piece.entries.append(length)
                piece.entries.append(entries[i + 1])
                piece.at += length

    def answered(piece: _Piece, code: int) -> None:
        piece.busy = False
        if code or piece.at == piece.asked:
            piece.failures += 1
            if piece.failures >= _ATTEMPTS:
                raise GiveUp("nbd.block-status", context=context, offset=piece.at,
                             error=errno.errorcode.get(code, str(code)))

    while True:
        while len(queue) < _IN_FLIGHT and (piece := next(pieces, None)) is not None:
            queue.append(piece)
        if not queue:
            return
        head = queue[0]
        for piece in queue:
            if not piece.busy and piece.at < piece.end and (
                    piece is head or len(piece.entries) < _HELD):
                ask(piece)
        while head.busy and not head.entries:
            control.tick()
            loop.turn(TURN_S)
            loop.check_stall(_STALL_S)
        entries, head.entries = head.entries, array("Q")
        offset = head.offset
        for length, flags in zip(entries[::2], entries[1::2], strict=True):
            yield offset, length, flags
            offset += length
        head.offset = offset
        if head.offset >= head.end:
            queue.popleft()


def _pieces(ranges: Iterable[Extent]) -> Iterator[_Piece]:
    for offset, length in ranges:
        end = offset + length
        for low in range(offset, end, _MOST):
            yield _Piece(low, min(low + _MOST, end))


__all__ = ["ALLOCATION", "HOLE", "ZERO", "Broken", "Status", "iterate_status"]
