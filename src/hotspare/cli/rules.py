"""hotspare rule …, point …, failover, undo, permanent"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..domain.errors import Refused
from .common import (
    Json,
    ago,
    answer,
    connected,
    duration,
    errors,
    exit_code,
    facts,
    size,
    span,
    table,
    when,
)
from .rule_options import bandwidth_text, schedule_text, takes_settings
from .wait import started

if TYPE_CHECKING:
    from ..client import Client, shapes

rule = typer.Typer(help="Replication rules: one machine's protection each.",
                   no_args_is_help=True)
source = typer.Typer(help="The machine that a rule protects, while its replica runs.",
                     no_args_is_help=True)
point = typer.Typer(help="Restore points.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="RULE", help="Its name or id.")]
Names = Annotated[list[str], typer.Argument(metavar="RULE…", help="Names or ids.")]
Group = Annotated[str | None, typer.Option(help="A group: its name or id.")]
Template = Annotated[str | None, typer.Option(
    help="Fills what is not given: hotspare template list.")]
DeleteReplica = Annotated[bool | None, typer.Option(
    "--delete-replica/--keep-replica", help="Whatever the rule's setting says.")]
Force = Annotated[bool, typer.Option(
    "--force", help="Also when source or target cannot be cleaned up. What stays there is "
                    "in the log.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Damaged = Annotated[bool, typer.Option(
    "--damaged", help="Take a restore point that is damaged, too.")]
Wait = Annotated[bool, typer.Option("--wait", help="Show the progress and wait for the end.")]


@rule.command("create")
@takes_settings
def create(
    name: Annotated[str, typer.Argument(help="A name of your choice.")],
    vm: Annotated[str, typer.Option(help="The machine: its name or id.")],
    settings: dict[str, Any],
    replica_name: Annotated[str | None, typer.Option(
        help="Name of the replica; the machine's own if that is free.")] = None,
    group: Group = None, template: Template = None, as_json: Json = False,
) -> None:
    """Protect a machine. The rule is made stopped; start it with: hotspare rule start."""
    more = {"replica_name": replica_name, "group": group, "template": template}
    with connected(as_json) as client:
        answer(client.create_rule(
            {"name": name, "vm": vm} | settings | {k: v for k, v in more.items() if v}),
            as_json, _show)


@rule.command("edit")
@takes_settings
def edit(
    name: Name,
    settings: dict[str, Any],
    new_name: Annotated[str | None, typer.Option("--name", help="A new name.")] = None,
    vm: Annotated[str | None, typer.Option(help="Before the first run only.")] = None,
    replica_name: Annotated[str | None, typer.Option(help="Before the first run only.")] = None,
    group: Annotated[str | None, typer.Option(help="Put it into a group; none: take it out.")
                     ] = None,
    revision: Annotated[int | None, typer.Option(
        help="Only if nobody has edited it since this revision.")] = None,
    as_json: Json = False,
) -> None:
    """Change settings; what is not named stays, and so do the restore points. A run that is
    under way goes on with what it began with, except the bandwidth."""
    more = {"name": new_name, "vm": vm, "replica_name": replica_name, "revision": revision}
    changes = settings | {k: v for k, v in more.items() if v is not None}
    if group is not None:
        changes["group"] = None if group == "none" else group
    with errors(as_json):
        if "machine" in changes:
            raise Refused("rule.machine-moves", name=name)
    with connected(as_json) as client:
        answer(client.edit_rule(name, changes), as_json, _show)


@rule.command("list")
def list_(
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    group: Group = None,
    machine: Annotated[str | None, typer.Option(help="Only those of this DR machine.")] = None,
    text: Annotated[str | None, typer.Option(help="Only those with this in a name.")] = None,
    sort: Annotated[str, typer.Option(
        help="name, state, vm, machine, next_run, last_success, newest, created; -name: "
             "the other way.")] = "name",
    as_json: Json = False,
) -> None:
    """All rules, or some."""
    with connected(as_json) as client:
        found = client.rules(state=state, group=group, machine=machine, text=text, sort=sort)
        answer(found, as_json, lambda items: table(
            ["NAME", "STATE", "LAST", "MACHINE", "FROM", "TO", "POINTS", "NEWEST", "NEXT"],
            [[r["name"], _state(r), r["last_result"] or "-", r["vm_name"], r["source_name"],
              r["target_name"], f"{r['points']}/{r['retention']}", ago(r["latest_point_at"]),
              ago(r["next_run_at"])] for r in items],
            "No such rule." if state or group or machine or text else
            "No rule. Make one: hotspare rule create NAME --source … --vm … "
            "--target … --storage …"))


@rule.command("show")
def show(name: Name, as_json: Json = False) -> None:
    """One rule, and what can be done with it now."""
    with connected(as_json) as client:
        answer(client.rule(name), as_json, _show)


@rule.command("start")
def start(
    names: Names,
    compare: Annotated[bool, typer.Option(
        "--compare", help="Read all of the source and send what differs, whatever tracking says."
    )] = False,
    repair: Annotated[bool, typer.Option(
        "--repair", help="Mend what somebody else has changed at the target.")] = False,
    wait: Wait = False, as_json: Json = False,
) -> None:
    """Run now; a periodic rule then goes on by its schedule."""
    if (compare or repair) and len(names) > 1:
        raise typer.BadParameter("--compare and --repair go with one rule")
    with connected(as_json) as client:
        if len(names) == 1:
            task = client.start_rule(names[0], compare=compare, repair=repair)
            started(client, task, wait, as_json)
        else:
            told(client, client.act("start", names), wait, as_json)


@rule.command("stop")
def stop(names: Names, as_json: Json = False) -> None:
    """End the run and the schedule, and wait until it has ended. What was transferred is kept."""
    with connected(as_json) as client:
        if len(names) > 1:
            told(client, client.act("stop", names), True, as_json)
            return
        stopped = client.stop_rule(names[0])
        if stopped["live_task"] is not None:
            for _ in client.follow(stopped["live_task"]):
                pass
            stopped = client.rule(names[0])
        answer(stopped, as_json, lambda r: typer.echo(f"{r['name']} is {r['state']}."))


@rule.command("delete")
def delete(
    names: Names, delete_replica: DeleteReplica = None, force: Force = False, yes: Yes = False,
    wait: Wait = False, as_json: Json = False,
) -> None:
    """Delete rules. Their replicas stay or go as each rule's setting says, unless you do."""
    with connected(as_json) as client:
        confirm(client, names, delete_replica, yes)
        if len(names) == 1:
            started(client, client.delete_rule(names[0], delete_replica, force), wait, as_json)
        else:
            told(client, client.act("delete", names, delete_replica=delete_replica, force=force),
                 wait, as_json)


