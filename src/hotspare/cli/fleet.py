"""hotspare machine enrol, revoke, remove; rule move; platform move"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from .common import Json, answer, connected, duration, when

Name = Annotated[str, typer.Argument(metavar="MACHINE", help="Its name.")]
To = Annotated[str, typer.Option("--machine", metavar="MACHINE", help="The DR machine.")]


def enrol(
    name: Name,
    valid: Annotated[str, typer.Option(metavar="TIME", help="How long: 10m, 1h, 2d.")] = "1h",
    as_json: Json = False,
) -> None:
    """Make a one-time code with which a DR machine enrols itself, new or again."""
    with connected(as_json) as client:
        made = client.request("POST", f"/machines/{_seg(name)}/enrol",
                              body={"life_s": duration(valid)})
        answer(made, as_json, _show_code)


def _show_code(made: dict[str, Any]) -> None:
    typer.echo(made["code"])
    typer.echo(f"Valid once, until {when(made['expires_at'])}. On the DR machine:\n"
               f"  hotspare worker --server https://HOST:8443 --name {made['machine']} --enrol -\n"
               "and type the code there.", err=True)


def revoke(name: Name, as_json: Json = False) -> None:
    """End a DR machine's access at once; enrol it again to let it back in."""
    with connected(as_json) as client:
        client.request("POST", f"/machines/{_seg(name)}/revoke")
        answer({"revoked": name}, as_json, lambda _: typer.echo(f"{name} has no access any more."))


def remove(name: Name, as_json: Json = False) -> None:
    """Forget a DR machine that no rule and no platform uses."""
    with connected(as_json) as client:
        client.request("DELETE", f"/machines/{_seg(name)}")
        answer({"removed": name}, as_json, lambda _: typer.echo(f"{name} was removed."))


def move_rule(
    name: Annotated[str, typer.Argument(metavar="RULE", help="Its name or id.")], to: To,
    as_json: Json = False,
) -> None:
    """Give a rule to another DR machine; its next run there sends only what changed."""
    with connected(as_json) as client:
        moved = client.request("POST", f"/rules/{_seg(name)}/move", body={"machine": to})
        answer(moved, as_json, lambda _: typer.echo(f"{name} is with {to} now."))


def move_platform(
    name: Annotated[str, typer.Argument(metavar="PLATFORM", help="Its name or id.")], to: To,
    as_json: Json = False,
) -> None:
    """Let another DR machine check and refresh a platform."""
    with connected(as_json) as client:
        moved = client.request("POST", f"/platforms/{_seg(name)}/move", body={"machine": to})
        answer(moved, as_json, lambda _: typer.echo(f"{name} is asked from {to} now."))


def add_to(machine: typer.Typer, rule: typer.Typer, platform: typer.Typer) -> None:
    machine.command("enrol")(enrol)
    machine.command("revoke")(revoke)
    machine.command("remove")(remove)
    rule.command("move")(move_rule)
    platform.command("move")(move_platform)


def _seg(ref: str) -> str:
    return quote(ref, safe="")
