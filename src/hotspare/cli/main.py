"""The program ``hotspare``."""

from __future__ import annotations

from typing import Annotated

import typer

from . import platforms, rules, sessions, tasks

app = typer.Typer(name="hotspare", no_args_is_help=True, add_completion=False,
                  pretty_exceptions_enable=False,
                  help="Keeps a bootable, up-to-date copy of every virtual machine on another "
                       "hypervisor.")

app.command("up")(sessions.up)
app.command("login")(sessions.login)
app.command("logout")(sessions.logout)
app.add_typer(platforms.platform, name="platform")
app.add_typer(platforms.machine, name="machine")
app.add_typer(rules.rule, name="rule")
app.add_typer(rules.point, name="point")
app.command("failover")(rules.failover)
app.command("undo")(rules.undo)
app.add_typer(tasks.task, name="task")


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"hotspare {__version__}")
        raise typer.Exit


@app.callback()
def common(version: Annotated[bool, typer.Option(
        "--version", callback=_version, is_eager=True, help="Show the version.")] = False
           ) -> None:
    """Exit codes: 0 done, 1 failed, 2 bad input, 3 not found, 4 not possible in this state,
    5 not authorised, 6 unreachable, 7 no space, 8 not supported."""


def main() -> None:
    app()


if __name__ == "__main__":
    main()
