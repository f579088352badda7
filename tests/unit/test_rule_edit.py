"""Editing rules and platforms: what changes, when, and what is refused."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotspare.domain.errors import HotspareError, Retry
from hotspare.platforms.port import ConnectionReport
from hotspare.services import Services
from hotspare.services.views import RuleView
from hotspare.store import schema
from unit.service_rig import ADMIN, OPERATOR, VIEWER, Rig, prepared, rig, wait_until


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("template"))


@pytest.fixture
def here(tmp_path: Path, template: Path) -> Iterator[Rig]:
    shutil.copytree(template, tmp_path / "state")
    with rig(tmp_path / "state") as made:
        yield made


def edit(here: Rig, rule: str, revision: int | None = None, **changes: Any) -> RuleView:
    return here.services.rules.edit(OPERATOR, rule, changes, revision)


def refused(code: str, call: Any, *args: Any, **named: Any) -> HotspareError:
    with pytest.raises(HotspareError) as caught:
        call(*args, **named)
    assert caught.value.code == code, str(caught.value)
    return caught.value


# --- rules ---------------------------------------------------------------------------------------


def test_an_edit_keeps_the_points_and_holds_from_the_next_run(here: Rig) -> None:
    rule = here.rule(retention=3)
    here.run(rule)
    week = [1, 2, 3, 4, 5, 6, 7]
    view = edit(here, rule, name="renamed", retention=9, quiesce="off", fast_transfer=False,
                delete_replica=True, temp_dir="/var/tmp", rpo_s=7200, networks={"a": "lan"},
                time_zone="Asia/Shanghai", schedule={"kind": "interval", "every_s": 3600},
                bandwidth=[{"days": week, "start": 0, "end": 1440, "limit": 5}])
    assert (view.name, view.points, view.latest_point, view.revision) == ("renamed", 1, 1, 2)
    assert view.schedule is not None and view.schedule.every_s == 3600
    assert here.services.rules.get(VIEWER, "renamed").bandwidth[0].limit == 5
    here.run("renamed")
    task = here.player.begun[-1]
    assert task.rule is not None
    assert (task.rule.name, task.rule.retention, task.rule.quiesce, task.rule.temp_dir,
            task.rule.networks) == ("renamed", 9, "off", "/var/tmp", {"a": "lan"})
    assert here.services.rules.get(VIEWER, rule).points == 2
    [audit] = [a for a in here.services.users.audit(ADMIN).items if a.action == "rule.edit"]
    assert audit.detail["retention"] == [3, 9]
    assert "rule.edited-by" in [line.code for line in
                                here.services.logs.page(VIEWER, rule=rule).items]


def test_a_running_task_goes_on_with_what_it_began_with(here: Rig) -> None:
    rule = here.rule(retention=3)
    here.player.hold.set()
    number = here.services.rules.start(OPERATOR, rule)
    wait_until(lambda: here.state(rule) == "running")
    task = here.link.task(number)
    assert task is not None and task.rule is not None
    edit(here, rule, retention=5, quiesce="off",
         bandwidth=[{"days": [1, 2, 3, 4, 5, 6, 7], "start": 0, "end": 1440, "limit": 77}])
    again = here.link.task(number)
    assert again is not None and again.rule == task.rule
    assert here.link.limits(task).bandwidth.limit_at(0.0) == 77         # at once
    here.player.hold.clear()
    assert here.ended(number).outcome == "ok"


def test_a_queued_task_begins_with_the_new_settings(here: Rig) -> None:
    here.services.machines.set(ADMIN, "local", max_tasks=1)
    first, second = here.rule("first"), here.rule("second", "web1", retention=3)
    here.player.hold.set()
    running = here.services.rules.start(OPERATOR, first)
    queued = here.services.rules.start(OPERATOR, second)
    assert here.state(second) == "queued"
    edit(here, second, retention=5, quiesce="off", temp_dir="/var/tmp")
    here.player.hold.clear()
    here.ended(running)
    here.ended(queued)
    [task] = [t for t in here.player.begun if t.id == queued]
    assert task.rule is not None
    assert (task.rule.retention, task.rule.quiesce, task.rule.temp_dir) == (5, "off", "/var/tmp")


def test_a_renamed_machine_is_the_same(here: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rule = here.rule()
    here.run(rule)
    report = here.player.report

    def renamed(task: Any) -> dict[str, Any]:
        found = report(task)
        for vm in found["vms"]:
            if vm.ref == "uuid-0":
                found["vms"].remove(vm)
                return found | {"vms": [*found["vms"], replace(vm, name="www")]}
        return found

    monkeypatch.setattr(here.player, "report", renamed)
    here.ended(here.services.platforms.refresh(OPERATOR, "src"))
    view = here.services.rules.get(VIEWER, rule)
    assert (view.vm, view.vm_name, view.replica_name) == ("uuid-0", "www", "web0")
    [shown] = [v for v in here.services.platforms.vms(VIEWER, "src").items if v.name == "www"]
    assert shown.rule == "r1"
    assert here.run(rule).outcome == "ok"
    edit(here, rule, vm="www", retention=4)             # no change of the machine


@pytest.mark.parametrize("changes", [
    {"vm": "web1"}, {"source": "dst"}, {"target": "src"}, {"storage": "lvm"},
    {"replica_name": "other"}, {"host": "x"}])
def test_the_place_is_fixed_by_the_first_run(here: Rig, changes: dict[str, Any]) -> None:
    rule = here.rule()
    here.run(rule)
    error = refused("rule.placed", edit, here, rule, **changes)
    assert error.fields["fields"] == next(iter(changes))
    assert here.services.rules.get(VIEWER, rule).revision == 1
    for vm in ("uuid-0", "web0"):                   # named again, not changed
        edit(here, rule, source="SRC", target="dst", vm=vm, storage="default", retention=4)


def test_before_the_first_run_everything_can_change(here: Rig) -> None:
    rule = here.rule()
    here.rule("other", "web1")
    assert refused("rule.duplicate", edit, here, rule, vm="web1").fields["rule"] == "other"
    view = edit(here, rule, vm="web2", replica_name="spare")
    assert (view.vm_name, view.replica_name) == ("web2", "spare")
    assert here.services.platforms.vms(VIEWER, "src").items[1].rule is None     # web0 is free
    assert refused("storage.unusable", edit, here, rule, storage="lvm").fields["field"] == "storage"


def test_faults_of_an_edit_are_told_by_field_and_change_nothing(here: Rig) -> None:
    rule = here.rule()
    here.rule("other", "web1")
    before = here.services.rules.get(VIEWER, rule)
    error = refused("rule.fields", edit, here, rule, name="OTHER", retention=101,
                    time_zone="Mars", networks={"a": "zzz"}, temp_dir="x", lan_free=True)
    assert {"name", "retention", "time_zone", "networks", "temp_dir", "lan_free"} <= set(
        error.fields)
    assert here.services.rules.get(VIEWER, rule) == before
    refused("auth.role", here.services.rules.edit, VIEWER, rule, {"retention": 3})


def test_what_vanished_does_not_stand_in_the_way_of_other_edits(here: Rig) -> None:
    rule = here.rule(networks={"default": "lan"})
    with here.services.context.change() as change:
        change.conn.execute(sa.update(schema.platform).values(places=[]))
        change.conn.execute(sa.delete(schema.platform_vm))
    assert edit(here, rule, retention=9).retention == 9
    refused("network.unknown", edit, here, rule, networks={"default": "wan"})


def test_two_operators_do_not_overwrite_each_other(here: Rig) -> None:
    rule = here.rule()
    assert edit(here, rule, 1, retention=5).revision == 2
    assert refused("rule.edited", edit, here, rule, 1, retention=6).fields["revision"] == 2
    assert edit(here, rule, 2, retention=5).revision == 2           # nothing to do
    results: list[str] = []
    gate = threading.Barrier(4)
    others = [Services.open(here.folder) for _ in range(2)]

    def change(services: Services, retention: int) -> None:
        gate.wait()
        try:
            services.rules.edit(OPERATOR, rule, {"retention": retention}, 2)
            results.append("done")
        except HotspareError as error:
            results.append(error.code)

    threads = [threading.Thread(target=change, args=(s, n)) for n, s in enumerate(
        [here.services, here.services, *others], 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    assert sorted(results) == ["done", *["rule.edited"] * 3]


def test_a_new_schedule_acts_at_once(tmp_path: Path, template: Path) -> None:
    shutil.copytree(template, tmp_path / "state")
    now = 1_800_000_000.0
    with rig(tmp_path / "state") as here:
        here.services.context.clock = lambda: now
        rule = here.rule(interval_s=3600)
        here.run(rule)
        assert here.services.rules.get(VIEWER, rule).next_run_at == now + 3600
        started, now = now, now + 600
        view = edit(here, rule, schedule={"kind": "interval", "every_s": 900})
        assert view.next_run_at == started + 900            # from the last start
        now += 1200
        view = edit(here, rule, schedule={"kind": "interval", "every_s": 1000})
        assert view.next_run_at == started + 2000           # missed ones are not made up for
        view = edit(here, rule, schedule={"kind": "daily", "at": "02:30"}, time_zone="UTC")
        assert view.next_run_at is not None and view.next_run_at % 86400 == 2.5 * 3600
        assert view.state == "idle"

        view = edit(here, rule, schedule=None)              # a one-off rule
        assert (view.state, view.enabled, view.next_run_at) == ("stopped", False, None)
        here.run(rule)
        assert here.state(rule) == "finished"
        view = edit(here, rule, schedule={"kind": "interval", "every_s": 900})
        assert (view.state, view.enabled, view.next_run_at) == ("stopped", False, None)


def test_a_one_off_rule_that_runs_becomes_periodic(here: Rig) -> None:
    rule = here.rule()
    here.player.hold.set()
    task = here.services.rules.start(OPERATOR, rule)
    wait_until(lambda: here.state(rule) == "running")
    view = edit(here, rule, schedule={"kind": "interval", "every_s": 900})
    assert view.enabled and view.next_run_at is not None
    here.player.hold.clear()
    here.ended(task)
    assert here.state(rule) == "idle"


def test_a_stopped_run_is_not_started_again_by_an_edit(here: Rig) -> None:
    rule = here.rule(interval_s=3600)
    here.player.hold.set()
    task = here.services.rules.start(OPERATOR, rule)
    wait_until(lambda: here.state(rule) == "running")
    here.services.rules.stop(OPERATOR, rule)
    view = edit(here, rule, schedule={"kind": "interval", "every_s": 900})
    assert not view.enabled
    here.ended(task)
    here.player.hold.clear()
    assert here.state(rule) == "stopped"


def test_a_rule_that_is_deleted_is_not_edited(here: Rig) -> None:
    rule = here.rule()
    here.player.stop()
    here.services.rules.delete(OPERATOR, rule)
    refused("rule.busy", edit, here, rule, retention=5)


# --- platforms -----------------------------------------------------------------------------------


def change(here: Rig, platform: str, **given: Any) -> Any:
    return here.services.platforms.edit(ADMIN, platform, given)


def test_a_changed_password_is_used_by_what_connects_later(here: Rig) -> None:
    platform = here.services.platforms.get(VIEWER, "src").id
    rule = here.rule()
    here.player.hold.set()
    here.services.rules.start(OPERATOR, rule)
    wait_until(lambda: here.state(rule) == "running")
    assert here.link.access(platform).secret is None
    view = change(here, "src", secret="CANARY-new")
    assert view.has_secret and view.state == "unchecked"
    here.ended(view.task)
    assert here.link.access(platform).secret == "CANARY-new"
    assert here.services.platforms.get(VIEWER, "src").state == "ok"
    here.ended(change(here, "src", secret=None, name="source").task)
    assert here.link.access(platform).secret is None
    assert here.services.rules.get(VIEWER, "r1").source_name == "source"
    [first, *_] = [a for a in here.services.users.audit(ADMIN).items if a.action == "platform.edit"]
    assert "CANARY" not in repr(first.detail)
    refused("auth.role", here.services.platforms.edit, OPERATOR, "dst", {"name": "x"})
    refused("platform.exists", change, here, "dst", name="SOURCE")
    refused("platform.address", change, here, "dst", uri="qemu+ssh://h/system?command=x")


def test_a_new_address_of_the_same_host_is_the_same_platform(
        here: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rig's hosts are known by their address: here both names are one host."""
    rule = here.rule()
    here.run(rule)
    report = here.player.report
    monkeypatch.setattr(here.player, "report", lambda task: report(task) | {
        "connection": ConnectionReport(True, "QEMU", "qemu+ssh://source/system", ())})
    view = change(here, "src", uri="qemu+ssh://renamed/system")
    here.ended(view.task)
    view = here.services.platforms.get(VIEWER, "src")
    assert (view.uri, view.state, view.host_id) == (
        "qemu+ssh://renamed/system", "ok", "qemu+ssh://source/system")
    assert here.run(rule).outcome == "ok"
    assert here.services.rules.get(VIEWER, rule).points == 2


