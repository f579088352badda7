"""kill -9 at every named instant of a failback to a new place: the machine there is made once, runs
alone, and is gone without a trace when it is undone; the original is never touched.

A sample runs with every ``make test``; ``make soak`` runs them all.
"""

from __future__ import annotations

import pytest

from e2e.rig import Rig

from .conftest import Shared
from .stages import Stages, images

BULK = ("build.after-define", "build.after-disks", "failback.built", "failback.copied",
        "step.copy-back.end")
DEMOLISH = ("step.stop-source.begin", "demolish.after-disks", "step.restore.begin")
SWITCH = ("failback.replica-off", "failback.rest", "power-on.after-start", "failback.source-on")
UNDO = ("failback-undo.source-off", "demolish.after-disks", "step.start-replica.begin")
COMMIT = ("failback.committed", "discard.after-mark", "step.clear-undo.end")
SAMPLE = {("demolish", "demolish.after-disks")}
CASES = [pytest.param(stage, point,
                      marks=() if (stage, point) in SAMPLE else pytest.mark.soak)
         for stage, points in (("bulk", BULK), ("demolish", DEMOLISH), ("switch", SWITCH),
                               ("undo", UNDO), ("commit", COMMIT)) for point in points]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("stage", "point"), CASES)
def test_a_new_place_survives(rig: Rig, shared: Shared, stage: str, point: str) -> None:
    rig.server.start()
    points = rig.points()
    rig.guest.destroy()
    before = images(rig)
    with rig.server.client() as client:
        rig.ended(client.failover(rig.rule, None))
    stages = Stages(rig, stage, point)
    stages.replica = rig.lab.guest(rig.lab.b, rig.guest.name)
    stages.made = rig.lab.guest(rig.lab.a, f"{rig.guest.name}-new")
    stages.replica.wait_agent()
    place = {"platform": "site-a", "storage": rig.lab.pool_name(rig.lab.a),
             "name": stages.made.name, "networks": {}}
    stages.ask("bulk", "fail_back", place=place, state="ready-to-switch")
    assert stages.replica.running and stages.made.domain_or_none() is not None
    if stage in {"bulk", "demolish"}:
        stages.ask("demolish", "undo_failback", state="temporary-failover")
    else:
        stages.ask("switch", "switch_back", state="failed-back")
        stages.made.wait_agent()
        assert not stages.made.verified().bad
        if stage != "undo":
            # what the original has of ours only a QEMU of its own can remove: a warning says so
            stages.ask("commit", "commit_failback", state="finished|stopped", outcome="warning")
    if stage == "undo":
        stages.ask("undo", "undo_failback", stages.made.name, state="temporary-failover")
    assert images(rig) == before, "the original is not touched"
    if stage in {"switch", "commit"}:
        with rig.server.client() as client:
            assert client.rule(rig.rule)["vm_name"] == stages.made.name
        assert not rig.run()["figures"]["full"]
        assert {n: c for n, c in rig.points().items() if n in points} == {
            n: points[n] for n in rig.points() if n in points}
        stages.made.remove()
        shared.drop()                   # its rule belongs to another machine now
        return
    assert stages.replica.running and stages.made.domain_or_none() is None
    assert list(rig.lab.a.storage_dir.glob(f"{stages.made.name}*")) == []
    stages.ask("", "undo", state="finished|stopped")
    rig.guest.start()
    rig.guest.wait_agent()
    rig.run()
    assert rig.leftovers() == []
