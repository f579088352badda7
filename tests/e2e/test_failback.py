"""Failback on real guests: the replica's work goes home; undone until it is committed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import libvirt
import pytest

from .rig import Rig, Server, content, hotspare, remove_replicas, wait_for

if TYPE_CHECKING:
    from testbeds.kvm import Guest, Lab

_BOTH = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
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


def switched(rig: Rig, gate: Path, **options: Any) -> Any:
    """Switch back; both are compared at the instant at which neither runs."""
    with rig.server.client() as client:
        task = client.switch_back(rig.rule, **options)

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
    pytest.param("power cut", {}, marks=pytest.mark.soak),
    pytest.param("shut down", {}, marks=pytest.mark.soak),
    ("shut down", {"firmware": "uefi", "disks": 3})])
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
    """Of a source that is reached by ssh."""
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), rate=20.0)
    rig.protect(by_ssh=True)
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


GROWN = 1 << 20                 # at what had been the end of the disk

_ADDED = """<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
<source file='{}'/><target dev='vdx' bus='virtio'/></disk>"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", [pytest.param("commit", marks=pytest.mark.soak), "undo"])
def test_a_disk_grown_and_one_added(rig_factory: Callable[..., Rig], tmp_path: Path,
                                    way: str) -> None:
    """On the replica: the one grows at the source, and shrinks again when it is undone; the other
    is asked about."""
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), rate=20.0, disks=2)
    rig.protect()
    rig.run()
    rig.guest.shutdown()
    before = source_images(rig)
    replica = failed_over(rig)
    added = rig.storage_dir / f"{rig.guest.name}-added.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", added, "16M"], check=True)
    added.chmod(0o666)              # the host is another user's
    try:
        replica.domain().attachDeviceFlags(_ADDED.format(added), _BOTH)
        old = replica.domain().blockInfo("vdb")[0]
        replica.domain().blockResize("vdb", old + 4 * GROWN,
                                     libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
        tail = f"bs={GROWN} count=1 of=/dev/vdb seek={old // GROWN}"
        wrote = replica.exec(f"dd if=/dev/urandom {tail} conv=notrunc,fsync")
        assert wrote.rc == 0, wrote.err
        shown = f"dd bs={GROWN} count=1 if=/dev/vdb skip={old // GROWN} 2>/dev/null | sha256sum"
        there = replica.exec(shown).out

        refused = hotspare(rig.server, "failback", "start", rig.rule, "--wait", "--json")
        assert refused.json["error"]["code"] == "failback.disks-differ", refused.out
        assert "vdx" in refused.json["error"]["message"] and source_images(rig) == before
        done(rig, "failback", "start", rig.rule, "--leave-disks")
        switched(rig, gate, leave_disks=True)
        rig.guest.wait_agent(90)
        assert rig.guest.domain().blockInfo("vdb")[0] == old + 4 * GROWN
        assert rig.guest.exec(shown).out == there and len(there) > 64
        assert not rig.guest.verified().bad
        if way == "undo":
            done(rig, "failback", "undo", rig.rule, "--confirm", rig.guest.name)
            assert source_images(rig) == before, "the old size, too"
            replica.wait_agent(90)
            assert replica.exec(shown).out == there
            done(rig, "undo", rig.rule)
            rig.guest.start()
            rig.guest.wait_agent()
            assert not rig.guest.verified().bad
            rig.run()
        else:
            done(rig, "failback", "commit", rig.rule)
            assert added.exists(), "what was never ours is not removed"
            assert not rig.run()["figures"]["full"]
            rig.guest.shutdown()
            rig.run()
            assert list(rig.points()[3].values()) == source_images(rig)
        assert rig.leftovers() == []
    finally:
        added.unlink(missing_ok=True)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("listens", [True, pytest.param(False, marks=pytest.mark.soak)])
def test_without_an_agent(lab: Lab, guest_factory: Callable[..., Guest], tmp_path: Path,
                          listens: bool) -> None:
    """The replica is asked by its power button. One that does not listen goes on running, and is
    cut off only when that was allowed; its journal has at most its last record half written."""
    lab.a.start()
    lab.b.start()
    gate = tmp_path / "gate"
    guest = guest_factory(agent=False, boot="kernel", rate=20.0)
    guest.start()
    rig = Rig(lab, Server(tmp_path).start(GATE.format(gate)), guest)
    try:
        assert not guest.wait_ready().bad
        rig.protect()
        rig.run()
        guest.kill9()
        with rig.server.client() as client:
            rig.ended(client.failover(rig.rule, None))
        replica = lab.guest(lab.b, guest.name)
        [layer] = rig.storage_dir.glob(f"hs-{rig.rule_id}-*-fo-t*.qcow2")
        for _ in range(4):                          # its journal, after the boot
            size = layer.stat().st_blocks
            wait_for(lambda: layer.stat().st_blocks > size, 60, "the replica writes")  # noqa: B023
        done(rig, "failback", "start", rig.rule)

        replica.domain().suspend()                  # deaf
        refused = hotspare(rig.server, "failback", "switch", rig.rule, "--grace", "2s", "--wait",
                           "--json")
        assert refused.json["error"]["code"] == "replica.still-runs", refused.out
        assert state(rig) == "failback-halted" and replica.running and not guest.running
        if listens:
            replica.domain().resume()
        guest.mark()
        ended = switched(rig, gate, **({} if listens else {"grace_s": 2, "power_off": True}))
        assert not ended["figures"]["full"]
        found = guest.wait_ready()
        assert not found.bad and found.records > 0 and not (found.torn and listens)
        done(rig, "failback", "commit", rig.rule)
        assert not rig.run()["figures"]["full"]
        assert rig.leftovers() == []
    finally:
        rig.server.stop()
        remove_replicas(lab, [rig.rule_id])


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
