"""Failback on real guests: the replica's work goes home; undone until it is committed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .rig import Rig, content, hotspare, wait_for

GATE = "failback.rest#*:touch={}"      # both are off, and are to be equal


def source_images(rig: Rig) -> list[str]:
    """What the disks of the source read as."""
    return [content(str(path), "qcow2") for path in rig.guest.disk_paths]


def replica_images(rig: Rig) -> list[str]:
    """What the replica reads as, which is off."""
    layers = sorted(rig.storage_dir.glob(f"hs-{rig.rule_id}-*-fo-t*.qcow2"))
    return [content(str(path), "qcow2") for path in layers]


def done(rig: Rig, *arguments: str, timeout_s: float = 200) -> Any:
    said = hotspare(rig.server, *arguments, "--wait", "--json", timeout_s=timeout_s)
    assert said.exit == 0, said.out + said.err + rig.story()
    return said.json


def state(rig: Rig) -> str:
    with rig.server.client() as client:
        return str(client.rule(rig.rule)["state"])


def failed_over(rig: Rig, point: int | None = None) -> Any:
    """The replica runs and has written something."""
    with rig.server.client() as client:
        rig.ended(client.failover(rig.rule, point))
    replica = rig.lab.guest(rig.lab.b, rig.guest.name)
    replica.wait_agent(90)
    replica.wait_records(replica.journal_count() + 10)
    return replica


def switched(rig: Rig, gate: Path, *options: str) -> Any:
    """Switch back; both are compared at the instant at which neither runs."""
    with rig.server.client() as client:
        task = client.switch_back(rig.rule)

    def came() -> bool:
        with rig.server.client() as client:
            assert client.task(task)["state"] != "ended", rig.story()
        return gate.exists()

    wait_for(came, 120, "both are off")
    assert not rig.guest.running
    source, replica = source_images(rig), replica_images(rig)
    assert len(source) == len(replica) and source == replica, "the source equals the replica"
    gate.unlink()
    return rig.ended(task)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("lost", "machine"), [
    ("power cut", {}), ("shut down", {}), ("shut down", {"firmware": "uefi", "disks": 3})])
def test_home_and_on(rig_factory: Callable[..., Rig], tmp_path: Path, lost: str,
                     machine: dict[str, Any]) -> None:
    """From an older point; the source's tracking is intact, or is not."""
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), rate=20.0, **machine)
    rig.protect()
    rig.run()
    rig.guest.wait_records(rig.guest.journal_count() + 20)
    rig.run()
    rig.guest.wait_records(rig.guest.journal_count() + 20)  # in no point: it is lost
    if lost == "shut down":
        rig.guest.shutdown()
    else:
        rig.guest.kill9()
    replica = failed_over(rig, 1)

    bulk = done(rig, "failback", "start", rig.rule)
    assert state(rig) == "ready-to-switch" and replica.running
    assert bulk["figures"]["full"] == (lost == "power cut")
    assert bulk["figures"]["bytes_moved"] > 0
    before = replica.verified().records
    ended = switched(rig, gate)
    assert state(rig) == "failed-back" and rig.guest.running and not replica.running
    assert not ended["figures"]["full"], "only what the replica wrote since was looked at"
    rig.guest.wait_agent(90)
    assert not rig.guest.verified().bad and rig.guest.verified().records >= before

    done(rig, "failback", "commit", rig.rule)
    assert state(rig) == "finished"
    ended = rig.run()
    assert not ended["figures"]["full"], "the next run is incremental"
    rig.guest.shutdown()
    assert not rig.run()["figures"]["full"]
    assert rig.numbers() == [1, 2, 3, 4]
    assert list(rig.points()[4].values()) == source_images(rig), "and nothing was missed"
    assert rig.leftovers() == []
    rig.check_images()


@pytest.mark.timeout(600)
def test_undone_after_the_switch(rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), rate=20.0)
    rig.protect()
    rig.run()
    rig.guest.wait_records(rig.guest.journal_count() + 20)
    rig.guest.kill9()
    before = source_images(rig)
    replica = failed_over(rig)
    done(rig, "failback", "start", rig.rule)
    switched(rig, gate)
    at_switch = replica_images(rig)
    rig.guest.wait_agent(90)
    rig.guest.wait_records(rig.guest.journal_count() + 10)

    refused = hotspare(rig.server, "failback", "undo", rig.rule, "--confirm", "x", "--json")
    assert refused.json["error"]["code"] == "failback.confirm-undo"
    done(rig, "failback", "undo", rig.rule, "--confirm", rig.guest.name)
    assert state(rig) == "temporary-failover" and not rig.guest.running
    assert source_images(rig) == before, "block by block what it was"
    replica.wait_agent(90)
    assert not replica.verified().bad and at_switch
    done(rig, "undo", rig.rule)
    rig.guest.start()
    rig.guest.wait_agent()
    assert not rig.guest.verified().bad
    rig.run()
    assert rig.leftovers() == []


@pytest.mark.timeout(600)
def test_to_a_new_place(rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    """The original is gone with its disks; the rule goes on from the machine that was made."""
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), rate=20.0)
    rig.protect()
    rig.run()
    rig.guest.remove()
    replica = failed_over(rig)
    storage = rig.lab.pool_name(rig.lab.a)
    place = ("--to", "site-a", "--storage", storage, "--name", f"{rig.guest.name}-new")
    done(rig, "failback", "start", rig.rule, *place)
    made = rig.lab.guest(rig.lab.a, f"{rig.guest.name}-new")
    done(rig, "failback", "undo", rig.rule)
    assert made.domain_or_none() is None and replica.running
    assert list(rig.lab.a.storage_dir.glob(f"{rig.guest.name}-new*")) == []

    done(rig, "failback", "start", rig.rule, *place)
    with rig.server.client() as client:
        task = client.switch_back(rig.rule)
    wait_for(gate.exists, 120, "both are off")
    disks = sorted(rig.lab.a.storage_dir.glob(f"{rig.guest.name}-new*.qcow2"))
    assert [content(str(path), "qcow2") for path in disks] == replica_images(rig)
    gate.unlink()
    rig.ended(task)
    made.wait_agent(90)
    assert not made.verified().bad
    done(rig, "failback", "commit", rig.rule)
    with rig.server.client() as client:
        rule = client.rule(rig.rule)
    assert (rule["state"], rule["vm_name"]) == ("finished", made.name)
    ended = rig.run()
    assert not ended["figures"]["full"] and rig.numbers() == [1, 2]
    assert "hotspare" not in made.domain().XMLDesc()
    with rig.server.client() as client:
        rig.ended(client.failover(rig.rule, None))
        replica = rig.lab.guest(rig.lab.b, rig.guest.name)
        replica.wait_agent(90)
        assert not replica.verified().bad
        rig.ended(client.undo(rig.rule))
    made.remove()
    for path in disks:
        path.unlink(missing_ok=True)
