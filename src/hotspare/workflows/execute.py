"""Runs one task's workflow, step by step, through the durable runner's ``record``."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from typing import Any

from ..domain.codec import decode_known, encode
from ..domain.errors import GiveUp, HotspareError
from ..faultpoints import fault_point
from .bench import Bench, Closing, Tools
from .link import Outcome, Task
from .registry import workflow_of
from .steps import Json, Step

Record = Callable[[str, Callable[[], Json]], Json]

logger = logging.getLogger(__name__)


def execute(argument: Json, record: Record, tools: Tools, park: Callable[[], None]) -> None:
    """The body of every run. ``park`` never returns: it waits for the end of the process."""
    task = decode_known(Task, argument)     # perhaps begun by an earlier version
    bench = Bench(task, tools)
    try:
        _run(bench, record)
    except Closing:
        bench.clear()
        park()
    finally:
        bench.clear()


def _run(bench: Bench, record: Record) -> None:
    task = bench.task
    workflow = workflow_of(task.kind)
    context: Json = {}
    failure: Json | None = None
    for step in workflow.steps:
        result = record(step.name, lambda step=step, context=context: _perform(  # type: ignore[misc]
            bench, step,
            {**context, "figures": {**workflow.figures, **context.get("figures", {})}}))
        if "gone" in result:
            return
        context = result.get("context", context)
        failure = result.get("error")
        if failure is not None:
            break
    if failure is not None and workflow.clean_up is not None:
        clean_up = Step("clean-up", workflow.clean_up)
        record("clean-up", lambda: _clean_up(bench, clean_up, context | {
            "failure": failure["code"]}))
    record("finish", lambda: _finish(bench, context, failure))


def _perform(bench: Bench, step: Step, context: Json) -> Json:
    task = bench.task
    if bench.link.task(task.id) is None:
        # Ended, or given to another machine while we were away: nothing of it is ours any more.
        bench.clear()
        return {"gone": True}
    bench.figures = context["figures"]      # counted in place, so also what a failed step did
    began = time.monotonic()
    fault_point(f"step.{step.name}.begin")
    bench.link.step(task, step.name, "running", {})
    try:
        bench.check_stop()
        bench.attempt(lambda: step.run(bench, context))
    except HotspareError as error:
        bench.clear(broken=error.action == "reconnect")
        return {"error": error.as_dict() | {"step": step.name}, "context": context}
    except Exception as error:
        # Not foreseen: the operator gets a code and where to look, the log gets the trace.
        logger.exception("step %s of task %s failed", step.name, task.id)
        bench.clear(broken=True)
        where = traceback.extract_tb(error.__traceback__)[-1]
        unforeseen = GiveUp("internal.error", error=f"{type(error).__name__}: {error}",
                            where=f"{where.name}:{where.lineno}")
        return {"error": unforeseen.as_dict() | {"step": step.name}, "context": context}
    bench.link.step(task, step.name, "done",
                    {"seconds": time.monotonic() - began} | context.pop("detail", {}))
    fault_point(f"step.{step.name}.end")
    return {"context": context}


def _clean_up(bench: Bench, step: Step, context: Json) -> Json:
    """As a step, but it runs although the task was stopped, and its own failure is only said:
    the next run's sweep does the same again."""
    try:
        bench.attempt(lambda: step.run(bench, context))
    except HotspareError as error:
        bench.say("task.clean-up-failed", "warning", error=error.code)
    bench.clear()
    return {}


def _finish(bench: Bench, context: Json, failure: Json | None) -> Json:
    outcome: Outcome = "ok"
    if failure is not None:
        outcome = "stopped" if failure["code"] == "task.stopped" else "failed"
    elif context.get("warnings"):
        outcome = "warning"
    bench.link.finish(bench.task, outcome, failure, context.get("figures", {}))
    return {}


def argument_of(task: Task) -> dict[str, Any]:
    """The run's argument: plain JSON without any secret."""
    encoded: dict[str, Any] = encode(task)
    return encoded
