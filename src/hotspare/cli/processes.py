"""hotspare up, server, worker"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .admin import Database, DatabaseFile, address
from .common import Json, errors, secret

if TYPE_CHECKING:
    from ..server.control import Settings

StateDir = Annotated[Path | None, typer.Option(
    help="Where everything is kept; HOTSPARE_STATE_DIR, else /var/lib/hotspare.")]
Listen = Annotated[str, typer.Option(metavar="HOST:PORT", help="Address of the API.")]
Names = Annotated[list[str] | None, typer.Option(
    "--name", metavar="HOST", help="A further name or address that this server is called by, for "
                                   "its certificate. Repeatable.")]
PasswordFile = Annotated[Path | None, typer.Option(
    help="First start: password of the user admin (or HOTSPARE_ADMIN_PASSWORD); "
         "else one is made up.")]
TempDir = Annotated[Path | None, typer.Option(
    help="For journals and changed-block lists; in the state directory if not given.")]

Config = Annotated[Path | None, typer.Option(
    help="The machine's own settings; HOTSPARE_WORKER_CONFIG, else /etc/hotspare/worker.toml.")]


def up(state_dir: StateDir = None, listen: Listen = "127.0.0.1:8443", name: Names = None,
       temp_dir: TempDir = None, config: Config = None, admin_password_file: PasswordFile = None,
       as_json: Json = False) -> None:
    """Run the control server and one DR machine, in this process, until it is ended."""
    def run() -> int:
        from ..server.up import up

        return up(_settings(state_dir, listen, name, None, admin_password_file, as_json),
                  temp_dir.absolute() if temp_dir else None, config)

    _run(run, as_json)


def server(
    state_dir: StateDir = None, listen: Listen = "0.0.0.0:8443", name: Names = None,
    database: Database = None, database_file: DatabaseFile = None,
    admin_password_file: PasswordFile = None, as_json: Json = False,
) -> None:
    """Run the control server alone, until it is ended. DR machines are processes of their own:
    hotspare worker."""
    def run() -> int:
        from ..server.control import run

        return run(_settings(state_dir, listen, name, address(database, database_file),
                             admin_password_file, as_json))

    _run(run, as_json)


def worker(
    server: Annotated[str | None, typer.Option(
        help="https://HOST:8443; kept after the first time.")] = None,
    enrol: Annotated[str | None, typer.Option(
        envvar="HOTSPARE_ENROL", metavar="CODE",
        help="First start: the code of hotspare machine enrol (-: standard input).")] = None,
    name: Annotated[str | None, typer.Option(
        help="First start: the name that the code is for.")] = None,
    state_dir: Annotated[Path | None, typer.Option(
        "--state", "--state-dir", help="Where the machine keeps its token and what runs; "
                                       "HOTSPARE_STATE_DIR, else /var/lib/hotspare.")] = None,
    temp_dir: TempDir = None, config: Config = None, as_json: Json = False,
) -> None:
    """Run a DR machine, until it is ended. It calls its control server, never the other way."""
    os.environ.pop("HOTSPARE_ENROL", None)

    def run() -> int:
        from ..server.work import work

        code = sys.stdin.readline().strip() if enrol == "-" else enrol
        if code is not None and (server is None or name is None):
            raise typer.BadParameter("--enrol needs --server and --name")
        return work(_state_dir(state_dir), temp_dir.absolute() if temp_dir else None,
                    config=config, server=server, code=code, name=name, as_json=as_json)

    _run(run, as_json)


def _state_dir(given: Path | None) -> Path:
    from ..client.session import default_state_dir

    return (given or default_state_dir()).absolute()


def _settings(state_dir: Path | None, listen: str, names: list[str] | None,
              database: str | None, password_file: Path | None, as_json: bool) -> Settings:
    from ..server.control import Settings

    password = os.environ.pop("HOTSPARE_ADMIN_PASSWORD", None)
    os.environ.pop("HOTSPARE_DATABASE", None)       # its password is not for children
    if password_file is not None:
        password = secret("--admin-password-file", password_file, "", "")
    return Settings(_state_dir(state_dir), listen, tuple(names or ()), database, as_json,
                    password)


def _run(run: Callable[[], int], as_json: bool) -> None:
    from ..server.process import configure_logging

    configure_logging()
    try:
        with errors(as_json):
            code = run()
    except typer.Exit as end:
        code = end.exit_code
    # Threads of tasks that were let go may still wait: nothing of them is needed any more.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
