"""Everything that takes part: machines between two hosts, the processes, what was found wrong."""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import libvirt
import sqlalchemy as sa

from e2e.rig import Server, remove_replicas, wait_for
from hotspare.domain.errors import HotspareError
from hotspare.store import Store, schema
from hotspare.store.engine import sqlite_url

from .processes import Api, Control, Machine
from .vms import Vm

if TYPE_CHECKING:
    from testbeds.kvm import Lab, SessionHost
    from testbeds.postgres import Postgres

KIB, MIB = 1 << 10, 1 << 20
AWAY = frozenset({"client.unreachable", "store.unavailable", "server.stopping"})
"""What a caller hears while the server or its database is down."""


@dataclass(frozen=True)
class Size:
    """``seconds`` of chaos with ``rules``, each every ``every_s`` seconds; a fault every ``gap_s``
    (from, to) and an act of the operator as often."""

    rules: int
    seconds: float
    every_s: tuple[int, int]
    gap_s: tuple[float, float]
    longest_s: float                # that a fault lasts


class Host:
    """One libvirtd for one thread, found again after its restart."""

    def __init__(self, host: SessionHost) -> None:
        self.host = host
        self._conn: Any = None

    @property
    def conn(self) -> Any:
        """Raises libvirtError while the daemon is down."""
        if self._conn is not None and not self._conn.isAlive():
            self._conn = None
        if self._conn is None:
            self._conn = self.host.connect()
        return self._conn

    def domain(self, name: str) -> Any:
        return self.conn.lookupByName(name)


