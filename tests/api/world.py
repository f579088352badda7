"""A control server that has something of everything, over real TLS, and goes on having it while
its API is asked for the deletion of everything."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx

from hotspare.domain.bandwidth import Range
from hotspare.domain.errors import GiveUp
from hotspare.domain.proof import Checklist
from hotspare.domain.schedule import Schedule
from hotspare.services import NewRule
from hotspare.workflows.wire import PROTOCOL, digest
from unit.service_rig import ADMIN, OPERATOR, Rig, Served, rig, served

PASSWORD = "a password of the tests"
ROLES = {"vera": "viewer", "olga": "operator", "admin": "administrator"}
MACHINE_TOKEN = "a token that the machine of the tests made itself"
VMS = 400


class _Hook(BaseHTTPRequestHandler):
    """Where the notification channels lead to."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        pass


@dataclass
class World:
    rig: Rig
    served: Served
    tokens: dict[str, str]              # by role
    hook: str                           # an address for a channel
    ids: dict[str, str]                 # of what may get another name
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(10))

    @property
    def url(self) -> str:
        return self.served.url

    def http(self, token: str = "", **more: object) -> httpx.Client:
        """Below the typed client: anything can be sent."""
        return httpx.Client(
            base_url=self.url, timeout=30.0, trust_env=False,
            verify=ssl.create_default_context(cafile=str(self.served.ca)),
            headers={"Authorization": f"Bearer {token}"} if token else {}, **more)

    @property
    def requests(self) -> int:
        """How many the server has answered."""
        return self.served.http.server_state.total_requests

    # --- what there is -------------------------------------------------------------------------

    def make(self, kind: str) -> str:
        """A new one, to be deleted: its name."""
        number = next(self._numbers)
        name, services = f"{kind}-{number}", self.rig.services
        match kind:
            case "user":
                services.users.add(ADMIN, name, PASSWORD, "viewer")
            case "platform":
                made = services.platforms.add(ADMIN, name=name, kind="libvirt", machine="local",
                                              uri=f"qemu+ssh://h{number}/system")
                self.rig.ended(made.task)
            case "rule":
                self.rig.rule(name, f"web{number}", replica_name=name)
            case "template":
                services.templates.save(OPERATOR, name, rule="r1", settings=None)
            case "channel":
                services.notifications.add(ADMIN, name=name, url=self.hook)
            case "proof":
                services.proofs.add(OPERATOR, name, {"schedule": Schedule("daily", at="03:00")})
            case "machine":
                self.enrol(name, f"token of {name}")
        return name

    def enrol(self, name: str, token: str) -> None:
        code = self.rig.services.fleet.enrol(ADMIN, name, self.served.fingerprint).code
        with self.http() as http:
            answer = http.post("/api/v1/link/enrol", json={
                "code": code[:24], "name": name, "token_digest": digest(token),
                "protocol": PROTOCOL, "version": "0", "temp_dir": "/nowhere"})
        assert answer.status_code == 200, answer.text

    def names(self, path: str) -> Sequence[str]:
        """Some that the reference in an operation's path may mean."""
        i = self.ids
        return {"users": ("vera", "olga"), "platforms": ("src", "dst", "DST"),
                "rules": tuple(i[name] for name in ("r1", "r2", "r3", "r4", "stood")),
                "groups": ("g1",), "templates": ("t1",), "channels": (i["c1"],),
                "machines": ("local", "m2"), "proof-schedules": (i["p1"],)}[path.split("/")[3]]


def furnish(made: Rig, over: Served, hook: str) -> World:
    services = made.services
    tokens = {}
    for name, role in ROLES.items():
        services.users.add(ADMIN, name, PASSWORD, role)     # type: ignore[arg-type]
        tokens[role] = services.users.login(name, PASSWORD, "127.0.0.1").token
    made.platforms(vms=VMS)
    made.ended(services.platforms.add(
        ADMIN, name="spare", kind="libvirt", uri="qemu+ssh://spare-target/system").task)
    made.run(made.rule("r1"))
    made.run("r1")
    made.rule("r2", "web1", interval_s=86400, bandwidth=(Range((1, 2), 540, 660, 0),),
              retention=2)
    made.run("r2")
    for _ in range(2):
        made.ended(services.tests.start(OPERATOR, "r2", Checklist()))
    made.player.fail["replicate"] = GiveUp("vm.unknown", vm="web2", platform="src")
    made.run(made.rule("r3", "web2"))
    del made.player.fail["replicate"]
    made.rule("r4", "web3")                 # never ran
    made.run(made.rule("stood", "web4"))
    made.ended(services.rules.failover(OPERATOR, "stood", None))
    services.groups.create(OPERATOR, "g1", ["web5", "web6"],
                           NewRule("g1", "src", "web5", "dst", "default"))
    services.templates.save(OPERATOR, "t1", rule="r2", settings=None)
    services.notifications.add(ADMIN, name="c1", url=hook)
    proof = services.proofs.add(OPERATOR, "p1", {"schedule": Schedule("daily", at="03:00")})
    ids = {r.name: r.id for r in services.rules.list(ADMIN).items} | {
        "p1": proof.id, "c1": services.notifications.get(ADMIN, "c1").id,
        "spare": services.platforms.get(ADMIN, "spare").id}
    world = World(made, over, tokens, hook, ids)
    world.enrol("m2", MACHINE_TOKEN)
    return world


@contextmanager
def world(folder: Path, database: str | None = None) -> Iterator[World]:
    hook = HTTPServer(("127.0.0.1", 0), _Hook)
    thread = Thread(target=hook.serve_forever, daemon=True)
    thread.start()
    try:
        with rig(folder, database=database) as made, served(made) as over:
            yield furnish(made, over, f"json://127.0.0.1:{hook.server_port}")
    finally:
        hook.shutdown()
        hook.server_close()
        thread.join(5.0)
