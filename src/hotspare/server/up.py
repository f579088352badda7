"""``hotspare up``: control server and one DR machine in one process, nothing else needed."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import uvicorn
from fastapi import FastAPI

from ..api import create_app
from ..domain.errors import Refused
from ..services import Limits, Services
from ..services.context import SERVICE
from ..services.keys import write_private
from ..workflows.link import Link
from . import tls

_log = logging.getLogger(__name__)

MACHINE = "local"
SHUTDOWN_S = 10.0


class Worker(Protocol):
    """A DR machine that runs."""

    def stop(self) -> None: ...


class StartWorker(Protocol):
    def __call__(self, link: Link, *, state_dir: Path, temp_dir: Path) -> Worker: ...


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


def _start_worker(link: Link, *, state_dir: Path, temp_dir: Path) -> Worker:
    from ..worker import machine

    worker: Worker = machine.start(link, state_dir=state_dir, temp_dir=temp_dir)
    return worker


def up(state_dir: Path, listen: str = "127.0.0.1:8443", temp_dir: Path | None = None, *,
       as_json: bool = False, admin_password: str | None = None, limits: Limits | None = None,
       start_worker: StartWorker = _start_worker) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code. ``admin_password`` is for the first
    start; without it one is made up and written to ``STATE_DIR/admin-password``."""
    _prepare(state_dir)
    with _only_one(state_dir), _listening(listen) as sock:
        services = Services.open(state_dir, limits)
        try:
            return _serve(services, sock, state_dir, temp_dir or state_dir / "temp",
                          listen_host=_split(listen)[0], as_json=as_json,
                          admin_password=admin_password, start_worker=start_worker)
        finally:
            services.stop()
            services.close()


def _serve(services: Services, sock: socket.socket, state_dir: Path, temp_dir: Path, *,
           listen_host: str, as_json: bool, admin_password: str | None,
           start_worker: StartWorker) -> int:
    identity = tls.ensure(state_dir / "tls", listen_host)
    password_file = _first_administrator(services, state_dir, admin_password)
    token_file = state_dir / "local-token"
    write_private(token_file, services.users.local_token().encode())
    temp_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    host, port = sock.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    url = f"https://{f'[{shown}]' if ':' in shown else shown}:{port}"
    ready = Ready("ready", url, str(identity.ca), identity.fingerprint, str(state_dir),
                  str(token_file), str(password_file) if password_file else None)

    app = create_app(services, identity.ca.read_text())
    server = _Server(http_configuration(app, identity), services)
    worker = start_worker(services.link(MACHINE, temp_dir), state_dir=state_dir,
                          temp_dir=temp_dir)
    services.start()

    def announce() -> None:
        write_private(state_dir / "server.json", json.dumps(asdict(ready)).encode())
        print(json.dumps(asdict(ready)) if as_json else _for_people(ready), flush=True)

    server.announce = announce
    server.run(sockets=[sock])
    (state_dir / "server.json").unlink(missing_ok=True)
    services.stop()
    worker.stop()
    return 0


def http_configuration(app: FastAPI, identity: tls.Identity) -> uvicorn.Config:
    return uvicorn.Config(
        app, ssl_certfile=str(identity.certificate), ssl_keyfile=str(identity.key),
        log_level="warning", access_log=False, server_header=False, lifespan="off",
        timeout_graceful_shutdown=2, timeout_keep_alive=30)


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


def _prepare(state_dir: Path) -> None:
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = state_dir.stat()
        if found.st_uid != os.geteuid():
            raise Refused("server.state-dir", path=str(state_dir), why="it is another user's")
        if found.st_mode & 0o077:
            state_dir.chmod(0o700)
    except OSError as error:
        raise Refused("server.state-dir", path=str(state_dir),
                      why=error.strerror or str(error)) from error


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """One process a state directory: the kernel lets the lock go whatever ends the process."""
    fd = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused("server.running", path=str(state_dir)) from None
        yield
    finally:
        os.close(fd)


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


def configure_logging() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO,
                        format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("alembic", "httpx", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
