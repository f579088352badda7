"""A machine of vSphere is replicated to KVM, and its restore points boot there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hotspare.domain.errors import GiveUp
from testbeds.vsphere.appliance import Appliance
from testbeds.vsphere.bed import Vsphere

from .rig import Rig, hotspare, remove_replicas
from .vsphere_rule import contents, protect

if TYPE_CHECKING:
    from testbeds.kvm import Guest, Lab


def prove_and_keep(rig: Rig) -> None:
    """A restore point passes its test, and a failover becomes permanent."""
    with rig.server.client() as client:
        rig.ended(client.start_test(rig.rule, {"point": 1}))
        assert client.tests(rig.rule)[0]["verdict"] == "passed"
        rig.ended(client.failover(rig.rule, 3))
    replica = rig.lab.guest(rig.lab.b, rig.guest.name)
    before = replica.wait_ready().records
    done = hotspare(rig.server, "permanent", rig.rule, "--confirm", rig.guest.name, "--wait",
                    "--json", timeout_s=300)
    assert done.exit == 0, done.err
    replica.wait_records(before + 5)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("firmware", "devices", "bus"), [
    pytest.param("uefi", "auto", "virtio", marks=pytest.mark.soak), ("bios", "same", "scsi")])
def test_points_boot_on_kvm(lab: Lab, guest_factory: Callable[..., Guest], vsphere: Vsphere,
                            tmp_path: Path, firmware: str, devices: str, bus: str) -> None:
    lab.a.start()
    lab.b.start()
    guest = guest_factory(firmware=firmware, disks=2, fmt="raw", rate=20.0)
    appliance = Appliance(vsphere, guest, firmware)
    rig = protect(lab, tmp_path, appliance.machine, guest, devices=devices)
    try:
        appliance.work()
        expected = {1: contents(appliance.machine)}
        assert rig.run()["figures"]["full"]
        appliance.work()
        expected[2] = contents(appliance.machine)
        vsphere.forget()
        figures = rig.run()["figures"]
        assert not figures["full"] and figures["bytes_moved"] < 64 << 20
        traffic = vsphere.state()["traffic"]
        assert traffic["Read"] <= figures["bytes_queried"] + (1 << 20), "only what has changed"
        assert traffic["Largest"] <= 2 << 20
        assert rig.points() == expected
        with rig.server.client() as client:
            used = [line for line in client.rule_log(rig.rule)
                    if line["code"] == "transport.used"]
            assert {line["fields"]["transport"] for line in used} == {"vddk (nbdssl)"}
            rig.ended(client.failover(rig.rule, 2))
        replica = lab.guest(lab.b, guest.name)
        verified = replica.wait_ready()
        assert (verified.bad, verified.disks) == (False, 2)
        assert verified.records > 20
        assert f'bus="{bus}"' in replica.domain().XMLDesc().replace("'", '"')
        with rig.server.client() as client:
            with pytest.raises(GiveUp) as home:
                client.fail_back(rig.rule)
            assert home.value.code == "failback.other-kind"
            rig.ended(client.undo(rig.rule))
        assert rig.points() == expected
        appliance.work(5)
        assert not rig.run()["figures"]["full"]
        if firmware == "uefi":
            prove_and_keep(rig)
        assert appliance.machine.snapshots() == []
        assert vsphere.state()["leases"] == {}
        assert not list(Path(tempfile.gettempdir()).glob(f"hs-{rig.rule_id}*"))
    except BaseException:
        print(rig.story())
        raise
    finally:
        rig.server.stop()
        remove_replicas(lab, [rig.rule_id])
        appliance.remove()