def confirm(client: Client, names: list[str], delete_replica: bool | None, yes: bool) -> None:
    """Ask when replicas go with their rules."""
    gone = [n for n in names if delete_replica
            or (delete_replica is None and client.rule(n)["delete_replica"])] if not yes else []
    if gone:
        typer.confirm(f"Delete the replica of {', '.join(gone)} and all its restore points?",
                      abort=True, err=True)


def told(client: Client, done: list[shapes.Action], wait: bool, as_json: bool) -> None:
    """Say what became of each rule, and end with the code of the first that failed."""
    if wait:
        for action in done:
            if action["task"] is not None:
                for _ in client.follow(action["task"]):
                    pass
    answer(done, as_json, lambda items: table(
        ["RULE", "RESULT", "TASK"],
        [[a["rule"], str((a["error"] or {}).get("message", "ok")), str(a["task"] or "-")]
         for a in items], "No rule."))
    failed = [a["error"] for a in done if a["error"] is not None]
    if failed:
        raise typer.Exit(exit_code(str(failed[0]["code"])))


@rule.command("log")
def log(
    name: Name,
    level: Annotated[str, typer.Option(
        metavar="info|warning|error", help="This level and above.")] = "info",
    newest: Annotated[int | None, typer.Option(
        min=1, help="Only so many, the newest first.")] = None,
    download: Annotated[Path | None, typer.Option(
        metavar="FILE", help="Write all of it into this file, as CSV if its name ends in .csv "
                             "(-: as text to standard output).")] = None,
    as_json: Json = False,
) -> None:
    """What happened to a rule."""
    from .tasks import show_log

    with connected(as_json) as client:
        if download is not None:
            form = "csv" if download.suffix == ".csv" else "txt"
            client.save_log(name, download, form, level=level)
            return
        answer(client.rule_log(name, level=level, order="newest" if newest else "oldest",
                               largest=newest), as_json, show_log)


