"""Services on real databases of both kinds, with a machine that plays its part through the link."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotspare.domain.bandwidth import Range
from hotspare.domain.errors import Fenced, GiveUp, HotspareError, Refused
from hotspare.domain.limits import Limits
from hotspare.domain.schedule import Schedule
from hotspare.services import Actor, NewRule, Services
from hotspare.services.keys import KeyRing
from hotspare.services.link import LocalLink
from hotspare.store import schema
from hotspare.workflows.link import Link, Progress, Task
from unit.service_rig import ADMIN, OPERATOR, VIEWER, Rig, manifest, prepared, rig, wait_until


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with both platforms read: making one takes ten times what a copy does."""
    return prepared(tmp_path_factory.mktemp("template"))


@pytest.fixture
def here(tmp_path: Path, template: Path, database: str | None) -> Iterator[Rig]:
    if database is None:
        shutil.copytree(template, tmp_path / "state")
        with rig(tmp_path / "state") as made:
            yield made
    else:
        with rig(tmp_path, database=database) as made:
            made.platforms()
            yield made


def refused(code: str, call: object, *args: object) -> HotspareError:
    with pytest.raises(HotspareError) as caught:
        call(*args)  # type: ignore[operator]
    assert caught.value.code == code, str(caught.value)
    return caught.value


def test_local_link_is_a_link(here: Rig) -> None:
    link: Link = here.link
    assert link.next_task(0.0) is None


# --- rules ---------------------------------------------------------------------------------------


def test_a_run_goes_through_the_states_and_leaves_a_point(here: Rig) -> None:
    rule = here.rule()
    assert here.state(rule) == "stopped"
    here.player.hold.set()
    task = here.services.rules.start(OPERATOR, rule)
    wait_until(lambda: here.state(rule) == "running")
    progress = wait_until(lambda: here.services.tasks.progress(VIEWER, task).progress)
    assert (progress["done"], progress["total"]) == (1 << 19, 1 << 20)
    [view] = here.services.rules.list(VIEWER).items
    assert (view.state, view.phase, view.percent) == ("running", "transfer", 50.0)
    here.player.hold.clear()
    ended = here.ended(task)
    assert ended.outcome == "ok"
    assert [s.name for s in ended.steps] == [
        "create-replica", "read-configuration", "query-changes", "transfer", "publish"]
    view = here.services.rules.get(VIEWER, rule)
    assert (view.state, view.points, view.latest_point) == ("finished", 1, 1)
    assert (view.last_result, view.phase, view.percent) == ("ok", None, None)
    [point] = here.services.rules.points(VIEWER, rule).items
    assert point.moved == 1 << 20


def test_all_faults_of_a_rule_are_named_at_their_fields(here: Rig) -> None:
    error = refused("rule.fields", here.services.rules.create, OPERATOR, NewRule(
        "a/b", "src", "nobody", "dst", "nowhere", retention=0,
        schedule=Schedule("interval", 9), networks={"a": "b"}))
    assert {"name", "vm", "storage", "retention", "schedule", "networks"} <= set(error.fields)


@pytest.mark.parametrize(("change", "code"), [
    ({"name": "0123abcd"}, "input.name-like-id"),
    ({"name": "x" * 65}, "input.name-length"),
    ({"source": "none"}, "platform.not-found"),
    ({"vm": "transient"}, "vm.unprotectable"),
    ({"vm": "nobody"}, "vm.unknown"),
    ({"storage": "lvm"}, "storage.unusable"),
    ({"storage": "zzz"}, "storage.unknown"),
    ({"networks": {"a": "zzz"}}, "network.unknown"),
    ({"retention": 101}, "input.range"),
    ({"schedule": Schedule("interval", 9)}, "schedule.interval"),
    ({"bandwidth": (Range((1,), 0, 60, -1),)}, "bandwidth.limit"),
    ({"replica_name": "a\nb"}, "input.name-characters"),
])
def test_each_fault_of_a_rule_has_its_code(here: Rig, change: dict[str, object],
                                           code: str) -> None:
    settings: dict[str, object] = {"name": "r1", "source": "src", "vm": "web0", "target": "dst",
                                   "storage": "default"}
    refused(code, here.services.rules.create, OPERATOR,
            NewRule(**(settings | change)))  # type: ignore[arg-type]


def test_a_machine_is_protected_once_and_the_other_rule_is_named(here: Rig) -> None:
    here.rule("first")
    error = refused("rule.duplicate", here.rule, "second")
    assert error.fields["rule"] == "first"
    refused("rule.exists", here.rule, "FIRST", "web1")
    vms = {v.name: v.rule for v in here.services.platforms.vms(VIEWER, "src").items}
    assert vms["web0"] == "first" and vms["web1"] is None


