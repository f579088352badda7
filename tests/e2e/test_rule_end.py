"""The end of a rule: our checkpoints always leave the source. What cannot be cleaned up ends the
removal with the cause and a remedy, and with --force the rule goes and the log says what stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .rig import Rig, hotspare

pytestmark = pytest.mark.timeout(400)


def checkpoints(rig: Rig) -> list[str]:
    return [c.getName() for c in rig.guest.domain().listAllCheckpoints(0)
            if c.getName().startswith(f"hs-{rig.rule_id}")]


def volumes(rig: Rig) -> list[str]:
    return [p.name for p in rig.storage_dir.glob(f"hs-{rig.rule_id}*")]


def deleted(rig: Rig, outcome: str, *words: str) -> dict[str, Any]:
    """What ``hotspare rule delete --wait`` came to: its task, ended."""
    said = hotspare(rig.server, "rule", "delete", rig.rule, "--yes", "--wait", *words, "--json")
    assert (said.exit == 0) is (outcome != "failed"), said
    with rig.server.client() as client:
        task = client.tasks(largest=1)[0]
    assert (task["kind"], task["outcome"]) == ("remove", outcome), rig.story()
    return dict(task)


def said_of(rig: Rig, task: dict[str, Any]) -> dict[str, dict[str, Any]]:
    with rig.server.client() as client:
        return {line["code"]: dict(line) for line in client.task_log(task["id"])}


def test_a_machine_that_is_off_and_a_target_that_is_gone(rig_factory: Callable[..., Rig]) -> None:
    rig = rig_factory(boot="kernel", rate=1.0)
    rig.protect(delete_replica=True)
    rig.run()
    [checkpoint] = checkpoints(rig)

    rig.guest.destroy()                     # only a QEMU can take its bitmap away
    failed = deleted(rig, "failed")
    assert failed["error"]["code"] == "remove.source-unclean"
    assert checkpoint in failed["error"]["message"]
    assert "start the machine" in failed["error"]["message"]
    assert f"rule delete {rig.rule} --force" in failed["error"]["remedy"]
    assert (checkpoints(rig), rig.numbers()) == ([checkpoint], [1]), "nothing was lost by it"
    with rig.server.client() as client:
        assert client.rule(rig.rule)["state"] == "finished"

    rig.guest.start()
    rig.guest.wait_ready()
    rig.lab.b.kill()
    failed = deleted(rig, "failed")
    assert failed["error"]["code"] == "remove.target-unclean"
    assert rig.storage in failed["error"]["remedy"] and "--force" in failed["error"]["remedy"]
    assert checkpoints(rig) == [], "the source is clean whatever became of the target"
    there = volumes(rig)
    assert there

    left = said_of(rig, deleted(rig, "warning", "--force"))["remove.target-left"]
    assert left["level"] == "warning"
    assert rig.storage in left["message"] and f"hs-{rig.rule_id}" in left["message"]
    assert volumes(rig) == there
    assert hotspare(rig.server, "rule", "list", "--json").json == []
    assert not (rig.server.temp_dir / f"hs-{rig.rule_id}").exists()


def test_a_source_that_is_gone(rig_factory: Callable[..., Rig]) -> None:
    rig = rig_factory(boot="kernel", rate=1.0)
    rig.protect(delete_replica=True)
    rig.run()
    there = checkpoints(rig)
    rig.lab.a.kill()
    assert deleted(rig, "failed")["error"]["code"] == "remove.source-unclean"
    assert volumes(rig), "the target is not touched before the source is clean"
    left = said_of(rig, deleted(rig, "warning", "--force"))["remove.source-left"]
    assert f"hs-{rig.rule_id}" in left["message"]
    assert volumes(rig) == []
    rig.lab.a.start()
    assert checkpoints(rig) == there, "what the log says stays, stays"
