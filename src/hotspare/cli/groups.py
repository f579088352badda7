"""hotspare group …, hotspare template …"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Json, answer, connected, facts, table, when
from .rule_options import bandwidth_text, schedule_text, takes_settings
from .rules import DeleteReplica, Force, Template, Wait, Yes, confirm, told

if TYPE_CHECKING:
    from ..client import shapes

group = typer.Typer(help="Groups: rules of several machines with the same settings.",
                    no_args_is_help=True)
template = typer.Typer(help="Saved settings of rules.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="GROUP", help="Its name or id.")]
Kept = Annotated[str, typer.Argument(metavar="TEMPLATE", help="Its name or id.")]


@group.command("create")
@takes_settings
def create(
    name: Annotated[str, typer.Argument(help="A name of your choice.")],
    vm: Annotated[list[str], typer.Option(help="A machine: its name or id. Repeatable.")],
    settings: dict[str, Any], template: Template = None, as_json: Json = False,
) -> None:
    """Protect several machines: one rule each, named NAME-MACHINE, all or none."""
    body = {"name": name, "vms": vm} | settings | ({"template": template} if template else {})
    with connected(as_json) as client:
        answer(client.create_group(body), as_json, _show)


@group.command("list")
def list_(as_json: Json = False) -> None:
    """All groups."""
    with connected(as_json) as client:
        answer(client.groups(), as_json, lambda items: table(
            ["NAME", "RULES", "STATES"],
            [[g["name"], str(g["rules"]), _states(g)] for g in items],
            "No group. Make one: hotspare group create NAME --vm … --vm … --source … "
            "--target … --storage …"))


@group.command("show")
def show(name: Name, as_json: Json = False) -> None:
    """What the rules of a group have in common, and in what they differ."""
    with connected(as_json) as client:
        answer(client.group(name), as_json, _show)


@group.command("start")
def start(name: Name, wait: Wait = False, as_json: Json = False) -> None:
    """Run all its rules now."""
    with connected(as_json) as client:
        told(client, client.act("start", [], group=name), wait, as_json)


@group.command("stop")
def stop(name: Name, as_json: Json = False) -> None:
    """End the runs and schedules of all its rules."""
    with connected(as_json) as client:
        told(client, client.act("stop", [], group=name), True, as_json)


@group.command("delete")
def delete(
    name: Name, delete_replica: DeleteReplica = None, force: Force = False, yes: Yes = False,
    wait: Wait = False, as_json: Json = False,
) -> None:
    """Delete all its rules, and the group with the last of them."""
    with connected(as_json) as client:
        confirm(client, [r["id"] for r in client.rules(group=name)], delete_replica, yes)
        told(client, client.act("delete", [], group=name, delete_replica=delete_replica,
                                force=force), wait, as_json)


# --- templates ---------------------------------------------------------------------------------


@template.command("save")
@takes_settings
def save(
    name: Annotated[str, typer.Argument(help="A name of your choice.")],
    settings: dict[str, Any],
    rule: Annotated[str | None, typer.Option(
        help="A rule whose settings are kept, except its name and machine.")] = None,
    as_json: Json = False,
) -> None:
    """Keep the settings of a rule, or those of the options; the options win."""
    with connected(as_json) as client:
        answer(client.save_template(name, rule, settings), as_json, _show_template)


@template.command("list")
def templates(as_json: Json = False) -> None:
    """All templates."""
    with connected(as_json) as client:
        answer(client.templates(), as_json, lambda items: table(
            ["NAME", "FROM", "TO", "MADE", "BY"],
            [[t["name"], t["source_name"] or "-", t["target_name"] or "-", when(t["created_at"]),
              t["created_by"]] for t in items],
            "No template. Make one: hotspare template save NAME --rule RULE"))


@template.command("show")
def show_template(name: Kept, as_json: Json = False) -> None:
    """What a template holds."""
    with connected(as_json) as client:
        answer(client.template(name), as_json, _show_template)


@template.command("delete")
def delete_template(name: Kept, as_json: Json = False) -> None:
    """Forget a template; rules that were made with it stay as they are."""
    with connected(as_json) as client:
        client.delete_template(name)
        answer({"deleted": name}, as_json, lambda _: typer.echo(f"{name} was deleted."))


# --- text for people ---------------------------------------------------------------------------


def _states(g: shapes.Group) -> str:
    return ", ".join(f"{count} {state}" for state, count in sorted(g["states"].items()))


def _show(g: shapes.Group) -> None:
    facts([("name", g["name"]), ("id", g["id"]), ("rules", str(g["rules"])),
           ("states", _states(g)), *_settings(_named(g["settings"], g)),
           ("differing", ", ".join(g["differing"]))])


def _show_template(t: shapes.Template) -> None:
    facts([("name", t["name"]), ("id", t["id"]), *_settings(_named(t["settings"], t))])


def _named(settings: dict[str, Any], found: shapes.Group | shapes.Template) -> dict[str, Any]:
    """The settings with the names of the platforms in place of their ids."""
    names = {"source": found["source_name"], "target": found["target_name"]}
    return settings | {k: v for k, v in names.items() if v}


def _settings(settings: dict[str, Any]) -> list[tuple[str, str]]:
    zone = settings.get("time_zone", "UTC")

    def text(name: str, value: Any) -> str:
        match name:
            case "schedule":
                return schedule_text({"at": None} | value if value else None, zone)
            case "bandwidth":
                return bandwidth_text(value)
            case "networks":
                return ", ".join(f"{a} -> {b}" for a, b in value.items())
        return "" if value is None else str(value)

    return [(name, text(name, value)) for name, value in settings.items()]
