"""What all roles speak of: who acts, for what, and what was left."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Token = dict[str, Any]
"""Opaque, JSON-ready tracking state of a source: the base that a later run's changes count from."""

Quiesce = Literal["off", "try", "require"]
Progress = Callable[[int, int], None]
"""Called with (done, total) in the work's own unit; may raise ``Stopped`` to cancel."""


@dataclass(frozen=True, slots=True)
class Intent:
    """Who acts, and for what: names everything that is made, so that it is found after a crash.

    ``instant`` counts the instants that one task opens: a task whose instant was lost opens the
    next one. The string form is the prefix of the names of all checkpoints, snapshots, files and
    domains that are made for it. Names are never reused.
    """

    rule: str                       # 8 lower-case hex digits
    epoch: int
    task: int
    instant: int = 1

    def __str__(self) -> str:
        return f"hs-{self.rule}-e{self.epoch}-t{self.task}-i{self.instant}"

    @staticmethod
    def of_name(name: str) -> Intent | None:
        """The intent whose name ``name`` is, or begins with (a file, a machine), else None."""
        found = _NAME.match(name)
        if found is None:
            return None
        rule, epoch, task, instant = found.groups()
        return Intent(rule, int(epoch), int(task), int(instant))

    @property
    def age(self) -> tuple[int, int, int]:
        """Sorts the instants of one rule: the oldest first."""
        return self.epoch, self.task, self.instant


_NAME = re.compile(r"hs-([0-9a-f]{8})-e(\d+)-t(\d+)-i(\d+)")


@dataclass(frozen=True, slots=True)
class PlatformAccess:
    """How to reach one platform. ``secret`` is kept in memory only and never logged."""

    id: str
    kind: str                       # libvirt, vsphere
    uri: str
    options: Mapping[str, str] = field(default_factory=dict)
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something of ours that a sweep removed (or could not: then ``error`` says why)."""

    kind: str                       # checkpoint, job, scratch, snapshot, domain, volume
    name: str
    error: str = ""
