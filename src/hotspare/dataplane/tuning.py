"""The numbers of the copy engine."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes and limits of patience (seconds). What was measured is in docs/decisions/0004."""

    request: int = MIB // 2     # bytes; measured: smaller ones cost more processor time
    connections: int = 2        # to each side; on unix sockets as good as one
    zero_request: int = 64 * MIB    # a server without fast zeroes must write them: stay below
    zeroes_in_flight: int = 8
    flush_s: float = 2.0
    flush_most: int = 256 * MIB     # bytes between flushes
    flush_least: int = 2 * MIB
    flush_parts: int = 32       # at least so many flushes in a transfer: a kill costs 2/32 at most
    window: int = 16384         # blocks (1 GiB) that a compare may write ahead of its journal
    request_attempts: int = 5   # for one request that its server refused (EIO)
    reconnects: int = 8         # in a row, without anything journaled between
    stall_s: float = 60.0       # an answer that takes longer means a broken connection
    flush_stall_s: float = 600.0    # a flush of a slow disk's whole cache
    progress_s: float = 0.5
    instant_age_s: float = 2 * 3600.0   # a pause lets an instant go rather than keep it longer
