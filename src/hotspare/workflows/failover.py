"""Temporary failover to a restore point, and its undo."""

from __future__ import annotations

import time

from ..domain.codec import encode
from ..domain.errors import Refused
from ..domain.lineage import Manifest
from ..domain.machine import shared_nics
from ..faultpoints import fault_point
from ..platforms.port import Intent, ReplicaRef, StartSpec
from .bench import Bench
from .source_power import power_of_source
from .steps import Json, Step, Workflow


def replica_of(bench: Bench) -> ReplicaRef:
    return ReplicaRef(rule=bench.rule.id, storage=bench.rule.storage)


def _fence(bench: Bench, _context: Json) -> None:
    """Nobody else writes the replica from here on; our own earlier receivers are gone."""
    bench.target.target(bench.key).fence(replica_of(bench), bench.task.epoch)


def _look_at_source(bench: Bench, context: Json) -> None:
    """Two machines with the same addresses on one network harm both: only if it is wanted."""
    arguments = bench.task.arguments
    wanted = arguments.get("allow_duplicate_mac") or arguments.get("unplugged")
    vm = usable_point(bench).vm
    doubles = shared_nics(vm.nics, bench.rule.networks)
    power = power_of_source(bench)
    if power in {"running", "paused"} and doubles and not wanted:
        raise Refused("failover.source-runs", vm=vm.name, name=bench.rule.name,
                      macs=", ".join(n.mac for n in doubles))
    bench.say(f"failover.source-{power}", "info" if power == "off" else "warning")
    context["source"] = power


def usable_point(bench: Bench) -> Manifest:
    """The task's restore point, as it is at the target. Raises Refused ``point.not-usable``."""
    lineage = bench.target.target(bench.key).lineage(replica_of(bench))
    for point in lineage.usable:
        if point.number == bench.task.point:
            return point
    raise Refused("point.not-usable", point=bench.task.point, rule=bench.rule.name)


def _start(bench: Bench, context: Json) -> None:
    number = usable_point(bench).number
    replica = replica_of(bench)
    began = time.monotonic()
    intent = Intent(bench.rule.id, bench.task.epoch, bench.task.id)
    running = bench.target.standby(bench.key).start(
        replica, number,
        StartSpec(name=bench.rule.replica_name, networks=bench.rule.networks,
                  connect_network=not bench.task.arguments.get("unplugged", False),
                  devices=bench.rule.devices), intent)
    fault_point("failover.after-start")
    seconds = time.monotonic() - began
    context["running"] = encode(running)
    bench.count(start_s=seconds)


def _record(bench: Bench, context: Json) -> None:
    number = bench.task.point
    bench.link.failover(bench.task, number,
                        dict(context["running"]) | {"source": context["source"]})
    bench.say("failover.running", point=number, name=bench.rule.replica_name)


def _take_back(bench: Bench, _context: Json) -> None:
    """A failover that failed half-way leaves no replica running and no layer behind."""
    standby = bench.target.standby(bench.key)
    running = standby.find(replica_of(bench))
    if running is not None:
        standby.discard(running)
    bench.target.target(bench.key).sweep(replica_of(bench), unfinished(bench))
    bench.link.failover(bench.task, None, {})


def unfinished(bench: Bench) -> list[str]:
    """Intent names of an unpublished state that a next replication would go on with."""
    from .replicate import kept_intents

    return kept_intents(bench)


def _discard(bench: Bench, _context: Json) -> None:
    standby = bench.target.standby(bench.key)
    began = time.monotonic()
    # A machine that had the rule before, and wakes, starts no replica any more.
    bench.target.target(bench.key).fence(replica_of(bench), bench.task.epoch)
    running = standby.find(replica_of(bench))
    if running is not None:
        standby.discard(running)
    fault_point("undo.after-discard")
    bench.count(undo_s=time.monotonic() - began)


def _forget(bench: Bench, _context: Json) -> None:
    bench.link.failover(bench.task, None, {})
    bench.say("failover.undone")


def _sweep(bench: Bench, _context: Json) -> None:
    bench.target.target(bench.key).sweep(replica_of(bench), unfinished(bench))


FAILOVER = Workflow((
    Step("fence", _fence),
    Step("look-at-source", _look_at_source),
    Step("restore-snapshot", _start),
    Step("record", _record),
), clean_up=_take_back)

UNDO = Workflow((
    Step("clear-snapshot", _discard),
    Step("sweep", _sweep),
    Step("record", _forget),
))