@dataclass
class Stage:
    lab: Lab
    folder: Path
    size: Size
    seed: str
    postgres: Postgres | None = None
    database: str | None = None     # None: one process on SQLite
    vms: dict[str, Vm] = field(default_factory=dict)            # by rule id
    machines: dict[str, Machine] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    story: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.began = time.time()
        self.server: Server = (Control(self.folder, self.database) if self.fleet
                               else Server(self.folder))
        self.store = Store(self.database or sqlite_url(self.folder / "state" / "hotspare.db"))

    @property
    def fleet(self) -> bool:
        return self.postgres is not None

    # --- what happened -------------------------------------------------------------------------

    def tell(self, what: str) -> None:
        self.story.append(f"{time.time() - self.began:7.1f} {what}")

    def blame(self, what: str) -> None:
        """Something is wrong: the test fails at its end, with this."""
        self.wrong.append(what)
        self.tell(f"WRONG {what}")

    def act(self, name: str, turn: Callable[[Random], float]) -> None:
        """Let an actor take turns in a thread until the chaos is over; each turn returns the
        seconds until the next."""
        dice = Random(f"{self.seed}/{name}")

        def loop() -> None:
            pause = 0.0
            while not self.over.wait(pause):
                try:
                    pause = turn(dice)
                except Exception:
                    self.blame(f"{name} failed: {traceback.format_exc()}")
                    return

        thread = threading.Thread(target=loop, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def explain(self) -> str:
        """For a failed test: what the rules' logs, the live tasks and the processes say."""
        log, t, s = schema.log, schema.task, schema.task_step
        with self.store.read() as conn:
            lines = [f"{row.at - self.began:7.1f} {row.rule} task {row.task} {row.level} "
                     f"{row.code} {row.fields}" for row in conn.execute(
                         sa.select(log).where(log.c.rule.is_not(None)).order_by(log.c.at))]
            for row in conn.execute(sa.select(t).where(t.c.state != "ended")):
                lines.append(f"live: task {row.id} {row.kind} of {row.rule} on {row.machine}: "
                             f"{row.state}, stop {row.stop}, epoch {row.epoch}, {row.progress}")
                lines += [f"    {step.name} {step.state} x{step.attempts}" for step in
                          conn.execute(sa.select(s).where(s.c.task == row.id)
                                       .order_by(s.c.position))]
        logs = [self.server.log, *(m.log for m in self.machines.values())]
        lines += [f"--- {path.name}\n{path.read_text()[-6000:]}" for path in logs]
        return "\n".join(lines)

    def end(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join(60)
            if thread.is_alive():
                self.blame(f"{thread.name} does not end")

    # --- setting up ----------------------------------------------------------------------------

    def build(self) -> None:
        dice = Random(f"{self.seed}/build")
        self.lab.a.start()
        self.lab.b.start()
        vms = []
        for i in range(self.size.rules):
            # of ten: one raw, three with two disks; six run, three of them paused
            vm = Vm(self.lab, f"chaos{i:02}", disks=1 + (i % 3 == 1),
                    fmt="raw" if i % 10 == 7 else "qcow2", stride=dice.choice((1, 3, 17, 33)),
                    written=dice.randrange(64, 320))
            vms.append(vm)
            if i % 5 < 3:
                domain = self.lab.a.conn.lookupByName(vm.name)
                assert vm.switch_on(domain, paused=i % 2 == 0)
        self.server.start()
        if isinstance(self.server, Control):
            for name in ("m1", "m2", "m3"):
                self.machines[name] = Machine(self.server, name).start()
        self._protect(vms, dice)

    def _protect(self, vms: list[Vm], dice: Random) -> None:
        api = Api(self.server)
        names = list(self.machines) or ["local"]
        wait_for(lambda: api(lambda c: sum(m["live"] for m in c.machines())) == len(names), 30,
                 "the machines are there")
        for name, host in (("site-a", self.lab.a), ("site-b", self.lab.b)):
            api(lambda c, name=name, uri=host.uri: c.request(  # type: ignore[misc]
                "POST", "/platforms", body={"name": name, "uri": uri, "machine": names[0]}))
        wait_for(lambda: api(lambda c: all(p["refreshed_at"] for p in c.platforms())), 60,
                 "both platforms are read")
        for i, vm in enumerate(vms):
            made = api(lambda c, i=i, vm=vm: c.create_rule({  # type: ignore[misc]
                "name": f"rule{i:02}", "vm": vm.name, "source": "site-a", "target": "site-b",
                "storage": self.lab.pool_name(self.lab.b), "machine": names[i % len(names)],
                "retention": dice.randrange(2, 5), "quiesce": "try" if i % 6 == 1 else "off",
                "schedule": {"kind": "interval", "every_s": dice.randint(*self.size.every_s)},
                "bandwidth": bandwidth(dice)}))
            self.vms[made["id"]] = vm
        for answer in api(lambda c: c.act("start", list(self.vms))):
            assert answer["ok"], answer
        api.close()

    # --- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        self.over.set()
        for machine in self.machines.values():
            with suppress(Exception):
                if machine.alive:
                    machine.kill()
            machine.way.close()
        with suppress(Exception):
            if self.server.alive:
                self.server.kill()
        self.store.close()
        self.lab.a.start()
        self.lab.b.start()
        for vm in self.vms.values():
            with suppress(libvirt.libvirtError):
                domain = self.lab.a.conn.lookupByName(vm.name)
                vm.switch_off(domain)
                domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
            for image in vm.images:
                image.unlink(missing_ok=True)
        remove_replicas(self.lab, self.vms)


@contextmanager
def heard(allowed: frozenset[str]) -> Iterator[None]:
    """An answer that is an error of one of these codes is fine."""
    try:
        yield
    except HotspareError as error:
        if error.code not in allowed:
            raise


def bandwidth(dice: Random) -> list[dict[str, Any]]:
    """A rule's ranges: one limit all week, or none."""
    limit = dice.choice((None, 256 * KIB, 512 * KIB, MIB, 2 * MIB))
    return [] if limit is None else [
        {"days": [1, 2, 3, 4, 5, 6, 7], "start": 0, "end": 1440, "limit": limit}]
