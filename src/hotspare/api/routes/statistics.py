"""Statistics, logs as files, metrics, and how long history is kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from ...domain.messages import Language, language
from ...services.logs import Format, Level, Order
from ...services.metrics import CONTENT_TYPE
from ...services.pruning import LIMITS, History
from ...services.statistics import MOST_DAYS, days_file
from ...services.statistics_views import RuleStatistics, ScopeStatistics
from .. import inputs
from ..base import Input
from ..session import Caller, Here

router = APIRouter(tags=["statistics"])
scrape = APIRouter(include_in_schema=False)
"""Outside of the API's prefix: where every scraper looks."""

Days = Annotated[int, Query(ge=1, le=MOST_DAYS, description="how many, today with them; UTC")]
As = Annotated[Literal["json", "csv"], Query(alias="format", description="csv: one row a day")]
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}}}


def file(parts: Iterator[str], name: str, form: str) -> StreamingResponse:
    """An answer that is saved under ``name``, sent while it is made."""
    kind = {"csv": "text/csv", "txt": "text/plain"}[form]
    return StreamingResponse(parts, media_type=f"{kind}; charset=utf-8", headers={
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}.{form}"})


@router.get("/rules/{ref}/statistics", operation_id="rule_statistics",
            response_model=RuleStatistics, responses=CSV)
def rule(ref: inputs.Ref, services: Here, caller: Caller, days: Days = 30,
         form: As = "json") -> RuleStatistics | Response:
    found = services.statistics.rule(caller, ref, days)
    return found if form == "json" else file(days_file(found.by_day), found.name, form)


@router.get("/groups/{ref}/statistics", operation_id="group_statistics",
            response_model=ScopeStatistics, responses=CSV)
def group(ref: inputs.Ref, services: Here, caller: Caller, days: Days = 30,
          form: As = "json") -> ScopeStatistics | Response:
    found = services.statistics.scope(caller, ref, days)
    return found if form == "json" else file(days_file(found.by_day), found.name or ref, form)


@router.get("/statistics", operation_id="statistics", response_model=ScopeStatistics,
            responses=CSV)
def everything(services: Here, caller: Caller, days: Days = 30,
               form: As = "json") -> ScopeStatistics | Response:
    """Of all rules."""
    found = services.statistics.scope(caller, None, days)
    return found if form == "json" else file(days_file(found.by_day), "hotspare", form)


@router.get("/rules/{ref}/log/download", operation_id="download_rule_log",
            response_class=StreamingResponse,
            responses={200: {"content": {"text/plain": {}, "text/csv": {}}}})
def log_file(ref: inputs.Ref, services: Here, caller: Caller,
             form: Annotated[Format, Query(alias="format")] = "txt",
             told_in: Annotated[Language | None, Query(
                 alias="language", description="else as Accept-Language says")] = None,
             order: Order = "oldest", level: Level = "info") -> StreamingResponse:
    """The whole log of a rule, of this level and above."""
    return file(services.logs.file(caller, ref, form, told_in or language.get(), order, level),
                ref, form)


# --- metrics -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MetricsToken:
    token: str


@scrape.get("/metrics")
def metrics(services: Here, caller: Caller,
            rules: Annotated[bool, Query(description="also two series for each rule")] = True,
            ) -> Response:
    return Response(services.metrics.text(caller, rules), media_type=CONTENT_TYPE)


@router.post("/metrics/token", operation_id="make_metrics_token", status_code=201)
def metrics_token(services: Here, caller: Caller) -> MetricsToken:
    """A token for the scraper, told this once; the one before ends."""
    return MetricsToken(services.users.metrics_token(caller))


# --- history -------------------------------------------------------------------------------------


def _days(name: str) -> Any:
    smallest, largest = LIMITS[name]
    return Field(None, ge=smallest, le=largest)


class SetHistory(Input):
    """What is null stays as it is."""

    task_days: int | None = _days("task_days")
    least_tasks: int | None = _days("least_tasks")
    audit_days: int | None = _days("audit_days")
    statistics_days: int | None = _days("statistics_days")


@router.get("/settings/history", operation_id="get_history", tags=["settings"])
def history(services: Here, caller: Caller) -> History:
    return services.pruner.get(caller)


@router.patch("/settings/history", operation_id="set_history", tags=["settings"])
def set_history(body: SetHistory, services: Here, caller: Caller) -> History:
    return services.pruner.set(caller, **body.model_dump(exclude_none=True))
