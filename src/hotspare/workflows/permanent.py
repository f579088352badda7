"""Permanent failover: the replica that runs becomes the machine, and the rule lets go of it.

Until its last copy is done it can still be undone; from then on the restore points are deleted, and
what cannot be cleaned up is said and does not undo the switch.
"""

from __future__ import annotations

from ..domain.codec import decode, encode
from ..domain.errors import Refused
from ..faultpoints import fault_point
from ..platforms.port import Running
from .bench import Bench
from .failover import replica_of
from .rehearse import clear_tests
from .remove import clean_source, cleaned, leave
from .steps import Json, Step, Workflow


def _find(bench: Bench, context: Json) -> None:
    """Nobody else writes the replica from here on, and it stands."""
    bench.target.target(bench.key).fence(replica_of(bench), bench.task.epoch)
    running = bench.target.standby(bench.key).find(replica_of(bench))
    if running is None:
        raise Refused("failover.not-standing", name=bench.rule.replica_name)
    context["running"] = encode(running)


def _keep(bench: Bench, context: Json) -> None:
    def progress(done: int, total: int) -> None:
        bench.check_stop()
        bench.progress("clear-snapshot", done, total)

    running = _running(context)
    bench.target.standby(bench.key).keep(running, progress)
    fault_point("permanent.after-keep")
    bench.say("permanent.kept", name=running.name)


def _clean_source(bench: Bench, context: Json) -> None:
    why = cleaned(bench, lambda: clean_source(bench))
    if why is not None:         # it may be gone for ever: that is why one fails over
        leave(bench, context, "remove.source-left", why)


def _clean_target(bench: Bench, context: Json) -> None:
    def clean() -> None:
        clear_tests(bench)
        left = bench.target.target(bench.key).remove_replica(replica_of(bench))
        bench.say("permanent.points-deleted", count=len(left))

    why = cleaned(bench, clean)
    if why is not None:
        leave(bench, context, "permanent.points-stay", why)
        return
    fault_point("permanent.after-points")
    bench.link.adopt(bench.task, ())


def _let_go(bench: Bench, context: Json) -> None:
    running = _running(context)
    bench.target.standby(bench.key).let_go(running)
    bench.say("permanent.done", name=running.name)


def _running(context: Json) -> Running:
    return decode(Running, context["running"])


WORKFLOW = Workflow((
    Step("fence", _find),
    Step("clear-snapshot", _keep),
    Step("clean-source", _clean_source),
    Step("clean-target", _clean_target),
    Step("record", _let_go),
))
