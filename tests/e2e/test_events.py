"""What happens to machines between two runs: each next point is right, and costs what it must."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt
import pytest

from .rig import Rig, content, gated_run, wait_for

MIB = 1 << 20
GATE = "replicate.before-publish#*:touch={}"
BOTH = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG


def right_run(rig: Rig, gate: Path) -> dict[str, Any]:
    """One run whose point must be what the source was at its instant; its figures."""
    task, at_instant = gated_run(rig, gate)
    if not at_instant:
        at_instant = {"vda": content(str(rig.guest.disk_paths[0]), "qcow2")}
    found = rig.points()
    assert found[max(found)] == at_instant
    assert rig.leftovers() == []
    return dict(task["figures"])


def fill(rig: Rig, mib: int, name: str = "/data/filled") -> None:
    """Put data into the guest that neither compresses nor repeats."""
    done = rig.guest.exec(f"dd if=/dev/urandom of={name} bs=1M count={mib} && sync")
    assert done.rc == 0, done.err


def zero(rig: Rig, mib: int, name: str) -> None:
    """Overwrite with zeroes, in place."""
    done = rig.guest.exec(f"dd if=/dev/zero of={name} bs=1M count={mib} conv=notrunc && sync")
    assert done.rc == 0, done.err


@pytest.mark.timeout(180)
def test_a_raw_disk_is_compared_and_only_differences_are_sent(
        rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), boot="kernel", fmt="raw", rate=5.0)
    fill(rig, 4, "/data/old")
    rig.protect()
    first = right_run(rig, gate)
    assert first["compared"] == 0
    fill(rig, 4)
    second = right_run(rig, gate)
    assert second["compared"] > 0
    assert 4 * MIB <= second["bytes_moved"] <= 16 * MIB, second
    assert second["bytes_read"] >= first["bytes_read"], "without tracking all of it is read"
    # compared is with all that the points hold together, not with what the newest one changed
    zero(rig, 4, "/data/old")
    third = right_run(rig, gate)
    assert third["bytes_moved"] <= 8 * MIB, third
    with rig.server.client() as client:
        said = [line for line in client.rule_log(rig.rule) if line["code"] == "replicate.compare"]
    assert [line["fields"]["reason"] for line in said] == ["tracking.raw"] * 2
    rig.check_images()


@pytest.mark.timeout(240)
def test_shut_off_then_other_disks_then_a_written_replica(
        rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), boot="kernel", rate=5.0)
    rig.protect()
    full = right_run(rig, gate)

    # off: it is read without being started, by the changes that its bitmap has
    fill(rig, 3)
    rig.guest.shutdown()
    off = right_run(rig, gate)
    assert not rig.guest.running
    assert off["compared"] == 0
    assert 3 * MIB <= off["bytes_moved"] < full["bytes_moved"] / 2, (off, full)
    rig.guest.start()
    assert not rig.guest.wait_ready().bad
    rig.guest.wait_agent()
    again = right_run(rig, gate)
    assert again["compared"] == 0
    assert again["bytes_moved"] < full["bytes_moved"] / 2, "the run must be incremental"

    # grown while it runs, and written to where it grew
    size = 1536 * MIB
    rig.guest.domain().blockResize("vda", size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
    done = rig.guest.exec("dd if=/dev/urandom of=/dev/vda bs=1M seek=1400 count=2 && sync")
    assert done.rc == 0, done.err
    grown = right_run(rig, gate)
    assert grown["bytes_moved"] < full["bytes_moved"] / 2, "growth is no reason to copy all"
    assert rig.lineage().points[-1].disks[0].size == size

    # a disk more, then gone again
    image = rig.lab.a.storage_dir / f"{rig.guest.name}-more.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "64M"], check=True)
    rig.lab.identity.own(image)
    try:
        device = (f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
                  f"<source file='{image}'/><target dev='vdb' bus='virtio'/></disk>")
        rig.guest.domain().attachDeviceFlags(device, BOTH)
        wait_for(lambda: rig.guest.exec(
            "dd if=/dev/urandom of=/dev/vdb bs=1M count=3 && sync").rc == 0, 20,
            "the guest finds its new disk")
        more = right_run(rig, gate)
        assert set(rig.points()[max(rig.points())]) == {"vda", "vdb"}
        assert more["bytes_moved"] < full["bytes_moved"] / 2
        fill(rig, 1)
        both = right_run(rig, gate)
        assert both["compared"] == 0, "both disks are tracked by now"
        rig.guest.domain().detachDeviceFlags(device, BOTH)
        wait_for(lambda: str(image) not in rig.guest.domain().XMLDesc(0), 20,
                 "the guest lets the disk go")
        right_run(rig, gate)
        newest = rig.points()[max(rig.points())]
        assert set(newest) == {"vda"}
    finally:
        image.unlink()
    assert right_run(rig, gate)["compared"] == 0
    rig.check_images()

    # somebody writes to the newest restore point's file
    newest = rig.lineage().points[-1].disks[0].file
    head = rig.lab.b.storage_dir / newest
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 8M 64k", str(head)],
                   check=True, capture_output=True)
    as_written = head.read_bytes()
    points, numbers = rig.points(), rig.numbers()
    for _ in range(2):      # it does not go away by itself
        failed = rig.run(outcome="failed")
        assert failed["error"]["code"] == "replica.changed", failed["error"]
        assert newest in failed["error"]["message"]
        assert failed["error"]["remedy"]
    assert head.read_bytes() == as_written, "what is not ours is never overwritten"
    assert rig.points() == points
    assert rig.numbers() == numbers
    assert rig.guest.running
    count = rig.guest.journal_count()
    rig.guest.wait_records(count + 1, timeout=20)
    assert rig.leftovers() == []
    with rig.server.client() as client:
        rule = client.rule(rig.rule)
    assert rule["last_result"] == "failed" and rule["state"] == "stopped", rule


@pytest.mark.timeout(240)
def test_killed_qemu_then_power_loss_at_the_target(
        rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), boot="kernel", rate=10.0)
    fill(rig, 4, "/data/old")
    rig.protect()
    right_run(rig, gate)
    assert right_run(rig, gate)["compared"] == 0

    # QEMU could not save its bitmaps: one run compares, the next one has changes again
    rig.guest.kill9()
    rig.guest.start()
    assert not rig.guest.wait_ready().bad
    rig.guest.wait_agent()
    zero(rig, 4, "/data/old")      # of the first point, not of the newest
    compared = right_run(rig, gate)
    assert compared["compared"] > 0
    assert compared["bytes_moved"] < compared["bytes_read"] / 2, "only differences are sent"
    assert right_run(rig, gate)["compared"] == 0

    # power goes at the target just after the commit point: whether the head was written to since
    # is told by its content, which all points' digests together describe
    rig.server.stop()
    rig.server.start(f"publish.after-lineage:touch={gate}")
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    wait_for(gate.exists, 60, "the run passes its commit point")
    receivers = [pid for name, pid in rig.lab.b.qemu_pids().items() if name.startswith("hs-rx-")]
    assert receivers
    for pid in receivers:
        os.kill(pid, signal.SIGKILL)
    rig.server.kill()
    gate.unlink()
    rig.server.start(GATE.format(gate))
    rig.ended(task)
    before = rig.points()
    assert len(before) == 5
    right_run(rig, gate)
    assert {n: c for n, c in rig.points().items() if n in before} == before
    with rig.server.client() as client:
        codes = [line["code"] for line in client.rule_log(rig.rule)]
    assert "replica.verifying" in codes
    assert rig.guest.running
