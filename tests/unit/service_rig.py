"""What the tests of store, services, API and CLI stand on: real SQLite files, the real app over
real TLS on loopback, and a small DR machine that plays its part through the real link."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from hotspare.api import create_app
from hotspare.domain.errors import GiveUp
from hotspare.domain.limits import Configured, Limits
from hotspare.domain.lineage import DiskPoint, Manifest
from hotspare.domain.machine import DiskSpec, VmDescription
from hotspare.domain.proof import Check
from hotspare.domain.schedule import Schedule
from hotspare.platforms import port
from hotspare.platforms.port import ConnectionReport, Place, VmSummary
from hotspare.server import tls
from hotspare.server.control import http_configuration
from hotspare.services import Actor, LocalLink, NewRule, Services
from hotspare.workflows.link import FoundReplica, Progress, Scrubbed, Task

ADMIN = Actor("admin", "administrator")
OPERATOR = Actor("olga", "operator")
VIEWER = Actor("vera", "viewer")
PNG = b"\x89PNG\r\n\x1a\n" + b"a picture"
STEPS = ("create-replica", "read-configuration", "query-changes", "transfer", "publish")


def wait_until(what: Callable[[], Any], seconds: float = 10.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s: {what}")


def manifest(task: Task, number: int) -> Manifest:
    assert task.rule is not None
    vm = VmDescription(ref=task.rule.vm, name="web", uuid=task.rule.vm, memory=1 << 28, vcpus=1,
                       disks=(DiskSpec("vda", 1 << 30),))
    return Manifest(rule=task.rule.id, number=number, epoch=task.epoch, task=task.id,
                    taken_at=time.time(), consistency="crash", vm=vm,
                    disks=(DiskPoint("vda", 1 << 30, f"f{number}", moved=1 << 20),))


@dataclass
class Player:
    """Takes tasks and ends them well at once. ``hold`` keeps replications in their transfer
    until it is cleared; ``fail`` has an error by kind of task."""

    link: LocalLink
    vms: int = 3
    hold: threading.Event = field(default_factory=threading.Event)
    fail: dict[str, GiveUp] = field(default_factory=dict)
    begun: list[Task] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    points: dict[str, list[Manifest]] = field(default_factory=dict)
    png: bytes = PNG                # the screenshot of each test
    damage: dict[int, dict[str, Any]] = field(default_factory=dict)     # what scrubs find
    power: dict[str, str] | None = field(default_factory=dict)      # what a watch sees
    replicas: list[FoundReplica] = field(default_factory=list)      # what a rebuild finds
    _closing: bool = False
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> Player:
        thread = threading.Thread(target=self._loop, daemon=True)
        self._threads.append(thread)
        thread.start()
        return self

    def stop(self) -> None:
        self._closing = True
        self.hold.clear()
        for thread in self._threads:
            thread.join(5.0)

    def _loop(self) -> None:
        while not self._closing:
            try:
                task = self.link.next_task(0.5)
            except Exception:               # the test's store is closed
                if self._closing:
                    return
                raise
            if task is not None and all(task.id != b.id for b in self.begun):
                self.begun.append(task)
                thread = threading.Thread(target=self._guarded, args=(task,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _guarded(self, task: Task) -> None:
        try:
            self.play(task)
        except BaseException as error:
            self.errors.append(error)

    def play(self, task: Task) -> None:
        link = self.link
        error = self.fail.get(task.kind)
        match task.kind:
            case "check" | "refresh":
                link.step(task, task.kind, "running", {})
                if error is None:
                    link.inventory(task, self.report(task))
                link.step(task, task.kind, "done", {})
            case "watch":
                link.step(task, "watch", "running", {})
                while not self._closing and not link.limits(task).stop:
                    link.inventory(task, {"power": self.power})
                    time.sleep(0.02)
                link.finish(task, "stopped", None, {})
                return
            case "cable":
                link.step(task, "cable", "running", {})
            case "replicate":
                if not self._replicate(task):
                    link.finish(task, "stopped", None, {})
                    return
            case "failover":
                link.step(task, "restore-snapshot", "running", {})
                if error is None:
                    link.failover(task, task.point, {"name": "web"})
            case "undo":
                link.step(task, "clear-snapshot", "running", {})
                if error is None:
                    link.failover(task, None, {})
            case "permanent":
                link.step(task, "clear-snapshot", "running", {})
                if error is None:
                    link.adopt(task, ())
            case "scrub":
                link.step(task, "read-points", "running", {})
                assert task.rule is not None
                points = self.points.get(task.rule.id, [])
                while self.hold.is_set():
                    if link.limits(task).stop:
                        link.finish(task, "stopped", None, {})
                        return
                    time.sleep(0.005)
                if error is None:
                    link.scrubbed(task, tuple(
                        Scrubbed(p.number, self.damage.get(p.number, {})) for p in points),
                        points[-1].number if points else 0)
            case "failback":
                if error is None:
                    link.failback(task, {"origin": {}})
            case "switch-back":
                if error is None:
                    link.failback(task, {"origin": {}, "switched": True})
            case "commit-failback":
                link.failback(task, {"origin": {}, "switched": True, "committed": True})
                if error is None:
                    link.failback(task, None)
                    link.failover(task, None, {})
            case "undo-failback":
                if error is None:
                    link.failback(task, None)
            case "shut-down":
                link.step(task, "shut-down-source", "running", {})
            case "test":
                error = self._test(task, error)
            case "remove":
                link.step(task, "clean-source", "running", {})
                if error is None:
                    link.adopt(task, ())
            case "rebuild":
                for replica in self.replicas:
                    link.rule_key(replica.replica.rule)
                    link.inventory(task, {"replicas": [replica]})
        if error is not None:
            link.finish(task, "failed", error.as_dict(), {})
        elif task.kind == "test" and link.limits(task).stop:
            link.finish(task, "stopped", None, {})
        else:
            link.finish(task, "ok", None, {"moved": 1 << 20})

    def _replicate(self, task: Task) -> bool:
        link = self.link
        assert task.rule is not None
        for step in STEPS:
            link.step(task, step, "running", {})
            if step == "transfer":
                link.progress(task, Progress("transfer", 1 << 19, 1 << 20, 1e6, 0.5))
                while self.hold.is_set():
                    if link.limits(task).stop:
                        return False
                    time.sleep(0.005)
            link.step(task, step, "done", {"bytes": 1 << 20})
        if "replicate" not in self.fail:
            points = self.points.setdefault(task.rule.id, [])
            points.append(manifest(task, len(points) + 1))
            link.adopt(task, tuple(points))
        return True

    def _test(self, task: Task, error: GiveUp | None) -> GiveUp | None:
        """Of a point that is bad the proof is told, too. ``hold`` keeps it in its check."""
        self.link.step(task, "check", "running", {})
        while self.hold.is_set() and not self.link.limits(task).stop:
            time.sleep(0.005)
        if self.link.limits(task).stop:
            return None
        found = [Check("heartbeat", "failed", "test.no-heartbeat") if error else
                 Check("heartbeat", "passed", "test.heartbeat")]
        self.link.proof(task, "failed" if error else "passed", found, self.png)
        return error

    def report(self, task: Task) -> dict[str, Any]:
        access = self.link.access(str(task.platform))
        return {
            "connection": ConnectionReport(True, "QEMU 7.2.0, libvirt 9.0.0", access.uri,
                                           (port.Check("connect", True),)),
            "places": [Place("storage", "default", free=1 << 40),
                       Place("storage", "lvm", usable=False, reason="storage.unusable"),
                       Place("network", "lan")],
            "vms": [VmSummary(f"uuid-{i}", f"web{i}", "running", 1 << 30)
                    for i in range(self.vms)]
            + [VmSummary("uuid-bad", "transient", "running", 1, False, "vm.unprotectable")]
            if "target" not in access.uri else []}


@dataclass
class Rig:
    folder: Path
    services: Services
    player: Player

    @property
    def link(self) -> LocalLink:
        return self.player.link

    def platforms(self, vms: int = 3) -> None:
        """``src`` with machines web0…, and ``dst``, both read."""
        self.player.vms = vms
        for name, host in (("src", "source"), ("dst", "target")):
            made = self.services.platforms.add(
                ADMIN, name=name, kind="libvirt", uri=f"qemu+ssh://{host}/system")
            self.ended(made.task)
            wait_until(lambda n=name: self.services.platforms.get(ADMIN, n).refreshed_at)

    def rule(self, name: str = "r1", vm: str = "web0", interval_s: int | None = None,
             **more: Any) -> str:
        if interval_s is not None:
            more["schedule"] = Schedule("interval", interval_s)
        return self.services.rules.create(
            OPERATOR, NewRule(name, "src", vm, "dst", "default", **more)).id

    def ended(self, task: int | None) -> Any:
        assert task is not None
        wait_until(lambda: self.services.tasks.get(ADMIN, task).state == "ended")
        return self.services.tasks.get(ADMIN, task)

    def run(self, rule: str) -> Any:
        return self.ended(self.services.rules.start(OPERATOR, rule))

    def settled(self, rule: str) -> None:
        """Wait until no task of the rule is live: one may follow another."""
        wait_until(lambda: self.services.rules.get(ADMIN, rule).live_task is None)

    def state(self, rule: str) -> str:
        return self.services.rules.get(ADMIN, rule).state


@contextmanager
def rig(folder: Path, limits: Limits | None = None, scheduler: bool = False,
        database: str | None = None, per_host: int | None = None) -> Iterator[Rig]:
    services = Services.open(folder, database=database)
    configured = Configured(limits.max_tasks, limits.transfer_buffer) if limits else None
    player = Player(services.link("local", folder / "temp", configured)).start()
    if per_host is not None:
        services.settings.set(ADMIN, per_host)
    if scheduler:
        services.start()
    try:
        yield Rig(folder, services, player)
        assert not player.errors, player.errors
    finally:
        services.context.hub.close()
        player.stop()
        services.stop()
        services.close()


def prepared(folder: Path) -> Path:
    """A state directory with both platforms read, at rest."""
    with rig(folder) as made:
        made.platforms()
    return folder


@dataclass
class Served:
    rig: Rig
    url: str
    ca: Path
    fingerprint: str
    http: uvicorn.Server


@contextmanager
def served(made: Rig) -> Iterator[Served]:
    """The real app over real TLS."""
    identity = tls.ensure(made.folder / "tls", ["127.0.0.1"])
    config = http_configuration(create_app(made.services, identity.ca.read_text()), identity)
    config.port = 0
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(made, f"https://127.0.0.1:{port}", identity.ca, identity.fingerprint,
                     server)
    finally:
        made.services.context.hub.close()
        server.should_exit = True
        thread.join(5.0)


def start_player(link: LocalLink, *, state_dir: Path, temp_dir: Path) -> Player:
    """For ``hotspare up`` in a process of its own, in place of the real machine."""
    player = Player(link)
    if (state_dir / "hold").exists():
        player.hold.set()
    return player.start()


DRIVER = """
import os, sys
from pathlib import Path
from hotspare.server.control import Settings
from hotspare.server.up import up
from unit.service_rig import start_player
code = up(Settings(Path(sys.argv[1]), sys.argv[2], as_json=True,
                   admin_password=os.environ.get("HOTSPARE_ADMIN_PASSWORD")),
          start_worker=start_player)
sys.stdout.flush()
os._exit(code)
"""


def spawn_up(state_dir: Path, listen: str = "127.0.0.1:0",
             **environment: str) -> subprocess.Popen[str]:
    tests = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(state_dir), listen], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(
            filter(None, [tests, os.environ.get("PYTHONPATH")]))} | environment)
