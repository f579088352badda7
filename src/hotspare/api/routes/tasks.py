"""Tasks, their steps, progress and log."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response
from starlette.concurrency import run_in_threadpool

from ...services.logs import Level, Order
from ...services.views import LogView, Page, ProgressView, TaskView
from .. import inputs
from ..session import Caller, Here
from .statistics import CSV, file

router = APIRouter(tags=["tasks"])

LONGEST_WAIT_S = 60.0


@router.get("/tasks", operation_id="list_tasks", response_model=Page[TaskView], responses=CSV)
def tasks(services: Here, caller: Caller, limit: inputs.Limit = 100,
          cursor: inputs.Cursor = None,
          rule: inputs.Wanted = None,
          state: Literal["live", "queued", "dispatched", "running", "ended"] | None = None,
          form: Annotated[Literal["json", "csv"], Query(
              alias="format", description="csv: all of them, with the seconds of each step")
          ] = "json") -> Page[TaskView] | Response:
    if form == "csv":
        return file(services.tasks.file(caller, rule, state), "tasks", form)
    return services.tasks.list(caller, limit, cursor, rule, state)


@router.get("/tasks/{task}", operation_id="get_task")
def get(task: inputs.TaskId, services: Here, caller: Caller) -> TaskView:
    return services.tasks.get(caller, task)


@router.post("/tasks/{task}/stop", operation_id="stop_task")
def stop(task: inputs.TaskId, services: Here, caller: Caller) -> TaskView:
    """Of a test or a scrub; other tasks are stopped with their rule."""
    return services.tasks.stop(caller, task)


@router.get("/tasks/{task}/progress", operation_id="task_progress")
async def progress(
        task: inputs.TaskId, services: Here, caller: Caller,
        wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT_S, allow_inf_nan=False,
                                     description="seconds to wait for news")] = 0.0,
        seen: Annotated[int | None, Query(ge=0, le=inputs.LARGEST_ID,
                                          description="`version` that is known")] = None,
        ) -> ProgressView:
    """How far the task is. With ``wait`` the answer comes when there is something newer than
    ``seen``, at the latest after the wait; with neither, at once."""
    view = await run_in_threadpool(services.tasks.progress, caller, task)
    if wait and view.state != "ended" and (seen is None or seen == view.version):
        await services.tasks.wait(task, view.version, wait)
        view = await run_in_threadpool(services.tasks.progress, caller, task)
    return view


@router.get("/tasks/{task}/log", operation_id="task_log")
def log(task: inputs.TaskId, services: Here, caller: Caller, limit: inputs.Limit = 100,
        cursor: inputs.Cursor = None, order: Order = "oldest",
        level: Level = "info") -> Page[LogView]:
    """Lines of this level and above."""
    return services.logs.page(caller, task=task, limit=limit, cursor=cursor, order=order,
                              level=level)
