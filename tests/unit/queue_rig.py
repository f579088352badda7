"""A fleet of rows: machines, hosts and rules put into a real database, and the real queue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from hotspare.domain.limits import Configured
from hotspare.domain.rule_states import Event
from hotspare.services import Services, ends, queue
from hotspare.services.context import SERVICE, Change
from hotspare.store import schema

T = schema.task


@dataclass
class Yard:
    services: Services
    now: list[float]
    _rules: int = 0
    _hosts: set[str] = field(default_factory=set)

    def machine(self, name: str, **limits: int) -> None:
        self.services.machines.register(name, "/tmp", Configured(**limits))

    def host(self, change: Change, name: str) -> None:
        if name in self._hosts:
            return
        self._hosts.add(name)
        machine = change.conn.execute(sa.select(schema.machine.c.name).limit(1)).scalar_one()
        change.conn.execute(sa.insert(schema.platform).values(
            id=f"{len(self._hosts):08x}", name=name, name_key=name, kind="libvirt", uri=name,
            options={}, machine=machine, state="ok", product="", host_id=f"id-{name}", checks=[],
            places=[], created_at=1.0))

    def rules(self, count: int, source: str, target: str, machine: str) -> list[str]:
        """Rules at rest."""
        with self.services.context.change() as change:
            self.host(change, source)
            self.host(change, target)
            ids = {row.name: row.id for row in change.conn.execute(
                sa.select(schema.platform.c.name, schema.platform.c.id))}
            made = [f"{self._rules + n:08x}" for n in range(1, count + 1)]
            self._rules += count
            change.conn.execute(sa.insert(schema.rule), [{
                "id": rule, "name": f"r{rule}", "name_key": f"r{rule}", "source": ids[source],
                "vm": rule, "vm_key": rule, "vm_name": rule, "target": ids[target],
                "storage": "default", "replica_name": rule, "networks": {}, "machine": machine,
                "retention": 7, "quiesce": "try", "enabled": False, "epoch": 1, "state": "stopped",
                "own_state": "stopped", "created_at": 1.0, "created_by": "test"}
                for rule in made])
        return made

    def start(self, rule: str) -> int:
        with self.services.context.change() as change:
            return start(change, rule)

    def start_all(self, rules: list[str]) -> dict[int, str]:
        with self.services.context.change() as change:
            tasks = {start(change, rule, dispatch_now=False): rule for rule in rules}
            queue.begin(change, tasks)
        return tasks

    def end(self, task: int, outcome: str = "ok") -> None:
        with self.services.context.change() as change:
            row = change.conn.execute(sa.select(T).where(T.c.id == task)).one()
            assert ends.end(change, row, outcome, error=None, figures={})

    def tasks(self, state: str = "dispatched") -> list[Any]:
        """In the order of their dispatch."""
        with self.services.context.read() as conn:
            return list(conn.execute(sa.select(T).where(T.c.state == state)
                                     .order_by(T.c.dispatched_at, T.c.id)))

    def newest(self, count: int) -> list[int]:
        """Those that were dispatched last."""
        with self.services.context.read() as conn:
            return list(conn.execute(sa.select(T.c.id).where(
                T.c.state.in_(["dispatched", "running"]), T.c.state != sa.literal_column("'ended'"))
                .order_by(T.c.dispatched_at.desc(), T.c.id.desc()).limit(count)).scalars())

    def reason(self, task: int) -> dict[str, Any]:
        with self.services.context.read() as conn:
            return queue.waits(conn, [task])[task]

    def state(self, rule: str) -> str:
        with self.services.context.read() as conn:
            return str(conn.execute(sa.select(schema.rule.c.state)
                                    .where(schema.rule.c.id == rule)).scalar_one())


def start(change: Change, rule: str, **more: Any) -> int:
    queue.move(change, rule, Event.START)
    machine = change.conn.execute(sa.select(schema.rule.c.machine)
                                  .where(schema.rule.c.id == rule)).scalar_one()
    return queue.enqueue(change, "replicate", SERVICE, machine=machine, rule=rule, epoch=1, **more)


@contextmanager
def yard(folder: Path, database: str | None = None) -> Iterator[Yard]:
    now = [1_000_000.0]
    services = Services.open(folder, clock=lambda: now[0], database=database)
    try:
        yield Yard(services, now)
    finally:
        services.stop()
        services.close()
