"""The end of a rule: our checkpoints leave the source, the replica leaves the target if asked.

A side that cannot be cleaned up ends the task, so that nothing stays behind unnoticed. A side may
also be gone for ever: with ``force`` it is left, and the log says what stays there under which
name.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable

from ..domain.errors import GiveUp, HotspareError, Stopped
from .bench import Bench
from .failover import replica_of
from .rehearse import clear_tests
from .steps import Json, Step, Workflow


def clean_source(bench: Bench) -> None:
    """Nothing of the rule stays at the source. Raises GiveUp ``remove.stuck``."""
    left = bench.source.source.sweep(bench.rule.vm, bench.rule.id, keep=())
    stuck = [f"{x.kind} {x.name}: {x.error}" for x in left if x.error]
    if stuck:
        raise GiveUp("remove.stuck", what="; ".join(stuck))
    bench.say("remove.source-swept", count=len(left))


def _source(bench: Bench, context: Json) -> None:
    _or_leave(bench, context, lambda: clean_source(bench), "remove.source-unclean",
              "remove.source-left")


def _target(bench: Bench, context: Json) -> None:
    def clean() -> None:
        target = bench.target.target(bench.key)
        target.fence(replica_of(bench), bench.task.epoch)
        clear_tests(bench)
        if bench.task.arguments.get("delete_replica"):
            left = target.remove_replica(replica_of(bench))
            bench.say("remove.replica-deleted", count=len(left))
        else:
            target.sweep(replica_of(bench), keep=())
            bench.say("remove.replica-kept")

    _or_leave(bench, context, clean, "remove.target-unclean", "remove.target-left")
    if bench.task.arguments.get("delete_replica"):
        bench.link.adopt(bench.task, ())


def _or_leave(bench: Bench, context: Json, clean: Callable[[], None], failed: str,
              left: str) -> None:
    """Clean a side. What keeps it from that ends the task with ``failed``, or is said as ``left``
    when the operator forces the end."""
    why = cleaned(bench, clean)
    if why is None:
        return
    if not bench.task.arguments.get("force"):
        raise GiveUp(failed, **why)
    leave(bench, context, left, why)


def cleaned(bench: Bench, clean: Callable[[], None]) -> Json | None:
    """Run ``clean`` with the usual retries; the fields that tell why it failed, or None."""
    try:
        bench.attempt(clean)
    except Stopped:
        raise
    except HotspareError as error:
        bench.clear(broken=error.action == "reconnect")
        return error.fields | {
            "name": bench.rule.name, "storage": bench.rule.storage, "cause": error.code,
            "reason": error.as_dict()["message"], "prefix": f"hs-{bench.rule.id}"}
    return None


def leave(bench: Bench, context: Json, code: str, why: Json) -> None:
    """Say what stays behind, and go on with a warning."""
    bench.say(code, "warning", **why)
    context["warnings"] = [*context.get("warnings", ()), why["cause"]]


def _folder(bench: Bench, _context: Json) -> None:
    shutil.rmtree(bench.folder, ignore_errors=True)


WORKFLOW = Workflow((
    Step("clean-source", _source),
    Step("clean-target", _target),
    Step("clean-folder", _folder),
))
