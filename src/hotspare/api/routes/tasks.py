"""Tasks, their steps, progress and log."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.concurrency import run_in_threadpool

from ...services.views import LogView, Page, ProgressView, TaskView
from .. import inputs
from ..session import Caller, Here

router = APIRouter(tags=["tasks"])

LONGEST_WAIT_S = 60.0


@router.get("/tasks", operation_id="list_tasks")
def tasks(services: Here, caller: Caller, limit: inputs.Limit = 100,
          cursor: inputs.Cursor = None,
          rule: Annotated[str | None, Query(min_length=1, max_length=128)] = None,
          state: Literal["live", "queued", "dispatched", "running", "ended"] | None = None,
          ) -> Page[TaskView]:
    return services.tasks.list(caller, limit, cursor, rule, state)


@router.get("/tasks/{task}", operation_id="get_task")
def get(task: inputs.TaskId, services: Here, caller: Caller) -> TaskView:
    return services.tasks.get(caller, task)


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
        cursor: inputs.Cursor = None) -> Page[LogView]:
    return services.tasks.log(caller, task=task, limit=limit, cursor=cursor)
