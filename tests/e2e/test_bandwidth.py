"""Weekly ranges on a real guest: a transfer stands still for a range of 0 and goes on after it, no
instant is taken inside one, and one that would be held for too long is let go."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hotspare.platforms.libvirt import jobs

from .rig import Rig, gated_end, hotspare, wait_for
from .test_stop_resume import GATE, MIB, fill

if TYPE_CHECKING:
    from testbeds.kvm import Lab

RATE = 2 * MIB
EARLY = """
import sys
from functools import partial
from hotspare.cli.main import main
from hotspare.dataplane.tuning import Tuning
from hotspare.worker import machine
machine.start = partial(machine.start, tuning=Tuning(instant_age_s=5.0))
main()
"""
"""The real program, with patience for paused instants of five seconds in place of two hours."""


def ranges(*zero: float, rest: int | None = RATE) -> list[dict[str, Any]]:
    """All week at ``rest``, but 0 in the minutes (UTC) of the given instants."""
    minutes = sorted((at.isoweekday(), at.hour * 60 + at.minute)
                     for at in (datetime.fromtimestamp(z, UTC) for z in zero))
    found = [(day, minute, minute + 1, 0) for day, minute in minutes]
    if rest is not None:
        for day in range(1, 8):
            cuts = [0, *(m for d, minute in minutes if d == day for m in (minute, minute + 1)),
                    1440]
            found += [(day, start, end, rest)
                      for start, end in zip(cuts[::2], cuts[1::2], strict=True) if start < end]
    return [{"days": [day], "start": start, "end": end, "limit": limit}
            for day, start, end, limit in found]


def next_minute(least_s: float) -> float:
    """The first whole minute that is at least so far away."""
    return (time.time() + least_s) // 60 * 60 + 60


def pause_of(rig: Rig) -> Any:
    with rig.server.client() as client:
        return client.rule(rig.rule)["pause"]


def edit(rig: Rig, bandwidth: list[dict[str, Any]]) -> None:
    with rig.server.client() as client:
        client.edit_rule(rig.rule, {"bandwidth": bandwidth})


def done_of(rig: Rig, task: int) -> int:
    with rig.server.client() as client:
        found = client.task(task)
    assert found["state"] != "ended", rig.story()
    now = found["progress"]
    return int(now["done"]) if now is not None and now["step"] == "transfer" else 0


def codes(rig: Rig, task: int) -> list[str]:
    with rig.server.client() as client:
        return [line["code"] for line in client.task_log(task)]


def written(rig: Rig) -> int:
    """How far the unpublished layer has grown at the target."""
    return sum(p.stat().st_size for p in rig.storage_dir.glob(f"hs-{rig.rule_id}*"))


def lan_free(rig: Rig, wanted: bool) -> None:
    """Refused when it is asked for on KVM; this stands for a rule whose platform has changed."""
    with sqlite3.connect(rig.server.state_dir / "hotspare.db") as database:
        assert database.execute("UPDATE rule SET lan_free = ?", (wanted,)).rowcount == 1


def growth(rig: Rig, until: float) -> list[float]:
    """Instants at which the target's files were seen to have grown."""
    seen, last = [], written(rig)
    while time.time() < until:
        time.sleep(0.05)
        now = written(rig)
        if now != last:
            seen.append(time.time())
            last = now
    return seen


def instant(rig: Rig) -> Any:
    job = jobs.find_job(rig.guest.domain())
    return job and job.intent


