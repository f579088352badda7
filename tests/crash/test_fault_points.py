"""kill -9 at every named instant: the system converges by itself, and no point is lost or altered.

A sample runs with every ``make test``; ``make soak`` runs them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import hotspare
from e2e.rig import Rig, wait_for

_SOURCE = Path(hotspare.__file__).parent
_NAMES = sorted({
    name for path in _SOURCE.rglob("*.py")
    for name in re.findall(r'fault_point\(f?"([a-z0-9.{}-]+)"\)', path.read_text())
    if "{" not in name})
_STEPS = [f"step.{name}.{end}" for name in (
    "create-replica", "read-configuration", "query-changes", "transfer", "publish", "adopt",
    "retire", "sweep") for end in ("begin", "end")]

REPLICATE = ("replicate.", "source.", "commit.", "publish.", "begin.", "retire.", "copy.",
             "journal.", "plan.", "digests.", "sweep.")
FAILOVER = ("standby.", "failover.")
UNDO = ("discard.", "undo.")
IN_CHILD = {"source.frozen", "source.before-thaw"}
"""Passed in the freeze helper, which is another process: see the source's own tests."""

SAMPLE = ("source.after-begin", "publish.before-lineage", "publish.after-lineage",
          "replicate.after-adopt", "retire.after-commit", "copy.after-flush")


def _of(prefixes: tuple[str, ...]) -> list[str]:
    return [n for n in _NAMES if n.startswith(prefixes) and n not in IN_CHILD]


def _sampled(names: list[str]) -> list[object]:
    return [name if name in SAMPLE else pytest.param(name, marks=pytest.mark.soak)
            for name in names]


def _two_points(rig_factory: Callable[..., Rig]) -> Rig:
    rig = rig_factory(boot="kernel", rate=20.0)
    rig.protect(retention=2)
    for _ in range(2):
        rig.run()
    return rig


@pytest.mark.timeout(240)
@pytest.mark.parametrize("point", _sampled([*_of(REPLICATE), *_STEPS]))
def test_replication_survives(rig_factory: Callable[..., Rig], point: str) -> None:
    rig = _two_points(rig_factory)
    before = rig.points()
    rig.server.stop()
    rig.server.start(f"{point}:kill")
    with rig.server.client() as client:
        client.start_rule(rig.rule)
    try:
        wait_for(lambda: not rig.server.alive, 60, "the process is killed")
    except AssertionError:
        rig.settled()
        pytest.skip(f"{point} is not passed by a third run")
    rig.server.start()
    rig.settled(90)
    assert rig.guest.running
    with rig.server.client() as client:
        last = client.rule(rig.rule)
    assert last["last_result"] in {"ok", "warning"}, last["last_error"]
    points = rig.points()
    assert max(points) == 3, "the killed run's point is published, once"
    assert {n: c for n, c in points.items() if n in before} == {
        n: c for n, c in before.items() if n in points}
    assert rig.leftovers() == []
    figures = rig.run()["figures"]
    assert figures["compared"] == 0, "tracking was lost: the next run had to compare"
    assert rig.leftovers() == []


@pytest.mark.timeout(240)
@pytest.mark.parametrize("point", _sampled([*_of(FAILOVER), *_of(UNDO)]))
def test_failover_and_undo_survive(rig_factory: Callable[..., Rig], point: str) -> None:
    rig = _two_points(rig_factory)
    before = rig.points()
    with rig.server.client() as client:
        first = max(before) - 1
        if point.startswith(UNDO):
            rig.ended(client.failover(rig.rule, first))
    rig.server.stop()
    rig.server.start(f"{point}:kill")
    with rig.server.client() as client:
        if point.startswith(UNDO):
            client.undo(rig.rule)
        else:
            client.failover(rig.rule, first)
    try:
        wait_for(lambda: not rig.server.alive, 60, "the process is killed")
    except AssertionError:
        rig.settled()
        pytest.skip(f"{point} is not passed here")
    rig.server.start()
    rig.settled(90)
    with rig.server.client() as client:
        state = client.rule(rig.rule)["state"]
        if not point.startswith(UNDO):
            assert state == "temporary-failover"
            assert not rig.lab.guest(rig.lab.b, rig.guest.name).wait_ready().bad
            rig.ended(client.undo(rig.rule))
        assert client.rule(rig.rule)["state"] != "temporary-failover"
    assert rig.points() == before
    assert rig.leftovers() == []
    assert rig.guest.running
