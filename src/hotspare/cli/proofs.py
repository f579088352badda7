"""hotspare proof …: when restore points are proven by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Json, ago, answer, connected, errors, facts, table, when
from .rule_options import schedule_text
from .schedules import parse_schedule

if TYPE_CHECKING:
    from ..client import Client
    from ..client.proofs import Proofs, ProofSchedule

proof = typer.Typer(help="Schedules of proofs: restore points of rules are scrubbed or tested.",
                    no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="SCHEDULE", help="Its name or id.")]
Kind = Annotated[str | None, typer.Option(
    help="scrub: read and compare with the digests; test: boot the newest point apart.")]
Points = Annotated[bool | None, typer.Option(
    "--all/--newest", help="All points of each rule, or the newest.")]
Rule = Annotated[str | None, typer.Option(help="Of this rule only: its name or id.")]
Group = Annotated[str | None, typer.Option(help="Of the rules of this group only.")]
Every = Annotated[str | None, typer.Option(metavar="TIME", help="From start to start: 12h, 2d.")]
Daily = Annotated[str | None, typer.Option(metavar="HH:MM", help="Every day at this time.")]
Weekly = Annotated[str | None, typer.Option(metavar="DAYS@HH:MM", help="For example sun@02:30.")]
Monthly = Annotated[str | None, typer.Option(
    metavar="DAY@HH:MM", help="A shorter month runs on its last day.")]
Zone = Annotated[str | None, typer.Option(metavar="ZONE", help="Time zone: Europe/Berlin.")]


def _proofs(client: Client) -> Proofs:
    from ..client.proofs import Proofs

    return Proofs(client)


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@proof.command("add")
def add(name: Annotated[str, typer.Argument(help="A name of your choice.")], kind: Kind = None,
        points: Points = None, rule: Rule = None, group: Group = None, every: Every = None,
        daily: Daily = None, weekly: Weekly = None, monthly: Monthly = None, zone: Zone = None,
        as_json: Json = False) -> None:
    """A new schedule. Without --rule and --group it is for all rules."""
    with errors(as_json):
        wanted = parse_schedule(every=every, daily=daily, weekly=weekly, monthly=monthly)
    if wanted is None:
        raise typer.BadParameter("say when: --every, --daily, --weekly or --monthly")
    with connected(as_json) as client:
        answer(_proofs(client).add({"name": name} | _given(
            kind=kind, all_points=points, rule=rule, group=group, schedule=wanted,
            time_zone=zone)), as_json, _show)


@proof.command("list")
def list_(as_json: Json = False) -> None:
    """All schedules."""
    with connected(as_json) as client:
        answer(_proofs(client).list(), as_json, lambda items: table(
            ["NAME", "KIND", "OF", "POINTS", "WHEN", "LAST", "NEXT"],
            [[s["name"], s["kind"], _of(s), "all" if s["all_points"] else "newest",
              schedule_text(s["schedule"], s["time_zone"]), ago(s["last_run_at"]),
              when(s["next_run_at"]) if s["enabled"] else "off"] for s in items],
            "No schedule yet. Make one: hotspare proof add NAME --weekly sun@02:30"))


@proof.command("edit")
def edit(name: Name, rename: Annotated[str | None, typer.Option(help="Its new name.")] = None,
         kind: Kind = None, points: Points = None, rule: Rule = None, group: Group = None,
         every_rule: Annotated[bool, typer.Option(
             "--every-rule", help="Of all rules from now on.")] = False,
         every: Every = None, daily: Daily = None, weekly: Weekly = None, monthly: Monthly = None,
         zone: Zone = None,
         enable: Annotated[bool | None, typer.Option("--enable/--disable")] = None,
         as_json: Json = False) -> None:
    """Change what is given."""
    with errors(as_json):
        given = _given(name=rename, kind=kind, all_points=points, time_zone=zone, enabled=enable,
                       schedule=parse_schedule(every=every, daily=daily, weekly=weekly,
                                               monthly=monthly))
    if every_rule or rule is not None or group is not None:
        given |= {"rule": rule, "group": group}
    with connected(as_json) as client:
        answer(_proofs(client).edit(name, given), as_json, _show)


@proof.command("remove")
def remove(name: Name, as_json: Json = False) -> None:
    """Forget a schedule."""
    with connected(as_json) as client:
        _proofs(client).remove(name)
        answer({"removed": name}, as_json, lambda _: typer.echo(f"{name} was removed."))


def _of(found: ProofSchedule) -> str:
    if found["rule"] is not None:
        return f"rule {found['rule_name']}"
    return f"group {found['group_name']}" if found["group"] is not None else "all rules"


def _show(found: ProofSchedule) -> None:
    facts([("name", found["name"]), ("id", found["id"]), ("kind", found["kind"]),
           ("of", _of(found)), ("points", "all" if found["all_points"] else "the newest"),
           ("when", schedule_text(found["schedule"], found["time_zone"])),
           ("next", when(found["next_run_at"]) if found["enabled"] else "off")])
