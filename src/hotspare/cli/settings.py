"""hotspare settings …"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from .common import Json, answer, connected, facts

settings = typer.Typer(help="Limits over all DR machines.", no_args_is_help=True)


class Key(StrEnum):
    MAX_TASKS_PER_HOST = "max_tasks_per_host"


@settings.command("show")
def show(as_json: Json = False) -> None:
    """All settings."""
    with connected(as_json) as client:
        answer(client.request("GET", "/settings"), as_json, _show)


@settings.command("set")
def set_(key: Key, value: Annotated[int, typer.Argument()], as_json: Json = False) -> None:
    """Change a setting. max_tasks_per_host: rules at once against one hypervisor host, source or
    target, over all DR machines."""
    with connected(as_json) as client:
        answer(client.request("PATCH", "/settings", body={key.value: value}), as_json, _show)


def _show(found: dict[str, Any]) -> None:
    facts([("max_tasks_per_host", str(found["max_tasks_per_host"])),
           ("in force", str(found["in_force"]))])
    for warning in found["warnings"]:
        typer.secho(f"{warning['message']} {warning['remedy']}", fg="yellow", err=True)
