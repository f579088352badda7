"""The manual's limits: tasks of a DR machine, bytes in flight, rules against one host."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from .bandwidth import Bandwidth, check
from .errors import Refused

LARGEST_IN_FLIGHT: Final = 32 * 1024 * 1024
"""Bytes that may be in flight to one hypervisor host, over all tasks and DR machines."""
SMALLEST_BUFFER: Final = 64 * 1024
MAX_TASKS: Final = 64
MAX_TESTS: Final = 2
"""Copies of restore points that a DR machine boots at once: each takes a machine's memory."""
DEFAULT_PER_HOST: Final = 4

_BYTES = re.compile(r"(\d{1,15})\s*(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one DR machine may do at once. Raises Refused ``limits.*`` for a pair that could put
    more than :data:`LARGEST_IN_FLIGHT` in flight to one host."""

    max_tasks: int = 4
    transfer_buffer: int = 4 * 1024 * 1024      # bytes in flight of one task

    def __post_init__(self) -> None:
        if not 1 <= self.max_tasks <= MAX_TASKS:
            raise Refused("limits.max-tasks", value=self.max_tasks, largest=MAX_TASKS)
        largest = LARGEST_IN_FLIGHT // self.max_tasks
        if not SMALLEST_BUFFER <= self.transfer_buffer <= largest:
            raise Refused("limits.buffer", value=self.transfer_buffer, tasks=self.max_tasks,
                          smallest=SMALLEST_BUFFER, largest=largest)


def check_per_host(value: int) -> int:
    """``max_tasks_per_host`` as it may be wanted. Raises Refused ``limits.per-host``."""
    if not 1 <= value <= MAX_TASKS:
        raise Refused("limits.per-host", value=value, largest=MAX_TASKS)
    return value


def bytes_of(text: str) -> int:
    """``4MiB``, ``512k``, ``65536`` in bytes; units are powers of 1024. Raises Refused
    ``input.bytes``."""
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise Refused("input.bytes", value=text)
    return int(match[1]) * _UNITS.get((match[2] or "").upper(), 1)


@dataclass(frozen=True, slots=True)
class Configured:
    """What a DR machine's own file says of it; None: it says nothing."""

    max_tasks: int | None = None
    transfer_buffer: int | None = None
    bandwidth: Bandwidth | None = None
    max_tasks_per_host: int | None = None       # of all DR machines

    def __post_init__(self) -> None:
        """Raises Refused ``limits.*``, ``bandwidth.*``: what was read is right as a whole."""
        self.limits()
        if self.max_tasks_per_host is not None:
            check_per_host(self.max_tasks_per_host)
        if self.bandwidth is not None:
            check(self.bandwidth)

    def limits(self) -> Limits:
        return Limits(**{name: value for name in ("max_tasks", "transfer_buffer")
                         if (value := getattr(self, name)) is not None})
