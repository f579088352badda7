"""Test failover: a copy of a restore point boots apart from everything, while replication goes on;
it is looked at, and nothing of it stays. The hosts here cannot make networks: the cables are out
(tests/e2e/test_isolated.py has a real isolated network)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hotspare.domain.picture import Picture, read

from .rig import Rig, Server, hotspare, remove_replicas, wait_for

if TYPE_CHECKING:
    from testbeds.kvm import Guest, Lab


def states(test: dict[str, Any]) -> dict[str, str]:
    return {c["name"]: c["state"] for c in test["checks"]}


def shown(rig: Rig, test: int, keep: Path) -> Picture:
    """What the screenshot of a test shows, which is also left where ``HOTSPARE_SCREENS`` says."""
    assert hotspare(rig.server, "test", "screenshot", str(test), "-o", str(keep)).exit == 0
    if folder := os.environ.get("HOTSPARE_SCREENS"):
        Path(folder, f"{rig.guest.name}-{test}.png").write_bytes(keep.read_bytes())
    return read(keep.read_bytes())


@pytest.mark.timeout(400)
@pytest.mark.parametrize("firmware", [
    pytest.param("bios", marks=pytest.mark.soak), "uefi"])
def test_a_copy_boots_while_replication_goes_on(rig_factory: Callable[..., Rig], tmp_path: Path,
                                                firmware: str) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(fault=f"test.after-start:touch={gate}", firmware=firmware, rate=20.0)
    rig.protect(retention=2)
    rig.run()
    rig.run()
    before = rig.points()
    with rig.server.client() as client:
        task = client.start_test(rig.rule, {"point": 1})
        wait_for(gate.exists, 60, "the copy runs")
        assert client.rule(rig.rule)["side_tasks"] == {"test": task}
        refused = hotspare(rig.server, "test", "start", rig.rule, "--json")
        assert refused.json["error"]["code"] == "rule.busy"
        refused = hotspare(rig.server, "rule", "delete", rig.rule, "--yes", "--json")
        assert refused.json["error"]["code"] == "rule.looked-at"
        run = rig.run()                 # publishes; what the copy stands on is not merged
        assert run["figures"]["compared"] == 0
        assert rig.numbers() == [1, 2, 3]
        assert "retention.deferred" in {line["code"] for line in client.task_log(run["id"])}
        gate.unlink()
        ended = rig.ended(task, outcome="ok")
        assert (ended["kind"], ended["point"]) == ("test", 1)
        [test] = client.tests(rig.rule)
        point = next(p for p in client.points(rig.rule) if p["number"] == 1)
        assert client.rule(rig.rule)["last_task"] == run["id"], "the rule was not moved"
    assert (test["verdict"], test["task"], test["screenshot"]) == ("passed", task, True), test
    assert (point["verdict"], point["test"], point["tested_at"]) == (
        "passed", test["id"], test["at"])
    found = states(test)
    assert found["heartbeat"] == "passed" and found["network"] == "skipped", test
    picture = shown(rig, test["id"], tmp_path / "screen.png")
    assert picture.width >= 640 and picture.height >= 400
    assert rig.points() | before == rig.points(), "no point was altered"
    assert rig.leftovers() == []
    rig.run()
    assert len(rig.numbers()) == 2, "retention has caught up"
    assert rig.guest.running and not rig.guest.verified().bad


@pytest.mark.timeout(300)
def test_what_is_on_the_screen(rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    """Text is read from the screen; also while the rule stands in a failover, from another point;
    and what cannot be checked is said, and leaves the verdict open."""
    rig = rig_factory(rate=20.0)
    rig.protect()
    rig.run()
    rig.run()
    with rig.server.client() as client:
        rig.ended(client.failover(rig.rule, 2))
    done = hotspare(rig.server, "test", "start", rig.rule, "--point", "1", "--check",
                    "text=Hotspare test guest", "--check", "heartbeat", "--wait", "--json")
    assert done.exit == 0, done.err + rig.story()
    replica = rig.lab.guest(rig.lab.b, rig.guest.name)
    assert replica.running, "the failover is as it was"
    with rig.server.client() as client:
        [test] = client.tests(rig.rule)
        assert client.rule(rig.rule)["state"] == "temporary-failover"
        rig.ended(client.undo(rig.rule))
    assert (test["verdict"], states(test)["text"]) == ("passed", "passed"), test
    assert shown(rig, test["id"], tmp_path / "screen.png").width == 720

    missed = hotspare(rig.server, "test", "start", rig.rule, "--check", "text=Windows", "--boot",
                      "15s", "--wait", "--json")
    assert missed.json["error"]["code"] == "test.failed", missed.out
    far = hotspare(rig.server, "test", "start", rig.rule, "--check", "tcp=22", "--check",
                   "heartbeat", "--wait", "--json")
    assert (far.exit, far.json["outcome"]) == (0, "warning"), far.out
    with rig.server.client() as client:
        newest, second, *_ = client.tests(rig.rule)
    assert (second["verdict"], states(second)["text"]) == ("failed", "failed")
    assert (newest["verdict"], states(newest)["tcp-22"]) == ("unproven", "skipped")
    assert "Operation not permitted" in str(newest["checks"]), "the reason is told"
    told = hotspare(rig.server, "test", "show", str(newest["id"]))
    assert "Not checked" in told.out and "unproven" in told.out
    assert rig.leftovers() == []


@pytest.mark.timeout(300)
def test_a_copy_that_does_not_boot(rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    rig = rig_factory(rate=5.0)
    rig.protect()
    rig.run()
    assert rig.guest.exec("dd if=/dev/zero of=/dev/vda bs=512 count=1 conv=fsync,notrunc").rc == 0
    rig.run()
    failed = hotspare(rig.server, "test", "start", rig.rule, "--boot", "20s", "--wait", "--json")
    assert failed.json["error"]["code"] == "test.failed", failed.out + rig.story()
    assert failed.exit == 1
    with rig.server.client() as client:
        [test] = client.tests(rig.rule)
        assert [p["verdict"] for p in client.points(rig.rule)] == ["failed", None]
    assert test["verdict"] == "failed" and states(test)["heartbeat"] == "failed", test
    screen = next(c for c in test["checks"] if c["name"] == "screen")
    assert (screen["state"], screen["code"]) == ("failed", "test.screen-no-boot"), screen
    shown(rig, test["id"], tmp_path / "screen.png")
    assert rig.leftovers() == []
    older = hotspare(rig.server, "test", "start", rig.rule, "--point", "1", "--wait", "--json")
    assert older.json["outcome"] == "ok", older.out + rig.story()


@pytest.mark.timeout(300)
def test_without_an_agent_nothing_is_proven_unless_asked(
        lab: Lab, guest_factory: Callable[..., Guest], tmp_path: Path) -> None:
    lab.a.start()
    lab.b.start()
    guest = guest_factory(agent=False)          # off: it need not run for its copy to be tested
    rig = Rig(lab, Server(tmp_path).start(), guest)
    try:
        rig.protect()
        rig.run()
        for named, verdict, outcome in (((), "unproven", "warning"),
                                        (("--check", "screen"), "passed", "ok")):
            done = hotspare(rig.server, "test", "start", rig.rule, *named, "--boot", "25s",
                            "--wait", "--json")
            assert done.json["outcome"] == outcome, done.out + rig.story()
            with rig.server.client() as client:
                newest = client.tests(rig.rule)[0]
            assert (newest["verdict"], states(newest)["screen"]) == (verdict, "passed"), newest
        assert rig.leftovers() == []
    finally:
        rig.server.stop()
        remove_replicas(lab, [rig.rule_id])


@pytest.mark.timeout(300)
def test_a_test_is_stopped_at_once(rig_factory: Callable[..., Rig]) -> None:
    rig = rig_factory(boot="kernel", rate=5.0)
    rig.protect()
    rig.run()
    with rig.server.client() as client:
        task = client.start_test(rig.rule, {"text": "never"})
        wait_for(lambda: (client.task(task)["progress"] or {}).get("step") == "check", 60,
                 "the copy is looked at")
        began = time.monotonic()
        stopped = hotspare(rig.server, "task", "stop", str(task), "--json")
        assert stopped.json["outcome"] == "stopped", stopped.out
        assert time.monotonic() - began < 4, "with the start of the command and the removal"
        assert client.tests(rig.rule) == []
        refused = hotspare(rig.server, "task", "stop", str(task), "--json")
        assert refused.json["error"]["code"] == "task.not-stoppable"
    assert rig.leftovers() == []