@point.command("list")
def points(name: Name, as_json: Json = False) -> None:
    """The restore points of a rule, newest first."""
    with connected(as_json) as client:
        answer(client.points(name), as_json, lambda items: table(
            ["POINT", "TAKEN", "AGE", "CONSISTENCY", "SIZE", "MOVED", "SCRUBBED", "TESTED", "NOTE"],
            [[str(p["number"]), when(p["taken_at"]), ago(p["taken_at"]), p["consistency"],
              size(p["size"]), size(p["moved"]), _scrubbed(p),
              f"{p['verdict']} {ago(p['tested_at'])}" if p["verdict"] else "-",
              " ".join(filter(None, ["(failover stands on it)" if p["standing"] else "",
                                     p["note"]]))] for p in items],
            f"No restore point yet. Make one: hotspare rule start {name}"))


def _scrubbed(p: shapes.Point) -> str:
    if p["damaged_at"] is not None:
        return f"DAMAGED ({size(p['damaged'])})"
    return ago(p["scrubbed_at"])


@point.command("scrub")
def scrub(
    name: Name,
    number: Annotated[int | None, typer.Option(
        "--point", help="The restore point; the newest if not given.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All points, the newest first.")] = False,
    wait: Wait = False, as_json: Json = False,
) -> None:
    """Read restore points again at the target and compare them with their digests, beside
    whatever else the rule does. Ends with an error when one is damaged."""
    if every and number is not None:
        raise typer.BadParameter("use one of --point and --all")
    with connected(as_json) as client:
        started(client, client.scrub(name, number, every), wait, as_json)


@source.command("unplug")
def unplug(name: Name, wait: Wait = False, as_json: Json = False) -> None:
    """Take the network cables out of a source that came back beside its replica."""
    with connected(as_json) as client:
        started(client, client.plug_source(name, False), wait, as_json)


@source.command("plug")
def plug(name: Name, wait: Wait = False, as_json: Json = False) -> None:
    """Put the network cables in again."""
    with connected(as_json) as client:
        started(client, client.plug_source(name, True), wait, as_json)


def failover(
    name: Name,
    point: Annotated[int | None, typer.Option(
        help="The restore point; the newest that is not damaged if not given.")] = None,
    damaged: Damaged = False,
    planned: Annotated[bool, typer.Option(
        "--planned", help="Run, shut the source down, run again, then fail over: nothing is lost."
    )] = False,
    grace: Annotated[str, typer.Option(
        help="With --planned: time that the source's guest gets to shut down.")] = "5m",
    power_off: Annotated[bool, typer.Option(
        "--power-off", help="With --planned: cut the source's power after that.")] = False,
    unplugged: Annotated[bool, typer.Option(
        "--unplugged", help="Start with the replica's network cables out.")] = False,
    allow_duplicate_mac: Annotated[bool, typer.Option(
        "--allow-duplicate-mac", help="Also while the source runs with the same addresses.")
    ] = False,
    wait: Wait = False, as_json: Json = False,
) -> None:
    """Run from the replica. What it writes is kept apart; undo throws that away."""
    if planned and (point is not None or unplugged or allow_duplicate_mac or damaged):
        raise typer.BadParameter("--planned goes to the newest point with the source off: leave "
                                 "out --point, --damaged, --unplugged and --allow-duplicate-mac")
    if power_off and not planned:
        raise typer.BadParameter("--power-off goes with --planned only")
    with connected(as_json) as client:
        if planned:
            task = client.planned_failover(name, duration(grace), power_off)
        else:
            task = client.failover(name, point, unplugged=unplugged,
                                   allow_duplicate_mac=allow_duplicate_mac, damaged=damaged)
        _started(client, name, task, wait, as_json)


def undo(name: Name, wait: Wait = False, as_json: Json = False) -> None:
    """End a temporary failover: the replica goes off, its own writes are thrown away."""
    with connected(as_json) as client:
        started(client, client.undo(name), wait, as_json)


