"""Tests of restore points: begin one, what they found, what was on the screen."""

from __future__ import annotations

from fastapi import APIRouter, Response

from ...services.views import Page, TestView
from .. import inputs
from ..session import Caller, Here
from .platforms import Asked

router = APIRouter(tags=["tests"])


@router.post("/rules/{ref}/tests", operation_id="start_test", status_code=202)
def start(ref: inputs.Ref, body: inputs.StartTest, services: Here, caller: Caller) -> Asked:
    """Boot a copy of a restore point, apart from everything, look at it, and remove it."""
    return Asked(services.tests.start(caller, ref, body.wanted(), body.point))


@router.get("/rules/{ref}/tests", operation_id="list_tests")
def tests(ref: inputs.Ref, services: Here, caller: Caller, limit: inputs.Limit = 100,
          cursor: inputs.Cursor = None) -> Page[TestView]:
    """Newest first. The tests of a restore point go with it."""
    return services.tests.list(caller, ref, limit, cursor)


@router.get("/tests/{test}", operation_id="get_test")
def get(test: inputs.TestId, services: Here, caller: Caller) -> TestView:
    return services.tests.get(caller, test)


@router.get("/tests/{test}/screenshot", operation_id="test_screenshot", response_class=Response,
            responses={200: {"content": {"image/png": {
                "schema": {"type": "string", "format": "binary"}}}}})
def screenshot(test: inputs.TestId, services: Here, caller: Caller) -> Response:
    return Response(services.tests.screenshot(caller, test), media_type="image/png")
