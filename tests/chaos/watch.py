"""Those who look on from outside, while it happens."""

from __future__ import annotations

import subprocess
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

import libvirt
import sqlalchemy as sa
from blake3 import blake3

from hotspare.client.local import local_tasks
from hotspare.domain.errors import HotspareError
from hotspare.domain.lineage import Lineage, Manifest
from hotspare.platforms.libvirt import names
from hotspare.platforms.libvirt.platform import connect
from hotspare.platforms.port import PlatformAccess, ReplicaRef
from hotspare.services.dispatcher import BEGUN, COUNTED
from hotspare.services.keys import KeyRing
from hotspare.store import schema

from .limits import Run, Timeline, over_the_limits
from .processes import Machine
from .records import Wrong
from .stage import Host, Stage
from .vms import read_image

_T = schema.task


def runs(stage: Stage, *where: sa.ColumnElement[bool]) -> list[Run]:
    """Tasks that the limits count, by the database."""
    with stage.store.read() as conn:
        rows = conn.execute(sa.select(_T).where(_T.c.kind.in_(COUNTED), *where)).all()
    return [Run(row.id, row.rule, row.machine, frozenset({row.source_host, row.target_host}),
                row.buffer or 0, row.dispatched_at, row.ended_at)
            for row in rows if row.dispatched_at is not None]


