"""The one unpublished state of a rule, as the DR machine knows it: which instants it was read
from, and what the current one counts its changes from.

Kept as a small file in the rule's folder, fsynced and renamed, and written *before* the thing that
it announces (design, section 7, rules 1 and 2). It outlives the task: a task that was stopped or
failed at 98 % leaves it, and the next task goes on from there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..dataplane.files import replacing
from ..domain.codec import decode, encode
from ..platforms.port import Intent

_NAME = "run.json"


@dataclass(frozen=True, slots=True)
class RunState:
    """``task`` is the task that began the state: all names are made of it."""

    rule: str
    task: int
    epoch: int
    base: int | None                # the published point that the state stands on
    base_token: dict[str, Any] | None   # what that point's changes count from
    instant: int = 1                # the instant that is being read, or opened
    opened_at: float | None = None  # its taken_at, once it is known to be open
    pass_token: dict[str, Any] | None = None   # what this instant's changes count from
    done: tuple[int, ...] = ()      # earlier instants whose completed parts are kept
    planned: bool = False           # this instant's plans are complete
    home: bool = False              # with what a failback has noted (:mod:`.home`)
    compare: bool = False           # all of it is read and compared, whatever is tracked
    damage: dict[str, Any] = field(default_factory=dict)
    """What is wrong in the base (:mod:`..domain.damage`) and is sent, whether it changed or not."""

    @property
    def intent(self) -> Intent:
        return Intent(self.rule, self.epoch, self.task, self.instant)

    @property
    def intents(self) -> tuple[str, ...]:
        """Names of every instant of this state: what a sweep must keep."""
        return tuple(str(Intent(self.rule, self.epoch, self.task, n))
                     for n in (*self.done, self.instant))

    def next_instant(self, token: dict[str, Any] | None) -> RunState:
        """The instant is lost: a new pass begins, whose changes count from ``token``."""
        done = (*self.done, self.instant) if self.planned else self.done
        return replace(self, instant=self.instant + 1, opened_at=None, pass_token=token,
                       done=done, planned=False)


def load(folder: Path) -> RunState | None:
    """The state, or None when there is none. A file that cannot be read counts as none: then the
    unpublished data is dropped and read anew, which costs time and never data."""
    try:
        return decode(RunState, json.loads((folder / _NAME).read_text()))
    except (OSError, ValueError):
        return None


def save(folder: Path, state: RunState) -> RunState:
    """Write durably, return the same state. Raises OutOfSpace ``machine.no-space``."""
    with replacing(folder / _NAME) as out:
        out.write(json.dumps(encode(state)).encode())
    return state


def forget(folder: Path) -> None:
    """The state is published or dropped: nothing of it is needed any more."""
    (folder / _NAME).unlink(missing_ok=True)
    forget_passes(folder)


def forget_passes(folder: Path) -> None:
    """Drop all change lists, journals and digest tables."""
    for leftover in folder.glob("*.i*"):
        leftover.unlink(missing_ok=True)
