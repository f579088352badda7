"""History is kept as long as it says, and goes in the background."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotspare.domain.errors import HotspareError
from hotspare.services import pruning
from hotspare.services.day_sums import day_of
from hotspare.store import schema
from unit.service_rig import ADMIN, OPERATOR, VIEWER, Rig, rig

DAY_S = 86400.0
NOW = 1_800_000_000.0


@pytest.fixture
def made(tmp_path: Path, database: str | None) -> Iterator[Rig]:
    with rig(tmp_path, database=database) as it:
        it.platforms()
        it.player.stop()
        with it.services.context.change() as change:
            for table in (schema.task_step, schema.log, schema.task, schema.audit):
                change.conn.execute(sa.delete(table))
        it.services.context.clock = lambda: NOW
        yield it


def tasks(made: Rig, rule: str | None, ages_days: list[float], state: str = "ended",
          steps: int = 2) -> list[int]:
    """Tasks that ended so many days ago, with a step and a line each."""
    found = []
    with made.services.context.change() as change:
        for age in ages_days:
            at = NOW - age * DAY_S
            result = change.conn.execute(sa.insert(schema.task).values(
                kind="replicate", rule=rule, machine="local", epoch=1, priority=1, state=state,
                stop=False, arguments={}, figures={}, trigger="schedule", requested_by="x",
                created_at=at, started_at=at, ended_at=at if state == "ended" else None))
            number = result.inserted_primary_key[0]         # type: ignore[index]
            found.append(int(number))
            for step in range(steps):
                change.conn.execute(sa.insert(schema.task_step).values(
                    task=number, name=f"s{step}", position=step, state="done", attempts=1,
                    detail={}, started_at=at, ended_at=at))
            change.conn.execute(sa.insert(schema.log).values(
                at=at, level="info", code="task.ended", fields={}, rule=rule, task=number))
    return found


def ids(made: Rig, table: sa.Table) -> list[Any]:
    with made.services.context.read() as conn:
        return list(conn.execute(sa.select(next(iter(table.primary_key)))
                                 .order_by(*table.primary_key)).scalars())


def test_tasks_go_with_their_steps_and_lines_but_the_newest_stay(
        made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_BATCH", 4)
    rule, quiet, gone = (made.rule(f"r{i}", f"web{i}") for i in range(3))
    with made.services.context.change() as change:
        change.conn.execute(sa.delete(schema.log))
        change.conn.execute(sa.update(schema.rule).where(schema.rule.c.id == gone)
                            .values(deleted_at=NOW - 95 * DAY_S))
    busy = tasks(made, rule, [100.0] * 15 + [50.0] * 10 + [1.0] * 15)
    old = tasks(made, quiet, [400.0] * 21)
    closed = tasks(made, gone, [100.0] * 5)
    calls = tasks(made, None, [100.0, 10.0])
    removed = made.services.pruner.prune()
    left = busy[15:] + old[1:] + calls[1:]
    assert removed["task"] == 15 + 1 + len(closed) + 1
    assert ids(made, schema.task) == left
    assert sorted(set(ids(made, schema.task_step))) == left
    with made.services.context.read() as conn:
        lines = conn.execute(sa.select(schema.log.c.task).order_by(schema.log.c.task)).scalars()
        assert list(lines) == left
    assert made.services.pruner.prune()["task"] == 0


def test_what_lives_is_never_removed(made: Rig) -> None:
    rule = made.rule()
    made.services.pruner.set(ADMIN, least_tasks=1)
    [running] = tasks(made, rule, [1000.0], state="running")
    assert made.services.pruner.prune()["task"] == 0
    assert ids(made, schema.task) == [running]


def test_lines_without_a_task_the_audit_and_the_sums(
        made: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_BATCH", 3)
    rule = made.rule()
    with made.services.context.change() as change:
        change.conn.execute(sa.delete(schema.log))
        change.conn.execute(sa.delete(schema.audit))
        for age in (*[91] * 7, *[89] * 7):
            change.conn.execute(sa.insert(schema.log).values(
                at=NOW - age * DAY_S, level="info", code="rule.created", fields={}, rule=rule))
        for age in (*[731] * 7, *[729] * 7):
            change.conn.execute(sa.insert(schema.audit).values(
                at=NOW - age * DAY_S, user="x", action="y", object="z", detail={}))
        for age in (2000, 1097, 1096, 5):
            day = day_of(NOW - age * DAY_S)
            change.conn.execute(sa.insert(schema.rule_day).values(rule=rule, day=day))
            for scope in ("", "aaaabbbb"):
                change.conn.execute(sa.insert(schema.total_day).values(scope=scope, day=day))
    assert made.services.pruner.prune() == {
        "task": 0, "log": 7, "audit": 7, "rule_day": 2, "total_day": 2, "rule": 0}
    assert len(ids(made, schema.total_day)) == 4 + 2        # the sums over all rules stay


def test_a_closed_rule_goes_when_nothing_is_left_of_it(made: Rig) -> None:
    old, recent, used = (made.rule(f"r{i}", f"web{i}") for i in range(3))
    with made.services.context.change() as change:
        change.conn.execute(sa.delete(schema.log))
        change.conn.execute(sa.update(schema.rule).where(schema.rule.c.id.in_([old, used]))
                            .values(deleted_at=NOW - 1100 * DAY_S))
        change.conn.execute(sa.update(schema.rule).where(schema.rule.c.id == recent)
                            .values(deleted_at=NOW - 1000 * DAY_S))
        change.log("info", "rule.created", {"user": "x"}, rule=used)
    assert made.services.pruner.prune()["rule"] == 1
    assert ids(made, schema.rule) == sorted([recent, used])


def test_the_setting(made: Rig) -> None:
    pruner = made.services.pruner
    assert pruner.get(VIEWER) == pruning.History(90, 20, 730, 1096)
    with pytest.raises(HotspareError) as caught:
        pruner.set(OPERATOR, task_days=1)
    assert caught.value.code == "auth.role"
    for field, (smallest, largest) in pruning.LIMITS.items():
        for value in (smallest - 1, largest + 1):
            with pytest.raises(HotspareError) as caught:
                pruner.set(ADMIN, **{field: value})
            assert caught.value.code == "input.range"
    pruner.set(ADMIN, task_days=5)
    assert pruner.set(ADMIN, least_tasks=2) == pruning.History(5, 2, 730, 1096)
    rule = made.rule()
    kept = tasks(made, rule, [6.0, 6.0, 6.0, 4.0])[2:]
    assert pruner.prune()["task"] == 2 and ids(made, schema.task) == kept
    assert made.services.users.audit(ADMIN).items[1].action == "settings.set"


def test_writers_have_their_turn_meanwhile(tmp_path: Path) -> None:
    """No transaction of the removal is long: the slowest write beside it stays quick."""
    with rig(tmp_path) as made:
        made.platforms()
        rule = made.rule()
        made.player.stop()
        made.services.context.clock = lambda: NOW
        tasks(made, rule, [100.0] * 1000, steps=6)
        waits: list[float] = []
        done = threading.Event()

        def write() -> None:
            while not done.is_set():
                began = time.perf_counter()
                with made.services.context.change() as change:
                    change.log("info", "rule.created", {"user": "x"}, rule=rule)
                waits.append(time.perf_counter() - began)
                time.sleep(0.005)

        writer = threading.Thread(target=write)
        writer.start()
        began = time.perf_counter()
        removed = made.services.pruner.prune()["task"]
        took = time.perf_counter() - began
        done.set()
        writer.join()
    assert removed == 1000 - 20
    slowest = sorted(waits)[int(len(waits) * 0.99)]
    print(f"{removed / took:.0f} tasks/s; write p99 {slowest * 1000:.0f} ms of {len(waits)}")
    assert slowest < 0.25


def test_the_thread_runs_and_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "_FIRST_S", 0.5)
    with rig(tmp_path, scheduler=True) as made:
        with made.services.context.change() as change:
            change.conn.execute(sa.insert(schema.audit).values(
                at=0.0, user="old", action="y", object="z", detail={}))
        end = time.monotonic() + 10.0
        while any(row.user == "old" for row in made.services.users.audit(ADMIN).items):
            assert time.monotonic() < end
            time.sleep(0.01)
    assert not any(t.name == "pruner" and t.is_alive() for t in threading.enumerate())
