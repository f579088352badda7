"""What every process with a control server shares: state directory, socket, TLS, HTTP, its end."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import secrets
import socket
import threading
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from ..api import create_app
from ..domain.errors import Refused, Retry
from ..services import Services
from ..services.context import SERVICE
from ..services.keys import write_private
from ..store import Store
from ..store.engine import named, others
from . import tls
from .process import few_arenas, only_one, prepare

_log = logging.getLogger(__name__)

SHUTDOWN_S = 10.0
_TLS_READ_BYTES = 32 * 1024     # two records
_RENEW_EVERY_S = 6 * 3600.0
_NAME = "hotspare-server"       # as which PostgreSQL sees it
ALONE_S = 40.0                  # a server whose host vanished is seen by the database so long


@dataclass(frozen=True, slots=True)
class Ready:
    """What a start tells: addresses and paths, never a content that is secret."""

    event: str
    url: str
    ca: str
    fingerprint: str
    state_dir: str
    local_token: str
    admin_password_file: str | None


@dataclass(frozen=True, slots=True)
class Settings:
    """``admin_password`` is for the first start; without it one is made up and written to
    ``STATE_DIR/admin-password``. ``names`` are further host names of the certificate."""

    state_dir: Path
    listen: str = "127.0.0.1:8443"
    names: Sequence[str] = ()
    database: str | None = None     # PostgreSQL; None: SQLite in the state directory
    as_json: bool = False
    admin_password: str | None = None


StartMachine = Callable[[Services], Callable[[], None]]
"""Start a DR machine in this process; what it answers stops it."""


def run(settings: Settings, start_machine: StartMachine | None = None) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code."""
    few_arenas()
    prepare(settings.state_dir)
    with only_one(settings.state_dir), _listening(settings.listen) as sock:
        database = settings.database and named(settings.database, _NAME)
        _check_alone(database)
        services = Services.open(settings.state_dir, database=database)
        try:
            return _serve(services, sock, settings, start_machine)
        finally:
            services.stop()
            services.close()


def _check_alone(database: str | None) -> None:
    """Raises Retry ``store.shared``: of two control servers each would show the machines that talk
    to the other as lost."""
    if database is not None:
        with closing(Store(database)) as store, store.read() as conn:
            if others(conn, _NAME, ALONE_S):
                raise Retry("store.shared")


def _serve(services: Services, sock: socket.socket, settings: Settings,
           start_machine: StartMachine | None) -> int:
    state_dir = settings.state_dir
    identity = tls.ensure(state_dir / "tls", (_split(settings.listen)[0], *settings.names))
    password_file = _first_administrator(services, state_dir, settings.admin_password)
    token_file = state_dir / "local-token"
    write_private(token_file, services.users.local_token().encode())
    host, port = sock.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    url = f"https://{f'[{shown}]' if ':' in shown else shown}:{port}"
    ready = Ready("ready", url, str(identity.ca), identity.fingerprint, str(state_dir),
                  str(token_file), str(password_file) if password_file else None)

    app = create_app(services, identity.ca.read_text())
    server = _Server(http_configuration(app, identity), services)
    stop_machine = start_machine(services) if start_machine is not None else None
    services.start()

    def announce() -> None:
        write_private(state_dir / "server.json", json.dumps(asdict(ready)).encode())
        print(json.dumps(asdict(ready)) if settings.as_json else _for_people(ready), flush=True)

    server.announce = announce
    names = (_split(settings.listen)[0], *settings.names)
    threading.Thread(target=_renew_in_time, args=(server.config, state_dir / "tls", names),
                     name="certificate", daemon=True).start()
    # What is loaded by now stays: looking through it again and again took 7 % of a busy server.
    gc.collect()
    gc.freeze()
    server.run(sockets=[sock])
    (state_dir / "server.json").unlink(missing_ok=True)
    services.stop()
    if stop_machine is not None:
        stop_machine()
    return 0


def http_configuration(app: FastAPI, identity: tls.Identity) -> uvicorn.Config:
    # What asyncio reads of a TLS connection at once, and keeps for each that is open: with its
    # 256 KiB a fleet of 200 machines, of some connections each, took hundreds of MiB.
    SSLProtocol.max_size = _TLS_READ_BYTES
    # Named, not "auto": with uvloop and httptools beside it a server of 200 machines once closed a
    # connection in the middle of a request that it had carried out.
    return uvicorn.Config(
        app, http="h11", loop="asyncio",
        ssl_certfile=str(identity.certificate), ssl_keyfile=str(identity.key),
        log_level="warning", access_log=False, server_header=False, lifespan="off",
        timeout_graceful_shutdown=2, timeout_keep_alive=30)


def _renew_in_time(config: uvicorn.Config, folder: Path, names: Sequence[str]) -> None:
    while True:
        time.sleep(_RENEW_EVERY_S)
        try:
            renew(config, folder, names)
        except Exception:
            _log.exception("the server's certificate could not be renewed")


def renew(config: uvicorn.Config, folder: Path, names: Sequence[str]) -> None:
    """Serve with a new certificate when the old one is about to end: a server may run for years."""
    identity = tls.ensure(folder, names)
    if config.ssl is not None:
        config.ssl.load_cert_chain(identity.certificate, identity.key)


class _Server(uvicorn.Server):
    """Says when it listens; ends long polls, and itself, quickly when asked to."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services
        self.announce = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            await asyncio.to_thread(self.announce)

    def handle_exit(self, sig: int, frame: object) -> None:
        if not self.should_exit:
            # A transfer that does not come to a safe place in time is cut off: its journal is
            # made for that, as for a power loss.
            watchdog = threading.Timer(SHUTDOWN_S, lambda: os._exit(0))
            watchdog.daemon = True
            watchdog.start()
            threading.Thread(target=self._services.context.hub.close, daemon=True).start()
        # uvicorn would raise the signal again after its end; we still have a machine to stop.
        self.force_exit = self.should_exit
        self.should_exit = True


def _for_people(ready: Ready) -> str:
    lines = [f"Hotspare is ready at {ready.url}",
             f"  CA certificate   {ready.ca}",
             f"  its fingerprint  {ready.fingerprint}"]
    if ready.admin_password_file:
        lines.append(f"  the password of the user admin is in {ready.admin_password_file}")
    return "\n".join(lines)


def _split(listen: str) -> tuple[str, int]:
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise Refused("server.address", listen=listen, why="HOST:PORT is expected")
    return host.strip("[]"), int(port)


@contextmanager
def _listening(listen: str) -> Iterator[socket.socket]:
    host, port = _split(listen)
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise Refused("server.address", listen=listen,
                      why=error.strerror or str(error)) from error
    with sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(512)
        except OSError as error:
            raise Refused("server.address", listen=listen,
                          why=error.strerror or str(error)) from error
        sock.set_inheritable(False)
        yield sock


def _first_administrator(services: Services, state_dir: Path,
                         password: str | None) -> Path | None:
    """Make the user admin when there is no user yet. Returns the file that holds a password
    that was made up."""
    path = state_dir / "admin-password"
    if not services.users.empty():
        return None
    if password is not None:
        services.users.add(SERVICE, "admin", password, "administrator")
        return None
    password = secrets.token_urlsafe(18)
    write_private(path, password.encode() + b"\n")   # before the user: a crash leaves no unknown
    services.users.add(SERVICE, "admin", password, "administrator")
    return path
