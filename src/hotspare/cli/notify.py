"""hotspare notify …"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..domain.channels import EVENTS
from ..domain.messages import LANGUAGES
from .common import Json, ago, answer, connected, errors, exit_code, facts, secret, table

if TYPE_CHECKING:
    from ..client import Client
    from ..client.channels import Channel, Channels

notify = typer.Typer(help="Notifications: by mail, webhook, or a chat service.",
                     no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="CHANNEL", help="Its name or id.")]
UrlFile = Annotated[Path | None, typer.Option(
    help="Read the address from this file (-: standard input). It is never taken from the "
         "command line, which other users can read.")]
Events = Annotated[list[str] | None, typer.Option(
    "--event", metavar="EVENT",
    help=f"Tell this event. Repeatable; without it all: {', '.join(EVENTS)}.")]
Language = Annotated[str | None, typer.Option(help=f"Of the messages: {', '.join(LANGUAGES)}.")]


def _channels(client: Client) -> Channels:
    from ..client.channels import Channels

    return Channels(client)


def _url(file: Path | None) -> str:
    return secret("--url-file", file, "HOTSPARE_CHANNEL_URL",
                  "Address of the channel (for example mailtos://…)").strip()


@notify.command("add")
def add(name: Annotated[str, typer.Argument(help="A name of your choice.")],
        url_file: UrlFile = None, event: Events = None, language: Language = None,
        disabled: Annotated[bool, typer.Option(
            "--disabled", help="Tell nothing there for now.")] = False,
        as_json: Json = False) -> None:
    """A new channel. Its address is asked for, or comes from --url-file or
    HOTSPARE_CHANNEL_URL."""
    with errors(as_json):
        settings: dict[str, Any] = {"name": name, "url": _url(url_file), "events": event,
                                    "language": language or "en", "enabled": not disabled}
    with connected(as_json) as client:
        answer(_channels(client).add(settings), as_json, _show)


@notify.command("list")
def list_(as_json: Json = False) -> None:
    """All channels."""
    with connected(as_json) as client:
        answer(_channels(client).list(), as_json, lambda items: table(
            ["NAME", "KIND", "HOST", "EVENTS", "LANGUAGE", "ON", "SENT", "WAITING",
             "LAST ERROR"],
            [[c["name"], c["kind"], c["host"],
              "all" if len(c["events"]) == len(EVENTS) else ", ".join(c["events"]),
              c["language"], "yes" if c["enabled"] else "no", ago(c["last_sent_at"]),
              str(c["waiting"]), c["last_error"]] for c in items],
            "No channel yet. Make one: hotspare notify add NAME"))


@notify.command("edit")
def edit(name: Name, rename: Annotated[str | None, typer.Option(help="Its new name.")] = None,
         url_file: UrlFile = None,
         new_url: Annotated[bool, typer.Option(
             "--new-url", help="It gets a new address: asked for, or from "
                               "HOTSPARE_CHANNEL_URL.")] = False,
         event: Events = None, language: Language = None,
         enable: Annotated[bool | None, typer.Option(
             "--enable/--disable", help="What waits for a channel that is disabled is "
                                        "dropped.")] = None,
         as_json: Json = False) -> None:
    """Change what is given."""
    with errors(as_json):
        settings = {"name": rename, "events": event, "language": language, "enabled": enable,
                    "url": _url(url_file) if new_url or url_file else None}
    with connected(as_json) as client:
        answer(_channels(client).edit(name, settings), as_json, _show)


@notify.command("test")
def test(name: Name, as_json: Json = False) -> None:
    """Send a message now."""
    with connected(as_json) as client:
        done = _channels(client).test(name)
        answer(done, as_json, lambda d: typer.echo(
            "Sent." if d["sent"] else f"Not sent: {d['error']}", err=not d["sent"]))
    if not done["sent"]:
        raise typer.Exit(exit_code("notify.courier"))


@notify.command("remove")
def remove(name: Name, as_json: Json = False) -> None:
    """Forget a channel, its address, and what waits for it."""
    with connected(as_json) as client:
        _channels(client).remove(name)
        answer({"removed": name}, as_json, lambda _: typer.echo(f"{name} was removed."))


def _show(found: Channel) -> None:
    facts([("name", found["name"]), ("id", found["id"]), ("kind", found["kind"]),
           ("host", found["host"]), ("events", ", ".join(found["events"])),
           ("language", found["language"]), ("enabled", "yes" if found["enabled"] else "no"),
           ("waiting", str(found["waiting"])), ("last error", found["last_error"])])
