"""kill -9 at every named instant: the system converges by itself, and no point is lost or altered.

A sample runs with every ``make test``; ``make soak`` runs them all.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import hotspare
from e2e.rig import Rig, wait_for

_SOURCE = Path(hotspare.__file__).parent
_NAMES = sorted({
    name for path in _SOURCE.rglob("*.py")
    for name in re.findall(r'fault_point\("([a-z0-9.-]+)"\)', path.read_text())})
_STEPS = [f"step.{name}.{end}" for name in (
    "create-replica", "read-configuration", "query-changes", "transfer", "publish", "adopt",
    "retire", "sweep") for end in ("begin", "end")]

REPLICATE = ("replicate.", "source.", "commit.", "publish.", "begin.", "retire.", "copy.",
             "journal.", "plan.", "digests.", "sweep.")
FAILOVER = ("standby.", "failover.")
UNDO = ("discard.", "undo.")
TEST = ("test.", "rehearsal.")
IN_CHILD = {"source.frozen", "source.before-thaw"}
"""Passed in the freeze helper, which is another process: see the source's own tests."""
NOT_HERE = {"digests.after-fold", "sweep.after-delete", "retire.after-seal",
            "rehearsal.after-network"}
"""Not passed by a run of a small disk that keeps several points: few digests to fold, nothing left
to sweep, no merge into the head, no host that makes networks. The target's own crash tests pass the
merge, tests/e2e/test_isolated.py the network."""

SAMPLE = ("source.after-begin", "publish.before-lineage", "publish.after-lineage",
          "replicate.after-adopt", "retire.after-commit", "copy.after-flush",
          "standby.after-define", "discard.after-destroy", "test.after-proof")


def _cases(prefixes: tuple[str, ...], *more: str) -> list[object]:
    names = [n for n in _NAMES if n.startswith(prefixes) and n not in IN_CHILD | NOT_HERE]
    return [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.soak)
            for name in (*names, *more)]


def _killed(rig: Rig) -> None:
    wait_for(lambda: not rig.server.alive, 60, "the process is killed at the fault point")
    rig.server.start()
    rig.settled(90)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("point", _cases(REPLICATE, *_STEPS))
def test_replication_survives(rig: Rig, point: str) -> None:
    before = rig.points()
    rig.server.start(f"{point}:kill")
    with rig.server.client() as client:
        client.start_rule(rig.rule)
    _killed(rig)
    assert rig.guest.running
    with rig.server.client() as client:
        last = client.rule(rig.rule)
    assert last["last_result"] in {"ok", "warning"}, last["last_error"]
    points = rig.points()
    assert max(points) == max(before) + 1, "the killed run's point is published, once"
    assert {n: c for n, c in points.items() if n in before} == {
        n: c for n, c in before.items() if n in points}
    assert rig.leftovers() == []
    figures = rig.run()["figures"]
    assert figures["compared"] == 0, "tracking was lost: the next run had to compare"
    assert rig.leftovers() == []


@pytest.mark.timeout(240)
@pytest.mark.parametrize("point", _cases(FAILOVER + UNDO))
def test_failover_and_undo_survive(rig: Rig, point: str) -> None:
    undo = point.startswith(UNDO)
    rig.server.start("" if undo else f"{point}:kill")
    before = rig.points()
    with rig.server.client() as client:
        task = client.failover(rig.rule, min(before))
    if undo:
        rig.ended(task)
        rig.server.stop()
        rig.server.start(f"{point}:kill")
        with rig.server.client() as client:
            client.undo(rig.rule)
    _killed(rig)
    with rig.server.client() as client:
        if not undo:
            assert client.rule(rig.rule)["state"] == "temporary-failover"
            assert not rig.lab.guest(rig.lab.b, rig.guest.name).wait_ready().bad
            rig.ended(client.undo(rig.rule))
        assert client.rule(rig.rule)["state"] != "temporary-failover"
    assert rig.points() == before
    assert rig.leftovers() == []
    assert rig.guest.running


@pytest.mark.timeout(240)
@pytest.mark.parametrize("point", _cases(TEST, "standby.after-define"))
def test_a_test_survives(rig: Rig, point: str) -> None:
    before = rig.points()
    rig.server.start(f"{point}:kill")
    with rig.server.client() as client:
        task = client.start_test(rig.rule, {"heartbeat": True})
    _killed(rig)
    assert rig.ended(task)["outcome"] == "ok"
    with rig.server.client() as client:
        newest, *older = client.tests(rig.rule)
        assert (newest["task"], newest["verdict"]) == (task, "passed")
        assert task not in {t["task"] for t in older}, "its verdict is there once"
    assert rig.points() == before
    assert rig.leftovers() == []
    assert rig.guest.running
