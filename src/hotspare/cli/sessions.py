"""hotspare login, logout, up"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from .common import Json, answer, connected, errors, secret


def login(
    server: Annotated[str, typer.Option(envvar="HOTSPARE_SERVER",
                                        help="https://HOST:8443")],
    user: Annotated[str, typer.Option(help="Who you are there.")] = "admin",
    ca: Annotated[Path | None, typer.Option(
        envvar="HOTSPARE_CA", help="The server's CA (STATE_DIR/tls/ca.pem there).")] = None,
    fingerprint: Annotated[str | None, typer.Option(
        help="SHA-256 of the server's CA; the CA is then fetched from the server.")] = None,
    password_file: Annotated[Path | None, typer.Option(
        help="Read the password from this file (-: standard input).")] = None,
    as_json: Json = False,
) -> None:
    """Sign in to a server; later commands go there. The password is asked for, or comes from
    HOTSPARE_PASSWORD or a file."""
    from ..client import Client, Session
    from ..client.client import fetch_ca
    from ..client.session import config_dir, save, write_private

    with errors(as_json):
        trusted = str(ca.resolve()) if ca else None
        if trusted is None and fingerprint is not None:
            pem = fetch_ca(server, fingerprint)
            kept = config_dir() / "ca.pem"
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(kept, pem)
            trusted = str(kept)
        password = secret("--password-file", password_file, "HOTSPARE_PASSWORD", "Password")
        with Client(Session(server, "", trusted)) as client:
            granted = client.login(user, password)
        path = save(Session(server, granted["token"], trusted))
    answer({"server": server, "user": granted["user"], "role": granted["role"],
            "expires_at": granted["expires_at"], "session": str(path)}, as_json,
           lambda a: typer.echo(f"Signed in as {a['user']} ({a['role']})."))


def logout(as_json: Json = False) -> None:
    """End the session."""
    from ..client.session import forget

    with connected(as_json) as client:
        client.logout()
        forget()
        answer({"signed_out": True}, as_json, lambda _: typer.echo("Signed out."))


def up(
    state_dir: Annotated[Path | None, typer.Option(
        help="Where everything is kept; HOTSPARE_STATE_DIR, else /var/lib/hotspare.")] = None,
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Address of the API."
                                        )] = "127.0.0.1:8443",
    temp_dir: Annotated[Path | None, typer.Option(
        help="For journals and changed-block lists; in the state directory if not given.")
    ] = None,
    admin_password_file: Annotated[Path | None, typer.Option(
        help="First start: password of the user admin (or HOTSPARE_ADMIN_PASSWORD); "
             "else one is made up.")] = None,
    as_json: Json = False,
) -> None:
    """Run the control server and one DR machine, in this process, until it is ended."""
    from ..client.session import default_state_dir
    from ..server.up import configure_logging
    from ..server.up import up as run

    configure_logging()
    with errors(as_json):
        password = os.environ.pop("HOTSPARE_ADMIN_PASSWORD", None)
        if admin_password_file is not None:
            password = secret("--admin-password-file", admin_password_file, "", "")
        code = run((state_dir or default_state_dir()).absolute(), listen,
                   temp_dir.absolute() if temp_dir else None, as_json=as_json,
                   admin_password=password)
    # Threads of tasks that were let go may still wait: nothing of them is needed any more.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
