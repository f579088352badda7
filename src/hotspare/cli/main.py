"""The program ``hotspare``."""

from __future__ import annotations

from typing import Annotated

import typer

from ..domain.messages import language, language_of
from . import (
    admin,
    failback,
    fleet,
    groups,
    machines,
    notify,
    platforms,
    processes,
    proofs,
    rules,
    schedules,
    sessions,
    settings,
    statistics,
    tasks,
    tests,
)

app = typer.Typer(name="hotspare", no_args_is_help=True, add_completion=False,
                  pretty_exceptions_enable=False,
                  help="Keeps a bootable, up-to-date copy of every virtual machine on another "
                       "hypervisor.")

app.command("up")(processes.up)
app.command("server")(processes.server)
app.command("worker")(processes.worker)
app.command("login")(sessions.login)
app.command("logout")(sessions.logout)
app.add_typer(platforms.platform, name="platform")
app.add_typer(machines.machine, name="machine")
fleet.add_to(machines.machine, rules.rule, platforms.platform)
app.add_typer(settings.settings, name="settings")
app.add_typer(rules.rule, name="rule")
app.add_typer(rules.source, name="source")
app.add_typer(rules.point, name="point")
app.add_typer(groups.group, name="group")
app.add_typer(groups.template, name="template")
app.add_typer(schedules.schedule, name="schedule")
app.command("failover")(rules.failover)
app.command("undo")(rules.undo)
app.add_typer(failback.failback, name="failback")
app.command("permanent")(rules.permanent)
app.add_typer(tests.test, name="test")
app.add_typer(tasks.task, name="task")
statistics.add_to(app, rules.rule, groups.group, settings.settings)
app.add_typer(admin.admin, name="admin")
app.command("doctor")(admin.doctor)
app.add_typer(notify.notify, name="notify")
app.add_typer(proofs.proof, name="proof")


_LANGUAGE = ["HOTSPARE_LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG"]


def _version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"hotspare {__version__}")
        raise typer.Exit


@app.callback()
def common(version: Annotated[bool, typer.Option(
        "--version", callback=_version, is_eager=True, help="Show the version.")] = False,
           told_in: Annotated[str, typer.Option(
               "--language", metavar="en|zh-CN", envvar=_LANGUAGE,
               help="Of errors and logs.", show_default=False)] = "en",
           ) -> None:
    """Exit codes: 0 done, 1 failed, 2 bad input, 3 not found, 4 not possible in this state,
    5 not authorised, 6 unreachable, 7 no space, 8 not supported."""
    language.set(language_of(told_in))


def main() -> None:
    app()


if __name__ == "__main__":
    main()
