"""Test of a restore point: a copy boots apart from everything, is looked at, and is removed.

Replication goes on meanwhile, so nothing here fences the target or touches the rule's folder. The
copy's layers pin what they stand on; retention waits for them.
"""

from __future__ import annotations

import time

from ..domain.codec import decode, encode
from ..domain.errors import GiveUp
from ..domain.picture import bounded
from ..domain.proof import LARGEST_SCREENSHOT, Check, Checklist, verdict_of
from ..faultpoints import fault_point
from ..platforms.port import Intent, Isolation, Rehearsal, Running, StartSpec
from .bench import Bench
from .failover import replica_of, usable_point
from .signs import Signs, signs_of
from .steps import Json, Step, Workflow

_LOOK_EVERY_S = 1.0
_SETTLE_S = 2.0
"""Time for a screen to be drawn, when the last sign has shown."""


def clear_tests(bench: Bench) -> None:
    """Remove what is left of tests that have ended, of whatever DR machine."""
    rehearsal = _rehearsal(bench)
    for intent in rehearsal.left(replica_of(bench)):
        if intent.epoch < bench.task.epoch or bench.link.task(intent.task) is None:
            try:
                for found in rehearsal.clear(replica_of(bench), intent):
                    bench.say("sweep.test", "warning", kind=found.kind, name=found.name)
            except GiveUp as error:     # it pins points, and keeps nothing else from its work
                bench.say("sweep.test-stays", "warning", name=str(intent), reason=str(error))


def _rehearsal(bench: Bench) -> Rehearsal:
    return bench.target.rehearsal(bench.key)


def _intent(bench: Bench) -> Intent:
    return Intent(bench.rule.id, bench.task.epoch, bench.task.id)


def _isolate(bench: Bench, context: Json) -> None:
    clear_tests(bench)
    wanted = decode(Checklist, bench.task.arguments)
    reach = (wanted.address or "dhcp") if wanted.reached else None
    isolation = _rehearsal(bench).isolate(replica_of(bench), usable_point(bench).number, reach,
                                          _intent(bench))
    fault_point("test.after-isolate")
    context["isolation"] = encode(isolation)


def _start(bench: Bench, context: Json) -> None:
    isolation = decode(Isolation, context["isolation"])
    began = time.monotonic()
    running = bench.target.standby(bench.key).start(
        replica_of(bench), usable_point(bench).number,
        StartSpec(name=f"hs-{bench.rule.id}-te{bench.task.id}", networks=isolation.networks,
                  kind="test", connect_network=isolation.connected,
                  devices=bench.rule.devices), _intent(bench))
    fault_point("test.after-start")
    bench.count(start_s=time.monotonic() - began)
    context["running"] = encode(running)


def _check(bench: Bench, context: Json) -> None:
    wanted = decode(Checklist, bench.task.arguments)
    running, rehearsal = decode(Running, context["running"]), _rehearsal(bench)
    signs = signs_of(wanted, usable_point(bench), decode(Isolation, context["isolation"]),
                     rehearsal, running)
    ended = _watch(bench, signs, rehearsal, running)
    if ended == "other":
        raise GiveUp("test.interrupted", name=running.name)
    checks = signs.at_end()
    if ended:
        checks.append(Check("power", "failed", f"test.{ended}"))
    verdict = verdict_of(checks)
    bench.link.proof(bench.task, verdict, checks, None if signs.screen is None else
                     bounded(signs.screen.png, LARGEST_SCREENSHOT))
    fault_point("test.after-proof")
    context["verdict"] = verdict
    context["failed"] = [encode(c) for c in checks if c.state == "failed"]


def _watch(bench: Bench, signs: Signs, rehearsal: Rehearsal, running: Running) -> str:
    """Look until all has shown, the time is over, or the machine is off: then, how it ended."""
    began = time.monotonic()
    shown = False
    while True:
        if ended := rehearsal.ended(running):
            return ended
        signs.see(rehearsal.screen(running))
        past = time.monotonic() - began
        if shown or past > signs.wanted.boot_s:
            bench.count(boot_s=past)
            return ""
        shown = signs.look()
        bench.progress("check", min(int(past), int(signs.wanted.boot_s)),
                       int(signs.wanted.boot_s))
        bench.wait(_SETTLE_S if shown else _LOOK_EVERY_S)


def _remove(bench: Bench, _context: Json) -> None:
    _rehearsal(bench).clear(replica_of(bench), _intent(bench))
    fault_point("test.after-clear")


def _judge(bench: Bench, context: Json) -> None:
    if context["verdict"] == "failed":
        first = context["failed"][0]
        raise GiveUp("test.failed", **{**first["fields"], "point": bench.task.point,
                                       "rule": bench.rule.name, "reason": first["code"]})
    if context["verdict"] == "unproven":
        context["warnings"] = ["test.unproven"]
    bench.say(f"test.{context['verdict']}", "info" if context["verdict"] == "passed" else "warning",
              point=bench.task.point, rule=bench.rule.name)


WORKFLOW = Workflow((
    Step("isolate", _isolate),
    Step("start", _start),
    Step("check", _check),
    Step("remove", _remove),
    Step("judge", _judge),
), clean_up=_remove)
