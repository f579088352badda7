"""Groups of rules, and what is done with several rules at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hotspare.domain.errors import GiveUp, HotspareError, Refused
from hotspare.domain.schedule import Schedule
from hotspare.services import NewRule, queue
from hotspare.services.context import Change
from hotspare.store import schema
from unit.service_rig import ADMIN, OPERATOR, VIEWER, Rig, prepared, rig


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("template"))


@pytest.fixture
def here(tmp_path: Path, template: Path) -> Iterator[Rig]:
    shutil.copytree(template, tmp_path / "state")
    with rig(tmp_path / "state") as made:
        yield made


def create(here: Rig, name: str = "all", vms: list[str] | None = None, **more: Any) -> Any:
    return here.services.groups.create(
        OPERATOR, name, vms or ["web0", "uuid-1", "web2"],
        NewRule(name, "src", "", "dst", more.pop("storage", "default"), **more))


def names(here: Rig, **wanted: Any) -> list[str]:
    return [r.name for r in here.services.rules.list(VIEWER, **wanted).items]


def test_one_rule_for_each_machine_with_the_same_settings(here: Rig) -> None:
    made = create(here, retention=5, schedule=Schedule("interval", 900),
                  networks={"default": "lan"})
    assert (made.name, made.rules, made.states, made.differing) == (
        "all", 3, {"stopped": 3}, [])
    assert (made.settings["retention"], made.settings["networks"]) == (5, {"default": "lan"})
    assert names(here, group="ALL") == ["all-web0", "all-web1", "all-web2"]
    assert (made.source_name, made.target_name) == ("src", "dst")
    view = here.services.rules.get(VIEWER, "all-web1")
    assert (view.group, view.group_name, view.vm_name, view.replica_name) == (
        made.id, "all", "web1", "web1")
    here.services.rules.edit(OPERATOR, "all-web1", {"retention": 6})
    shown = here.services.groups.get(VIEWER, "all")
    assert shown.differing == ["retention"] and "retention" not in shown.settings
    assert [g.name for g in here.services.groups.list(VIEWER).items] == ["all"]


def test_all_or_nothing_with_each_fault_at_its_machine(here: Rig) -> None:
    here.rule("first", "web1")
    with pytest.raises(HotspareError) as caught:
        create(here, "all", ["web0", "web1", "nobody", "transient"], storage="zzz")
    assert caught.value.code == "rule.fields"
    assert {"vms.web1", "vms.nobody", "vms.transient", "storage"} <= set(caught.value.fields)
    assert "first" in caught.value.fields["vms.web1"]
    assert "vms.web0" not in caught.value.fields
    assert names(here) == ["first"]
    assert here.services.groups.list(VIEWER).items == []
    for same in ("web0", "uuid-0"):
        with pytest.raises(HotspareError) as caught:
            create(here, "all", ["web0", same])
        assert (caught.value.code, caught.value.fields["field"]) == ("group.twice", f"vms.{same}")
    assert names(here) == ["first"]
    create(here, "all", ["web0", "web2"])
    with pytest.raises(HotspareError) as caught:
        create(here, "ALL", ["web1"])
    assert caught.value.code == "group.exists"


def test_a_machines_name_that_no_rule_may_have_is_made_fit(here: Rig) -> None:
    with here.services.context.change() as change:
        change.conn.execute(sa.update(schema.platform_vm).where(
            schema.platform_vm.c.ref == "uuid-0").values(name="a/b:c" + "x" * 80))
    create(here, "g", ["uuid-0"])
    assert names(here) == ["g-a_b_c" + "x" * 57]


def test_machines_that_share_a_name_get_rules_of_different_names(here: Rig) -> None:
    with here.services.context.change() as change:
        change.conn.execute(sa.update(schema.platform_vm).values(name="web" + "x" * 80))
        change.conn.execute(sa.update(schema.platform_vm).where(
            schema.platform_vm.c.ref == "uuid-2").values(name="WEB" + "x" * 80))
    with pytest.raises(HotspareError) as caught:
        create(here, "g", ["web" + "x" * 80, "uuid-2"])
    assert caught.value.code == "vm.ambiguous"
    with pytest.raises(HotspareError) as caught:    # their replicas would share it too
        create(here, "g", ["uuid-0", "uuid-1"])
    assert caught.value.code == "rule.replica-name-taken"
    create(here, "g", ["uuid-0", "uuid-2"])
    assert sorted(names(here)) == ["g-WEB" + "x" * 54 + "-2", "g-web" + "x" * 59]


def test_a_start_that_fails_half_way_keeps_no_other_from_it(
        here: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    create(here)
    enqueue, bad = queue.enqueue, here.services.rules.get(VIEWER, "all-web1").id

    def failing(change: Change, *args: Any, **values: Any) -> int:
        task = enqueue(change, *args, **values)
        if values["rule"] == bad:
            raise Refused("rule.busy", kind="replicate")
        return task

    monkeypatch.setattr(queue, "enqueue", failing)
    done = here.services.rules.act(OPERATOR, "start", ["all-web0", "all-web1", "all-web2"])
    assert [d.ok for d in done] == [True, False, True]
    assert here.services.rules.get(VIEWER, bad).live_task is None
    for action in done[::2]:
        here.ended(action.task)
    assert {r.name: r.last_result for r in here.services.rules.list(VIEWER).items} == {
        "all-web0": "ok", "all-web1": None, "all-web2": "ok"}


def test_actions_on_a_group_and_on_a_selection(here: Rig) -> None:
    create(here, schedule=Schedule("interval", 900))
    rules = here.services.rules
    members = here.services.groups.members(OPERATOR, "all")
    assert len(members) == 3
    done = rules.act(OPERATOR, "start", members)
    assert all(d.ok for d in done)
    for action in done:
        here.ended(action.task)
    assert {r.state for r in rules.list(VIEWER, group="all").items} == {"idle"}
    twice = rules.get(VIEWER, "all-web0").id        # in one change: the second is refused
    done = rules.act(OPERATOR, "start", ["all-web0", "none", twice, "all-web1"])
    assert [d.error and d.error["code"] for d in done] == [
        None, "rule.not-found", "rule.busy", None]
    here.ended(done[0].task)
    here.ended(done[3].task)
    done = rules.act(OPERATOR, "stop", ["all-web0", "none", "all-web1"])
    assert [d.ok for d in done] == [True, False, True]
    assert done[1].error is not None and done[1].error["code"] == "rule.not-found"
    states = here.services.groups.get(VIEWER, "all").states
    assert states == {"stopped": 2, "idle": 1}

    here.player.fail["remove"] = GiveUp("vm.unknown", vm="x", platform="y")
    [failed] = rules.act(OPERATOR, "delete", ["all-web2"])
    here.ended(failed.task)
    del here.player.fail["remove"]
    assert names(here, group="all") == ["all-web0", "all-web1", "all-web2"]
    for action in rules.act(OPERATOR, "delete", members, delete_replica=True):
        here.ended(action.task)
        assert here.player.begun[-1].arguments["delete_replica"] is True
    assert names(here) == []
    with pytest.raises(HotspareError) as caught:            # it went with its last rule
        here.services.groups.get(VIEWER, "all")
    assert caught.value.code == "group.not-found"
    assert create(here).rules == 3                          # and its name is free
    with pytest.raises(HotspareError) as caught:
        rules.act(VIEWER, "start", members)
    assert caught.value.code == "auth.role"


def test_rules_join_and_leave_a_group(here: Rig) -> None:
    made = create(here, "g", ["web0"])
    here.rule("more", "web1", group="g")
    assert here.services.groups.get(VIEWER, made.id).rules == 2
    here.services.rules.edit(OPERATOR, "more", {"group": None})
    assert here.services.rules.get(VIEWER, "more").group is None
    here.services.rules.edit(OPERATOR, "more", {"group": "G"})
    assert names(here, group=made.id) == ["g-web0", "more"]
    assert "group.create" in [a.action for a in here.services.users.audit(ADMIN).items]
