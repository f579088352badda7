"""Tests of restore points in services, API and command line: how one begins, what it left, and who
may see it."""

from __future__ import annotations

import base64
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from hotspare.domain.errors import Fenced, GiveUp, HotspareError
from hotspare.domain.proof import LARGEST_SCREENSHOT, Checklist
from hotspare.services.tests import KEPT, begin
from hotspare.store import schema
from unit.fleet_rig import fleet
from unit.service_rig import ADMIN, OPERATOR, PNG, VIEWER, Rig, prepared, rig, served, wait_until
from unit.test_cli import Cli
from unit.test_remote_link import rule_of


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("template"))


@pytest.fixture
def here(tmp_path: Path, template: Path) -> Iterator[Rig]:
    shutil.copytree(template, tmp_path / "state")
    with rig(tmp_path / "state") as made:
        yield made


def refused(code: str, call: Any, *args: Any) -> HotspareError:
    with pytest.raises(HotspareError) as caught:
        call(*args)
    assert caught.value.code == code, str(caught.value)
    return caught.value


def rehearsed(here: Rig, rule: str, point: int | None = None) -> Any:
    return here.ended(here.services.tests.start(OPERATOR, rule, Checklist(), point))


def test_a_verdict_stays_with_its_point(here: Rig) -> None:
    rule = here.rule()
    start = here.services.tests.start
    refused("rule.no-point", start, OPERATOR, rule, Checklist())
    here.run(rule)
    here.run(rule)
    before = here.services.rules.get(VIEWER, rule)
    refused("rule.no-such-point", start, OPERATOR, rule, Checklist(), 3)
    refused("auth.role", start, VIEWER, rule, Checklist())
    task = rehearsed(here, rule)
    assert (task.kind, task.outcome, task.point, task.trigger) == ("test", "ok", 2, "manual")
    view = here.services.rules.get(VIEWER, rule)
    assert (view.state, view.last_task, view.side_tasks) == (before.state, before.last_task, {})
    here.player.fail["test"] = GiveUp("test.failed", point=1, rule="r1", reason="test.no-heartbeat")
    task = rehearsed(here, rule, 1)
    assert (task.outcome, task.error["code"]) == ("failed", "test.failed")
    assert "agent did not answer" in task.error["message"]
    older, newer = (next(p for p in here.services.rules.points(VIEWER, rule).items
                         if p.number == n) for n in (1, 2))
    assert (older.verdict, newer.verdict) == ("failed", "passed")
    assert newer.tested_at is not None and older.test is not None
    page = here.services.tests.list(VIEWER, rule, limit=1)
    assert [t.id for t in page.items] == [older.test] and page.next is not None
    [second] = here.services.tests.list(VIEWER, rule, cursor=page.next).items
    assert (second.id, second.verdict, second.checks[0].message) == (
        newer.test, "passed", "The guest's agent answered.")
    assert here.services.tests.screenshot(VIEWER, second.id) == PNG
    refused("test.not-found", here.services.tests.screenshot, VIEWER, 999)
    refused("test.address", start, OPERATOR, rule, Checklist(ping=True, address="10.0.0.1/31"))

    del here.player.fail["test"]
    rehearsed(here, rule, 1)
    assert here.services.rules.points(VIEWER, rule).items[1].verdict == "passed", "the last one's"


