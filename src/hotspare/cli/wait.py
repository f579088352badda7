"""Following a task to its end, with a bar on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

from .common import emit, exit_code, size, span

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..client import Client
    from ..client.shapes import Progress as News


def follow(client: Client, task: int, as_json: bool) -> None:
    """Show the task until it has ended, say how, and end with its exit code."""
    if as_json or not sys.stderr.isatty():
        _quietly(client, task, talk=not as_json)
    else:
        _with_bar(client, task)
    ended = client.task(task)
    if as_json:
        emit(ended)
    else:
        _say_end(dict(ended))
    raise typer.Exit(outcome_code(ended["outcome"], ended["error"]))


def started(client: Client, task: int, wait: bool, as_json: bool) -> None:
    """After something was asked for: follow it, or only name its task."""
    if wait:
        follow(client, task, as_json)
    elif as_json:
        emit(client.task(task))
    else:
        typer.echo(f"Task {task} was begun. Follow it with: hotspare task show {task} --wait")


def outcome_code(outcome: str | None, error: dict[str, Any] | None) -> int:
    if outcome in {"ok", "warning"}:
        return 0
    if outcome == "stopped" or error is None:
        return exit_code("task.stopped")
    return exit_code(str(error.get("code"))) or 1


def _line(news: News) -> str:
    if news["state"] == "queued":
        return str((news["reason"] or {}).get("message") or "queued")
    progress = news["progress"]
    return str(progress["step"]) if progress else "begins"


def _quietly(client: Client, task: int, talk: bool) -> None:
    last = ""
    for news in client.follow(task):
        line = _line(news)
        if talk and line != last and news["state"] != "ended":
            typer.echo(f"task {task}: {line}", err=True)
            last = line


def _with_bar(client: Client, task: int) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    bar = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[of]}"),
                   TextColumn("{task.fields[rate]}"), TextColumn("{task.fields[left]}"),
                   console=Console(stderr=True), transient=True)
    with bar:
        shown = bar.add_task("begins", total=None, of="", rate="", left="")
        for news in client.follow(task):
            _draw(bar, shown, news)


def _draw(bar: Progress, shown: Any, news: News) -> None:
    progress = news["progress"] or {}
    total = progress.get("total") or None
    done = progress.get("done") or 0
    bar.update(
        shown, description=_line(news), total=total, completed=done,
        of=f"{size(done)} of {size(total)}" if total else "",
        rate=f"{size(progress['rate'])}/s" if progress.get("rate") else "",
        left=f"{span(progress['seconds_left'])} left"
        if progress.get("seconds_left") is not None else "")


def _say_end(task: dict[str, Any]) -> None:
    took = span(task["ended_at"] - (task["started_at"] or task["created_at"]))
    if task["outcome"] in {"ok", "warning"}:
        typer.echo(f"Task {task['id']} ({task['kind']}) ended: {task['outcome']}, in {took}.")
        return
    error = task["error"] or {}
    typer.secho(f"Task {task['id']} ({task['kind']}): {task['outcome']} after {took}.",
                fg="red", err=True)
    for part in ("message", "remedy"):
        if error.get(part):
            typer.echo(f"  {error[part]}", err=True)