class Sampler:
    """Twice a second: the live tasks in the database, and the helper domains on the hosts."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.samples: list[list[Run]] = []
        self.most: Counter[str] = Counter()     # for the story
        self._hosts = {"a": Host(stage.lab.a), "b": Host(stage.lab.b)}

    def turn(self, _dice: Random) -> float:
        try:
            live = runs(self.stage, _T.c.state.in_(BEGUN))
        except HotspareError as error:
            assert error.code == "store.unavailable", error
            return 0.5
        self.samples.append(live)
        self._most("tasks", len(live))
        for rule, count in Counter(run.rule for run in live).items():
            if count > 1:
                self.stage.blame(f"rule {rule} has {count} live tasks")
        for host, known in self._hosts.items():
            try:
                domains = [d.name() for d in known.conn.listAllDomains()]
            except libvirt.libvirtError:
                continue            # it is down
            ours = [d for d in domains if d.startswith("hs-")]
            self._most(f"helpers on {host}", len(ours))
            self._one_a_rule(host, ours)
        return 0.4

    def _most(self, what: str, count: int) -> None:
        self.most[what] = max(self.most[what], count)

    def _one_a_rule(self, host: str, domains: list[str]) -> None:
        """One that writes at the target; one that reads a machine that is off at the source."""
        for rule in self.stage.vms:
            of = [d for d in domains if d.startswith(f"hs-rx-src-{rule}-")] if host == "a" else [
                d for d in domains if d == names.receiver(rule)]
            if len(of) > 1:
                self.stage.blame(f"rule {rule} has {of} on host {host}")

    def check(self) -> None:
        """What the samples and the whole history say of the limits."""
        limits = Timeline.of(self.stage.store)
        for sample in self.samples:
            for fault in over_the_limits([r.live() for r in sample], limits):
                self.stage.blame(f"sampled: {fault}")
        history = runs(self.stage)
        for fault in over_the_limits(history, limits):
            self.stage.blame(f"history: {fault}")
        self.stage.tell(f"{len(history)} runs; most at once: {dict(self.most)}")


class Asker:
    """What a DR machine itself says that it runs is what the server gave it."""

    def __init__(self, stage: Stage, machine: Machine) -> None:
        self.stage, self.machine = stage, machine
        self.answers = 0

    def turn(self, _dice: Random) -> float:
        try:
            said = local_tasks(self.machine.state_dir / "worker.sock")["tasks"]
            running = {t["task"] for t in said if t["state"] == "running"}
            with self.stage.store.read() as conn:
                rows = conn.execute(sa.select(_T).where(_T.c.id.in_(running))).all()
        except HotspareError as error:
            assert error.code in {"local.no-socket", "store.unavailable"}, error
            return 1.0
        self.answers += 1
        for row in rows:
            # one that has ended may have been moved away without the machine hearing of it
            if row.state == "queued" or (row.state in BEGUN and row.machine != self.machine.name):
                self.stage.blame(f"{self.machine.name} runs task {row.id}, which is {row.state} "
                                 f"at {row.machine}")
        if len(rows) != len(running):
            self.stage.blame(f"{self.machine.name} runs {running}, some of which do not exist")
        return 1.0


@dataclass(frozen=True)
class Seen:
    """A restore point as it was first read."""

    manifest: Manifest
    records: int
    digest: str


class Reader:
    """Reads each restore point soon after it was published, and proves it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.seen: dict[tuple[str, int], Seen] = {}
        self._keys = KeyRing.load_or_make(stage.folder / "state" / "secret.key", may_make=False)
        self._platform: Any = None

    def turn(self, _dice: Random) -> float:
        for rule in self.stage.vms:
            if self.stage.over.is_set():
                break
            try:
                self.look(rule)
            except HotspareError as error:
                if self._platform is None or error.code in {"lineage.forged", "lineage.version"}:
                    self.stage.blame(f"the lineage of {rule} cannot be read: {error}")
                self._platform = None
                return 1.0          # libvirtd is down
        return 1.0

    def lineage(self, rule: str) -> Lineage:
        if self._platform is None:
            try:
                self._platform = connect(PlatformAccess("test", "libvirt", self.stage.lab.b.uri))
            except HotspareError:
                self._platform = None
                return Lineage(rule, 0)
        lineage: Lineage = self._platform.target(self._keys.rule_key(rule)).lineage(
            ReplicaRef(rule, self.stage.lab.pool_name(self.stage.lab.b)))
        return lineage

    def look(self, rule: str) -> None:
        """Read what is new of one rule."""
        before = self.lineage(rule)
        if before.retiring is not None:
            return                  # a merge moves files about: another time
        for point in before.points:
            if (rule, point.number) not in self.seen:
                disks = self._read(point)
                if self.lineage(rule) != before:
                    return
                if disks is None:
                    self.stage.blame(f"point {point.number} of {rule} cannot be read")
                else:
                    self._judge(rule, point, disks)

    def _read(self, point: Manifest) -> list[bytes] | None:
        folder = self.stage.lab.b.storage_dir
        try:
            return [read_image(folder / d.file, "qcow2")
                    for d in sorted(point.disks, key=lambda d: d.id)]
        except subprocess.CalledProcessError:
            return None

    def _judge(self, rule: str, point: Manifest, disks: list[bytes]) -> None:
        vm = self.stage.vms[rule]
        where = f"point {point.number} of {rule} ({vm.name}, task {point.task})"
        try:
            records = vm.records.judge(disks)
        except Wrong as error:
            self.stage.blame(f"{where}: {error}")
            records = -1
        at_least = vm.done_at(point.taken_at)
        if 0 <= records < at_least:
            self.stage.blame(f"{where} has the records up to {records}, {at_least} were there when"
                             " it was taken")
        if records > len(vm.begun):
            self.stage.blame(f"{where} has record {records}, which was not written yet")
        for (other, number), seen in list(self.seen.items()):
            if other != rule:
                continue
            if (number < point.number) != (seen.records <= records) and seen.records != records:
                self.stage.blame(f"{where} has {records} records, point {number} {seen.records}")
            if seen.manifest.task == point.task:
                self.stage.blame(f"{where} and point {number} are of one task")
        self.seen[rule, point.number] = Seen(point, records, _digest(disks))

    def again(self, rule: str, lineage: Lineage) -> None:
        """At the end: every point that is there still is what it was."""
        for point in lineage.points:
            seen = self.seen.get((rule, point.number))
            disks = self._read(point)
            if disks is None:
                self.stage.blame(f"point {point.number} of {rule} cannot be read")
            elif seen is None:
                self._judge(rule, point, disks)
            elif _digest(disks) != seen.digest:
                self.stage.blame(f"point {point.number} of {rule} has changed since it was "
                                 "published")


def _digest(disks: list[bytes]) -> str:
    return blake3(b"".join(disks)).hexdigest()


def check_images(stage: Stage, lineage: Lineage) -> None:
    """The files of all points are sound."""
    for point in lineage.points:
        for disk in point.disks:
            done = subprocess.run(
                ["qemu-img", "check", "-U", "-f", "qcow2",
                 stage.lab.b.storage_dir / disk.file], capture_output=True, text=True, check=False)
            if done.returncode:
                stage.blame(f"{disk.file}: {done.stdout}{done.stderr}")


