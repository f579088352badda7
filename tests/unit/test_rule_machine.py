"""No sequence of operations, crashes and events brings a rule into an undefined or stuck state.

Real services on a real SQLite file, real links, a clock of our own, and two DR machines that do
only what the test lets them do: take tasks, report one step more, end, crash, fall silent.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from hotspare.domain.errors import Fenced, GiveUp, HotspareError
from hotspare.domain.lineage import Manifest
from hotspare.domain.proof import Checklist
from hotspare.domain.rule_states import (
    FAILBACK,
    FAILOVER,
    RESTING,
    WORKING,
    RuleState,
    visible,
)
from hotspare.domain.schedule import Schedule
from hotspare.services import LocalLink, NewRule, Services, queue
from hotspare.services.machines import LOST_AFTER_S
from hotspare.store import schema
from hotspare.workflows.link import SIDE, Task
from unit.service_rig import ADMIN, OPERATOR, STEPS, VIEWER, manifest

S = RuleState
EVERY_MINUTE = {"kind": "interval", "every_s": 60}
BUSY = {"code": "worker.temp-dir", "fields": {"directory": "/tmp", "error": "full"}}
MACHINES = ("m1", "m2")
RULES = 3
HISTORIES = ("new", "ran", "ran", "failed-over", "failed-back")
OPERATIONS = ("start", "stop", "delete", "failover", "undo", "planned-failover", "permanent",
              "failback", "switch-back", "commit-failback", "undo-failback", "test")


@dataclass
class Machine:
    """What a DR machine has in memory, and (``points``) what is at its targets."""

    name: str
    link: LocalLink
    points: dict[str, list[Manifest]]
    silent: bool = False
    busy: bool = False
    steps: dict[int, int] = field(default_factory=dict)         # calls that each task made
    tasks: dict[int, Task] = field(default_factory=dict)

    def poll(self) -> list[Task]:
        while (task := self.link.next_task(0)) is not None:
            if task.id not in self.tasks:
                self.tasks[task.id], self.steps[task.id] = task, 0
        return sorted(self.tasks.values(), key=lambda t: t.id)

    def advance(self, task: Task, outcome: str) -> None:
        """One call more. ``outcome`` other than ok ends the task there."""
        try:
            if outcome == "ok" and not (task.kind == "replicate"
                                        and self.link.limits(task).stop):
                calls = self.calls(task)
                call = self.steps[task.id]
                self.steps[task.id] += 1
                if call < len(calls):
                    calls[call]()
                    return
                self.link.finish(task, "ok", None, {})
            elif outcome == "ok":
                self.link.finish(task, "stopped", None, {})
            else:
                self.link.finish(task, "failed", GiveUp("task.failed", task=task.id).as_dict(), {})
        except Fenced:              # the rule was moved
            pass
        del self.tasks[task.id]

    def calls(self, task: Task) -> list[Callable[[], None]]:
        link = self.link
        if task.rule is None:
            return []
        points = self.points.setdefault(task.rule.id, [])

        def publish() -> None:
            points.append(manifest(task, len(points) + 1))
            link.adopt(task, tuple(points))

        def step(name: str) -> Callable[[], None]:
            return lambda: link.step(task, name, "running", {})

        def told(detail: dict[str, Any] | None) -> Callable[[], None]:
            return lambda: link.failback(task, detail)

        match task.kind:
            case "replicate":
                return [step(name) for name in STEPS] + [publish]
            case "failover":
                return [step("restore-snapshot"), lambda: link.failover(task, task.point, {})]
            case "undo":
                return [step("clear-snapshot"), lambda: link.failover(task, None, {})]
            case "permanent":
                return [step("clear-snapshot"), points.clear, lambda: link.adopt(task, ())]
            case "shut-down":
                return [step("shut-down-source")]
            case "test":
                return [step("check"), lambda: link.proof(task, "passed", [], None)]
            case "failback":
                return [step("copy-back"), told({}), step("copy-back")]
            case "switch-back":
                return [step("copy-rest"), told({}), told({"switched": True}),
                        step("start-source")]
            case "commit-failback":
                return [told({"switched": True, "committed": True}), step("clear-snapshot"),
                        told(None), lambda: link.failover(task, None, {})]
            case "undo-failback":
                return [step("restore"), told(None)]
            case _:
                return [step("clean-source"), lambda: link.adopt(task, ())]


def prepared() -> Path:
    """A state directory with platforms, each asked by one machine."""
    folder = Path(mkdtemp(prefix="hs-machine-"))
    services = Services.open(folder)
    for name in MACHINES:
        services.link(name, folder)
    with services.context.change() as change:
        for number, (name, machine) in enumerate((("src", "m1"), ("dst1", "m1"),
                                                  ("dst2", "m2"))):
            change.conn.execute(sa.insert(schema.platform).values(
                id=f"{number:08x}", name=name, name_key=name, kind="libvirt", uri=name,
                options={}, machine=machine, state="ok", product="", host_id=name, checks=[],
                places=[{"kind": "storage", "name": "default", "usable": True, "reason": "",
                         "free": 1 << 40}], refreshed_at=1.0, created_at=1.0))
        for number in range(RULES):
            change.conn.execute(sa.insert(schema.platform_vm).values(
                platform="00000000", ref=f"u{number}", name=f"vm{number}", power="off", size=1,
                protectable=True, reason="", fields={}))
    services.stop()
    services.close()
    return folder


_TEMPLATE: list[Path] = []


class RuleMachine(RuleBasedStateMachine):
    """The operations are those of an operator, of the fleet, and of misfortune."""

    def __init__(self) -> None:
        super().__init__()
        if not _TEMPLATE:
            _TEMPLATE.append(prepared())
        self.folder = Path(mkdtemp(prefix="hs-machine-"))
        shutil.copytree(_TEMPLATE[0], self.folder, dirs_exist_ok=True)
        self.now, self.uptime = 1_000_000.0, 1_000.0
        self.points: dict[str, list[Manifest]] = {}
        self.open()
        self.machines = {name: Machine(name, self.services.link(name, self.folder), self.points)
                         for name in MACHINES}

    def open(self) -> None:
        self.services = Services.open(self.folder, clock=lambda: self.now)
        self.services.context.uptime = lambda: self.uptime

    # --- operators -----------------------------------------------------------------------------

    @initialize(histories=st.lists(st.tuples(st.booleans(), st.sampled_from(HISTORIES)),
                                   min_size=RULES, max_size=RULES), one_slot=st.booleans())
    def make_rules(self, histories: list[tuple[bool, str]], one_slot: bool) -> None:
        """Rules that are new, have run, or stand on their replica."""
        for number, (periodic, history) in enumerate(histories):
            self.create(number, periodic)
            if history != "new":
                self.services.rules.start(OPERATOR, f"r{number}")
                self.play_out()
            if history in {"failed-over", "failed-back"}:
                self.services.rules.failover(OPERATOR, f"r{number}", None)
                self.play_out()
            if history == "failed-back":
                self.services.rules.failback(OPERATOR, f"r{number}")
                self.play_out()
                self.services.rules.switch_back(OPERATOR, f"r{number}", commit_after_s=60)
                self.play_out()
        if one_slot:
            for name in MACHINES:
                self.services.machines.set(ADMIN, name, max_tasks=1)

    def create(self, number: int, periodic: bool) -> None:
        self.services.rules.create(OPERATOR, NewRule(
            f"r{number}", "src", f"vm{number}", f"dst{number % 2 + 1}", "default",
            schedule=Schedule("interval", 60) if periodic else None))

    @rule(number=st.integers(0, RULES - 1), periodic=st.booleans())
    def create_again(self, number: int, periodic: bool) -> None:
        if self.view(number) is None:
            self.create(number, periodic)

    @rule(number=st.integers(0, RULES - 1), which=st.integers(0, 3))
    def operate(self, number: int, which: int) -> None:
        view = self.view(number)
        allowed = [] if view is None else [o for o in view.operations if o != "log"]
        if allowed:
            self.ask(view, allowed[which % len(allowed)])

    @rule(number=st.integers(0, RULES - 1), operation=st.sampled_from(OPERATIONS))
    def operate_blindly(self, number: int, operation: str) -> None:
        view = self.view(number)
        if view is not None:
            self.ask(view, operation)

    def ask(self, view: Any, operation: str) -> None:
        """It is done exactly when the view says that it can be."""
        more: dict[str, tuple[Any, ...]] = {
            "failover": (None,), "delete": (True,), "planned-failover": (1.0, True),
            "permanent": (None, view.vm_name), "undo-failback": (view.vm_name,),
            "test": (Checklist(),)}
        call = (self.services.tests.start if operation == "test" else
                getattr(self.services.rules,
                        operation.removesuffix("-failover").replace("-", "_")))
        try:
            call(OPERATOR, view.id, *more.get(operation, ()))
        except HotspareError as error:
            assert operation not in view.operations, (view.state, operation, str(error))
            assert self.services.rules.get(VIEWER, view.id).state == view.state
        else:
            assert operation in view.operations, (view.state, operation)

    @rule(number=st.integers(0, RULES - 1), periodic=st.booleans())
    def edit(self, number: int, periodic: bool) -> None:
        view = self.view(number)
        if view is not None:
            try:
                self.services.rules.edit(OPERATOR, view.id, {
                    "schedule": EVERY_MINUTE if periodic else None})
            except HotspareError as error:
                assert error.code == "rule.busy", str(error)

    @rule(number=st.integers(0, RULES - 1), to=st.sampled_from(MACHINES))
    def move(self, number: int, to: str) -> None:
        view = self.view(number)
        if view is not None:
            try:
                self.services.moves.rule(ADMIN, view.id, to)
            except HotspareError as error:
                assert error.code in {"rule.move-same", "machine.not-live", "rule.busy"}

    @rule(name=st.sampled_from(MACHINES), tasks=st.integers(1, 4))
    def limit(self, name: str, tasks: int) -> None:
        self.services.machines.set(ADMIN, name, max_tasks=tasks)

    # --- time ----------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, 59.0, 61.0, 3600.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.uptime += min(seconds, LOST_AFTER_S / 2)
        for machine in self.machines.values():
            if not machine.silent:
                self.services.machines.seen(machine.name)
        self.services.machines.watch()
        self.services.scheduler.run_due()

    # --- DR machines ---------------------------------------------------------------------------

    @rule(calls=st.integers(1, 9), which=st.integers(0, 5), fails=st.booleans())
    def work(self, calls: int, which: int, fails: bool) -> None:
        """Some calls of one task, and perhaps its failure."""
        tasks = [(m, task) for m in self.machines.values() if not m.silent
                 for task in m.poll()]
        if not tasks:
            return
        machine, task = tasks[which % len(tasks)]
        for _ in range(calls):
            machine.advance(task, "ok")
            if task.id not in machine.tasks:
                return
        if fails:
            machine.advance(task, "failed")

    @rule(calls=st.integers(4, 9), which=st.integers(0, 5))
    def work_on(self, calls: int, which: int) -> None:
        self.work(calls, which, fails=False)

    @precondition(lambda self: not any(m.silent for m in self.machines.values()))
    @rule(name=st.sampled_from(MACHINES))
    def fall_silent(self, name: str) -> None:
        self.machines[name].silent = True
        self.uptime += LOST_AFTER_S + 1
        for other in self.machines.values():
            if not other.silent:
                self.services.machines.seen(other.name)
        self.services.machines.watch()

    @precondition(lambda self: any(m.silent for m in self.machines.values()))
    @rule()
    def speak_again(self) -> None:
        for machine in self.machines.values():
            if machine.silent:
                machine.silent = False
                machine.poll()

    @rule(name=st.sampled_from(MACHINES), busy=st.booleans())
    def report(self, name: str, busy: bool) -> None:
        self.machines[name].busy = busy
        self.services.machines.report(name, BUSY if busy else None)

    # --- crashes -------------------------------------------------------------------------------

    @rule(name=st.sampled_from(MACHINES))
    def machine_crashes(self, name: str) -> None:
        """It starts again, and is offered what it had."""
        self.machines[name] = Machine(name, self.services.link(name, self.folder), self.points)

    @rule()
    def server_crashes(self) -> None:
        """The machines do not notice but by their link."""
        self.services.stop()
        self.services.close()
        self.open()
        for machine in self.machines.values():
            machine.link = LocalLink(self.services.context, self.services.live_progress,
                                     self.services.machines, self.services.intake,
                                     machine.name)

    # --- what always holds ---------------------------------------------------------------------

    def view(self, number: int) -> Any:
        try:
            return self.services.rules.get(VIEWER, f"r{number}")
        except HotspareError:
            return None

    def rows(self) -> list[Any]:
        r, t, m = schema.rule, schema.task, schema.machine
        alive = sa.and_(t.c.rule == r.c.id, t.c.state != "ended", t.c.kind.not_in(SIDE))
        live = sa.select(sa.func.count()).where(alive)
        kind = sa.select(sa.func.max(t.c.kind)).where(alive)
        queued = sa.select(sa.func.count()).where(alive, t.c.state == "queued")
        with self.services.context.read() as conn:
            return list(conn.execute(
                sa.select(r, m.c.live, m.c.busy, live.scalar_subquery().label("tasks"),
                          kind.scalar_subquery().label("kind"),
                          queued.scalar_subquery().label("queued"))
                .join(m, m.c.name == r.c.machine).where(r.c.deleted_at.is_(None))))

    @invariant()
    def states_are_right(self) -> None:
        for row in self.rows():
            own, shown = S(row.own_state), S(row.state)
            periodic = row.schedule is not None
            assert shown is visible(own, row.live, row.busy is not None, periodic)
            working = own in WORKING or own in {
                S.RESTORING_SNAPSHOT, S.CLEARING_SNAPSHOT, S.FAILING_BACK, S.SWITCHING_BACK,
                S.COMMITTING_FAILBACK, S.UNDOING_FAILBACK}
            assert row.tasks == int(working), (own, row.kind)
            assert not row.queued or own in FAILOVER | {S.QUEUED}, own
            # M15: idle and finished mean one kind of rule each
            assert own is not S.IDLE or periodic
            assert own is not S.FINISHED or not periodic
            if shown is S.IDLE and not periodic:
                assert row.busy is not None and own is S.QUEUED
            assert not row.enabled or periodic
            assert row.next_run_at is None or row.enabled
            assert own is not S.IDLE or (row.enabled and row.next_run_at is not None)
            assert (own is S.TEMPORARY_FAILOVER or own in FAILBACK) <= (
                row.failover_point is not None or row.kind == "commit-failback")
            assert (row.failback is not None) <= (own in FAILBACK)
            assert (row.commit_at is not None) <= (own in {S.FAILED_BACK, S.COMMITTING_FAILBACK,
                                                           S.UNDOING_FAILBACK})

    @invariant()
    def nothing_that_could_run_waits(self) -> None:
        with self.services.context.change() as change:
            assert queue.dispatch(change) == []

    # --- from wherever it came to --------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if self.rows():
                self.recover()
        finally:
            self.services.stop()
            self.services.close()
            shutil.rmtree(self.folder)

    def recover(self) -> None:
        """Machines are back and tasks end: each rule comes to rest, and runs again."""
        self.speak_again()
        for name in MACHINES:
            self.report(name, busy=False)
        self.play_out()
        for row in self.rows():
            if row.own_state in FAILBACK:
                done = (row.failback or {}).get("committed")
                (self.services.rules.commit_failback(OPERATOR, row.id) if done else
                 self.services.rules.undo_failback(OPERATOR, row.id, row.vm_name))
        self.play_out()
        for row in self.rows():
            if row.own_state == S.TEMPORARY_FAILOVER:
                self.services.rules.undo(OPERATOR, row.id)
            elif row.own_state == S.PERMANENT_FAILOVER:
                self.services.rules.delete(OPERATOR, row.id)
        self.play_out()
        for row in self.rows():
            assert S(row.state) in RESTING, row.state
            self.services.rules.start(OPERATOR, row.id)
        self.play_out()
        for row in self.rows():
            assert row.state == (S.FINISHED if row.schedule is None else S.IDLE)
            assert row.last_result == "ok" and row.points > 0

    def play_out(self) -> None:
        for _ in range(200):
            for machine in self.machines.values():
                for task in machine.poll():
                    machine.advance(task, "ok")
            with self.services.context.read() as conn:
                if conn.execute(sa.select(sa.func.count()).select_from(schema.task).where(
                        schema.task.c.state != "ended")).scalar() == 0:
                    self.states_are_right()
                    return
        raise AssertionError("some task never ended")


def _run(examples: int, steps: int) -> None:
    try:
        run_state_machine_as_test(RuleMachine, settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None,
            suppress_health_check=list(HealthCheck)))
    finally:
        while _TEMPLATE:
            shutil.rmtree(_TEMPLATE.pop())


def test_no_sequence_reaches_an_undefined_or_stuck_state() -> None:
    _run(examples=30, steps=30)


@pytest.mark.soak
def test_no_sequence_reaches_an_undefined_or_stuck_state_at_length() -> None:
    _run(examples=1_000, steps=60)


