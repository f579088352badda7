"""The end of a rule: our checkpoints leave the source, the replica leaves the target if asked."""

from __future__ import annotations

import shutil

from ..domain.errors import HotspareError
from .bench import Bench
from .failover import replica_of
from .steps import Json, Step, Workflow


def sweep_source(bench: Bench) -> None:
    """Nothing of the rule stays at the source."""
    left = bench.source.source.sweep(bench.rule.vm, bench.rule.id, keep=())
    bench.say("remove.source-swept", count=len(left))


def _source(bench: Bench, context: Json) -> None:
    try:
        sweep_source(bench)
    except HotspareError as error:
        # The source may be gone for ever: with --force the rule is removable all the same. What
        # may have stayed there is said, with the prefix by which it can be found.
        if not bench.task.arguments.get("force"):
            raise
        bench.say("remove.source-unreachable", "warning", prefix=f"hs-{bench.rule.id}",
                  error=error.code)
        context["warnings"] = [error.code]


def _target(bench: Bench, context: Json) -> None:
    target = bench.target.target(bench.key)
    target.fence(replica_of(bench), bench.task.epoch)
    if bench.task.arguments.get("delete_replica"):
        left = target.remove_replica(replica_of(bench))
        bench.link.adopt(bench.task, ())
        bench.say("remove.replica-deleted", count=len(left))
    else:
        target.sweep(replica_of(bench), keep=())
        bench.say("remove.replica-kept")


def _folder(bench: Bench, _context: Json) -> None:
    shutil.rmtree(bench.folder, ignore_errors=True)


WORKFLOW = Workflow((
    Step("clean-source", _source),
    Step("clean-target", _target),
    Step("clean-folder", _folder),
))
