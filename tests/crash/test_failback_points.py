"""kill -9 at every named instant of a failback: it goes on by itself, never do both run or neither
for good, and what is undone is block by block what it was.

A sample runs with every ``make test``; ``make soak`` runs them all.
"""

from __future__ import annotations

import pytest

from e2e.rig import Rig

from .stages import Stages, images

BULK = ("write-back.after-undo-disks", "write-back.after-receiver", "preserve.in-copy",
        "preserve.before-flush", "preserve.after-flush", "failback.preserved", "failback.copied",
        "write-back.before-close", "failback.sealed", "step.fence.end", "step.copy-back.end")
SWITCH = ("step.stop-replica.begin", "failback.replica-off", "step.copy-rest.begin",
          "failback.rest", "power-on.after-checkpoint", "power-on.after-tracking",
          "power-on.after-start", "failback.source-on", "step.start-source.end")
COMMIT = ("failback.committed", "discard.after-mark", "discard.after-volumes",
          "step.clear-snapshot.end", "clear.after-seals", "step.clear-undo.end")
UNDO = ("step.stop-source.begin", "failback-undo.source-off", "step.restore.begin",
        "failback-undo.restored", "clear.after-seals", "step.start-replica.begin",
        "step.start-replica.end")
SAMPLE = {("switch", "power-on.after-start"), ("undo", "failback-undo.restored")}
CASES = [pytest.param(stage, point,
                      marks=() if (stage, point) in SAMPLE else pytest.mark.soak)
         for stage, points in (("bulk", BULK), ("switch", SWITCH), ("commit", COMMIT),
                               ("undo", UNDO)) for point in points]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("stage", "point"), CASES)
def test_failback_survives(rig: Rig, stage: str, point: str) -> None:
    rig.server.start()
    points = rig.points()
    rig.guest.wait_records(rig.guest.journal_count() + 5)
    rig.guest.destroy()
    before = images(rig)
    with rig.server.client() as client:
        rig.ended(client.failover(rig.rule, min(points)))
    stages = Stages(rig, stage, point)
    stages.replica = rig.lab.guest(rig.lab.b, rig.guest.name)
    stages.replica.wait_agent()
    stages.replica.wait_records(stages.replica.journal_count() + 5)
    stages.ask("bulk", "fail_back", state="ready-to-switch")
    assert stages.replica.running
    if stage == "bulk":         # undone without that the source ever ran
        stages.ask("", "undo_failback", state="temporary-failover")
        assert images(rig) == before
        stages.ask("", "undo", state="finished|stopped")
        rig.guest.start()
    else:
        stages.ask("switch", "switch_back", state="failed-back")
        assert rig.guest.running and not stages.replica.running
        rig.guest.wait_agent()
        assert not rig.guest.verified().bad
        rig.guest.wait_records(rig.guest.journal_count() + 5)
        if stage == "undo":
            stages.ask("undo", "undo_failback", rig.guest.name, state="temporary-failover")
            assert stages.replica.running and images(rig) == before
            stages.ask("", "undo", state="finished|stopped")
            rig.guest.start()
        else:
            stages.ask("commit", "commit_failback", state="finished|stopped")
    rig.guest.wait_agent()
    assert {n: c for n, c in rig.points().items() if n in points} == points
    assert not rig.run()["figures"]["full"] or stage in {"bulk", "switch"}
    assert rig.leftovers() == []
