"""Permanent failover: the replica becomes the machine, nothing of ours stays, there is no way back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from .rig import Rig, hotspare

if TYPE_CHECKING:
    from testbeds.kvm import Lab


@pytest.fixture(autouse=True)
def kept_files(lab: Lab) -> Iterator[None]:
    """The files of the machines that a test made go when it ends: no rule names them any more."""
    before = set(lab.b.storage_dir.glob("*.qcow2"))
    yield
    for path in set(lab.b.storage_dir.glob("*.qcow2")) - before:
        path.unlink()


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("firmware", "disks"), [
    pytest.param("bios", 1, marks=pytest.mark.soak), ("uefi", 3)])
def test_a_failover_becomes_permanent(rig_factory: Callable[..., Rig], firmware: str,
                                      disks: int) -> None:
    """As it runs, with its own writes and no gap in them; from the middle of the chain."""
    rig = rig_factory(firmware=firmware, disks=disks, rate=20.0)
    rig.protect()
    for _ in range(3):
        rig.run()
    with rig.server.client() as client:
        rig.ended(client.failover(rig.rule, 2))
    replica = rig.lab.guest(rig.lab.b, rig.guest.name)
    replica.wait_agent(90)
    before = replica.wait_records(replica.verified().records + 5)

    wrong = hotspare(rig.server, "permanent", rig.rule, "--confirm", "another", "--json")
    assert (wrong.exit, wrong.json["error"]["code"]) == (2, "rule.confirm")
    done = hotspare(rig.server, "permanent", rig.rule, "--confirm", rig.guest.name, "--wait",
                    "--json", timeout_s=300)
    assert done.exit == 0, done.err + rig.story()
    assert (done.json["kind"], done.json["outcome"]) == ("permanent", "ok")

    assert replica.running
    replica.wait_records(before + 5)            # it has gone on, on its own files
    _closed(rig, replica_name=rig.guest.name)
    replica.domain().destroy()
    replica.domain().create()
    replica.wait_agent(90)
    verified = replica.verified()
    assert not verified.bad and verified.disks == disks
    assert verified.records >= before + 5, "what it wrote is there, without a gap"

    # the machine outlives its rule
    assert hotspare(rig.server, "rule", "delete", rig.rule, "--yes", "--wait").exit == 0
    assert replica.running and not replica.verified().bad


@pytest.mark.timeout(300)
def test_straight_to_permanent_while_the_source_is_gone(rig_factory: Callable[..., Rig]) -> None:
    rig = rig_factory(rate=20.0)
    rig.protect()
    rig.run()
    rig.run()
    rig.guest.destroy()
    rig.lab.a.kill()
    try:
        done = hotspare(rig.server, "permanent", rig.rule, "--point", "1", "--confirm",
                        rig.guest.name, "--wait", "--json", timeout_s=300)
        assert done.exit == 0, done.err + rig.story()
        assert (done.json["kind"], done.json["outcome"]) == ("permanent", "warning")
        with rig.server.client() as client:
            codes = [line["code"] for line in client.task_log(done.json["id"])]
        assert "remove.source-left" in codes
    finally:
        rig.lab.a.start()
    replica = rig.lab.guest(rig.lab.b, rig.guest.name)
    replica.wait_agent(90)
    assert not replica.verified().bad
    _closed(rig, replica_name=rig.guest.name)


def _closed(rig: Rig, replica_name: str) -> None:
    """The rule is closed with its history, and the target has nothing of ours but UEFI variables
    that the machine uses."""
    with rig.server.client() as client:
        rule = client.rule(rig.rule)
        assert rule["state"] == "permanent-failover"
        assert (rule["points"], rule["enabled"], rule["failover_point"]) == (0, False, None)
        assert rule["operations"] == ["delete", "log"]
        assert len(client.tasks(rule=rig.rule)) >= 3
    refused = hotspare(rig.server, "rule", "start", rig.rule, "--json")
    assert refused.json["error"]["code"] == "rule.in-permanent-failover"
    domain = rig.lab.b.conn.lookupByName(replica_name)
    for flags in (0, 2):                        # as it runs, and as it is defined
        xml = domain.XMLDesc(flags)
        assert "urn:hotspare" not in xml and "<backingStore type" not in xml
        assert all("nvram" in line for line in xml.splitlines() if rig.rule_id in line), xml
    assert domain.listAllCheckpoints() == []
    left = {p.name for p in rig.storage_dir.glob(f"hs-{rig.rule_id}*")}
    assert all(name.endswith(".nvram") for name in left), left
    assert [d.name() for d in rig.lab.b.conn.listAllDomains() if d.name().startswith("hs-")] == []
