"""hotspare machine list, show, set (enrol, revoke, remove: fleet)"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from ..domain.bandwidth import Range
from ..domain.bandwidth_text import describe, parse_all
from ..domain.limits import bytes_of
from .common import Json, ago, answer, connected, errors, facts, size, table, when

if TYPE_CHECKING:
    from ..client import shapes

machine = typer.Typer(help="DR machines.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="MACHINE", help="Its name.")]


@machine.command("list")
def list_(as_json: Json = False) -> None:
    """All DR machines."""
    with connected(as_json) as client:
        answer(client.machines(), as_json, lambda items: table(
            ["NAME", "LIVE", "TASKS", "QUEUED", "BUFFER", "SEEN", "VERSION",
             "TEMPORARY DIRECTORY"],
            [[m["name"], _live(m), f"{m['running']}/{m['max_tasks']}", str(m["queued"]),
              size(m["transfer_buffer"]), ago(m["last_seen"]), m["version"], m["temp_dir"]]
             for m in items],
            "No DR machine yet."))


@machine.command("show")
def show(name: Name, as_json: Json = False) -> None:
    """One DR machine with its limits."""
    with connected(as_json) as client:
        answer(client.request("GET", f"/machines/{quote(name, safe='')}"), as_json, _show)


@machine.command("set")
def set_(
    name: Name,
    max_tasks: Annotated[int | None, typer.Option(help="Tasks at once, 1 to 64.")] = None,
    transfer_buffer: Annotated[str | None, typer.Option(
        metavar="BYTES", help="In flight of one task, for example 2MiB.")] = None,
    bandwidth: Annotated[list[str] | None, typer.Option(
        metavar="RANGE", help="'mon-fri 09:00-18:00 10MiB', 'daily 0', 'none'. Repeatable; "
                              "replaces all ranges.")] = None,
    time_zone: Annotated[str | None, typer.Option(help="Of the ranges.")] = None,
    as_json: Json = False,
) -> None:
    """Change what one DR machine may do. It holds until the machine's own worker.toml says
    something new."""
    with errors(as_json):
        ranges = None if not bandwidth else [
            asdict(r) for r in parse_all(t for t in bandwidth if t != "none")]
        body: dict[str, Any] = {
            "max_tasks": max_tasks, "bandwidth": ranges, "time_zone": time_zone,
            "transfer_buffer": None if transfer_buffer is None else bytes_of(transfer_buffer)}
    with connected(as_json) as client:
        answer(client.request("PATCH", f"/machines/{quote(name, safe='')}", body=body), as_json,
               _show)


def _live(found: shapes.Machine) -> str:
    return "revoked" if found["revoked_at"] else "busy" if found["busy"] and found["live"] else \
        "yes" if found["live"] else "no"


def _show(found: shapes.Machine) -> None:
    offset = found["clock_offset"]
    facts([("name", found["name"]), ("live", _live(found)),
           ("takes no task", found["busy"]["message"] if found["busy"] else ""),
           ("seen", when(found["last_seen"])), ("address", found["address"]),
           ("version", found["version"]),
           ("clock", f"{offset:+.1f} s" if offset else ""),
           ("temporary directory", found["temp_dir"]),
           ("tasks", f"{found['running']} of {found['max_tasks']} (max_tasks)"),
           ("queued", str(found["queued"])), ("transfer_buffer", size(found["transfer_buffer"])),
           ("time zone", found["time_zone"] if found["bandwidth"] else "")])
    for span in found["bandwidth"]:
        typer.echo(f"  {describe(Range(**span))}")
