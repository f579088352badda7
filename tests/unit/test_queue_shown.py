"""What exceeds a limit, as an operator sees it: over REST, in the command line, and on the DR
machine itself (M23)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from typer.testing import CliRunner

from hotspare.cli.main import app
from hotspare.services.dispatcher import COUNTED, UNCOUNTED
from hotspare.worker import remote_link
from hotspare.worker.local_socket import LocalSocket
from hotspare.workflows.link import TaskKind
from unit.fleet_rig import fleet
from unit.service_rig import ADMIN, OPERATOR, wait_until


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, (words, done.stdout, done.stderr, done.exception)
    return done.stdout


def test_what_waits_is_shown_everywhere_with_its_place(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_link, "POLL_S", 0.5)
    for name in ("HOTSPARE_STATE_DIR", "XDG_CONFIG_HOME", "HOTSPARE_LANGUAGE", "LC_ALL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HOTSPARE_PASSWORD", "a long password")
    with fleet(tmp_path) as made:
        services, worker = made.services, made.worker("m1")
        services.users.add(ADMIN, "admin", "a long password", "administrator")
        run("login", "--server", made.served.url, "--ca", str(made.served.ca))
        run("machine", "set", "m1", "--max-tasks", "1")
        rules = [made.rig.rule(f"r{n}", f"web{n}", machine="m1") for n in range(3)]
        worker.player.hold.set()
        tasks = [services.rules.start(OPERATOR, rule) for rule in rules]
        wait_until(lambda: services.tasks.get(ADMIN, tasks[0]).state == "running")

        token = services.users.login("admin", "a long password", "test").token
        with httpx.Client(base_url=f"{made.served.url}/api/v1", trust_env=False,
                          verify=ssl.create_default_context(cafile=str(made.served.ca)),
                          headers={"Authorization": f"Bearer {token}"}) as rest:
            for place, rule, task in zip((1, 2), rules[1:], tasks[1:], strict=True):
                found = rest.get(f"/rules/{rule}").json()
                assert found["state"] == "queued"
                assert found["waits_for"]["code"] == "queue.machine-full"
                assert found["waits_for"]["fields"] == {
                    "machine": "m1", "limit": 1, "place": place}
                reason = rest.get(f"/tasks/{task}").json()["reason"]
                assert f"Place {place} in its queue" in reason["message"]
                chinese = rest.get(f"/tasks/{task}", headers={"Accept-Language": "zh-CN"}).json()
                assert chinese["reason"]["message"] != reason["message"]
                assert str(place) in chinese["reason"]["message"]
            queued = rest.get("/tasks", params={"state": "queued"}).json()["items"]
            assert {t["id"] for t in queued} == set(tasks[1:])
            assert rest.get("/machines/m1").json()["queued"] == 2

        assert "Place 2 in its queue" in run("rule", "show", "r2")
        assert "queued" in run("rule", "list")
        listed = run("task", "list", "--live")
        assert "Place 1 in its queue" in listed and "queued" in listed

        local = LocalSocket(worker.state_dir, worker.link.overview)
        try:
            def pending() -> Any:
                text = run("task", "list", "--local", "--socket",
                           str(worker.state_dir / "worker.sock"))
                return text if text.count("pending") == 2 else None

            text = wait_until(pending)
            assert "Place 1 in its queue" in text and "Place 2 in its queue" in text
            assert "running" in text
        finally:
            local.close()

        # a higher limit acts at once, and nothing waits any more
        run("machine", "set", "m1", "--max-tasks", "3")
        wait_until(lambda: services.rules.get(ADMIN, rules[2]).waits_for is None)
        worker.player.hold.clear()
        for task in tasks:
            assert made.rig.ended(task).outcome == "ok"


def test_each_kind_of_task_counts_unless_it_is_an_instant_boot_or_only_looks() -> None:
    assert set(get_args(TaskKind)) == COUNTED | UNCOUNTED and not COUNTED & UNCOUNTED
    assert {"failover", "undo", "test", "switch-back", "commit-failback", "undo-failback",
            "cable", "watch", "check", "refresh", "rebuild"} == UNCOUNTED
