"""A transfer that is stopped, ended with its server, or killed goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hotspare.platforms.libvirt import jobs

from .rig import Rig, content, gated_end, hotspare, wait_for

MIB = 1 << 20
BANDWIDTH = 2 * MIB
GATE = "replicate.before-publish#*:touch={}"


def fill(rig: Rig, mib: int) -> None:
    """Put new data into the guest that neither compresses nor repeats."""
    done = rig.guest.exec(f"dd if=/dev/urandom of=/data/filled-{time.time_ns()} bs=1M "
                          f"count={mib} && sync")
    assert done.rc == 0, done.err


def half_way(rig: Rig, task: int) -> dict[str, Any]:
    """Wait until half of the data is at the target; the progress as an operator sees it."""
    def half() -> Any:
        with rig.server.client() as client:
            found = client.task(task)
        assert found["state"] != "ended", rig.story()
        now = found["progress"]
        if now is None or now["step"] != "transfer" or not now["total"]:
            return None
        return now if now["done"] >= now["total"] / 2 else None

    return dict(wait_for(half, 60, "half of the data is transferred"))


def ends_right(rig: Rig, task: int, gate: Path, before: dict[str, Any]) -> None:
    """The task ends well, its point is right, and nothing was sent a second time."""
    ended, at_instant = gated_end(rig, task, gate)
    figures = ended["figures"]
    # what was in flight, and what the guest changed meanwhile, comes on top once
    limit = max(1.1 * before["total"], before["total"] + 2 * MIB)
    assert before["done"] + figures["bytes_moved"] <= limit, (before, figures)
    assert figures["compared"] == 0, "what was transferred is known, not compared"
    points = rig.points()
    assert points[max(points)] == at_instant
    assert rig.leftovers() == []
    assert rig.guest.running


@pytest.mark.timeout(300)
def test_stopped_ended_and_killed(rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), boot="kernel", rate=1.0)
    fill(rig, 14)
    rig.protect(bandwidth=BANDWIDTH)

    # an operator stops it
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    now = half_way(rig, task)
    assert now["total"] >= 15 * BANDWIDTH, "the whole copy would take 15 s or more"
    assert 0.6 * BANDWIDTH <= now["rate"] <= 1.3 * BANDWIDTH, now
    assert 0 < now["seconds_left"] <= 3 * now["total"] / BANDWIDTH, now
    shown = hotspare(rig.server, "task", "list")
    assert "transfer: " in shown.out and " %" in shown.out
    with rig.server.client() as client:
        asked = time.time()
        client.stop_rule(rig.rule)
    stopped = rig.ended(task, 20, outcome="stopped")
    assert stopped["ended_at"] - asked <= 2.0
    assert stopped["error"]["code"] == "task.stopped"
    assert jobs.find_job(rig.guest.domain()) is None, "nothing stays open on the source"
    with rig.server.client() as client:
        rule = client.rule(rig.rule)
    assert (rule["state"], rule["last_result"]) == ("stopped", "stopped")
    assert rig.numbers() == []
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    ends_right(rig, task, gate, stopped["progress"])
    with rig.server.client() as client:
        codes = [line["code"] for line in client.task_log(task)]
    assert "replicate.continues" in codes

    # its server ends in mid-transfer: nothing stays open, and it goes on by itself
    fill(rig, 10)
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    now = half_way(rig, task)
    rig.server.stop()
    assert jobs.find_job(rig.guest.domain()) is None, "nothing stays open while we are away"
    rig.server.start(GATE.format(gate))
    ends_right(rig, task, gate, now)

    # its server is killed in mid-transfer
    fill(rig, 10)
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    now = half_way(rig, task)
    rig.server.kill()
    rig.server.start(GATE.format(gate))
    ends_right(rig, task, gate, now)
    assert rig.numbers() == [1, 2, 3]
    rig.check_images()


@pytest.mark.timeout(200)
def test_stopped_while_its_process_was_dead(rig_factory: Callable[..., Rig],
                                            tmp_path: Path) -> None:
    """The instant that the killed process left open is let go; the next run takes one of its own,
    and goes on with what is there."""
    gate = tmp_path / "gate"
    rig = rig_factory(boot="kernel", rate=1.0)
    fill(rig, 14)
    rig.protect(bandwidth=BANDWIDTH)
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    now = half_way(rig, task)
    rig.server.kill()
    assert jobs.find_job(rig.guest.domain()) is not None
    rig.server.start(f"step.transfer.begin:touch={gate}")
    wait_for(gate.exists, 60, "it is about to go on")
    with rig.server.client() as client:
        client.stop_rule(rig.rule)
    gate.unlink()
    rig.ended(task, 30, outcome="stopped")
    assert jobs.find_job(rig.guest.domain()) is None, "nothing stays open on the source"

    rig.guest.wait_records(rig.guest.journal_count() + 3)
    rig.guest.shutdown()
    again = rig.run()
    assert again["figures"]["bytes_moved"] <= 1.1 * now["total"] - now["done"] + 2 * MIB
    assert list(rig.points()[1].values()) == [
        content(str(path), "qcow2") for path in rig.guest.disk_paths], "the point is of now"
    assert rig.leftovers() == []
