"""Proof of points on real guests: what rots at the target is found, marked, passed over and mended;
a source whose tracking lies is caught."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .rig import Rig, content, hotspare, wait_for
from .rot import BLOCK, blocks, own_data, rot
from .test_events import GATE, fill, right_run

MIB = 1 << 20


def scrub(rig: Rig, *options: str, timeout_s: float = 120) -> Any:
    """One scrub, to its end: the task, with the command's exit code."""
    said = hotspare(rig.server, "point", "scrub", rig.rule, *options, "--wait", "--json",
                    timeout_s=timeout_s)
    assert said.out, said.err
    return said.json | {"exit": said.exit}


def marked(rig: Rig) -> dict[int, int]:
    """Damaged bytes by point."""
    with rig.server.client() as client:
        return {p["number"]: p["damaged"] for p in client.points(rig.rule)
                if p["damaged_at"] is not None}


def files(rig: Rig) -> dict[int, Path]:
    return {p.number: rig.storage_dir / p.disks[0].file for p in rig.lineage().points}


def codes(rig: Rig) -> list[str]:
    with rig.server.client() as client:
        return [line["code"] for line in client.rule_log(rig.rule)]


def spoilt(rig: Rig, before: dict[int, dict[str, str]]) -> set[int]:
    """Points that read differently now: the truth about which are damaged."""
    now = rig.points()
    return {number for number in before if now[number] != before[number]}


