"""The steps of a task as its machine reports them, and what they mean for its rule. Part of a
change."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.rule_states import STEP_EVENTS, Event
from ..store import Record, schema
from .context import Change
from .rule_state import move

_S = schema.task_step
_STEPS: Final = sa.select(_S).where(_S.c.task.in_(sa.bindparam("tasks", expanding=True)))
_NEW: Final = sa.insert(_S)
_SET: Final = sa.update(_S).where(_S.c.task == sa.bindparam("b_task"),
                                  _S.c.name == sa.bindparam("b_name"))


@dataclass(slots=True)
class TaskSteps:
    """Read once and written once for all that a change says of them."""

    task: Record
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)      # by name, in their order
    stored: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)       # of the rule, not yet moved

    @staticmethod
    def of(conn: Connection, tasks: Collection[Record]) -> dict[int, TaskSteps]:
        """By task."""
        found = {task.id: TaskSteps(task) for task in tasks}
        for row in conn.execute(_STEPS, {"tasks": list(found)}) if found else ():
            found[row.task].steps[row.name] = row._asdict()
            found[row.task].stored.add(row.name)
        return found

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

    def end(self, state: str, at: float) -> float:
        """With the task: no step runs any more. Returns when the last one ended; ``at`` when the
        task had none."""
        for name, step in self.steps.items():
            if step["state"] == "running":
                step |= {"state": state, "ended_at": at}
                self.changed.add(name)
        return max((step["ended_at"] for step in self.steps.values()
                    if step["ended_at"] is not None), default=at)

    def write(self, change: Change) -> None:
        """Once in a change, when all of it is said."""
        if self.events:
            move(change, str(self.task.rule), *self.take_events())
        for name in self.changed:
            step = self.steps[name]
            if name not in self.stored:
                change.write_last(_NEW, step)
            else:
                change.write_last(_SET, {"b_task": self.task.id, "b_name": name, **{
                    key: step[key] for key in ("state", "detail", "ended_at", "attempts")}})

    def take_events(self) -> list[Event]:
        events, self.events = self.events, []
        return events
