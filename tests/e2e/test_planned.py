"""Planned failover: the source is shut down, and all that it ever wrote is in the replica."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .rig import Rig, content, hotspare


@pytest.mark.timeout(400)
def test_nothing_is_lost(rig_factory: Callable[..., Rig]) -> None:
    rig = rig_factory(rate=20.0)
    rig.protect()
    rig.run()
    with rig.server.client() as client:
        told = rig.ended(client.failover(rig.rule, 1))
        codes = [line["code"] for line in client.task_log(told["id"])]
        assert "failover.source-running" in codes
        rig.ended(client.undo(rig.rule))
    rig.guest.wait_records(rig.guest.journal_count() + 20)

    done = hotspare(rig.server, "failover", rig.rule, "--planned", "--wait", "--json",
                    timeout_s=300)
    assert done.exit == 0, done.err + rig.story()
    assert (done.json["kind"], done.json["outcome"]) == ("failover", "ok")
    assert not rig.guest.running, "the source is shut down"
    newest = max(rig.lineage().points, key=lambda p: p.number)
    # it was off before its last run read it, so what is in the point is all that there is
    at_source = {d.id: content(str(path), "qcow2")
                 for d, path in zip(newest.disks, rig.guest.disk_paths, strict=True)}
    assert rig.points()[newest.number] == at_source
    with rig.server.client() as client:
        rule = client.rule(rig.rule)
        assert (rule["state"], rule["failover_point"]) == ("temporary-failover", newest.number)
        assert rule["failover_detail"]["source"] == "off"
        assert [t["kind"] for t in client.tasks(rule=rig.rule, largest=4)] == [
            "failover", "replicate", "shut-down", "replicate"]
    replica = rig.lab.guest(rig.lab.b, rig.guest.name)
    replica.wait_agent(90)
    assert not replica.verified().bad
    assert hotspare(rig.server, "undo", rig.rule, "--wait").exit == 0
    assert rig.leftovers() == []


@pytest.mark.timeout(300)
def test_a_source_that_does_not_shut_down(rig_factory: Callable[..., Rig]) -> None:
    """Nothing is cut off unless it was allowed, and what stands is said."""
    rig = rig_factory(boot="kernel", rate=5.0)
    rig.protect()
    rig.run()
    rig.guest.domain().suspend()            # it hears no request to shut down
    failed = hotspare(rig.server, "failover", rig.rule, "--planned", "--grace", "2s", "--wait",
                      "--json", timeout_s=200)
    assert failed.json["error"]["code"] == "source.still-runs", failed.out + failed.err
    assert rig.guest.domain().isActive()
    with rig.server.client() as client:
        rule = client.rule(rig.rule)
        assert rule["failover_point"] is None and rule["last_result"] == "failed"
        said = [line["message"] for line in client.rule_log(rig.rule)
                if line["code"] == "planned.ended-shut-down"]
    assert len(said) == 1 and rig.guest.name in said[0]

    done = hotspare(rig.server, "failover", rig.rule, "--planned", "--grace", "2s",
                    "--power-off", "--wait", "--json", timeout_s=200)
    assert done.exit == 0, done.err + rig.story()
    assert not rig.guest.domain().isActive()
    assert hotspare(rig.server, "undo", rig.rule, "--wait").exit == 0
