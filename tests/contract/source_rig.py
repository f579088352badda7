"""What the conformance suite needs of a platform beside its driver."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from hotspare.platforms.port import Intent, Source


class Numbers:
    """Intents of one rule, each a new task."""

    def __init__(self) -> None:
        self.rule = os.urandom(4).hex()
        self.task = 0

    def next(self) -> Intent:
        self.task += 1
        return Intent(self.rule, 1, self.task)


class SourceRig(Protocol):
    """A machine with two disks, each with a file system, that runs and has a working agent."""

    vm: str
    marks: int                      # things on the platform that the base of a next run is
    off_reason: str                 # why a machine that is off is read in full, without a base

    def source(self) -> AbstractContextManager[Source]:
        """A source over a connection of its own, as another process would have."""
        ...

    def write(self, disk: int) -> None:
        """Have the guest write some 512 KiB of new data to a disk, and flush it."""
        ...

    def shut_down(self) -> None: ...

    def power_on(self) -> None:
        """Start it and wait until its agent answers."""
        ...

    def running(self) -> bool:
        """Whether it runs and its guest answers."""
        ...

    def left(self, rule: str) -> Iterator[str]:
        """Everything on the platform that carries a rule: trackings, jobs, files, helpers."""
        ...
