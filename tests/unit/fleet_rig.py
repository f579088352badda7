"""A control server over real TLS whose DR machines talk to it by the real link; and a way in
between that can be cut."""

from __future__ import annotations

import contextlib
import hashlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hotspare.client.client import fetch_ca
from hotspare.worker import enrolment
from hotspare.worker.enrolment import Enrolment
from hotspare.worker.outbox import Outbox
from hotspare.worker.remote_link import About, RemoteLink
from unit.service_rig import ADMIN, Player, Rig, Served, rig, served


class Cut:
    """A TCP proxy. ``drop()``: packets vanish without a word; ``refuse()``: connections end;
    ``mend()``."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._mode = "through"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def drop(self) -> None:
        self._mode = "drop"

    def refuse(self) -> None:
        self._mode = "refuse"
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def mend(self, port: int | None = None) -> None:
        self._target = port or self._target
        self._mode = "through"

    def close(self) -> None:
        self._closed = True
        self.refuse()
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._mode == "refuse":
                near.close()
                continue
            threading.Thread(target=self._pump, args=(near,), daemon=True).start()

    def _pump(self, near: socket.socket) -> None:
        if self._mode == "drop":        # the handshake is the kernel's; nothing follows
            while self._mode == "drop" and not self._closed:
                threading.Event().wait(0.05)
            near.close()
            return
        try:
            far = socket.create_connection(("127.0.0.1", self._target), 5.0)
        except OSError:
            near.close()
            return
        self._pairs.append((near, far))
        with near, far, contextlib.suppress(OSError, ValueError):
            while True:
                ready, _, _ = select.select([near, far], [], [], 0.2)
                if self._closed:
                    return
                for end in ready:
                    data = end.recv(65536)
                    if not data:
                        return
                    if self._mode == "through":
                        (far if end is near else near).sendall(data)


@dataclass
class Worker:
    """A DR machine of its own, with in-test bodies of its tasks."""

    name: str
    state_dir: Path
    enrolled: Enrolment
    link: RemoteLink
    outbox: Outbox
    player: Player
    refused: threading.Event

    def stop(self) -> None:
        self.link.close()
        self.player.stop()
        self.outbox.close()
        self.link._server.close()       # a server that ends waits for open connections


@dataclass
class FleetRig:
    rig: Rig
    served: Served
    folder: Path
    workers: list[Worker] = field(default_factory=list)

    @property
    def services(self):  # type: ignore[no-untyped-def]
        return self.rig.services

    def code(self, name: str, life_s: float = 3600.0) -> str:
        fingerprint = hashlib.sha256(
            ssl.PEM_cert_to_DER_cert(self.served.ca.read_text())).hexdigest()
        return self.services.fleet.enrol(ADMIN, name, fingerprint, life_s).code

    def enrol(self, name: str, url: str | None = None, code: str | None = None) -> Enrolment:
        state_dir = self.folder / name
        state_dir.mkdir(exist_ok=True)
        return enrolment.enrol(state_dir, url or self.served.url, code or self.code(name), name,
                               str(state_dir / "temp"), fetch_ca)

    def worker(self, name: str, url: str | None = None) -> Worker:
        """Enrolled when it is not yet; started."""
        known = enrolment.load(self.folder / name)
        enrolled = known or self.enrol(name, url)
        state_dir = self.folder / name
        outbox = Outbox(state_dir / "outbox.sqlite")
        refused = threading.Event()
        link = RemoteLink(enrolled.connect(), outbox, About(str(state_dir / "temp")),
                          refused.set).start()
        made = Worker(name, state_dir, enrolled, link, outbox, Player(link).start(), refused)
        self.workers.append(made)
        return made


@contextlib.contextmanager
def fleet(folder: Path, database: str | None = None, platforms: bool = True
          ) -> Iterator[FleetRig]:
    state = folder / "server"
    state.mkdir(exist_ok=True)
    with rig(state, database=database) as made, served(made) as over:
        fleet = FleetRig(made, over, folder)
        if platforms:
            made.platforms()
        try:
            yield fleet
        finally:
            for worker in fleet.workers:
                worker.stop()
    for worker in fleet.workers:
        assert not worker.player.errors, worker.player.errors
