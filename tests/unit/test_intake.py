"""Reports that wait for the writer are applied together, and what is refused harms no other."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from hotspare.store import schema
from hotspare.workflows.link import Progress
from hotspare.workflows.wire import Call, Report, Reported
from unit.queue_rig import Yard, yard
from unit.service_rig import ADMIN, wait_until

GOOD = {"step": "transfer", "state": "running", "detail": {}}
BAD = {"step": "transfer", "state": "nonsense", "detail": {}}
END = {"outcome": "ok", "error": None, "figures": {}}
MACHINES = ("m1", "m2", "m3")


def fleet(here: Yard) -> dict[str, int]:
    """Three machines with hosts of their own, and a task that each works at."""
    tasks = {}
    for name in MACHINES:
        here.machine(name)
        [task] = here.start_all(here.rules(1, f"s-{name}", f"t-{name}", name))
        tasks[name] = task
        assert len(here.services.fleet._link(name).synced().tasks) == 1
    return tasks


def report(task: int, *calls: tuple[str, dict[str, Any]]) -> Report:
    return Report(calls=tuple(Call(n, name, task, 1, 1.0, body)
                              for n, (name, body) in enumerate(calls, 1)),
                  progress={str(task): Progress("transfer", 7, 9)})


def at_once(here: Yard, reports: dict[str, Report]) -> dict[str, Reported]:
    """The first comes to the writer while that is busy, the others to the first."""
    intake, answers, threads = here.services.intake, {}, []

    def say(name: str) -> None:
        answers[name] = here.services.fleet._link(name).reported(reports[name])

    with here.services.context.store.write():
        for n, name in enumerate(reports):
            threads.append(threading.Thread(target=say, args=(name,)))
            threads[-1].start()
            wait_until(lambda n=n: intake._turn.locked() and len(intake._waiting) == n)
    for thread in threads:
        thread.join(20)
    return answers


def state_of(here: Yard, task: int) -> tuple[str, list[str], Any]:
    view = here.services.tasks.get(ADMIN, task)
    return view.state, [f"{step.name} {step.state}" for step in view.steps], view.progress


def test_what_waits_is_one_change(tmp_path: Path, database: str | None) -> None:
    with yard(tmp_path, database) as here:
        tasks, commits = fleet(here), []
        reports = {name: report(task, ("step", GOOD), ("finish", END))
                   for name, task in tasks.items()}
        event.listen(here.services.context.store.engine, "commit", commits.append)
        answers = at_once(here, reports)
        assert {a.reported for a in answers.values()} == {2}
        assert all(not a.refused for a in answers.values())
        assert len(commits) == 1 + 2, "of this test, of the first, of the two others"
        for task in tasks.values():
            state, steps, progress = state_of(here, task)
            assert (state, steps) == ("ended", ["transfer done"])
            assert progress["done"] == 7, "as far as it was said to be"
        for name, task in tasks.items():        # said again: nothing is done twice
            again = here.services.fleet._link(name).reported(reports[name])
            assert (again.reported, again.refused) == (2, {})
            assert len(here.services.tasks.get(ADMIN, task).steps) == 1


def test_progress_of_several_tasks_at_once(tmp_path: Path, database: str | None) -> None:
    """Of one machine, and of several whose reports are applied together."""
    with yard(tmp_path, database) as here:
        here.machine("m0")
        two = here.start_all(here.rules(2, "s-m0", "t-m0", "m0"))
        assert len(here.services.fleet._link("m0").synced().tasks) == 2
        said = Report(calls=(), progress={str(t): Progress("transfer", t, 99) for t in two})
        tasks = fleet(here)
        reports = {name: report(task) for name, task in tasks.items()} | {"m0": said}
        for name, first in reports.items():
            here.services.fleet._link(name).reported(first)
        here.now[0] += 11               # it is stored every ten seconds
        assert here.services.fleet._link("m0").reported(said).refused == {}
        at_once(here, {name: reports[name] for name in tasks})
        with here.services.context.read() as conn:
            stored = dict(conn.execute(sa.select(
                schema.task.c.id, schema.task.c.progress)).tuples().all())
        assert {t: stored[t]["done"] for t in two} == {t: t for t in two}
        assert all(stored[task]["done"] == 7 for task in tasks.values())


@pytest.mark.parametrize("bad", MACHINES)
def test_what_is_refused_harms_no_other(tmp_path: Path, database: str | None, bad: str) -> None:
    with yard(tmp_path, database) as here:
        tasks = fleet(here)
        answers = at_once(here, {
            name: report(task, ("step", BAD if name == bad else GOOD), ("finish", END))
            for name, task in tasks.items()})
        assert {name: (a.reported, list(a.refused)) for name, a in answers.items()} == {
            name: (2, ["1"] if name == bad else []) for name in MACHINES}
        for name, task in tasks.items():
            state, steps, progress = state_of(here, task)
            assert (state, steps) == ("ended", [] if name == bad else ["transfer done"])
            assert progress["done"] == 7
        with here.services.context.read() as conn:
            ended = conn.execute(sa.select(sa.func.count()).select_from(schema.log).where(
                schema.log.c.code == "task.ended")).scalar()
            assert ended == 3, "each once"
