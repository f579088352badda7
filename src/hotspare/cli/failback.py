"""hotspare failback …: the replica's work goes home."""

from __future__ import annotations

from typing import Annotated

import typer

from .common import Json, connected, duration, pairs
from .rules import Name, Wait
from .wait import started

failback = typer.Typer(
    no_args_is_help=True,
    help="Bring the replica's work back into the source: start, switch, then commit or undo.")

Grace = Annotated[str, typer.Option(help="Time that a guest gets to shut down.")]
PowerOff = Annotated[bool, typer.Option("--power-off", help="Cut its power after that.")]
LeaveDisks = Annotated[bool, typer.Option(
    "--leave-disks", help="Disks that only one of the two machines has stay as they are.")]


@failback.command("start")
def start(
    name: Name,
    shut_down: Annotated[bool, typer.Option(
        "--shut-down", help="Shut the source down first, if it runs.")] = False,
    grace: Grace = "5m", power_off: PowerOff = False, leave_disks: LeaveDisks = False,
    to: Annotated[str | None, typer.Option(
        metavar="PLATFORM", help="Where to make a new machine, if the original is gone.")] = None,
    storage: Annotated[str | None, typer.Option(help="With --to: where its disks go.")] = None,
    named: Annotated[str | None, typer.Option(
        "--name", help="With --to: its name; the original's if not given.")] = None,
    network: Annotated[list[str] | None, typer.Option(
        metavar="REPLICA=THERE", help="With --to: a network of the replica, and the one there."
    )] = None,
    wait: Wait = False, as_json: Json = False,
) -> None:
    """Copy what differs back into the source's disks while the replica runs. Can be repeated."""
    if (to is None) != (storage is None) or (to is None and (named or network)):
        raise typer.BadParameter("--to and --storage go together; --name and --network with them")
    place = None if to is None else {"platform": to, "storage": storage, "name": named,
                                     "networks": pairs(network or [])}
    with connected(as_json) as client:
        started(client, client.fail_back(
            name, shut_down=shut_down, grace_s=duration(grace), power_off=power_off,
            leave_disks=leave_disks, place=place), wait, as_json)


@failback.command("switch")
def switch(
    name: Name,
    grace: Grace = "5m", power_off: PowerOff = False, leave_disks: LeaveDisks = False,
    commit_after: Annotated[str | None, typer.Option(
        metavar="TIME", help="Commit by itself after that time; else by hand.")] = None,
    wait: Wait = False, as_json: Json = False,
) -> None:
    """Shut the replica down, copy the rest, start the source."""
    with connected(as_json) as client:
        started(client, client.switch_back(
            name, grace_s=duration(grace), power_off=power_off, leave_disks=leave_disks,
            commit_after_s=None if commit_after is None else duration(commit_after)),
            wait, as_json)


@failback.command("commit")
def commit(name: Name, wait: Wait = False, as_json: Json = False) -> None:
    """Keep what the source is now. Replication goes on; there is no undo any more."""
    with connected(as_json) as client:
        started(client, client.commit_failback(name), wait, as_json)


@failback.command("undo")
def undo(
    name: Name,
    machine: Annotated[str | None, typer.Option(
        "--confirm", metavar="VM", help="The machine's name; asked for if it is needed.")] = None,
    wait: Wait = False, as_json: Json = False,
) -> None:
    """The source becomes block by block what it was before and goes off, the replica goes on. A
    machine that was made at a new place is removed."""
    with connected(as_json) as client:
        rule = client.rule(name)
        state = rule["failback"] or {}
        if machine is None and state.get("switched"):
            place = state.get("place")
            if place is None:
                lost, fate = rule["vm_name"], f"{rule['vm_name']} on {rule['source_name']} goes off"
            else:
                there = client.platform(place["platform"])["name"]
                lost, fate = place["name"], (f"{place['name']} on {there} goes off and is removed "
                                             "with its disks")
            typer.echo(f"{fate}. What it wrote since the switch is lost; {rule['replica_name']} on "
                       f"{rule['target_name']} goes on as it stood then.", err=True)
            machine = typer.prompt(f"Type {lost} to confirm", err=True)
        started(client, client.undo_failback(name, machine), wait, as_json)