def test_they_go_with_their_point(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.run(rule)
    for _ in range(KEPT + 2):
        rehearsed(here, rule, 1)
    [last] = [rehearsed(here, rule, 2).id]
    kept = here.services.tests.list(VIEWER, rule, limit=100).items
    assert [t.point for t in kept] == [2] + KEPT * [1]
    assert kept[1].task == last - 1, "the newest ones stay"
    del here.player.points[rule][0]             # merged
    here.run(rule)
    assert [t.task for t in here.services.tests.list(VIEWER, rule).items] == [last]
    here.ended(here.services.rules.delete(OPERATOR, rule, True))
    with here.services.context.read() as conn:
        assert conn.execute(sa.select(schema.proof)).all() == []


def test_a_test_runs_beside_the_rules_other_tasks(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.player.hold.set()
    task = here.services.tests.start(OPERATOR, rule, Checklist())
    wait_until(lambda: here.services.tasks.get(VIEWER, task).state == "running")
    view = here.services.rules.get(VIEWER, rule)
    assert view.side_tasks == {"test": task}
    assert {"start", "failover"} <= set(view.operations)
    assert not {"test", "delete", "permanent"} & set(view.operations)
    refused("rule.busy", here.services.tests.start, OPERATOR, rule, Checklist())
    error = refused("rule.looked-at", here.services.rules.delete, OPERATOR, rule)
    assert f"hotspare task stop {task}" in str(error)
    here.ended(here.services.rules.failover(OPERATOR, rule, None))
    assert here.state(rule) == "temporary-failover"
    refused("auth.role", here.services.tasks.stop, VIEWER, task)
    here.services.tasks.stop(OPERATOR, task)
    assert here.ended(task).outcome == "stopped"
    assert here.services.tests.list(VIEWER, rule).items == []
    refused("task.not-stoppable", here.services.tasks.stop, OPERATOR, task)
    here.player.hold.clear()
    assert rehearsed(here, rule).outcome == "ok", "from a temporary failover"
    undo = here.services.rules.undo(OPERATOR, rule)
    refused("task.not-stoppable", here.services.tasks.stop, OPERATOR, undo)
    here.ended(undo)
    here.ended(here.services.rules.permanent(OPERATOR, rule, None, "web0"))
    here.settled(rule)
    refused("rule.in-permanent-failover", here.services.tests.start, OPERATOR, rule, Checklist())


def test_while_the_rule_is_deleted_or_its_machine_is_away(here: Rig) -> None:
    gone, away = here.rule("gone", "web0"), here.rule("away", "web1")
    for rule in (gone, away):
        here.run(rule)
    here.services.machines.watch()
    with here.services.context.change() as change:
        change.conn.execute(sa.update(schema.rule).where(schema.rule.c.id == away)
                            .values(state="invalid"))
    refused("rule.machine-down", here.services.tests.start, OPERATOR, away, Checklist())
    here.player.stop()
    here.services.rules.delete(OPERATOR, gone, True)
    refused("rule.busy", here.services.tests.start, OPERATOR, gone, Checklist())


def test_a_damaged_point_is_tested_only_by_its_number(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.run(rule)
    p = schema.restore_point
    with here.services.context.change() as change:
        change.conn.execute(sa.update(p).where(p.c.number == 2).values(damaged_at=1.0))
    assert rehearsed(here, rule).point == 1
    assert rehearsed(here, rule, 2).point == 2
    with here.services.context.change() as change:
        change.conn.execute(sa.update(p).values(damaged_at=1.0))
    refused("rule.all-damaged", here.services.tests.start, OPERATOR, rule, Checklist())


def test_another_service_begins_one(here: Rig) -> None:
    """As a schedule does: in a change of its own, with the reason when it cannot."""
    rule = here.rule()
    with here.services.context.change() as change:
        row = change.conn.execute(sa.select(schema.rule)).one()
        refused("rule.no-point", begin, change, row, ADMIN, "schedule")
    here.run(rule)
    with here.services.context.change() as change:
        row = change.conn.execute(sa.select(schema.rule)).one()
        task = begin(change, row, ADMIN, "schedule")
    assert here.ended(task).trigger == "schedule"


@pytest.mark.parametrize("spoilt", [
    {"verdict": "fine"}, {"checks": [{"name": "x"}]}, {"checks": 65 * [None]},
    {"screenshot": "%%%"}, {"screenshot": base64.b64encode(b"GIF89a").decode()},
    {"screenshot": base64.b64encode(PNG + bytes(LARGEST_SCREENSHOT)).decode()}])
def test_a_report_that_is_no_proof_is_refused(here: Rig, spoilt: dict[str, Any]) -> None:
    rule = here.rule()
    here.run(rule)
    here.player.hold.set()
    ident = here.services.tests.start(OPERATOR, rule, Checklist())
    wait_until(lambda: here.services.tasks.get(VIEWER, ident).state == "running")
    task = next(t for t in here.player.begun if t.id == ident)
    good: dict[str, Any] = {"verdict": "passed", "checks": [], "screenshot": None}
    with pytest.raises(ValueError):
        here.link._report("proof", task, good | spoilt)
    assert here.services.tests.list(VIEWER, rule).items == []
    here.link._report("proof", task, good)
    here.link._report("proof", task, good | {"verdict": "failed"})
    assert [t.verdict for t in here.services.tests.list(VIEWER, rule).items] == ["passed"]
    here.player.hold.clear()
    here.ended(ident)


def test_a_proof_of_a_point_that_is_gone_is_dropped(here: Rig) -> None:
    rule = here.rule()
    here.run(rule)
    here.player.hold.set()
    ident = here.services.tests.start(OPERATOR, rule, Checklist())
    wait_until(lambda: here.services.tasks.get(VIEWER, ident).state == "running")
    with here.services.context.change() as change:
        change.conn.execute(sa.delete(schema.restore_point))
    here.player.hold.clear()
    assert here.ended(ident).outcome == "ok"
    assert here.services.tests.list(VIEWER, rule).items == []


def test_a_failed_one_is_notified(here: Rig) -> None:
    here.services.notifications.add(ADMIN, name="ops", url="json://127.0.0.1:1",
                                    events=["rule.test-failed"])
    rule = here.rule()
    here.run(rule)
    here.player.fail["test"] = GiveUp("test.failed", point=1, rule="r1", reason="test.screen-blank")
    rehearsed(here, rule)
    with here.services.context.read() as conn:
        [waiting] = conn.execute(sa.select(schema.delivery)).all()
    assert (waiting.event, waiting.fields["point"]) == ("rule.test-failed", 1)
    assert waiting.fields["cause"]["code"] == "test.failed"


def test_a_rule_that_moves_ends_its_test(here: Rig) -> None:
    here.services.link("m2", here.folder / "temp2")
    rule = here.rule()
    here.run(rule)
    here.player.hold.set()
    task = here.services.tests.start(OPERATOR, rule, Checklist())
    wait_until(lambda: here.services.tasks.get(VIEWER, task).state == "running")
    begun = next(t for t in here.player.begun if t.id == task)
    here.services.moves.rule(ADMIN, rule, "m2")
    assert here.services.tasks.get(VIEWER, task).outcome == "stopped"
    assert here.link.task(begun.id) is None, "which is what a sweep asks"
    wait_until(lambda: here.player.errors)
    assert [type(e) for e in here.player.errors] == [Fenced]
    here.player.errors.clear()


def test_at_the_command_line(tmp_path: Path, here: Rig) -> None:
    with served(here) as server:
        token = here.services.users.local_token()
        cli = Cli(tmp_path, {"HOTSPARE_SERVER": server.url, "HOTSPARE_CA": str(server.ca),
                             "HOTSPARE_TOKEN": token})
        here.run(here.rule("web"))
        assert "hotspare test start web" in cli("test", "list", "web").stdout
        done = cli.json("test", "start", "web", "--point", "1", "--check", "heartbeat", "--check",
                        "text=login: ", "--check", "tcp=22", "--check", "tcp=443", "--address",
                        "192.0.2.7/24", "--boot", "2m", "--wait")
        with here.services.context.read() as conn:
            asked = conn.execute(sa.select(schema.task.c.arguments).where(
                schema.task.c.id == done["id"])).scalar_one()
        assert asked == {"heartbeat": True, "screen": False, "text": "login: ", "ping": False,
                         "ports": [22, 443], "address": "192.0.2.7/24", "boot_s": 120.0}
        [found] = cli.json("test", "list", "web")
        shown = cli("test", "show", str(found["id"])).stdout
        assert "The guest's agent answered." in shown and "passed" in shown
        assert "passed" in cli("point", "list", "web").stdout
        assert "heartbeat passed" in cli("test", "list", "web").stdout
        cli("test", "screenshot", str(found["id"]), "-o", str(tmp_path / "x.png"))
        assert (tmp_path / "x.png").read_bytes() == PNG
        wrong = cli("test", "start", "web", "--check", "smell", code=2)
        assert "text=TEXT" in wrong.stderr
        here.player.fail["test"] = GiveUp("test.failed", point=1, rule="web",
                                          reason="test.no-heartbeat")
        failed = cli.json("test", "start", "web", "--wait", code=1)
        assert failed["error"]["code"] == "test.failed"
        missing = cli.json("test", "show", "999", code=3)
        assert missing["error"]["code"] == "test.not-found"
        with httpx.Client(base_url=server.url, verify=ssl.create_default_context(
                cafile=str(server.ca))) as http:
            path = f"/api/v1/tests/{found['id']}/screenshot"
            assert http.get(path).status_code == 401
            answer = http.get(path, headers={"Authorization": f"Bearer {token}"})
            assert (answer.headers["content-type"], answer.content) == ("image/png", PNG)


def test_a_proof_comes_over_the_fleets_link(tmp_path: Path) -> None:
    """With a screenshot as large as it may be."""
    with fleet(tmp_path) as made:
        worker = made.worker("m1")
        rule = rule_of(made, "m1")
        made.rig.run(rule)
        worker.player.png = PNG + bytes(LARGEST_SCREENSHOT - len(PNG))
        made.rig.ended(made.services.tests.start(OPERATOR, rule, Checklist()))
        [test] = made.services.tests.list(VIEWER, rule).items
        assert (test.verdict, test.screenshot) == ("passed", True)
        assert made.services.tests.screenshot(VIEWER, test.id) == worker.player.png
