"""Failback: the replica's work goes home. First in bulk while the replica runs, then, with both of
them off, the rest; then the source runs again. Until it is committed all of it can be undone.

What the server keeps of it (``Link.failback``) is its origin, the intent that its undo disks are
named for; it is told before anything is put aside or overwritten.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from ..domain.codec import decode, encode
from ..domain.errors import GiveUp, HotspareError, Refused
from ..faultpoints import fault_point
from ..platforms.port import Intent, Platform, PointInTime, Running, Token, WriteBackSession
from . import failback_state, home, temp_dir, transfer
from .bench import Bench
from .failback_pass import Pass
from .failover import replica_of, unfinished
from .remove import clean_source, cleaned, leave
from .steps import Json, Step, Workflow

_PASSES = 5
_SHORT_S = 10.0
"""A pass that took no longer leaves little for the switch: no other one is made."""

FIGURES: Json = {"full": False, "bytes_read": 0, "bytes_moved": 0, "bytes_zero": 0, "compared": 0,
                 "bytes_preserved": 0, "retries": 0, "passes": 0}
"""Bytes. ``full``: a disk of the source was read as a whole. ``bytes_moved``: payload written to
the source. ``bytes_preserved``: put aside before it was overwritten."""


# --- steps -------------------------------------------------------------------------------------


def find(bench: Bench, context: Json) -> None:
    """Nobody else writes the replica from here on, and the failover stands."""
    bench.target.target(bench.key).fence(replica_of(bench), bench.task.epoch)
    running = bench.target.standby(bench.key).find(replica_of(bench))
    if running is None:
        raise Refused("failover.not-standing", name=bench.rule.replica_name)
    context["running"] = encode(running)


def _build(bench: Bench, context: Json) -> None:
    """At a new place a machine is made, once: with empty disks, for the passes to fill."""
    place = known(bench, context).get("place")
    if place is None or place.get("vm"):
        return
    tell(bench, context)            # before anything of it is there
    there = bench.target.source.inspect(running_of(context).ref)
    try:
        vm = bench.platform(place["platform"]).write_back.build(
            there, place["name"], place["storage"], place["networks"], origin(bench, context))
    except GiveUp:                  # nothing of it is left
        del context["failback"]
        bench.link.failback(bench.task, None)
        raise
    fault_point("failback.built")
    tell(bench, context, place=place | {"vm": vm})
    bench.say("failback.built", name=place["name"], storage=place["storage"])


def _source_off(bench: Bench, context: Json) -> None:
    """Its disks are about to be overwritten. It is only shut down when the operator asked so."""
    arguments, home = bench.task.arguments, home_of(bench, context)
    if home.platform.source.power(home.vm) == "off":
        return
    if not arguments.get("shut_down"):
        raise Refused("failback.source-runs", vm=_name(home), name=bench.rule.name)
    home.platform.source.shut_down(home.vm, float(arguments["grace_s"]),
                                   bool(arguments["power_off"]))
    bench.say("planned.source-off", vm=_name(home))


def _disks(bench: Bench, context: Json) -> None:
    """The disks of both must match, or the operator has said that the others stay."""
    home = home_of(bench, context)
    there = bench.target.source.inspect(running_of(context).ref)
    here = home.platform.source.inspect(home.vm)
    context["vm"] = here.name
    ours, theirs = {d.id for d in here.disks}, {d.id for d in there.disks}
    if ours != theirs and not bench.task.arguments.get("leave_disks"):
        raise Refused("failback.disks-differ", name=bench.rule.name,
                      source=", ".join(sorted(ours - theirs)) or "-",
                      replica=", ".join(sorted(theirs - ours)) or "-")
    temp_dir.prepare(bench.temp_dir, f"hs-{bench.rule.id}", [d.size for d in there.disks])


def _bulk(bench: Bench, context: Json) -> None:
    """Passes until one was short, or they do not get shorter."""
    took = float("inf")
    for _ in range(_PASSES):
        began = time.monotonic()
        one_pass(bench, context, limited=True)
        before, took = took, time.monotonic() - began
        if took <= _SHORT_S or took > 0.7 * before:
            return


def _stop_replica(bench: Bench, context: Json) -> None:
    """Its guest shuts down; its power is cut only when the operator allowed that."""
    arguments, running = bench.task.arguments, running_of(context)
    bench.target.standby(bench.key).stop(running, float(arguments["grace_s"]),
                                         force=bool(arguments["power_off"]))
    context["stopped_at"] = time.time()
    bench.say("failback.replica-off", name=running.name)
    fault_point("failback.replica-off")


def _rest(bench: Bench, context: Json) -> None:
    one_pass(bench, context, limited=False, last=True)
    fault_point("failback.rest")


def _start_source(bench: Bench, context: Json) -> None:
    if bench.target.standby(bench.key).power(running_of(context)) != "off":
        raise Refused("failback.replica-runs", name=bench.rule.replica_name)
    intent = Intent(bench.rule.id, bench.task.epoch, bench.task.id)
    source = home_of(bench, context)
    tell(bench, context, switched=True)         # from here on the source may run
    token = source.platform.write_back.power_on(source.vm, intent)
    fault_point("failback.source-on")
    tell(bench, context, token=token)
    head = bench.target.target(bench.key).lineage(replica_of(bench)).head
    if head is not None and token is not None:
        home.ready(bench.folder, home.Home(head.number, token))
    stop_s = time.time() - context["stopped_at"]
    bench.count(switch_stop_s=stop_s)
    bench.say("failback.source-runs-again", vm=context["vm"], name=bench.rule.name,
              seconds=round(stop_s, 1))


def _replica_again(bench: Bench, context: Json) -> None:
    """A switch that failed: the replica goes on, if it is certain that the source is off."""
    bench.clear()
    if "running" not in context:
        return
    running, standby = running_of(context), bench.target.standby(bench.key)
    if standby.power(running) != "off":
        return
    source = home_of(bench, context)
    try:
        power = source.platform.source.power(source.vm)
    except HotspareError as error:
        bench.say("failback.source-unknown", "error", reason=error.code, name=running.name)
        return
    if power != "off":
        bench.say("failback.source-on-after-all", "warning", vm=_name(source))
        return
    tell(bench, context, switched=False, token=None)
    standby.power_on(running)
    bench.say("failback.replica-again", "warning", name=running.name)


# --- commit ------------------------------------------------------------------------------------


def _mark_committed(bench: Bench, context: Json) -> None:
    tell(bench, context, committed=True)        # no undo from here on
    fault_point("failback.committed")


def _drop_replica(bench: Bench, context: Json) -> None:
    standby, replica = bench.target.standby(bench.key), replica_of(bench)
    bench.target.target(bench.key).fence(replica, bench.task.epoch)
    running = standby.find(replica)
    if running is not None:
        standby.discard(running)
    bench.target.target(bench.key).sweep(replica, unfinished(bench))


def _clear(bench: Bench, context: Json) -> None:
    drop_undo(bench, context)
    context["vm"] = _name(home_of(bench, context))
    if known(bench, context).get("place"):
        home = home_of(bench, context)
        home.platform.write_back.let_go(home.vm, origin(bench, context))
        if home == Side(bench.source, bench.rule.vm):
            return      # it has the original's uuid on the original's host: its tracking stays
        why = cleaned(bench, lambda: clean_source(bench))
        if why is not None:         # the original is gone: that is why there is a new place
            leave(bench, context, "remove.source-left", why)


def drop_undo(bench: Bench, context: Json) -> None:
    """Nothing of the failback is needed any more."""
    home = home_of(bench, context)
    for leftover in home.platform.write_back.clear(home.vm, origin(bench, context)):
        if leftover.error:
            bench.say("sweep.source", "warning", kind=leftover.kind, name=leftover.name,
                      error=leftover.error)
    failback_state.forget(bench.folder)


def _commit(bench: Bench, context: Json) -> None:
    bench.link.failback(bench.task, None)
    bench.link.failover(bench.task, None, {})
    bench.say("failback.done", vm=context["vm"])


BULK = Workflow((
    Step("fence", find),
    Step("build", _build),
    Step("look-at-source", _source_off),
    Step("compare-disks", _disks),
    Step("copy-back", _bulk),
), figures=FIGURES)

SWITCH = Workflow((
    Step("fence", find),
    Step("look-at-source", _source_off),
    Step("compare-disks", _disks),
    Step("stop-replica", _stop_replica),
    Step("copy-rest", _rest),
    Step("start-source", _start_source),
), clean_up=_replica_again, figures=FIGURES | {"switch_stop_s": 0.0})

COMMIT = Workflow((
    Step("commit", _mark_committed),
    Step("clear-snapshot", _drop_replica),
    Step("clear-undo", _clear),
    Step("record", _commit),
))


# --- parts -------------------------------------------------------------------------------------


def one_pass(bench: Bench, context: Json, *, limited: bool, last: bool = False) -> None:
    """Open an instant of the replica and the source's disks, and make them equal there. After it
    the source is sealed, but for the last pass: it is about to run."""
    running = running_of(context)
    lineage = bench.target.target(bench.key).lineage(replica_of(bench))
    standing = bench.target.standby(bench.key).tracking(running)
    state = failback_state.load(bench.folder, running, bench.task.id)
    last_token = state.token if state.equal else None
    state = failback_state.save(bench.folder, state.next(bench.task.id))
    tell(bench, context)
    # a machine that was made for this tracks nothing yet
    base = lineage.head if known(bench, context).get("place") is None else None
    session = open_source(bench, context, base.tracking if base is not None else None)
    whole = last_token is None or not session.untouched
    point = open_replica(bench, running, standing if whole else last_token, state)
    _grow(session, point)
    sent = Pass(bench, point, session, lineage, running.number, whole=whole,
                limited=limited).run()
    if last and point.firmware_state is not None:
        session.preserve_firmware()
        session.write_firmware_state(point.firmware_state)
    session.close(sealed=not last)
    fault_point("failback.sealed")
    point.commit()
    failback_state.save(bench.folder, replace(state, token=point.token, equal=not last))
    transfer.drop_tables(bench)
    bench.clear()
    bench.count(passes=1)
    bench.say("failback.pass", moved=sent)


def open_source(bench: Bench, context: Json, base: Token | None) -> WriteBackSession:
    home = home_of(bench, context)
    session = home.platform.write_back.open(home.vm, base, origin(bench, context),
                                            bench.task.epoch)
    return bench.keep("session", session, lambda: session.close(sealed=False))


def open_replica(bench: Bench, running: Running, base: Token | None,
                  state: failback_state.FailbackState) -> PointInTime:
    source = bench.target.source
    bases = [source.token_name(base)] if base is not None else []
    source.sweep(running.ref, bench.rule.id, keep=(), bases=bases)
    point = source.open_point(running.ref, base, "off",
                              state.intent(bench.rule.id, bench.task.epoch))
    return bench.keep("point", point, point.release)


def _grow(session: WriteBackSession, point: PointInTime) -> None:
    sizes = {d.id: d.size for d in session.vm.disks}
    for disk in point.disks:
        if sizes.get(disk.spec.id, disk.spec.size) < disk.spec.size:
            session.resize(disk.spec.id, disk.spec.size)


@dataclass(frozen=True, slots=True)
class Side:
    """Where the work goes home to."""

    platform: Platform
    vm: str


def home_of(bench: Bench, context: Json) -> Side:
    """The source, or the machine that was made for it at a new place."""
    place = known(bench, context).get("place")
    if place is None:
        return Side(bench.source, bench.rule.vm)
    return Side(bench.platform(place["platform"]), place.get("vm", place["name"]))


def _name(side: Side) -> str:
    """The machine's name, for people."""
    return side.platform.source.inspect(side.vm).name


def known(bench: Bench, context: Json) -> Json:
    """What the failback has come to."""
    arguments = bench.task.arguments
    found: Json = context.get("failback") or arguments.get("failback") or {}
    place = arguments.get("place")
    return found if place is None or "place" in found else found | {"place": place}


def origin(bench: Bench, context: Json) -> Intent:
    """The first intent of this failback: of an earlier task, else this one's."""
    found = known(bench, context).get("origin")
    return Intent(bench.rule.id, bench.task.epoch, bench.task.id) if found is None else decode(
        Intent, found)


def tell(bench: Bench, context: Json, **more: Any) -> None:
    """The server knows the failback, with what was known and what is ``more``."""
    context["failback"] = known(bench, context) | {
        "origin": encode(origin(bench, context))} | more
    bench.link.failback(bench.task, context["failback"])


def running_of(context: Json) -> Running:
    return decode(Running, context["running"])
