"""hotspare platform …"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import (
    Json,
    ago,
    answer,
    connected,
    errors,
    exit_code,
    facts,
    pairs,
    secret,
    size,
    table,
    when,
)
from .wait import follow, started

if TYPE_CHECKING:
    from ..client import shapes

platform = typer.Typer(help="Hypervisors: register, look at, refresh.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="PLATFORM", help="Its name or id.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end.")]


@platform.command("add")
def add(
    name: Annotated[str, typer.Argument(help="A name of your choice.")],
    uri: Annotated[str, typer.Argument(
        help="qemu:///system, qemu+ssh://user@host/system, https://vcenter, …")],
    kind: Annotated[str | None, typer.Option(
        help="libvirt or vsphere. By the address, if not given.")] = None,
    user: Annotated[str | None, typer.Option(help="The login at vSphere.")] = None,
    thumbprint: Annotated[str | None, typer.Option(
        help="SHA-1 of vSphere's certificate, as its console shows it.")] = None,
    option: Annotated[list[str] | None, typer.Option(
        metavar="NAME=VALUE", help="A setting of the driver. Repeatable.")] = None,
    password: Annotated[bool, typer.Option(
        "--password", help="It needs a password: asked for, or from HOTSPARE_PLATFORM_PASSWORD."
    )] = False,
    password_file: Annotated[Path | None, typer.Option(
        help="Read the password from this file (-: standard input).")] = None,
    wait: Wait = True, as_json: Json = False,
) -> None:
    """Register a platform, and check it."""
    options = pairs(option or []) | {
        k: v for k, v in (("user", user), ("thumbprint", thumbprint)) if v is not None}
    kind = kind or ("vsphere" if uri.startswith("https:") else "libvirt")
    with errors(as_json):
        hidden = (secret("--password-file", password_file, "HOTSPARE_PLATFORM_PASSWORD",
                         "Password of the platform") if password or password_file else None)
    with connected(as_json) as client:
        made = client.add_platform(name, uri, kind=kind, options=options, secret=hidden)
        task = made["task"]
        if not wait or task is None:
            answer(made, as_json, _show)
            return
        for _ in client.follow(task):
            pass
        ended = client.task(task)
        if ended["outcome"] not in {"ok", "warning"}:
            follow(client, task, as_json)
        later = client.request("GET", "/tasks", parameters={"state": "live", "limit": 100})
        for other in later["items"]:        # the refresh that a good check is followed by
            if other["platform"] == made["id"]:
                for _ in client.follow(other["id"]):
                    pass
        found = client.platform(made["id"])
        answer(found, as_json, _show)
        if found["error"]:
            raise typer.Exit(exit_code(str(found["error"]["code"])))


@platform.command("list")
def list_(as_json: Json = False) -> None:
    """All platforms."""
    with connected(as_json) as client:
        answer(client.platforms(), as_json, lambda items: table(
            ["NAME", "KIND", "STATE", "PRODUCT", "REFRESHED", "ADDRESS"],
            [[p["name"], p["kind"], p["state"], p["product"], ago(p["refreshed_at"]), p["uri"]]
             for p in items],
            "No platform yet. Register one: hotspare platform add NAME URI"))


@platform.command("show")
def show(name: Name, as_json: Json = False) -> None:
    """One platform with its checks, storage and networks."""
    with connected(as_json) as client:
        answer(client.platform(name), as_json, _show)


@platform.command("vms")
def vms(name: Name, as_json: Json = False) -> None:
    """The machines of a platform, as last read."""
    with connected(as_json) as client:
        answer(client.vms(name), as_json, lambda items: table(
            ["NAME", "POWER", "SIZE", "ID", "NOTE"],
            [[v["name"], v["power"], size(v["size"]), v["ref"], v["message"]]
             for v in items],
            f"No machines. If there should be some: hotspare platform refresh {name}"))


@platform.command("edit")
def edit(
    name: Name,
    new_name: Annotated[str | None, typer.Option("--name", help="A new name.")] = None,
    address: Annotated[str | None, typer.Option(
        metavar="URI", help="A new address of the same host.")] = None,
    option: Annotated[list[str] | None, typer.Option(
        metavar="NAME=VALUE", help="All settings of the driver anew. Repeatable.")] = None,
    set_: Annotated[list[str] | None, typer.Option(
        "--set", metavar="NAME=VALUE", help="One setting of the driver, the others stay. "
        "Without a value it is taken away. Repeatable.")] = None,
    no_options: Annotated[bool, typer.Option(
        "--no-options", help="It has no settings of the driver any more.")] = False,
    password: Annotated[bool, typer.Option(
        "--password", help="A new password: asked for, or from HOTSPARE_PLATFORM_PASSWORD.")
    ] = False,
    password_file: Annotated[Path | None, typer.Option(
        help="Read the new password from this file (-: standard input).")] = None,
    no_password: Annotated[bool, typer.Option(
        "--no-password", help="It needs no password any more.")] = False,
    accept_host: Annotated[bool, typer.Option(
        "--accept-host", help="The host was installed anew: its new identity is right.")] = False,
    as_json: Json = False,
) -> None:
    """Change a platform, and check it. A run that is under way keeps its connections."""
    said: dict[str, Any] = {"name": new_name, "uri": address, "accept_host": accept_host or None,
                            "options": {} if no_options else pairs(option) if option else None}
    changes = {k: v for k, v in said.items() if v is not None}
    with errors(as_json):
        if no_password:
            changes["secret"] = None
        elif password or password_file:
            changes["secret"] = secret("--password-file", password_file,
                                       "HOTSPARE_PLATFORM_PASSWORD", "Password of the platform")
    with connected(as_json) as client:
        if set_:
            given = changes.get("options", client.platform(name)["options"]) | pairs(set_)
            changes["options"] = {k: v for k, v in given.items() if v}
        edited = client.edit_platform(name, changes)
        if edited["task"] is not None:
            for _ in client.follow(edited["task"]):
                pass
            edited = client.platform(edited["id"])
        answer(edited, as_json, _show)
        if edited["error"]:
            raise typer.Exit(exit_code(str(edited["error"]["code"])))


@platform.command("refresh")
def refresh(name: Name, wait: Wait = True, as_json: Json = False) -> None:
    """Read the platform's machines, storage and networks again."""
    with connected(as_json) as client:
        started(client, client.refresh_platform(name), wait, as_json)


