"""hotspare task …"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..domain.text import plain
from .common import Json, ago, answer, connected, errors, facts, size, span, table, when
from .wait import follow

if TYPE_CHECKING:
    from ..client import shapes

task = typer.Typer(help="Runs of rules, and what else a DR machine does.", no_args_is_help=True)

Number = Annotated[int, typer.Argument(metavar="TASK", min=1, help="Its number.")]


@task.command("list")
def list_(
    rule: Annotated[str | None, typer.Option(help="Only of this rule.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Only those that have not ended.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most.")] = 50,
    local: Annotated[bool, typer.Option(
        "--local", help="Ask the DR machine on this host, not the server.")] = False,
    socket: Annotated[Path | None, typer.Option(
        help="With --local: its socket, STATE_DIR/worker.sock.")] = None,
    csv: Annotated[Path | None, typer.Option(
        metavar="FILE", help="Write all of them as CSV into this file (-: standard output).")
    ] = None,
    as_json: Json = False,
) -> None:
    """The last tasks, newest first."""
    if local:
        show_local(socket, as_json)
        return
    with connected(as_json) as client:
        if csv is not None:
            client.save_tasks(csv, rule, "live" if live else None)
            return
        found = client.tasks(rule, "live" if live else None, limit)
        answer(found, as_json, lambda items: table(
            ["TASK", "KIND", "OF", "STATE", "BEGAN", "TOOK", "NOTE"],
            [[str(t["id"]), t["kind"], t["rule_name"] or t["platform_name"] or "-",
              _state(t), when(t["started_at"]), _took(t), _note(t)] for t in items],
            "No tasks."))


@task.command("show")
def show(
    number: Number,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    as_json: Json = False,
) -> None:
    """One task with its steps."""
    with connected(as_json) as client:
        if wait:
            follow(client, number, as_json)
        answer(client.task(number), as_json, _show)


@task.command("log")
def log(number: Number, as_json: Json = False) -> None:
    """What a task said."""
    with connected(as_json) as client:
        answer(client.task_log(number), as_json, show_log)


@task.command("stop")
def stop(number: Number, as_json: Json = False) -> None:
    """End a test or a scrub, and wait until it has ended. Runs are stopped with their rule."""
    with connected(as_json) as client:
        client.stop_task(number)
        for _ in client.follow(number):
            pass
        answer(client.task(number), as_json,
               lambda t: typer.echo(f"Task {number} is {_state(t)}."))


def show_local(socket: Path | None, as_json: bool) -> None:
    """What this host's DR machine runs, and what waits for it."""
    from ..client.local import local_tasks

    with errors(as_json):
        found = local_tasks(socket)

    def show(_: Any) -> None:
        table(["TASK", "KIND", "OF", "STATE", "STEP", "NOTE"],
              [[str(t["task"]), t["kind"], t["of"], t["state"], t["step"],
                t["message"] or _share(t["progress"])] for t in found["tasks"]], "No tasks.")
        if found["away"]:
            typer.echo(f"The control server {found['server']} does not answer, the last time was "
                       f"{ago(found['contact'])}.", err=True)

    answer(found, as_json, show)


def _share(progress: Any) -> str:
    if not progress or not progress["total"]:
        return ""
    return f"{100 * progress['done'] // progress['total']} %"


def show_log(lines: list[shapes.LogLine]) -> None:
    for line in lines:
        level = "" if line["level"] == "info" else f" {line['level'].upper()}"
        typer.echo(f"{when(line['at'])}{level} {plain(line['message'])} [{line['code']}]")


def _state(found: shapes.Task) -> str:
    state = found["outcome"] or found["state"]
    return "stopping" if found["stop"] and found["outcome"] is None else state


def _took(found: shapes.Task) -> str:
    if found["started_at"] is None:
        return "-"
    import time

    return span((found["ended_at"] or time.time()) - found["started_at"])


def _note(found: shapes.Task) -> str:
    why: dict[str, Any] = found["error"] or found["reason"] or {}
    if why:
        return str(why.get("message", ""))
    progress = found["progress"]
    if progress and found["state"] != "ended" and progress["total"]:
        return f"{progress['step']}: {100 * progress['done'] // progress['total']} %"
    return ""


def _show(found: shapes.Task) -> None:
    error = found["error"] or {}
    facts([("task", str(found["id"])), ("kind", found["kind"]),
           ("of", found["rule_name"] or found["platform_name"] or ""),
           ("state", _state(found)), ("point", str(found["point"] or "")),
           ("asked for by", f"{found['requested_by']} ({found['trigger']})"),
           ("created", f"{when(found['created_at'])} ({ago(found['created_at'])})"),
           ("took", _took(found)), ("note", _note(found) if not error else ""),
           ("bytes", f"{size(found['bytes_moved'])} moved, {size(found['bytes_read'])} read, "
                     f"{size(found['bytes_zero'])} zero, {size(found['bytes_queried'])} named as "
                     "changed" if found["kind"] == "replicate" else ""),
           ("bytes read", size(found["bytes_read"]) if found["kind"] == "scrub" else ""),
           ("rate", f"{size(found['rate'])}/s" if found["rate"] else ""),
           ("whole disk read", "yes" if found["full"] else ""),
           ("guest stood still", span(found["stall_s"]) if found["stall_s"] else ""),
           ("retries", str(found["retries"] or "")),
           ("error", str(error.get("message", ""))), ("remedy", str(error.get("remedy", "")))])
    if found["steps"]:
        typer.echo("")
        table(["STEP", "STATE", "TOOK", "TRIES", "MOVED"],
              [[s["name"], s["state"],
                span(s["ended_at"] - s["started_at"]) if s["ended_at"] else "-",
                str(s["attempts"]), _moved(s["detail"])] for s in found["steps"]], "")


def _moved(detail: dict[str, Any]) -> str:
    count = detail.get("bytes", detail.get("moved"))
    return size(count) if isinstance(count, int | float) else ""
