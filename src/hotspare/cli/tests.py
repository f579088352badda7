"""hotspare test …"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..domain.text import plain
from .common import Json, ago, answer, connected, duration, facts, table, when
from .rules import Name, Wait
from .wait import started

if TYPE_CHECKING:
    from ..client import shapes

test = typer.Typer(help="Boot copies of restore points, apart from everything, and look at them.",
                   no_args_is_help=True)

Number = Annotated[int, typer.Argument(metavar="TEST", min=1, help="Its number.")]


@test.command("start")
def start(
    name: Name,
    point: Annotated[int | None, typer.Option(help="The restore point; the newest if not given.")
                     ] = None,
    check: Annotated[list[str] | None, typer.Option(
        metavar="CHECK", help="What has to show: heartbeat (of the guest's agent), screen (not "
                              "blank, and changing), text=TEXT (on the screen), ping, tcp=PORT. "
                              "May be given several times. Without it: the first two, as far as "
                              "the machine can.")] = None,
    address: Annotated[str, typer.Option(
        metavar="ADDRESS/PREFIX", help="For ping and tcp: what the guest has, if not by DHCP.")
    ] = "",
    boot: Annotated[str, typer.Option(help="Time that all of it may take.")] = "3m",
    wait: Wait = False, as_json: Json = False,
) -> None:
    """Boot a copy of a restore point, look at it, and remove it. Replication goes on."""
    wanted = {"point": point, "address": address, "boot_s": duration(boot)} | checks(check or [])
    with connected(as_json) as client:
        started(client, client.start_test(name, wanted), wait, as_json)


def checks(named: list[str]) -> dict[str, Any]:
    """Fields of the request. What is not named is not looked for, once anything is."""
    wanted: dict[str, Any] = {"heartbeat": False, "screen": False, "ports": []} if named else {}
    for item in named:
        kind, equals, value = item.partition("=")
        if kind in {"heartbeat", "screen", "ping"} and not equals:
            wanted[kind] = True
        elif kind == "text" and value:
            wanted["text"] = value
        elif kind == "tcp" and value.isdecimal():
            wanted["ports"].append(int(value))
        else:
            raise typer.BadParameter(
                f"{item!r} is none of heartbeat, screen, text=TEXT, ping, tcp=PORT")
    return wanted


@test.command("list")
def list_(name: Name, as_json: Json = False) -> None:
    """The tests of a rule's restore points, newest first."""
    with connected(as_json) as client:
        answer(client.tests(name), as_json, lambda items: table(
            ["TEST", "POINT", "WHEN", "AGE", "VERDICT", "CHECKS"],
            [[str(t["id"]), str(t["point"]), when(t["at"]), ago(t["at"]), t["verdict"],
              ", ".join(f"{c['name']} {c['state']}" for c in t["checks"])] for t in items],
            f"No test yet. Make one: hotspare test start {name}"))


@test.command("show")
def show(number: Number, as_json: Json = False) -> None:
    """One test: what each check found."""
    with connected(as_json) as client:
        answer(client.test(number), as_json, _show)


@test.command("screenshot")
def screenshot(
    number: Number,
    file: Annotated[Path, typer.Option(
        "-o", "--output", metavar="FILE", help="Where the PNG goes (-: standard output).")],
    as_json: Json = False,
) -> None:
    """The last that the copy's screen showed."""
    with connected(as_json) as client:
        client.save_screenshot(number, file)


def _show(t: shapes.Test) -> None:
    facts([("test", str(t["id"])), ("rule", t["rule_name"]),
           ("point", f"{t['point']}, taken {when(t['taken_at'])}"),
           ("when", f"{when(t['at'])} ({ago(t['at'])})"), ("verdict", t["verdict"]),
           ("task", str(t["task"])),
           ("screenshot", f"hotspare test screenshot {t['id']} -o screen.png"
            if t["screenshot"] else "")])
    typer.echo("")
    table(["CHECK", "RESULT", "WHAT"],
          [[c["name"], c["state"], plain(c["message"])] for c in t["checks"]], "No checks.")
