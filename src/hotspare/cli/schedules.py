"""hotspare schedule …, and the words for schedules and bandwidth that other commands take too."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..domain.bandwidth_text import DAYS, parse_all
from ..domain.codec import encode
from .common import Json, answer, connected, duration, errors, span, table

if TYPE_CHECKING:
    from ..client import shapes

schedule = typer.Typer(help="When rules run.", no_args_is_help=True)


@schedule.command("preview")
def preview(
    every: Annotated[str | None, typer.Option(
        metavar="TIME", help="From start to start: 30s, 15m, 2h.")] = None,
    at: Annotated[str | None, typer.Option(
        metavar="HH:MM", help="With --every: the time of day of the first run.")] = None,
    daily: Annotated[str | None, typer.Option(
        metavar="HH:MM", help="Every day at this time.")] = None,
    weekly: Annotated[str | None, typer.Option(
        metavar="DAYS@HH:MM", help="For example mon,thu@02:30 or mon-fri@22:00.")] = None,
    monthly: Annotated[str | None, typer.Option(
        metavar="DAY@HH:MM", help="A shorter month runs on its last day.")] = None,
    zone: Annotated[str, typer.Option(
        metavar="ZONE", help="Time zone of schedule and bandwidth: Europe/Berlin.")] = "UTC",
    bandwidth: Annotated[list[str] | None, typer.Option(
        metavar="RANGE", help="As at rule create: no run begins while it is 0. Repeatable.")
    ] = None,
    source: Annotated[str | None, typer.Option(
        metavar="PLATFORM", help="Source platform, whose shortest interval holds.")] = None,
    as_json: Json = False,
) -> None:
    """The next five runs of a schedule, before a rule gets it."""
    wanted = parse_schedule(every=every, at=at, daily=daily, weekly=weekly, monthly=monthly)
    if wanted is None:
        raise typer.BadParameter("say when: --every, --daily, --weekly or --monthly")
    with errors(as_json):
        body = {"schedule": wanted, "time_zone": zone, "source": source,
                "bandwidth": parse_bandwidth(bandwidth or [])}
    with connected(as_json) as client:
        answer(client.preview_schedule(body), as_json, _show)


def parse_schedule(*, every: str | None = None, at: str | None = None, daily: str | None = None,
                   weekly: str | None = None, monthly: str | None = None
                   ) -> dict[str, Any] | None:
    """The schedule that the options say, in its JSON form; None when they say none."""
    if sum(option is not None for option in (every, daily, weekly, monthly)) > 1:
        raise typer.BadParameter("use one of --every, --daily, --weekly and --monthly")
    if at is not None and every is None:
        raise typer.BadParameter("--at goes with --every only")
    if every is not None:
        return {"kind": "interval", "every_s": duration(every), "at": at and _time(at)}
    if daily is not None:
        return {"kind": "daily", "at": _time(daily)}
    if weekly is not None:
        days, time = _split(weekly, "mon,thu@02:30")
        return {"kind": "weekly", "weekdays": parse_days(days), "at": time}
    if monthly is not None:
        day, time = _split(monthly, "31@02:30")
        if not re.fullmatch(r"\d\d?", day, re.ASCII):
            raise typer.BadParameter("use for example 31@02:30")
        return {"kind": "monthly", "day": int(day), "at": time}
    return None


def parse_bandwidth(texts: list[str]) -> list[dict[str, Any]]:
    """Limits for always (``10MiB``) or for a part of the week, in their JSON form; ``none`` alone
    is no limit. Raises Refused ``bandwidth.text``."""
    if texts == ["none"]:
        return []
    found: list[dict[str, Any]] = encode(
        parse_all(t if " " in t.strip() else f"daily {t}" for t in texts))
    return found


def parse_days(text: str) -> list[int]:
    """``mon,thu``, ``fri-mon`` or ``1,4``: 1 is Monday."""
    days: set[int] = set()
    for part in text.strip().lower().split(","):
        first, dash, last = part.partition("-")
        begin = _day(first)
        days |= {(begin - 1 + n) % 7 + 1
                 for n in range((_day(last) - begin) % 7 + 1 if dash else 1)}
    return sorted(days)


def _day(text: str) -> int:
    text = text.strip()
    if text in DAYS:
        return DAYS.index(text) + 1
    if re.fullmatch(r"[1-7]", text, re.ASCII):
        return int(text)
    raise typer.BadParameter(f"{text!r} is no day: use {', '.join(DAYS)}")


def _split(text: str, example: str) -> tuple[str, str]:
    days, at, time = text.partition("@")
    if not at:
        raise typer.BadParameter(f"use for example {example}")
    return days.strip(), _time(time)


def _time(text: str) -> str:
    match = re.fullmatch(r"(\d\d?):(\d\d)", text.strip(), re.ASCII)
    if match is None or int(match[1]) > 23 or int(match[2]) > 59:
        raise typer.BadParameter(f"{text!r} is no time of day: use HH:MM, for example 02:30")
    return f"{int(match[1]):02}:{match[2]}"


def _show(preview: shapes.SchedulePreview) -> None:
    table(["RUN", "BEGINS"], [
        [run["planned_local"], "" if run["begins"] == run["planned"]
         else f"{run['begins_local'] or 'never'}, while the bandwidth is not 0"]
        for run in preview["runs"]], "No run.")
    typer.echo(f"Longest time between two planned runs: {span(preview['longest_gap_s'])}")