@pytest.mark.timeout(300)
def test_rot_is_found_marked_passed_over_and_mended(
        rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), boot="kernel", rate=5.0)
    rig.protect()
    right_run(rig, gate)
    fill(rig, 4, "/data/a")
    right_run(rig, gate)
    fill(rig, 4, "/data/b")
    right_run(rig, gate)
    good = scrub(rig)
    assert (good["exit"], good["outcome"], good["figures"]["damaged"]) == (0, "ok", 0)
    assert good["figures"]["bytes_read"] > 8 * MIB
    every = scrub(rig, "--all")
    assert (every["exit"], every["figures"]["points"]) == (0, 3)
    assert marked(rig) == {}
    assert rig.leftovers() == []

    # a block that the second point wrote and the third did not: both read through it
    before, images = rig.points(), files(rig)
    second, third = blocks(images[2]), blocks(images[3])
    kept = sorted(second.keys() - third.keys())
    rot(images[2], second[kept[len(kept) // 2]] + 1000)
    rot(images[2], second[kept[0]])
    assert spoilt(rig, before) == {2, 3}
    bad = scrub(rig)
    assert bad["exit"] != 0 and bad["error"]["code"] == "scrub.found-damage"
    assert bad["figures"]["damaged"] == 2
    assert marked(rig) == {2: 2 * BLOCK, 3: 2 * BLOCK}
    assert codes(rig).count("point.damaged") == 2
    assert rig.leftovers() == []
    shown = hotspare(rig.server, "point", "list", rig.rule).out
    assert shown.count("DAMAGED") == 2

    # no failover takes them by itself
    for damaged in ("2", "3"):
        said = hotspare(rig.server, "failover", rig.rule, "--point", damaged, "--json")
        assert said.json["error"]["code"] == "rule.point-damaged"
    done = hotspare(rig.server, "failover", rig.rule, "--unplugged", "--wait", "--json")
    assert done.exit == 0, done.err + rig.story()
    assert done.json["point"] == 1
    assert "failover.passed-over" in codes(rig)
    assert hotspare(rig.server, "undo", rig.rule, "--wait").exit == 0

    # the next run mends: the new point is right, the old ones stay as they are
    fill(rig, 1, "/data/c")
    figures = right_run(rig, gate)
    assert figures["mended"] == 2 * BLOCK
    assert figures["bytes_moved"] < 8 * MIB, "only what changed and what was wrong"
    assert marked(rig) == {2: 2 * BLOCK, 3: 2 * BLOCK}
    assert scrub(rig)["exit"] == 0
    done = hotspare(rig.server, "failover", rig.rule, "--unplugged", "--wait", "--json")
    assert done.json["point"] == 4
    replica = rig.lab.guest(rig.lab.b, rig.guest.name)
    replica.wait_agent(90)
    assert not replica.verified().bad
    assert hotspare(rig.server, "undo", rig.rule, "--wait").exit == 0
    # one that is damaged can be had by saying so
    done = hotspare(rig.server, "failover", rig.rule, "--point", "3", "--damaged", "--unplugged",
                    "--wait", "--json")
    assert done.exit == 0 and done.json["point"] == 3
    assert hotspare(rig.server, "undo", rig.rule, "--wait").exit == 0
    # put back by hand, it is good again: nothing but the content decides
    rot(images[2], second[kept[len(kept) // 2]] + 1000)
    rot(images[2], second[kept[0]])
    assert scrub(rig, "--all")["exit"] == 0
    assert marked(rig) == {}
    assert rig.leftovers() == []


@pytest.mark.timeout(300)
def test_rot_in_old_points_in_the_head_and_where_all_is_zero(
        rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    """Only a scrub of all points sees what younger ones do not read through."""
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), boot="kernel", rate=5.0)
    rig.protect()
    fill(rig, 4, "/data/a")
    right_run(rig, gate)
    for _ in range(2):
        done = rig.guest.exec("dd if=/dev/urandom of=/data/a bs=1M count=4 conv=notrunc && sync")
        assert done.rc == 0
        right_run(rig, gate)
    before, images = rig.points(), files(rig)
    owned = {n: blocks(image) for n, image in images.items()}
    hidden = sorted(owned[1].keys() & owned[2].keys())
    rot(images[1], owned[1][hidden[0]])             # only the first point sees it
    assert spoilt(rig, before) == {1}
    assert scrub(rig)["exit"] == 0
    assert marked(rig) == {}
    assert scrub(rig, "--all")["exit"] != 0
    assert marked(rig) == {1: BLOCK}
    # of the head itself
    head = sorted(owned[3])
    rot(images[3], owned[3][head[-1]] + BLOCK - 16)
    assert spoilt(rig, before) == {1, 3}
    assert scrub(rig, "--point", "3")["exit"] != 0
    assert marked(rig) == {1: BLOCK, 3: BLOCK}
    # a run that is under way as the damage is found makes a point that has it, too: it is marked
    figures = right_run(rig, gate)
    assert figures["mended"] == BLOCK
    assert marked(rig) == {1: BLOCK, 3: BLOCK}
    assert scrub(rig, "--all")["exit"] != 0
    assert marked(rig) == {1: BLOCK, 3: BLOCK}


@pytest.mark.timeout(300)
def test_a_scrub_of_a_busy_rule_finishes(rig_factory: Callable[..., Rig]) -> None:
    """Runs every ten seconds, each with a merge, and a scrub beside them that takes longer than
    its point would be kept."""
    rig = rig_factory(boot="kernel", rate=20.0)
    fill(rig, 32)
    rig.protect(retention=2, bandwidth=64 * MIB)
    rig.run()
    rig.run()
    rig.run()
    with rig.server.client() as client:
        client.edit_rule(rig.rule, {
            "schedule": {"kind": "interval", "every_s": 10},
            "bandwidth": [{"days": [1, 2, 3, 4, 5, 6, 7], "start": 0, "end": 1440,
                           "limit": 3 * MIB // 2}]})
        client.start_rule(rig.rule)
        before = client.rule(rig.rule)["latest_point"]
    done = scrub(rig, timeout_s=200)
    assert done["exit"] == 0, rig.story()
    with rig.server.client() as client:
        rule = client.rule(rig.rule)
        assert rule["latest_point"] >= before + 2, "replication went on meanwhile"
        assert rule["last_result"] == "ok"
        client.stop_rule(rig.rule)
    took = done["ended_at"] - done["started_at"]
    assert done["figures"]["bytes_read"] > 20 * MIB
    assert done["figures"]["points"] == 1
    print(f"scrub of {done['figures']['bytes_read'] >> 20} MiB beside runs: {took:.1f} s")
    rig.settled()
    rig.run()
    assert len(rig.numbers()) == 2, "what the scrub kept is merged now"
    assert rig.leftovers() == []


@pytest.mark.timeout(300)
def test_stopped_killed_and_cut_off(rig_factory: Callable[..., Rig]) -> None:
    rig = rig_factory(boot="kernel", rate=5.0)
    fill(rig, 16)
    rig.protect()
    rig.run()

    # stopped, within a second
    with rig.server.client() as client:
        client.edit_rule(rig.rule, {"bandwidth": [
            {"days": [1, 2, 3, 4, 5, 6, 7], "start": 0, "end": 1440, "limit": 512 * 1024}]})
        task = client.scrub(rig.rule, None, False)

        def reads() -> bool:
            progress = client.task(task)["progress"]
            return bool(progress and 0 < progress["done"] < progress["total"])

        wait_for(reads, 30, "it reads")
        refused = hotspare(rig.server, "rule", "delete", rig.rule, "--yes", "--json")
        assert refused.json["error"]["code"] == "rule.looked-at"
        began = time.monotonic()
        stopped = hotspare(rig.server, "task", "stop", str(task), "--json")
        assert stopped.json["outcome"] == "stopped"
        ended = stopped.json["ended_at"]
        assert time.monotonic() - began < 4, "the command starts slowly"
        log = client.task_log(task)
        assert ended - log[-1]["at"] < 1.5
        client.edit_rule(rig.rule, {"bandwidth": []})
    assert rig.leftovers() == []

    # killed: it goes on, and leaves nothing
    rig.server.stop()
    rig.server.start(fault="scrub.after-stretch:kill")
    with rig.server.client() as client:
        task = client.scrub(rig.rule, None, True)
    rig.server.wait_dead(60)
    rig.server.start()
    ended_task = rig.ended(task)
    assert ended_task["figures"]["damaged"] == 0
    assert rig.leftovers() == []

    # the target goes away in the middle: no point is called damaged for that
    with rig.server.client() as client:
        client.edit_rule(rig.rule, {"bandwidth": [
            {"days": [1, 2, 3, 4, 5, 6, 7], "start": 0, "end": 1440, "limit": 2 * MIB}]})
        task = client.scrub(rig.rule, None, False)
        wait_for(reads, 30, "it reads")
    rig.lab.b.kill()
    for pid in list(rig.lab.b.qemu_pids().values()):
        os.kill(pid, signal.SIGKILL)
    time.sleep(3)
    rig.lab.b.start()
    with rig.server.client() as client:
        client.edit_rule(rig.rule, {"bandwidth": []})
    ended_task = rig.ended(task)
    assert ended_task["figures"]["damaged"] == 0
    assert marked(rig) == {}
    rig.run()                       # its sweep takes what the dead host left
    assert rig.leftovers() == []


@pytest.mark.timeout(300)
def test_a_replica_that_was_written_is_mended_when_it_is_asked_for(
        rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), boot="kernel", rate=5.0)
    rig.protect()
    right_run(rig, gate)
    fill(rig, 2)
    right_run(rig, gate)
    head = files(rig)[2]
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x77 1M 192k", "-c",
                    "write -z 3M 64k", str(head)], check=True, capture_output=True)
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    failed = rig.ended(task, outcome="failed")
    assert failed["error"]["code"] == "replica.changed"
    assert "--repair" in failed["error"]["remedy"]
    foreign = content(str(head), "qcow2")

    with rig.server.client() as client:
        task = client.start_rule(rig.rule, repair=True)
    wait_for(gate.exists, 60, "the run comes to its commit point")
    source = rig.source_now()
    gate.unlink()
    done = rig.ended(task)
    assert 3 * BLOCK <= done["figures"]["mended"] <= 6 * BLOCK
    assert content(str(head), "qcow2") == foreign, "what was changed is not overwritten"
    assert rig.points()[3] == source
    assert set(marked(rig)) == {2}
    assert scrub(rig, "--point", "3")["exit"] == 0
    right_run(rig, gate)            # and the seal is good


@pytest.mark.timeout(300)
def test_a_compare_catches_tracking_that_lies(
        rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), boot="kernel", rate=5.0)
    rig.protect()
    fill(rig, 4, "/data/lie")
    right_run(rig, gate)
    with rig.server.client() as client:
        task = client.start_rule(rig.rule, compare=True)
    wait_for(gate.exists, 60, "the commit point")
    gate.unlink()
    honest = rig.ended(task)
    assert honest["figures"]["missed"] == 0 and honest["figures"]["compared"] > 4 * MIB
    assert "replicate.compared" in codes(rig)
    assert honest["figures"].get("full_reason") is None

    rig.guest.shutdown()
    right_run(rig, gate)
    disk = rig.guest.disk_paths[0]
    piece = max(own_data(disk), key=lambda p: p.length)
    rot(disk, piece.offset + piece.length // 2 // BLOCK * BLOCK)
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    wait_for(gate.exists, 60, "the commit point")
    gate.unlink()
    rig.ended(task)
    points = rig.points()
    assert points[max(points)]["vda"] != content(str(disk), "qcow2"), "nothing told of it"
    with rig.server.client() as client:
        task = client.start_rule(rig.rule, compare=True)
    wait_for(gate.exists, 60, "the commit point")
    gate.unlink()
    lied = rig.ended(task, outcome="warning")
    assert lied["figures"]["missed"] == BLOCK
    points = rig.points()
    assert points[max(points)]["vda"] == content(str(disk), "qcow2")
    assert "replicate.tracking-lied" in codes(rig)


@pytest.mark.timeout(300)
def test_files_that_are_gone_and_tables_that_are_damaged(rig_factory: Callable[..., Rig]) -> None:
    rig = rig_factory(boot="kernel", rate=5.0)
    rig.protect()
    fill(rig, 2)
    rig.run()
    rig.guest.shutdown()
    rig.run()
    rig.run()
    images, lineage = files(rig), rig.lineage()
    # no image any more, and not there at all: both are a point that cannot be opened
    whole = images[3].read_bytes()
    images[3].write_bytes(b"not an image" + whole[12:])
    assert scrub(rig, "--all")["error"]["code"] == "scrub.found-damage"
    assert set(marked(rig)) == {3}
    images[3].unlink()
    assert scrub(rig)["error"]["code"] == "scrub.found-damage"
    images[3].write_bytes(whole)
    assert scrub(rig)["exit"] == 0 and marked(rig) == {}
    # without its digests nothing can be proven, nor is anything blamed
    table = rig.storage_dir / lineage.points[1].digests[0].name
    rot(table, 100)
    assert scrub(rig)["error"]["code"] == "blob.changed"
    assert marked(rig) == {}
    assert scrub(rig, "--point", "1")["exit"] == 0, "the first does not need that table"
    rot(table, 100)
    assert scrub(rig, "--all")["exit"] == 0
    rig.run()
    assert rig.leftovers() == []


KILLS = ("replicate.intent", "plan.after-write", "replicate.instant-open", "journal.after-sync",
         "replicate.before-publish", "replicate.after-publish", "replicate.after-adopt",
         "replicate.after-commit")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("foreign", [
    pytest.param(False, marks=pytest.mark.soak, id="rot"), pytest.param(True, id="foreign")])
def test_a_repair_that_is_killed_is_finished(rig_factory: Callable[..., Rig], foreign: bool
                                             ) -> None:
    rig = rig_factory(boot="kernel", rate=5.0)
    fill(rig, 4)
    rig.protect(retention=3)
    rig.run()
    rig.guest.shutdown()
    source = content(str(rig.guest.disk_paths[0]), "qcow2")
    rig.run()
    for name in KILLS[::2] if foreign else KILLS:
        head = files(rig)[max(rig.numbers())]
        if foreign:
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x77 1M 128k", str(head)],
                           check=True, capture_output=True)
        else:
            image, owned = next((image, owned) for image in reversed(files(rig).values())
                                if (owned := blocks(image)))
            rot(image, owned[sorted(owned)[len(owned) // 3]])
            assert scrub(rig)["exit"] != 0
        bad = max(rig.numbers())
        rig.server.stop()
        rig.server.start(fault=f"{name}:kill")
        with rig.server.client() as client:
            task = client.start_rule(rig.rule, repair=foreign)
        rig.server.wait_dead(60)
        rig.server.start()
        ended = rig.ended(task)
        assert ended["figures"]["mended"] >= BLOCK, name
        newest = max(rig.numbers())
        assert newest == bad + 1, name
        assert rig.points()[newest]["vda"] == source, name
        assert bad in marked(rig) and newest not in marked(rig), (name, marked(rig))
        assert rig.leftovers() == [], name
    assert scrub(rig)["exit"] == 0
