"""The hosts die under a run: the guest's QEMU, or a libvirtd, at a given instant.

The process waits at the fault point while the test kills; then the run goes on. Whichever it was,
the next restore point is right, or the task fails with a clear error and the guest keeps running.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.rig import Rig, wait_for

INSTANTS = ("replicate.intent", "source.before-begin", "source.after-begin",
            "begin.after-receiver", "replicate.instant-open", "plan.after-write",
            "copy.after-flush", "replicate.before-publish", "publish.before-lineage",
            "publish.after-lineage", "replicate.after-publish", "replicate.after-adopt",
            "commit.after-abort", "commit.after-delete", "retire.after-mark",
            "retire.after-commit", "retire.after-lineage")
SAMPLE = {("qemu", "replicate.before-publish"), ("libvirtd-a", "copy.after-flush"),
          ("libvirtd-b", "copy.after-flush"), ("libvirtd-b", "retire.after-mark")}


def _cases() -> list[object]:
    return [pytest.param(victim, instant, id=f"{victim}-{instant}",
                         marks=() if (victim, instant) in SAMPLE else pytest.mark.soak)
            for victim in ("qemu", "libvirtd-a", "libvirtd-b") for instant in INSTANTS]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("victim", "instant"), _cases())
def test_a_host_dies(rig: Rig, tmp_path: Path, victim: str, instant: str) -> None:
    gate = tmp_path / "gate"
    before = rig.points()
    rig.server.start(f"{instant}:touch={gate}")
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    wait_for(gate.exists, 60, f"the run comes to {instant}")
    if victim == "qemu":
        rig.guest.kill9()
    else:
        host = rig.lab.hosts[victim[-1]]
        host.kill()
        host.start()
    gate.unlink()

    def ended() -> bool:
        with rig.server.client() as client:
            return bool(client.task(task)["state"] == "ended")

    wait_for(ended, 180, "the task ends")
    with rig.server.client() as client:
        done = client.task(task)
    if done["outcome"] == "failed":
        assert done["error"]["message"] and done["error"]["code"] != "internal.error", done
    if victim == "qemu":
        rig.guest.start()
        rig.guest.wait_ready()
    assert rig.guest.running
    if done["outcome"] != "ok":
        rig.run()
    points = rig.points()
    assert {n: c for n, c in points.items() if n in before} == {
        n: c for n, c in before.items() if n in points}
    # what the next run makes of it is right: its point is the source, also after a compare
    gate_next = tmp_path / "gate-next"
    rig.server.stop()
    rig.server.start(f"replicate.before-publish:touch={gate_next}")
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    wait_for(gate_next.exists, 90, "the next run comes to its commit point")
    at_instant = rig.source_now()
    gate_next.unlink()
    rig.ended(task)
    newest = max(rig.points())
    assert rig.points()[newest] == at_instant
    assert rig.leftovers() == []
    assert rig.guest.running
