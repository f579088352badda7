"""The steps of a task as its machine reports them, and what they mean for its rule. Part of a
change."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from ..domain.rule_states import STEP_EVENTS, Event
from ..store import Record, schema
from .context import Change
from .rule_state import move

_S = schema.task_step
_STEPS: Final = sa.select(_S).where(_S.c.task == sa.bindparam("b_task"))
_NEW: Final = sa.insert(_S)
_SET: Final = sa.update(_S).where(_S.c.task == sa.bindparam("b_task"),
                                  _S.c.name == sa.bindparam("b_name"))


@dataclass(slots=True)
class TaskSteps:
    """Read once and written once for all that a batch of reports says of them."""

    task: Record
    steps: dict[str, dict[str, Any]]                        # rows by name, in their order
    stored: frozenset[str]
    changed: set[str] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)       # of the rule

    @staticmethod
    def of(change: Change, task: Record) -> TaskSteps:
        rows = change.conn.execute(_STEPS, {"b_task": task.id}).all()
        steps = {row.name: row._asdict() for row in rows}
        return TaskSteps(task, steps, frozenset(steps))

    def report(self, name: str, state: str, detail: dict[str, Any], at: float) -> None:
        """Idempotent."""
        ended = None if state == "running" else at
        step = self.steps.get(name)
        if step is None:
            self.steps[name] = {
                "task": self.task.id, "name": name, "position": len(self.steps), "state": state,
                "attempts": 1, "detail": detail, "started_at": at, "ended_at": ended}
            self.changed.add(name)
        elif (step["state"], step["detail"]) != (state, detail):
            # A step that ended and begins again is another pass of it.
            again = state == "running" and step["state"] != "running"
            step |= {"state": state, "detail": detail, "ended_at": ended,
                     "attempts": step["attempts"] + again}
            self.changed.add(name)
        event = STEP_EVENTS.get(name)
        if state == "running" and event is not None and self.task.kind == "replicate":
            self.events.append(event)

    def write(self, change: Change) -> None:
        new = [step for name, step in self.steps.items() if name in self.changed - self.stored]
        if new:
            change.conn.execute(_NEW, new)
        old = [{"b_task": self.task.id, "b_name": name,
                **{key: self.steps[name][key] for key in ("state", "detail", "ended_at",
                                                          "attempts")}}
               for name in self.changed & self.stored]
        if old:
            change.conn.execute(_SET, old)
        if self.events:
            move(change, str(self.task.rule), *self.events)