def permanent(
    name: Name,
    point: Annotated[int | None, typer.Option(
        help="The restore point, if no failover stands; the newest that is not damaged if not "
             "given.")] = None,
    damaged: Damaged = False,
    machine: Annotated[str | None, typer.Option(
        "--confirm", metavar="VM", help="The machine's name; asked for if not given.")] = None,
    wait: Wait = False, as_json: Json = False,
) -> None:
    """The replica becomes the machine, for good. Its restore points are deleted and the rule is
    closed: there is no way back."""
    with connected(as_json) as client:
        if machine is None:
            rule = client.rule(name)
            typer.echo(f"{rule['replica_name']} on {rule['target_name']} becomes the machine. All "
                       f"{rule['points']} restore points are deleted, {rule['vm_name']} on "
                       f"{rule['source_name']} is not replicated any more, and there is no way "
                       "back.", err=True)
            machine = typer.prompt(f"Type {rule['vm_name']} to confirm", err=True)
        task = client.permanent(name, point, machine, damaged=damaged)
        _started(client, name, task, wait, as_json)


def _started(client: Client, rule: str, task: int, wait: bool, as_json: bool) -> None:
    """As :func:`started`, for an operation of several tasks: each is queued as the one before
    ends. The last one's outcome counts."""
    while wait:
        for _ in client.follow(task):
            pass
        following = client.rule(rule)["live_task"]
        if following is None:
            break
        task = following
    started(client, task, wait, as_json)


def _state(r: shapes.Rule) -> str:
    running = r["state"] == "running" and r["percent"] is not None
    return f"{r['state']} {r['percent']:.0f} %" if running else r["state"]


def _show(r: shapes.Rule) -> None:
    waits, error, pause = r["waits_for"] or {}, r["last_error"] or {}, r["pause"] or {}
    both = r["both_run"] or {}
    covers = r["retention_covers_s"]
    place = ", ".join(filter(None, [
        r["datacenter"], r["host"], *(f"{kind} {r[kind]}" for kind in ("folder", "pool", "storage")
                                      if r[kind])]))
    facts([
        ("name", r["name"]), ("id", r["id"]), ("group", r["group_name"] or ""),
        ("state", f"{_state(r)} ({r['state_zh']})"), ("phase", r["phase"] or ""),
        ("ALARM", str(both.get("message", ""))), ("", str(both.get("remedy", ""))),
        ("waits for", str(waits.get("message", ""))), ("paused", str(pause.get("message", ""))),
        ("machine", f"{r['vm_name']} of {r['source_name']}"),
        ("replica", f"{r['replica_name']} on {r['target_name']}, {place}"),
        ("networks", ", ".join(f"{a} -> {b}" for a, b in r["networks"].items())),
        ("DR machine", r["machine"]), ("temporary directory", r["temp_dir"]),
        ("schedule", schedule_text(r["schedule"], r["time_zone"])),
        ("next run", when(r["next_run_at"]) if r["enabled"] else ""),
        ("bandwidth", bandwidth_text(r["bandwidth"])),
        ("points", f"{r['points']} of {r['retention']}"
                   + (f" ({span(covers)})" if covers else "")
                   + (f", newest {r['latest_point']} ({ago(r['latest_point_at'])})"
                      if r["latest_point"] else "")),
        ("RPO wanted", span(r["rpo_s"]) if r["rpo_s"] else ""),
        ("runs from", f"point {r['failover_point']}" if r["failover_point"] else ""),
        ("source machine", r["source_power"] or ""),
        ("commits itself", when(r["commit_at"]) if r["commit_at"] else ""),
        ("quiesce", r["quiesce"]),
        ("fast transfer", "on" if r["fast_transfer"] else "off: reads and compares all"),
        ("LAN-free", "on" if r["lan_free"] else ""),
        ("devices", "" if r["devices"] == "auto" else r["devices"]),
        ("deleted with it", "the replica" if r["delete_replica"] else ""),
        ("last result", r["last_result"] or ""),
        ("error", str(error.get("message", ""))), ("remedy", str(error.get("remedy", ""))),
        ("task", str(r["live_task"] or "")), ("revision", str(r["revision"])),
        ("possible now", ", ".join(r["operations"]))])
