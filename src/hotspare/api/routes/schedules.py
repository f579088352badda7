"""Schedules before they are saved."""

from __future__ import annotations

from fastapi import APIRouter

from ...services.schedules import PreviewView
from ..schedule_inputs import SchedulePreview
from ..session import Caller, Here

router = APIRouter(tags=["schedules"])


@router.post("/schedules/preview", operation_id="preview_schedule")
def preview(body: SchedulePreview, services: Here, caller: Caller) -> PreviewView:
    """The next five runs, and the longest time between two. Changes nothing."""
    return services.schedules.preview(
        caller, body.schedule.to_domain(), body.time_zone,
        [r.to_domain() for r in body.bandwidth], body.source)