@platform.command("check")
def check(name: Name, wait: Wait = True, as_json: Json = False) -> None:
    """Look whether the platform can be used."""
    with connected(as_json) as client:
        started(client, client.check_platform(name), wait, as_json)


@platform.command("remove")
def remove(name: Name, as_json: Json = False) -> None:
    """Forget a platform that no rule uses."""
    with connected(as_json) as client:
        client.remove_platform(name)
        answer({"removed": name}, as_json, lambda _: typer.echo(f"{name} was removed."))


def _show(found: shapes.Platform) -> None:
    error, can = found["error"] or {}, found["capabilities"]
    facts([("name", found["name"]), ("id", found["id"]), ("kind", found["kind"]),
           ("address", found["uri"]), ("state", found["state"]), ("product", found["product"]),
           ("restore points", f"{can['points']} without a choice, {can['max_points']} at most"),
           ("intervals", f"from {can['smallest_interval_s']} s"),
           ("LAN-free", str((can["lan_free"] or {}).get("message", "possible"))),
           ("DR machine", found["machine"]), ("checked", when(found["checked_at"])),
           ("refreshed", when(found["refreshed_at"])), ("error", str(error.get("message", ""))),
           ("remedy", str(error.get("remedy", "")))])
    for check in found["checks"]:
        typer.echo(f"  {'ok  ' if check['ok'] else 'FAIL'} {check['name']} {check['detail']}")
    for place in found["places"]:
        free = f", {size(place['free'])} free" if place["free"] is not None else ""
        reason = "" if place["usable"] else f" (not usable: {place['message']})"
        typer.echo(f"  {place['kind']} {place['name']}{free}{reason}")