@pytest.mark.timeout(400)
def test_a_range_of_zero_pauses_and_no_instant_is_taken_in_it(
        rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), boot="kernel", rate=1.0)
    fill(rig, 24)
    rig.protect()
    edge = next_minute(30)
    edit(rig, ranges(edge, rest=MIB))
    wait_for(lambda: time.time() > edge - 25, 80, "shortly before the range")
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    wait_for(lambda: done_of(rig, task) > 0, edge - time.time(), "the transfer has begun")
    held = instant(rig)
    assert held is not None

    # the edge itself
    grew = growth(rig, edge + 8)
    assert [at for at in grew if at < edge], "it moves until the range begins"
    assert all(at <= edge + 1 for at in grew), f"{max(grew) - edge:.2f} s late"
    done = done_of(rig, task)
    assert done > 0
    pause = pause_of(rig)
    assert (pause["code"], pause["fields"]["until"]) == ("pause.rule", edge + 60)
    told = f"Paused until {datetime.fromtimestamp(edge + 60, UTC):%Y-%m-%d %H:%M} UTC"
    assert told in pause["message"]
    assert told in hotspare(rig.server, "rule", "show", rig.rule).out

    # a killed process finds the pause and its instant again
    rig.server.kill()
    rig.server.start(GATE.format(gate))
    wait_for(lambda: pause_of(rig) is not None, 10, "still paused")
    assert not growth(rig, edge + 30)
    assert instant(rig) == held
    assert pause_of(rig)["fields"]["until"] == edge + 60

    # the other edge
    wait_for(lambda: time.time() > edge + 57, 60, "the end of the range is near")
    grew = growth(rig, edge + 63)
    assert grew and edge + 60 <= grew[0] <= edge + 61, grew[:3]
    assert pause_of(rig) is None
    ended, at_instant = gated_end(rig, task, gate)
    assert rig.points() == {1: at_instant}, "the instant of before the pause"
    figures = ended["figures"]
    assert figures["full"] and figures["compared"] == 0
    assert figures["bytes_queried"] >= figures["bytes_read"] >= figures["bytes_moved"] > 0
    assert {"pause.rule", "pause.over"} <= set(codes(rig, task))

    # inside a range (and shortly before one) no instant is taken; an edit lets it go on at once
    edge = next_minute(5)
    edit(rig, ranges(edge - 60, edge, rest=None))
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    wait_for(lambda: pause_of(rig) is not None, 20, "the run waits")
    until = time.time() + 3
    while time.time() < until:
        assert instant(rig) is None, "nothing is open meanwhile"
        time.sleep(0.1)
    with rig.server.client() as client:
        assert client.rule(rig.rule)["live_task"] is not None
    edit(rig, [])
    edited = time.time()
    wait_for(lambda: instant(rig) is not None or gate.exists(), 20, "the instant")
    assert time.time() < edited + 6
    ended, at_instant = gated_end(rig, task, gate)
    assert rig.points()[2] == at_instant
    taken = rig.lineage().points[-1].taken_at
    assert taken > edited - 1
    assert not ended["figures"]["full"]
    assert rig.leftovers() == []
    rig.check_images()


@pytest.mark.timeout(300)
def test_a_pause_that_lasts_lets_the_instant_go(rig_factory: Callable[..., Rig],
                                                tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory("", boot="kernel", rate=1.0)
    rig.server.stop()
    rig.server.program = [sys.executable, "-c", EARLY]
    rig.server.start(GATE.format(gate))
    fill(rig, 16)
    rig.protect(bandwidth=RATE)
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    wait_for(lambda: done_of(rig, task) > 8 * MIB, 60, "some of it is transferred")
    first = instant(rig)
    edit(rig, [{"days": [1, 2, 3, 4, 5, 6, 7], "start": 0, "end": 1440, "limit": 0}])
    wait_for(lambda: pause_of(rig) is not None, 2, "an edit pauses within a second or two")
    assert pause_of(rig)["fields"]["until"] is None
    wait_for(lambda: instant(rig) is None, 12, "the instant is let go")
    wait_for(lambda: "replicate.next-pass" in codes(rig, task), 5, "and it says so")
    fill(rig, 2)
    done = written(rig)
    assert pause_of(rig) is not None and instant(rig) is None
    with rig.server.client() as client:
        assert client.rule(rig.rule)["live_task"] == task

    edit(rig, [])
    ended, at_instant = gated_end(rig, task, gate)
    assert rig.points() == {1: at_instant}, "the newer instant"
    assert done > 8 * MIB
    figures = ended["figures"]
    assert figures["compared"] == 0, "what was transferred is known, not compared"
    assert figures["bytes_moved"] <= figures["bytes_queried"]
    assert figures["full"] and figures["retries"] == 0 and first is not None
    assert rig.leftovers() == []
    rig.check_images()
    # the next run is an ordinary one
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    ended, at_instant = gated_end(rig, task, gate)
    assert rig.points()[2] == at_instant
    assert not ended["figures"]["full"] and ended["figures"]["compared"] == 0


@pytest.fixture
def small_scratch(lab: Lab) -> Iterator[Path]:
    """A file system of 24 MiB at the source."""
    place = lab.dir / "paused-scratch"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o",
                    f"size=24m,uid={lab.a.identity.uid},mode=700", "none", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


def overwrite(rig: Rig, mib: int) -> None:
    done = rig.guest.exec(f"dd if=/dev/urandom of=/data/big bs=1M count={mib} conv=notrunc,fsync")
    assert done.rc == 0, done.err


@pytest.mark.timeout(300)
def test_a_pause_in_which_scratch_space_runs_low_lets_the_instant_go(
        rig_factory: Callable[..., Rig], tmp_path: Path, small_scratch: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), boot="kernel", rate=1.0)
    overwrite(rig, 24)
    rig.protect()
    with rig.server.client() as client:
        client.edit_platform("site-a", {"options": {
            "scratch_dir": str(small_scratch), "scratch_reserve": str(10 * MIB)}})
        wait_for(lambda: client.platform("site-a")["state"] == "ok", 60, "it is checked anew")
        first = client.start_rule(rig.rule)
    gated_end(rig, first, gate)

    overwrite(rig, 24)
    edit(rig, ranges(rest=RATE))
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    wait_for(lambda: done_of(rig, task) > 4 * MIB, 60, "some of it is transferred")
    # for twenty minutes, which is no reason to let it go
    edit(rig, ranges(*(time.time() + 60 * minute for minute in range(20))))
    wait_for(lambda: pause_of(rig) is not None, 5, "it is paused")
    held, moved = instant(rig), written(rig)
    assert held is not None
    overwrite(rig, 20)                      # what is overwritten was not transferred yet
    wait_for(lambda: instant(rig) is None, 30, "the instant is let go")
    assert list(small_scratch.iterdir()) == [], "and its space is free"
    assert rig.guest.running and pause_of(rig) is not None
    wait_for(lambda: "replicate.next-pass" in codes(rig, task), 10, "and that is said")
    with rig.server.client() as client:
        [said] = [line for line in client.task_log(task) if line["code"] == "replicate.next-pass"]
        assert said["fields"]["reason"] == "source.scratch-low" and said["level"] == "info"
        assert client.rule(rig.rule)["live_task"] == task
    assert written(rig) >= moved, "what was transferred is kept"

    edit(rig, [])
    ended, at_instant = gated_end(rig, task, gate)
    assert rig.points()[2] == at_instant, "the newer instant"
    figures = ended["figures"]
    assert not figures["full"] and figures["compared"] == 0
    assert rig.leftovers() == []
    rig.check_images()


