"""What a failback has come to, as the DR machine knows it: from where its next pass goes on.

A small file in the rule's folder. Without it the next pass looks at the source as a whole, which
costs time and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..dataplane.files import replacing
from ..domain.codec import decode, encode
from ..platforms.port import Intent, Running

_NAME = "failback.json"


@dataclass(frozen=True, slots=True)
class FailbackState:
    running: str                    # intent of the failover that is failed back
    task: int
    instant: int                    # the last instant of the replica that ``task`` opened
    token: dict[str, Any] | None = None     # of the last instant that is wholly at the source
    equal: bool = False             # source and replica were equal at that instant

    def next(self, task: int) -> FailbackState:
        """A pass begins: what it was equal to does not hold any more."""
        return replace(self, task=task, equal=False,
                       instant=self.instant + 1 if task == self.task else 1)

    def intent(self, rule: str, epoch: int) -> Intent:
        return Intent(rule, epoch, self.task, self.instant)


def load(folder: Path, running: Running, task: int) -> FailbackState:
    """The state; a fresh one when there is none, or when it is another failover's."""
    try:
        state = decode(FailbackState, json.loads((folder / _NAME).read_text()))
    except (OSError, ValueError):
        state = None
    if state is None or state.running != running.intent:
        return FailbackState(running.intent, task, 0)
    return state


def save(folder: Path, state: FailbackState) -> FailbackState:
    """Write durably. Raises OutOfSpace ``machine.no-space``."""
    with replacing(folder / _NAME) as out:
        out.write(json.dumps(encode(state)).encode())
    return state


def forget(folder: Path) -> None:
    (folder / _NAME).unlink(missing_ok=True)