def test_a_failover_reaches_its_target_while_the_way_to_the_source_is_not_known(
        here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    src, dst = (here.services.platforms.get(VIEWER, name).id for name in ("src", "dst"))
    here.ended(change(here, "src", uri="qemu+ssh://elsewhere/system").task)
    here.player.stop()
    task = here.services.rules.failover(OPERATOR, rule, None)
    secrets = here.link.secrets(task)
    assert secrets.platforms.keys() == {dst} and secrets.refused.keys() == {src}
    assert secrets.refused[src]["code"] == "platform.unverified"
    with pytest.raises(Retry) as caught:
        here.link.access(src)
    assert caught.value.as_dict() == secrets.refused[src]


def test_an_address_that_leads_elsewhere_is_not_used_by_its_rules(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.ended(change(here, "src", uri="qemu+ssh://elsewhere/system").task)
    view = here.services.platforms.get(VIEWER, "src")
    assert view.state == "failed" and view.error is not None
    assert (view.error["code"], view.host_id) == ("platform.other-host",
                                                  "qemu+ssh://source/system")
    here.services.rules.start(OPERATOR, rule)
    waits = here.services.rules.get(VIEWER, rule).waits_for
    assert waits is not None and waits["code"] == "queue.platform-unverified"
    assert "src" in waits["message"]
    here.ended(change(here, "src", uri="qemu+ssh://source/system").task)
    wait_until(lambda: here.services.rules.get(VIEWER, rule).points == 2)

    # the same host, installed anew: an administrator says so
    here.ended(change(here, "src", uri="qemu+ssh://elsewhere/system", accept_host=True).task)
    view = here.services.platforms.get(VIEWER, "src")
    assert (view.state, view.host_id) == ("ok", "qemu+ssh://elsewhere/system")
    assert here.run(rule).outcome == "ok"
    with here.services.context.read() as conn:
        assert conn.execute(sa.select(schema.rule.c.vm_key)).scalar_one() == (
            "qemu+ssh://elsewhere/system/uuid-0")


def test_an_address_is_not_changed_under_a_run(here: Rig) -> None:
    rule = here.rule()
    here.player.hold.set()
    task = here.services.rules.start(OPERATOR, rule)
    wait_until(lambda: here.state(rule) == "running")
    error = refused("platform.address-in-use", change, here, "dst", uri="qemu+ssh://x/system")
    assert error.fields["task"] == task
    here.ended(change(here, "dst", secret="new").task)      # a password may
    here.player.hold.clear()
    assert here.ended(task).outcome == "ok"


def test_without_rules_a_platform_may_become_another_host(here: Rig) -> None:
    here.ended(change(here, "dst", uri="qemu+ssh://target2/system").task)
    view = here.services.platforms.get(VIEWER, "dst")
    assert (view.state, view.host_id) == ("ok", "qemu+ssh://target2/system")