@pytest.mark.timeout(300)
def test_fast_transfer_off_and_lan_free(rig_factory: Callable[..., Rig], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    rig = rig_factory(GATE.format(gate), boot="kernel", rate=1.0)
    fill(rig, 8)
    rig.protect(fast_transfer=False)
    lan_free(rig, True)
    moved = []
    for number in (1, 2):
        with rig.server.client() as client:
            task = client.start_rule(rig.rule)
        ended, at_instant = gated_end(rig, task, gate)
        assert rig.points()[number] == at_instant
        said = codes(rig, task)
        assert said.count("tracking.off") == said.count("transport.lan-free-unavailable") == 1
        assert "replicate.compare" not in said
        figures = ended["figures"]
        assert figures["full"]
        size = sum(d.size for d in rig.lineage().points[-1].disks)
        assert figures["bytes_queried"] == size
        assert figures["bytes_read"] > 8 * MIB
        moved.append(figures["bytes_moved"])
        fill(rig, 1)
    assert figures["compared"] > 0, "all of it is read, and compared"
    assert moved[1] < moved[0] / 2, "only differences are sent"
    lan_free(rig, False)
    # stopped half-way, it still says what it has done
    edit(rig, ranges(rest=RATE))
    fill(rig, 6)
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    wait_for(lambda: done_of(rig, task) > 2 * MIB, 60, "some of it is read")
    with rig.server.client() as client:
        client.stop_rule(rig.rule)
    stopped = rig.ended(task, 20, outcome="stopped")["figures"]
    assert stopped["bytes_read"] >= 2 * MIB and stopped["full"]
    assert stopped["stall_s"] > 0

    # the DR machine's own ranges: its 0 is lower than the rule's limit
    assert hotspare(rig.server, "machine", "set", "local", "--bandwidth", "daily 0").exit == 0
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    wait_for(lambda: pause_of(rig) is not None, 20, "the machine's range pauses")
    assert (pause_of(rig)["code"], pause_of(rig)["fields"]["until"]) == (
        "pause.machine-no-end", None)
    assert instant(rig) is None
    assert hotspare(rig.server, "machine", "set", "local", "--bandwidth", "none").exit == 0
    edit(rig, [])
    ended, at_instant = gated_end(rig, task, gate)
    assert rig.points()[3] == at_instant
    assert ended["figures"]["full"], "what the stopped task kept does not make it less"
    assert rig.leftovers() == []
