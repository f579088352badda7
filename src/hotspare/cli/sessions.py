"""hotspare login, logout"""

from __future__ import annotations

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
