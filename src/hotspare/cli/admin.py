"""hotspare admin …: care of the control database, on the machine of the control server."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..domain.errors import Refused
from .common import Json, answer, connected, emit, errors, secret, when
from .wait import started

if TYPE_CHECKING:
    from ..server.care import Done


class Role(StrEnum):
    ALL = "all"
    SERVER = "server"
    WORKER = "worker"


admin = typer.Typer(help="Backup, restore, move and rebuild the control database.",
                    no_args_is_help=True)

StateDir = Annotated[Path | None, typer.Option(
    help="Of the control server; HOTSPARE_STATE_DIR, else /var/lib/hotspare.")]
Database = Annotated[str | None, typer.Option(
    metavar="URL", help="postgresql://USER@HOST/NAME without a password, or HOTSPARE_DATABASE; "
                        "SQLite in the state directory if not given.")]
DatabaseFile = Annotated[Path | None, typer.Option(
    metavar="FILE", help="Read the database's address, with its password, from this file.")]
PassphraseFile = Annotated[Path | None, typer.Option(
    help="Read the passphrase from this file (-: standard input), else from "
         "HOTSPARE_BACKUP_PASSPHRASE, else it is asked for.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
BackupFile = Annotated[Path, typer.Argument(metavar="FILE")]


@admin.command("backup")
def backup(file: BackupFile, state_dir: StateDir = None, database: Database = None,
           database_file: DatabaseFile = None, passphrase_file: PassphraseFile = None,
           force: Force = False, as_json: Json = False) -> None:
    """Write the control database, its key and the server's CA to one file, encrypted by a
    passphrase. The server may run meanwhile. Restore points are not in it: they are at the
    targets."""
    from ..server import care

    with errors(as_json):
        done = care.backup(where(state_dir), address(database, database_file), file,
                           _passphrase(passphrase_file, confirm=True), force)
    _answer(done, as_json, f"{file} has {done.total} rows of {when(done.taken_at)}.\n"
                           "Without the passphrase nobody can restore it: keep that elsewhere.")


@admin.command("restore")
def restore(file: BackupFile, state_dir: StateDir = None, database: Database = None,
            database_file: DatabaseFile = None, passphrase_file: PassphraseFile = None,
            force: Force = False, as_json: Json = False) -> None:
    """Bring a backup back. The server must be stopped. At its next start it reads the targets
    and adopts restore points that are newer than the backup."""
    from ..server import care

    with errors(as_json):
        done = care.restore(where(state_dir), address(database, database_file), file,
                            _passphrase(passphrase_file, confirm=False), force)
    _answer(done, as_json, f"{done.total} rows of {when(done.taken_at)} are restored. Start the "
                           "server now; everybody has to sign in anew.")


@admin.command("migrate")
def migrate(
    to: Annotated[str | None, typer.Option(
        metavar="URL", help="postgresql://USER@HOST/NAME, without a password.")] = None,
    to_file: Annotated[Path | None, typer.Option(
        metavar="FILE", help="Read the new address, with its password, from this file.")] = None,
    state_dir: StateDir = None, database: Database = None, database_file: DatabaseFile = None,
    force: Force = False, as_json: Json = False,
) -> None:
    """Copy everything from SQLite in the state directory (or another database) to PostgreSQL.
    The server must be stopped."""
    from ..server import care

    with errors(as_json):
        new = address(to, to_file, variable=None)
        if new is None:
            raise typer.BadParameter("name the new database: --to URL, or --to-file FILE")
        done = care.migrate(where(state_dir), address(database, database_file), new, force)
    _answer(done, as_json, f"{done.total} rows are in the new database. Start the server with "
                           "--database or --database-file now; the old one refuses to start.")


@admin.command("rebuild")
def rebuild(
    platform: Annotated[str, typer.Argument(help="A target, by name or id.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end.")] = True,
    as_json: Json = False,
) -> None:
    """Read the replicas at a target, and make the rules and restore points that the database
    does not have. New rules are stopped, without a schedule. Nothing is deleted."""
    with connected(as_json) as client:
        started(client, client.rebuild(platform), wait, as_json)


def doctor(
    state_dir: StateDir = None, database: Database = None, database_file: DatabaseFile = None,
    temp_dir: Annotated[Path | None, typer.Option(help="Of the DR machine.")] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT",
                                        help="Of the control server.")] = "127.0.0.1:8443",
    role: Annotated[Role | None, typer.Option(
        help="What this machine is: a control server, a DR machine, or both in one "
             "(hotspare up); found out if not given.")] = None,
    as_json: Json = False,
) -> None:
    """Look at what Hotspare needs of this machine: packages, rights, ports, certificates, KVM,
    space, clock, database. Ends with 1 when there is a fault."""
    from ..server import doctor

    with errors(as_json):
        folder, url = where(state_dir), address(database, database_file)
        wanted = doctor.role_of(folder, url) if role is None else role.value
        found = list(doctor.examine(doctor.Machine(folder, url, temp_dir, listen, wanted)))
    if as_json:
        emit([{"check": f.check, "state": f.state, "code": f.code, "message": f.text.message,
               "remedy": f.text.remedy, "fields": f.fields} for f in found])
    else:
        for f in found:
            colour = {"ok": "green", "warning": "yellow", "fault": "red"}[f.state]
            typer.echo(f"{typer.style(f'{f.state:<7}', fg=colour)}  {f.check:<12}  "
                       f"{f.text.message}")
            if f.state != "ok" and f.text.remedy:
                typer.echo(f"{'':23}{f.text.remedy}")
    if any(f.state == "fault" for f in found):
        raise typer.Exit(1)


def where(state_dir: Path | None) -> Path:
    from ..client.session import default_state_dir

    return (state_dir or default_state_dir()).absolute()


def address(url: str | None, file: Path | None,
            variable: str | None = "HOTSPARE_DATABASE") -> str | None:
    """Of a database; None: SQLite in the state directory. A password on the command line is
    refused: other users read it there."""
    if url is not None:
        _, at, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
        user = url.partition("://")[2].partition("@")[0] if at else ""
        if ":" in user or "password=" in url:
            raise Refused("store.password-in-url")
        return url
    if file is not None:
        return secret("--database-file", file, "", "")
    return os.environ.pop(variable, None) if variable is not None else None


def _passphrase(file: Path | None, confirm: bool) -> str:
    return secret("--passphrase-file", file, "HOTSPARE_BACKUP_PASSPHRASE", "Passphrase",
                  confirm=confirm)


def _answer(done: Done, as_json: bool, text: str) -> None:
    answer({"rows": dict(done.rows), "taken_at": done.taken_at, "version": done.version},
           as_json, lambda _: typer.echo(text))
