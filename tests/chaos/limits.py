"""Whether the limits held, told from outside: by who was live when something was dispatched."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from hotspare.domain.limits import DEFAULT_PER_HOST, LARGEST_IN_FLIGHT
from hotspare.store import Store, schema

DEFAULT_TASKS = 4


@dataclass(frozen=True)
class Run:
    """A task that the limits count. ``ended_at`` None: it is live."""

    task: int
    rule: str
    machine: str
    hosts: frozenset[str]
    buffer: int
    dispatched_at: float
    ended_at: float | None

    def live(self) -> Run:
        return replace(self, ended_at=None)

    def counts_at(self, other: Run) -> bool:
        """Whether it counted when ``other`` was dispatched."""
        return ((self.dispatched_at, self.task) < (other.dispatched_at, other.task)
                and (self.ended_at is None or self.ended_at > other.dispatched_at))


class Timeline:
    """The limits as they were in force: a change acts at once, and ends nothing that runs."""

    def __init__(self, machines: dict[str, list[tuple[float, int]]],
                 per_host: list[tuple[float, int]]) -> None:
        self._machines, self._per_host = machines, per_host

    @staticmethod
    def of(store: Store) -> Timeline:
        """By the audit, which has each change with its transaction's time."""
        a, m = schema.audit, schema.machine
        with store.read() as conn:
            machines = {name: [(0.0, DEFAULT_TASKS)]
                        for name in conn.execute(sa.select(m.c.name)).scalars()}
            per_host = [(0.0, DEFAULT_PER_HOST)]
            for row in conn.execute(sa.select(a).where(
                    a.c.action.in_(("machine.set", "settings.set"))).order_by(a.c.id)):
                if "max_tasks_per_host" in row.detail:
                    per_host.append((row.at, int(row.detail["max_tasks_per_host"])))
                if row.action == "machine.set" and row.detail.get("max_tasks") is not None:
                    machines[row.object].append((row.at, int(row.detail["max_tasks"])))
        return Timeline(machines, per_host)

    def of_machine(self, name: str, at: float) -> int:
        return _at(self._machines[name], at)

    def of_hosts(self, at: float) -> int:
        """Never above the largest ``max_tasks`` (M22)."""
        return min(_at(self._per_host, at), max(_at(v, at) for v in self._machines.values()))


def _at(changes: Sequence[tuple[float, int]], at: float) -> int:
    return changes[bisect_right([when for when, _ in changes], at) - 1][1]


def over_the_limits(runs: Sequence[Run], limits: Timeline) -> list[str]:
    """What was dispatched although a limit was reached, or its rule was running."""
    found = []
    for run in runs:
        at = run.dispatched_at
        beside = [other for other in runs if other.counts_at(run)]
        if any(other.rule == run.rule for other in beside):
            found.append(f"task {run.task} overlaps another of rule {run.rule}")
        here = sum(other.machine == run.machine for other in beside) + 1
        if here > limits.of_machine(run.machine, at):
            found.append(f"task {run.task} was number {here} on {run.machine}, whose limit was "
                         f"{limits.of_machine(run.machine, at)}")
        for host in run.hosts:
            there = [other for other in beside if host in other.hosts]
            if len(there) + 1 > limits.of_hosts(at):
                found.append(f"task {run.task} was number {len(there) + 1} at a host, whose limit "
                             f"was {limits.of_hosts(at)}")
            if sum(other.buffer for other in there) + run.buffer > LARGEST_IN_FLIGHT:
                found.append(f"task {run.task} brought a host over the bytes in flight")
    return found
