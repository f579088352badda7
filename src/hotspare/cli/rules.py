"""hotspare rule …, point …, failover, undo"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Json, ago, answer, connected, duration, facts, pairs, size, span, table, when
from .wait import started

if TYPE_CHECKING:
    from ..client import shapes

rule = typer.Typer(help="Replication rules: one machine's protection each.",
                   no_args_is_help=True)
point = typer.Typer(help="Restore points.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="RULE", help="Its name or id.")]
Wait = Annotated[bool, typer.Option("--wait", help="Show the progress and wait for the end.")]


@rule.command("create")
def create(
    name: Annotated[str, typer.Argument(help="A name of your choice.")],
    source: Annotated[str, typer.Option(help="Platform that the machine runs on.")],
    vm: Annotated[str, typer.Option(help="The machine: its name or id.")],
    target: Annotated[str, typer.Option(help="Platform that gets the replica.")],
    storage: Annotated[str, typer.Option(metavar="POOL", help="Storage at the target.")],
    interval: Annotated[str | None, typer.Option(
        metavar="TIME", help="From start to start: 30s, 15m, 2h, 1d. Without: by hand only.")
    ] = None,
    retention: Annotated[int, typer.Option(help="Restore points to keep.")] = 7,
    quiesce: Annotated[str, typer.Option(help="off, try or require.")] = "try",
    network: Annotated[list[str] | None, typer.Option(
        metavar="SOURCE=TARGET", help="Network of the replica. Repeatable.")] = None,
    replica_name: Annotated[str | None, typer.Option(
        help="Name of the replica; the machine's own if that is free.")] = None,
    bandwidth: Annotated[int | None, typer.Option(help="Limit in bytes per second.")] = None,
    as_json: Json = False,
) -> None:
    """Protect a machine. The rule is made stopped; start it with: hotspare rule start."""
    settings: dict[str, Any] = {
        "name": name, "source": source, "vm": vm, "target": target, "storage": storage,
        "interval_s": duration(interval) if interval is not None else None,
        "retention": retention, "quiesce": quiesce, "networks": pairs(network or []),
        "replica_name": replica_name, "bandwidth": bandwidth}
    with connected(as_json) as client:
        answer(client.create_rule(settings), as_json, _show)


@rule.command("list")
def list_(as_json: Json = False) -> None:
    """All rules."""
    with connected(as_json) as client:
        answer(client.rules(), as_json, lambda items: table(
            ["NAME", "STATE", "LAST", "MACHINE", "FROM", "TO", "POINTS", "NEWEST", "NEXT"],
            [[r["name"], r["state"], r["last_result"] or "-", r["vm_name"], r["source_name"],
              r["target_name"], f"{r['points']}/{r['retention']}", ago(r["latest_point_at"]),
              ago(r["next_run_at"])] for r in items],
            "No rule yet. Make one: hotspare rule create NAME --source … --vm … "
            "--target … --storage …"))


@rule.command("show")
def show(name: Name, as_json: Json = False) -> None:
    """One rule, and what can be done with it now."""
    with connected(as_json) as client:
        answer(client.rule(name), as_json, _show)


@rule.command("start")
def start(name: Name, wait: Wait = False, as_json: Json = False) -> None:
    """Run now; a periodic rule then goes on by its interval."""
    with connected(as_json) as client:
        started(client, client.start_rule(name), wait, as_json)


@rule.command("stop")
def stop(name: Name, as_json: Json = False) -> None:
    """End the run and the schedule, and wait until it has ended. What was transferred is kept."""
    with connected(as_json) as client:
        stopped = client.stop_rule(name)
        if stopped["live_task"] is not None:
            for _ in client.follow(stopped["live_task"]):
                pass
            stopped = client.rule(name)
        answer(stopped, as_json, lambda r: typer.echo(f"{r['name']} is {r['state']}."))


@rule.command("delete")
def delete(
    name: Name,
    delete_replica: Annotated[bool, typer.Option(
        "--delete-replica", help="Delete the replica with all its points too.")] = False,
    force: Annotated[bool, typer.Option(
        "--force", help="Also when the source cannot be reached to be cleaned up.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Wait = False, as_json: Json = False,
) -> None:
    """Delete a rule; the replica stays unless you say otherwise."""
    if delete_replica and not yes:
        typer.confirm(f"Delete the replica of {name} and all its restore points?", abort=True,
                      err=True)
    with connected(as_json) as client:
        started(client, client.delete_rule(name, delete_replica, force), wait, as_json)


@rule.command("log")
def log(name: Name, as_json: Json = False) -> None:
    """What happened to a rule."""
    from .tasks import show_log

    with connected(as_json) as client:
        answer(client.rule_log(name), as_json, show_log)


@point.command("list")
def points(name: Name, as_json: Json = False) -> None:
    """The restore points of a rule, newest first."""
    with connected(as_json) as client:
        answer(client.points(name), as_json, lambda items: table(
            ["POINT", "TAKEN", "AGE", "CONSISTENCY", "SIZE", "MOVED", "NOTE"],
            [[str(p["number"]), when(p["taken_at"]), ago(p["taken_at"]), p["consistency"],
              size(p["size"]), size(p["moved"]),
              " ".join(filter(None, ["(failover stands on it)" if p["standing"] else "",
                                     p["note"]]))] for p in items],
            f"No restore point yet. Make one: hotspare rule start {name}"))


def failover(
    name: Name,
    point: Annotated[int | None, typer.Option(help="The restore point; the newest if not given.")
                     ] = None,
    wait: Wait = False, as_json: Json = False,
) -> None:
    """Run from the replica. What it writes is kept apart; undo throws that away."""
    with connected(as_json) as client:
        started(client, client.failover(name, point), wait, as_json)


def undo(name: Name, wait: Wait = False, as_json: Json = False) -> None:
    """End a temporary failover: the replica goes off, its own writes are thrown away."""
    with connected(as_json) as client:
        started(client, client.undo(name), wait, as_json)


def _show(r: shapes.Rule) -> None:
    waits, error = r["waits_for"] or {}, r["last_error"] or {}
    facts([
        ("name", r["name"]), ("id", r["id"]), ("state", f"{r['state']} ({r['state_zh']})"),
        ("waits for", str(waits.get("message", ""))),
        ("machine", f"{r['vm_name']} of {r['source_name']}"),
        ("replica", f"{r['replica_name']} on {r['target_name']}, storage {r['storage']}"),
        ("networks", ", ".join(f"{a} -> {b}" for a, b in r["networks"].items())),
        ("interval", span(r["interval_s"]) if r["interval_s"] else "by hand"),
        ("next run", when(r["next_run_at"]) if r["enabled"] else ""),
        ("points", f"{r['points']} of {r['retention']}"
                   + (f", newest {r['latest_point']} ({ago(r['latest_point_at'])})"
                      if r["latest_point"] else "")),
        ("runs from", f"point {r['failover_point']}" if r["failover_point"] else ""),
        ("quiesce", r["quiesce"]), ("last result", r["last_result"] or ""),
        ("error", str(error.get("message", ""))), ("remedy", str(error.get("remedy", ""))),
        ("task", str(r["live_task"] or "")),
        ("possible now", ", ".join(r["operations"]))])