def test_the_same_host_registered_twice_does_not_give_two_rules(here: Rig) -> None:
    here.rule("first")
    made = here.services.platforms.add(ADMIN, name="again", kind="libvirt",
                                       uri="qemu+ssh://root@source/system")
    here.ended(made.task)
    with here.services.context.change() as change:      # the same host says the same identity
        change.conn.execute(sa.update(schema.platform).where(schema.platform.c.id == made.id)
                            .values(host_id="qemu+ssh://source/system"))
    error = refused("rule.duplicate", here.services.rules.create, OPERATOR,
                    NewRule("second", "again", "web0", "dst", "default"))
    assert error.fields["rule"] == "first"


def test_two_operators_at_the_same_instant_make_one_rule(here: Rig) -> None:
    results: list[str] = []
    gate = threading.Barrier(8)

    def make(i: int) -> None:
        gate.wait()
        try:
            here.rule(f"r{i}")
            results.append("made")
        except HotspareError as error:
            results.append(error.code)

    threads = [threading.Thread(target=make, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["made", *["rule.duplicate"] * 7]


def test_two_starts_at_the_same_instant_make_one_task(here: Rig) -> None:
    rule = here.rule()
    here.player.hold.set()
    results: list[object] = []
    gate = threading.Barrier(8)

    def start() -> None:
        gate.wait()
        try:
            results.append(here.services.rules.start(OPERATOR, rule))
        except HotspareError as error:
            results.append(error.code)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count("rule.busy") == 7
    assert len(here.services.tasks.list(VIEWER, rule=rule).items) == 1


def test_the_database_itself_holds_one_live_task_and_one_rule_a_machine(here: Rig) -> None:
    rule = here.rule()
    here.player.hold.set()
    here.services.rules.start(OPERATOR, rule)
    for table in (schema.task, schema.rule):
        with pytest.raises(sa.exc.IntegrityError), here.services.context.change() as change:
            row = change.conn.execute(sa.select(table).where(
                table.c.rule == rule if table is schema.task else table.c.id == rule)).one()
            fields = row._asdict()
            fields["id"] = 999 if table is schema.task else "ffffffff"
            fields.pop("name_key", None)
            if table is schema.rule:
                fields["name_key"] = "other"
            change.conn.execute(sa.insert(table).values(**fields))


def test_stop_of_a_running_and_of_a_queued_rule(tmp_path: Path, database: str | None) -> None:
    with rig(tmp_path, Limits(max_tasks=1), database=database) as here:
        here.platforms()
        first, second = here.rule("first", "web0", interval_s=3600), here.rule("second", "web1")
        here.player.hold.set()
        running = here.services.rules.start(OPERATOR, first)
        queued = here.services.rules.start(OPERATOR, second)
        wait_until(lambda: here.state(first) == "running")
        view = here.services.rules.get(VIEWER, second)
        assert view.state == "queued"
        assert view.waits_for is not None and view.waits_for["code"] == "queue.machine-full"

        assert here.services.rules.stop(OPERATOR, second).state == "stopped"
        assert here.services.tasks.get(VIEWER, queued).outcome == "stopped"
        here.services.rules.stop(OPERATOR, first)
        assert here.ended(running).outcome == "stopped"
        view = here.services.rules.get(VIEWER, first)
        assert (view.state, view.enabled, view.next_run_at) == ("stopped", False, None)
        refused("rule.not-running", here.services.rules.stop, OPERATOR, first)


def test_failover_and_undo(here: Rig) -> None:
    rule = here.rule(interval_s=3600)
    refused("rule.no-point", here.services.rules.failover, OPERATOR, rule, None)
    here.run(rule)
    refused("rule.not-failed-over", here.services.rules.undo, OPERATOR, rule)
    refused("rule.no-such-point", here.services.rules.failover, OPERATOR, rule, 7)
    assert here.state(rule) == "idle"

    here.ended(here.services.rules.failover(OPERATOR, rule, None))
    view = here.services.rules.get(VIEWER, rule)
    assert (view.state, view.failover_point) == ("temporary-failover", 1)
    assert view.operations == ["log", "undo", "permanent", "failback", "test"]
    for call in (here.services.rules.start, here.services.rules.undo.__self__.stop):
        with pytest.raises(Refused):
            call(OPERATOR, rule)
    refused("rule.in-temporary-failover", here.services.rules.delete, OPERATOR, rule, False)
    refused("rule.in-temporary-failover", here.services.rules.failover, OPERATOR, rule, None)

    here.ended(here.services.rules.undo(OPERATOR, rule))
    view = here.services.rules.get(VIEWER, rule)
    assert (view.state, view.failover_point, view.enabled) == ("idle", None, True)


def test_permanent_from_a_failover_that_stands(here: Rig) -> None:
    rule = here.rule(interval_s=3600)
    here.run(rule)
    here.ended(here.services.rules.failover(OPERATOR, rule, None))
    refused("rule.confirm", here.services.rules.permanent, OPERATOR, rule, None, "web1")
    refused("rule.point-stands", here.services.rules.permanent, OPERATOR, rule, 7, "web0")
    here.player.fail["permanent"] = GiveUp("vm.unknown", vm="x", platform="y")
    here.ended(here.services.rules.permanent(OPERATOR, rule, None, "web0"))
    view = here.services.rules.get(VIEWER, rule)
    assert (view.state, view.failover_point, view.last_result) == (
        "temporary-failover", 1, "failed"), "it stands as before, and can be undone or tried again"
    del here.player.fail["permanent"]
    assert here.ended(here.services.rules.permanent(OPERATOR, rule, 1, " web0 ")).outcome == "ok"
    view = here.services.rules.get(VIEWER, rule)
    assert (view.state, view.failover_point, view.enabled, view.next_run_at, view.points) == (
        "permanent-failover", None, False, None, 0)
    assert view.operations == ["delete", "log"]
    for call in (here.services.rules.start, here.services.rules.undo):
        with pytest.raises(Refused):
            call(OPERATOR, rule)
    here.ended(here.services.rules.delete(OPERATOR, rule))
    assert here.player.begun[-1].arguments["delete_replica"] is False


def test_straight_to_permanent_is_a_failover_that_goes_on(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.run(rule)
    first = here.services.rules.permanent(OPERATOR, rule, 1, "web0")
    assert here.ended(first).kind == "failover"
    here.settled(rule)
    begun = [(t.kind, t.point) for t in here.player.begun[-2:]]
    assert begun == [("failover", 1), ("permanent", 1)]
    assert here.state(rule) == "permanent-failover"

    other = here.rule("r2", "web1")
    here.run(other)
    here.player.fail["failover"] = GiveUp("vm.unknown", vm="x", platform="y")
    here.ended(here.services.rules.permanent(OPERATOR, other, None, "web1"))
    assert here.state(other) == "finished"
    assert here.player.begun[-1].kind == "failover", "nothing follows a failover that failed"


def test_a_planned_failover_is_a_chain_that_nothing_comes_between(here: Rig) -> None:
    rule = here.rule(interval_s=3600)
    here.services.rules.planned(OPERATOR, rule, 5.0, False)
    here.settled(rule)
    begun = [(t.kind, t.arguments.get("stage"), t.point) for t in here.player.begun
             if t.rule is not None]
    assert begun == [("replicate", "sync", None), ("shut-down", "shut-down", None),
                     ("replicate", "last-sync", None), ("failover", "failover", 2)]
    shut_down = next(t for t in here.player.begun if t.kind == "shut-down")
    assert (shut_down.arguments["grace_s"], shut_down.arguments["power_off"]) == (5.0, False)
    view = here.services.rules.get(VIEWER, rule)
    assert (view.state, view.failover_point) == ("temporary-failover", 2)
    refused("rule.in-temporary-failover", here.services.rules.planned, OPERATOR, rule, 5.0, False)


@pytest.mark.parametrize("stage", ["shut-down", "failover"])
def test_a_planned_failover_that_ends_half_way_says_what_stands(here: Rig, stage: str) -> None:
    rule = here.rule()
    here.player.fail[stage] = GiveUp("vm.unknown", vm="x", platform="y")
    here.services.rules.planned(OPERATOR, rule, 5.0, True)
    here.settled(rule)
    view = here.services.rules.get(VIEWER, rule)
    assert view.last_result == "failed" and view.state in {"stopped", "finished"}
    said = [line for line in here.services.logs.page(VIEWER, rule=rule).items
            if line.code.startswith("planned.ended")]
    assert [(line.code, line.level) for line in said] == [(f"planned.ended-{stage}", "error")]
    assert "{" not in said[0].message


def test_a_failed_failover_returns_to_the_state_before(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.player.fail["failover"] = GiveUp("vm.unknown", vm="x", platform="y")
    ended = here.ended(here.services.rules.failover(OPERATOR, rule, 1))
    assert ended.outcome == "failed" and ended.error["code"] == "vm.unknown"
    view = here.services.rules.get(VIEWER, rule)
    assert (view.state, view.failover_point, view.last_result) == ("finished", None, "failed")
    del here.player.fail["failover"]
    here.ended(here.services.rules.failover(OPERATOR, rule, 1))
    here.player.fail["undo"] = GiveUp("vm.unknown", vm="x", platform="y")
    here.ended(here.services.rules.undo(OPERATOR, rule))
    assert here.state(rule) == "temporary-failover"


def test_failover_is_refused_while_a_run_writes(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.player.hold.set()
    here.services.rules.start(OPERATOR, rule)
    error = refused("rule.busy", here.services.rules.failover, OPERATOR, rule, 1)
    assert "stop it first" in str(error)


def test_delete_leaves_history_and_frees_the_machine(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    task = here.services.rules.delete(OPERATOR, rule, True)
    assert here.ended(task).outcome == "ok"
    assert here.player.begun[-1].arguments == {"delete_replica": True, "force": False}
    refused("rule.not-found", here.services.rules.get, VIEWER, rule)
    assert len(here.services.tasks.list(VIEWER, rule=rule).items) == 2
    here.rule()                         # the same name, the same machine
    here.player.fail["remove"] = GiveUp("vm.unknown", vm="x", platform="y")
    here.ended(here.services.rules.delete(OPERATOR, "r1", False))
    assert here.state("r1") == "stopped"


def test_a_failed_run_of_each_kind_of_rule(here: Rig) -> None:
    here.player.fail["replicate"] = GiveUp("vm.unknown", vm="x", platform="y")
    once, periodic = here.rule("once", "web0"), here.rule("periodic", "web1", interval_s=3600)
    here.run(once)
    here.run(periodic)
    assert (here.state(once), here.state(periodic)) == ("stopped", "idle")
    assert here.services.rules.get(VIEWER, periodic).last_error is not None


# --- queue ---------------------------------------------------------------------------------------


def test_limits_hold_under_threads(tmp_path: Path, database: str | None) -> None:
    """12 rules started at once by 8 threads: never more than 3 begun, all end, in no overlap."""
    with rig(tmp_path, Limits(max_tasks=3), database=database) as here:
        here.platforms(vms=12)
        rules = [here.rule(f"r{i}", f"web{i}") for i in range(12)]
        t = schema.task
        most = 0
        done = threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.is_set():
                with here.services.context.read() as conn:
                    most = max(most, conn.execute(sa.select(sa.func.count()).select_from(t).where(
                        t.c.state.in_(["dispatched", "running"]),
                        t.c.kind == "replicate")).scalar_one())
                time.sleep(0.002)

        watcher = threading.Thread(target=watch)
        watcher.start()
        threads = [threading.Thread(target=lambda part=part: [  # type: ignore[misc]
            here.services.rules.start(OPERATOR, r) for r in part]) for part in
            (rules[i::8] for i in range(8))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: all(here.state(r) == "finished" for r in rules), 30)
        done.set()
        watcher.join()
        assert 1 <= most <= 3


def test_host_limit_names_the_host_and_failover_passes_it(
        tmp_path: Path, database: str | None) -> None:
    with rig(tmp_path, per_host=1, database=database) as here:
        here.platforms()
        ready = here.rule("ready", "web2")
        here.run(ready)
        here.player.hold.set()
        first, second = here.rule("first", "web0"), here.rule("second", "web1")
        here.services.rules.start(OPERATOR, first)
        here.services.rules.start(OPERATOR, second)
        view = here.services.rules.get(VIEWER, second)
        assert view.waits_for is not None and view.waits_for["code"] == "queue.host-full"
        assert view.waits_for["fields"] == {"host": "src", "limit": 1, "place": 1}
        here.ended(here.services.rules.failover(OPERATOR, ready, None))     # M19
        here.player.hold.clear()
        wait_until(lambda: here.state(second) == "finished")


def test_a_task_reaches_its_machine_at_once(here: Rig) -> None:
    """Nothing polls: from the request to the machine in less than 50 ms. The best of 30 counts,
    since a busy test host only adds to it; a poll would show in most."""
    rule = here.rule()
    times = [1.0]
    while min(times) >= 0.05 and len(times) <= 30:
        count = len(here.player.begun)
        began = time.perf_counter()
        task = here.services.rules.start(OPERATOR, rule)
        while len(here.player.begun) == count:
            time.sleep(0.0005)
        times.append(time.perf_counter() - began)
        here.ended(task)
    assert min(times) < 0.05, times


# --- schedule, machines, restart -----------------------------------------------------------------


def test_a_periodic_rule_runs_by_its_interval_without_overlap(tmp_path: Path) -> None:
    now = [1_000_000.0]
    services = Services.open(tmp_path, clock=lambda: now[0])
    link = services.link("local", tmp_path)
    try:
        with services.context.change() as change:
            for name in ("src", "dst"):
                change.conn.execute(sa.insert(schema.platform).values(
                    id=name * 2, name=name, name_key=name, kind="libvirt", uri=name, options={},
                    machine="local", state="ok", product="", host_id=name, checks=[],
                    places=[{"kind": "storage", "name": "default", "usable": True}],
                    refreshed_at=1.0, created_at=1.0))
            change.conn.execute(sa.insert(schema.platform_vm).values(
                platform="srcsrc", ref="u", name="web", power="off", size=1, protectable=True,
                reason="", fields={}))
        rule = services.rules.create(OPERATOR, NewRule("r", "src", "web", "dst", "default",
                                                       schedule=Schedule("interval", 60))).id
        run = services.scheduler.run_due

        def finish() -> None:
            task = link.next_task(0)
            assert task is not None
            link.step(task, "transfer", "running", {})
            link.finish(task, "ok", None, {})

        services.rules.start(OPERATOR, rule)
        assert run() is None                            # running: nothing is due
        now[0] += 30
        finish()
        assert run() == 1_000_060                       # from start to start
        now[0] += 31
        assert run() is None and link.next_task(0) is not None
        now[0] += 500                                   # the run takes eight intervals
        run()
        assert len(services.tasks.list(ADMIN, rule=rule).items) == 2
        task = services.tasks.list(ADMIN, state="live").items[0]
        link.finish(link.task(task.id), "ok", None, {})  # type: ignore[arg-type]
        assert run() is None                            # missed starts become one, at once
        assert len(services.tasks.list(ADMIN, rule=rule).items) == 3
        finish()
        assert run() == 1_000_600                       # the grid stands
    finally:
        services.stop()
        services.close()


def test_the_scheduler_thread_starts_what_is_due(tmp_path: Path, database: str | None) -> None:
    with rig(tmp_path, scheduler=True, database=database) as here:
        here.platforms()
        rule = here.rule(interval_s=10)
        here.run(rule)
        with here.services.context.change() as change:
            change.conn.execute(sa.update(schema.rule).values(next_run_at=time.time()))
            change.notify("schedule")
        wait_until(lambda: here.services.rules.get(VIEWER, rule).points == 2, 2)
        [latest, _] = here.services.tasks.list(VIEWER, rule=rule).items
        assert latest.trigger == "schedule"


def test_a_silent_machine_makes_its_rules_invalid_until_it_speaks(
        tmp_path: Path, database: str | None) -> None:
    now = [1_000_000.0]
    with rig(tmp_path, database=database) as here:
        here.platforms()
        plain, standing = here.rule("plain", "web0"), here.rule("standing", "web1")
        here.run(standing)
        here.ended(here.services.rules.failover(OPERATOR, standing, None))
        here.player.stop()
        here.services.context.uptime = lambda: now[0]
        machines = here.services.machines
        machines._seen["local"] = now[0]
        now[0] += 31
        machines.watch()
        assert (here.state(plain), here.state(standing)) == ("invalid", "temporary-failover")
        refused("rule.machine-down", here.services.rules.start, OPERATOR, plain)
        task = here.services.rules.undo(OPERATOR, standing)
        assert here.services.tasks.get(VIEWER, task).reason["code"] == "queue.machine-down"
        machines.seen("local")
        assert here.state(plain) == "stopped"
        assert here.services.tasks.get(VIEWER, task).state == "dispatched"


def test_a_restart_keeps_tasks_and_offers_them_once_more(
        tmp_path: Path, database: str | None) -> None:
    services = Services.open(tmp_path, database=database)
    link = services.link("local", tmp_path)
    services.platforms.add(ADMIN, name="a", kind="libvirt", uri="qemu:///system")
    services.platforms.add(ADMIN, name="b", kind="libvirt", uri="qemu:///session")
    first, second = link.next_task(0), link.next_task(0)
    assert first is not None and second is not None and link.next_task(0) is None
    link.step(first, "check", "running", {})
    services.close()

    services = Services.open(tmp_path, database=database)
    link = services.link("local", tmp_path)
    assert [link.next_task(0), link.next_task(0)] == [first, second]   # begun or not
    assert link.next_task(0) is None
    assert link.task(first.id) == first                 # goes on where it was
    link.finish(first, "ok", None, {})
    link.finish(first, "failed", None, {})              # the report again: nothing happens
    assert services.tasks.get(ADMIN, first.id).outcome == "ok"
    assert link.task(first.id) is None
    services.close()


# --- link ----------------------------------------------------------------------------------------


def test_a_fenced_machine_is_refused(here: Rig) -> None:
    rule = here.rule()
    here.player.hold.set()
    number = here.services.rules.start(OPERATOR, rule)
    wait_until(lambda: here.state(rule) == "running")
    task = here.link.task(number)
    assert task is not None
    here.player.stop()                                  # it let go, its run is still live
    other = here.services.link("other", here.folder)
    here.player.errors.clear()
    with here.services.context.change() as change:
        change.conn.execute(sa.update(schema.rule).values(epoch=2))
    assert here.link.task(number) is None
    for call in (lambda: here.link.finish(task, "ok", None, {}),
                 lambda: here.link.step(task, "x", "running", {}),
                 lambda: here.link.adopt(task, ()),
                 lambda: here.link.limits(task),
                 lambda: here.link.log(task, "info", "task.ended", {}),
                 lambda: other.finish(task, "ok", None, {})):
        with pytest.raises(Fenced):
            call()
    with pytest.raises(GiveUp):
        other.rule_key(rule)


def test_adopt_makes_the_catalogue_agree(here: Rig) -> None:
    rule = here.rule()
    here.player.hold.set()
    number = here.services.rules.start(OPERATOR, rule)
    wait_until(lambda: here.state(rule) == "running")
    task = here.link.task(number)
    assert task is not None

    def numbers() -> list[int]:
        return [p.number for p in here.services.rules.points(VIEWER, rule).items]

    five = tuple(manifest(task, n) for n in range(1, 6))
    for wanted in ((), five[:1], five[:3], five[2:], five[2:], (five[0], five[4]), five):
        here.link.adopt(task, wanted)
        assert numbers() == sorted((m.number for m in wanted), reverse=True)


def test_progress_is_in_memory_and_stored_seldom(here: Rig) -> None:
    rule = here.rule()
    here.player.hold.set()
    number = here.services.rules.start(OPERATOR, rule)
    wait_until(lambda: here.services.tasks.progress(VIEWER, number).progress)
    task = here.link.task(number)
    assert task is not None
    for done in range(100):
        here.link.progress(task, Progress("transfer", done, 100))
    shown = here.services.tasks.progress(VIEWER, number).progress
    assert shown is not None and shown["done"] == 99

    def stored() -> Any:
        with here.services.context.read() as conn:
            return conn.execute(sa.select(schema.task.c.progress).where(
                schema.task.c.id == number)).scalar_one()

    assert stored() is None                             # not a run that has just begun
    here.services.context.clock = lambda: time.time() + 10.0
    here.link.progress(task, Progress("transfer", 100, 100))
    assert stored()["done"] == 100


# --- platforms, secrets, roles -------------------------------------------------------------------


@pytest.mark.parametrize("uri", [
    "qemu+ext:///system?command=/bin/sh", "qemu+ssh://h/system?command=/bin/sh",
    "qemu+ssh://h/system?netcat=/bin/sh", "qemu+ssh://h/system?no_verify=1",
    "qemu+ssh://-oProxyCommand=x/system", "qemu+ssh://u:pw@h/system", "qemu+ssh:///system",
    "qemu+ssh://h/", "http://h/system", "qemu+tcp://h/system", "", "qemu+ssh://h:99999/system",
    "qemu+ssh://a b/system", "qemu+ssh://-l@h/system", "[", "qemu+ssh://h/system?x",
])
def test_an_address_cannot_name_a_command_or_a_secret(here: Rig, uri: str) -> None:
    refused("platform.address", lambda: here.services.platforms.add(
        ADMIN, name="bad", kind="libvirt", uri=uri))


@pytest.mark.parametrize("uri", [
    "http://vc", "https://", "https://u:p@vc/sdk", "https://root@vc/sdk", "https://vc/ui",
    "https://vc/sdk?x=y", "https://vc:99999/sdk", "https://-v/sdk", "qemu:///system"])
def test_an_address_of_vsphere(here: Rig, uri: str) -> None:
    refused("platform.address", lambda: here.services.platforms.add(
        ADMIN, name="bad", kind="vsphere", uri=uri))


@pytest.mark.parametrize("uri", ["https://vc.example", "https://[fe80::1]:8443/sdk"])
def test_an_address_of_vsphere_that_is_good(here: Rig, uri: str) -> None:
    made = here.services.platforms.add(ADMIN, name="vc", kind="vsphere", uri=uri)
    assert (made.kind, made.capabilities.smallest_interval_s) == ("vsphere", 60)


def test_a_platform_in_use_is_not_removed(here: Rig) -> None:
    here.rule("web")
    error = refused("platform.in-use", here.services.platforms.remove, ADMIN, "src")
    assert error.fields["rules"] == "web"
    refused("platform.exists", lambda: here.services.platforms.add(
        ADMIN, name="SRC", kind="libvirt", uri="qemu:///system"))
    here.ended(here.services.rules.delete(OPERATOR, "web", False))
    here.services.platforms.remove(ADMIN, "src")
    refused("platform.not-found", here.services.platforms.get, VIEWER, "src")


def test_a_failed_check_shows_at_the_platform(here: Rig) -> None:
    here.player.fail["check"] = GiveUp("vm.unknown", vm="x", platform="y")
    here.ended(here.services.platforms.check(OPERATOR, "src"))
    view = here.services.platforms.get(VIEWER, "src")
    assert view.state == "failed" and view.error is not None
    del here.player.fail["check"]
    here.ended(here.services.platforms.check(OPERATOR, "src"))
    view = here.services.platforms.get(VIEWER, "src")
    assert (view.state, view.error) == ("ok", None)


def test_secrets_are_encrypted_with_a_key_outside_the_database(tmp_path: Path) -> None:
    canary = "CANARY-7f3a-pass"
    with rig(tmp_path) as here:
        made = here.services.platforms.add(ADMIN, name="p", kind="libvirt",
                                           uri="qemu:///system", secret=canary)
        here.ended(made.task)
        assert canary not in repr(made)
        with here.services.context.read() as conn:
            stored = conn.execute(sa.select(schema.platform.c.secret)).scalar_one()
        assert here.services.context.keys.decrypt(stored, made.id) == canary
        with pytest.raises(GiveUp):
            here.services.context.keys.decrypt(stored, "ffffffff")
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert canary.encode() not in file.read_bytes(), file
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "hotspare.db").stat().st_mode & 0o777 == 0o600

    (tmp_path / "secret.key").rename(tmp_path / "kept")
    refused("server.key-missing", Services.open, tmp_path)
    (tmp_path / "kept").rename(tmp_path / "secret.key")
    (tmp_path / "secret.key").chmod(0o644)
    refused("server.key-readable", Services.open, tmp_path)


def test_a_machine_reaches_only_what_it_works_for_and_only_meanwhile(here: Rig) -> None:
    other = here.services.link("other", here.folder)
    src, dst = (here.services.platforms.get(VIEWER, name) for name in ("src", "dst"))
    rule = here.rule()
    here.player.hold.set()
    here.services.platforms.edit(ADMIN, "src", {"secret": "CANARY-src"})

    def all_refused(link: LocalLink, task: int) -> None:
        for ask in (lambda: link.access(src.id), lambda: link.rule_key(rule)):
            with pytest.raises(GiveUp):
                ask()
        with pytest.raises(Fenced):
            link.secrets(task)

    wait_until(lambda: here.services.platforms.get(VIEWER, "src").state == "ok")
    task = here.services.rules.start(OPERATOR, rule)
    wait_until(lambda: here.state(rule) == "running")
    secrets = here.link.secrets(task)
    assert {p: a.uri for p, a in secrets.platforms.items()} == {src.id: src.uri, dst.id: dst.uri}
    assert secrets.platforms[src.id] == here.link.access(src.id)
    assert secrets.platforms[src.id].secret == "CANARY-src"
    assert bytes.fromhex(secrets.key) == here.link.rule_key(rule)
    assert "CANARY" not in repr(secrets) and secrets.key not in repr(secrets)
    all_refused(other, task)
    here.player.hold.clear()
    here.ended(task)
    all_refused(here.link, task)

    here.player.stop()                                  # nobody plays it: it stays live
    task = here.services.rules.start(OPERATOR, rule)
    assert here.link.access(src.id).secret == "CANARY-src"
    with here.services.context.change() as change:      # moved
        change.conn.execute(sa.update(schema.rule).values(epoch=schema.rule.c.epoch + 1))
    all_refused(here.link, task)


def test_rule_keys_are_the_rules_own() -> None:
    ring = KeyRing(b"k" * 32)
    assert ring.rule_key("00000001") != ring.rule_key("00000002")
    assert ring.rule_key("00000001") == KeyRing(b"k" * 32).rule_key("00000001")
    assert len(ring.rule_key("00000001")) == 32


def test_roles(here: Rig) -> None:
    services = here.services
    rule = here.rule()
    for call in (lambda: services.rules.start(VIEWER, rule),
                 lambda: services.rules.stop(VIEWER, rule),
                 lambda: services.rules.delete(VIEWER, rule, False),
                 lambda: services.rules.failover(VIEWER, rule, None),
                 lambda: services.rules.undo(VIEWER, rule),
                 lambda: services.rules.create(VIEWER, NewRule("x", "a", "b", "c", "d")),
                 lambda: services.platforms.refresh(VIEWER, "src"),
                 lambda: services.platforms.add(OPERATOR, name="x", kind="libvirt", uri="x"),
                 lambda: services.platforms.remove(OPERATOR, "src"),
                 lambda: services.users.list(OPERATOR),
                 lambda: services.users.audit(OPERATOR),
                 lambda: services.users.add(OPERATOR, "x", "longenough", "viewer"),
                 lambda: services.users.set_password(OPERATOR, "admin", "longenough")):
        refused("auth.role", call)


def test_every_change_is_audited(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.ended(here.services.rules.failover(OPERATOR, rule, None))
    here.ended(here.services.rules.undo(OPERATOR, rule))
    here.ended(here.services.rules.delete(OPERATOR, rule, False))
    audited = [(a.user, a.action) for a in here.services.users.audit(ADMIN, 500).items][::-1]
    assert audited == [
        ("admin", "platform.add"), ("admin", "platform.add"), ("olga", "rule.create"),
        ("olga", "rule.start"), ("olga", "rule.failover"), ("olga", "rule.undo"),
        ("olga", "rule.delete")]


# --- users ---------------------------------------------------------------------------------------


def test_login_sessions_and_their_end(tmp_path: Path) -> None:
    now = [1_000_000.0]
    services = Services.open(tmp_path, clock=lambda: now[0])
    services.users.add(ADMIN, "olga", "correct horse", "operator")
    session = services.users.login("olga", "correct horse", "::1")
    assert services.users.actor(session.token) == Actor("olga", "operator")
    refused("auth.required", services.users.actor, session.token + "x")
    now[0] += 12 * 3600
    refused("auth.required", services.users.actor, session.token)
    session = services.users.login("olga", "correct horse", "::1")
    services.users.set_password(ADMIN, "olga", "battery staple")
    refused("auth.required", services.users.actor, session.token)
    first = services.users.local_token()
    second = services.users.local_token()
    assert services.users.actor(second).role == "administrator"
    refused("auth.required", services.users.actor, first)
    refused("auth.failed", services.users.login, "local", "", "::1")
    services.close()


def test_guessing_is_slowed_down_and_forgotten(tmp_path: Path) -> None:
    now = [1_000_000.0]
    services = Services.open(tmp_path, clock=lambda: now[0])
    services.users.add(ADMIN, "olga", "correct horse", "operator")
    for _ in range(5):
        refused("auth.failed", services.users.login, "olga", "wrong", "10.0.0.1")
    error = refused("auth.too-many", services.users.login, "olga", "correct horse", "10.0.0.1")
    assert error.fields["seconds"] >= 1
    services.users.login("olga", "correct horse", "10.0.0.2")      # not locked out elsewhere
    now[0] += 300
    services.users.login("olga", "correct horse", "10.0.0.1")
    for i in range(10):                                             # one address, many names
        refused("auth.failed", services.users.login, f"nobody{i}", "wrong", "10.0.0.3")
    refused("auth.too-many", services.users.login, "nobody99", "wrong", "10.0.0.3")
    services.close()


def test_parallel_guesses_do_not_slip_through(tmp_path: Path) -> None:
    services = Services.open(tmp_path)
    services.users.add(ADMIN, "olga", "correct horse", "operator")
    codes: list[str] = []

    def guess(i: int) -> None:
        try:
            services.users.login("olga", f"wrong{i}", "10.0.0.1")
        except HotspareError as error:
            codes.append(error.code)

    threads = [threading.Thread(target=guess, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes.count("auth.failed") <= 6
    services.close()


def test_a_task_is_plain_data(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    task = here.player.begun[-1]
    assert isinstance(task, Task) and task.rule is not None
    assert task.rule.temp_dir == str(here.folder / "temp")
    assert task.rule.replica_name == "web0"
