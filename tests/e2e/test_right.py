"""Every published point is the source at its instant, for ever; and it boots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .rig import Rig, wait_for


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("firmware", "disks", "points"), [
    pytest.param("uefi", 3, 20, marks=pytest.mark.soak), ("uefi", 3, 8), ("bios", 1, 6)])
def test_points_are_the_source_at_their_instants(
        rig_factory: Callable[..., Rig], tmp_path: Path, firmware: str, disks: int,
        points: int) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(f"replicate.before-publish#*:touch={gate}", firmware=firmware, disks=disks,
                      rate=20.0)
    rig.protect(retention=5)
    expected: dict[int, dict[str, str]] = {}
    for number in range(1, points + 1):
        with rig.server.client() as client:
            task = client.start_rule(rig.rule)
        wait_for(gate.exists, 120, f"run {number} comes to its commit point")
        at_instant = rig.source_now()
        assert len(at_instant) == disks
        gate.unlink()
        rig.ended(task)
        assert rig.numbers()[-1] == number
        expected[number] = at_instant
        # the new point is right, and no earlier one was changed by it or by a merge
        if number <= 2 or number % 6 == 0:
            found = rig.points()
            assert found == {n: expected[n] for n in found}
    found = rig.points()
    assert list(found) == list(range(points - 4, points + 1))
    assert found == {n: expected[n] for n in found}
    rig.check_images()
    assert rig.leftovers() == []

    chosen = points - 2     # from the middle of the chain
    with rig.server.client() as client:
        rig.ended(client.failover(rig.rule, chosen))
        assert client.rule(rig.rule)["state"] == "temporary-failover"
    replica = rig.lab.guest(rig.lab.b, rig.guest.name)
    verified = replica.wait_ready()
    assert not verified.bad
    assert verified.records > 0
    assert verified.disks == disks
    # also when the replica is shut off: what it stands on must not move
    replica.destroy()
    assert rig.points() == found
    with rig.server.client() as client:
        rig.ended(client.undo(rig.rule))
    assert rig.points() == found
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    wait_for(gate.exists, 60, "the run after the undo")
    gate.unlink()
    figures = rig.ended(task)["figures"]
    assert figures["bytes_moved"] < 64 << 20, "the run after the undo must be incremental"
    assert rig.leftovers() == []
    assert rig.guest.running
