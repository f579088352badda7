"""A whole Hotspare between two real hosts: the server as a process of its own, and what tests need
to look behind it (the source at its instant, the files at the target, everything left behind)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import libvirt
from blake3 import blake3

from hotspare.client.client import Client
from hotspare.client.session import Session
from hotspare.domain.lineage import Lineage
from hotspare.platforms.libvirt import jobs
from hotspare.platforms.libvirt.platform import connect
from hotspare.platforms.port import PlatformAccess, ReplicaRef
from hotspare.services.keys import KeyRing
from testbeds.kvm.procs import wait_for

if TYPE_CHECKING:
    from testbeds.kvm import Guest, Lab

HOTSPARE = str(Path(sys.executable).with_name("hotspare"))
BLOCK = 64 * 1024


def content(image: str, fmt: str) -> str:
    """A digest of what a disk reads as; holes and zeroes are the same."""
    with tempfile.NamedTemporaryFile(prefix="hs-content-") as raw:
        subprocess.run(["qemu-img", "convert", "-U", "-f", fmt, "-O", "raw", image, raw.name],
                       check=True, capture_output=True)
        return content_of_raw(Path(raw.name))


def content_of_raw(path: Path) -> str:
    found = blake3()
    size = path.stat().st_size
    found.update(size.to_bytes(8, "little"))
    zero = bytes(BLOCK)
    with path.open("rb") as file:
        at = 0
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // BLOCK * BLOCK
            except OSError:
                break           # only a hole follows
            piece = os.pread(file.fileno(), BLOCK, at)
            if piece != zero[:len(piece)]:
                found.update(at.to_bytes(8, "little"))
                found.update(piece)
            at += BLOCK
    return found.hexdigest()


class Server:
    """``hotspare up`` as a process that can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state_dir = directory / "state"
        self.temp_dir = directory / "temp"
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.log = directory / "server.log"
        self.program = [HOTSPARE]

    def start(self, fault: str = "", fault_log: Path | None = None) -> Server:
        environment = os.environ | {"HOTSPARE_ADMIN_PASSWORD": "canary-password-93f1"}
        environment.pop("HOTSPARE_FAULT", None)
        if fault:
            environment["HOTSPARE_FAULT"] = fault
        if fault_log is not None:
            environment["HOTSPARE_FAULT_LOG"] = str(fault_log)
        with self.log.open("a") as errors:
            self.process = subprocess.Popen(
                [*self.program, "up", "--state-dir", str(self.state_dir), "--temp-dir",
                 str(self.temp_dir), "--listen", "127.0.0.1:0", "--json"],
                stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            if self.process.wait(10) == -signal.SIGKILL:
                return self         # the fault point was on the way up
            raise AssertionError(f"hotspare up ended: {self.log.read_text()[-2000:]}")
        self.url = json.loads(line)["url"]
        return self

    def client(self) -> Client:
        ready = json.loads((self.state_dir / "server.json").read_text())
        return Client(Session(self.url, (self.state_dir / "local-token").read_text().strip(),
                              ready["ca"]))

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def wait_dead(self, timeout_s: float) -> None:
        assert self.process is not None
        self.process.wait(timeout_s)

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.kill()
            raise


@dataclass
class Rig:
    """One protected guest."""

    lab: Lab
    server: Server
    guest: Guest
    rule: str = "rule"
    rule_id: str = ""
    storage: str = ""
    storage_dir: Path = Path()

    def __post_init__(self) -> None:
        self.storage = self.lab.pool_name(self.lab.b)
        self.storage_dir = self.lab.b.storage_dir

    def protect(self, retention: int = 7, quiesce: str = "try",
                bandwidth: int | None = None, by_ssh: bool = False, **settings: Any) -> None:
        """Register both hosts and create the rule. ``bandwidth``: bytes per second, all week.
        ``by_ssh``: the source is reached so."""
        if bandwidth is not None:
            settings["bandwidth"] = [{"days": [1, 2, 3, 4, 5, 6, 7], "start": 0, "end": 1440,
                                      "limit": bandwidth}]
        with self.server.client() as client:
            uri, options = self._source_by_ssh() if by_ssh else (self.lab.a.uri, None)
            client.add_platform("site-a", uri, options=options)
            client.add_platform("site-b", self.lab.b.uri)
            wait_for(lambda: all(p["refreshed_at"] for p in client.platforms()), 60,
                     "both platforms are read")
            rule = client.create_rule({
                "name": self.rule, "source": "site-a", "vm": self.guest.name,
                "target": "site-b", "storage": self.storage,
                "retention": retention, "quiesce": quiesce, **settings})
            self.rule_id = rule["id"]

    def _source_by_ssh(self) -> tuple[str, dict[str, str]]:
        ssh, host = self.lab.ssh, self.lab.a
        uri = (f"qemu+ssh://{ssh.user}@127.0.0.1:{ssh.port}/session?"
               f"socket={quote(str(host.socket), safe='/')}&proxy=netcat")
        return uri, {"socket_dir": str(host.socket_dir), "keyfile": str(ssh.keyfile),
                     "known_hosts": str(ssh.known_hosts)}

    def run(self, timeout_s: float = 120, outcome: str = "ok") -> dict[str, Any]:
        """One run of the rule, to its end."""
        with self.server.client() as client:
            task = client.start_rule(self.rule)
        return self.ended(task, timeout_s, outcome)

    def ended(self, task: int, timeout_s: float = 120, outcome: str = "ok") -> dict[str, Any]:
        with self.server.client() as client:
            def done() -> Any:
                found = client.task(task)
                return found if found["state"] == "ended" else None

            found = wait_for(done, timeout_s, f"task {task} ends")
        assert found["outcome"] == outcome, (found["outcome"], found["error"],
                                             self.server.log.read_text()[-3000:])
        return dict(found)

    def numbers(self) -> list[int]:
        with self.server.client() as client:
            return sorted(p["number"] for p in client.points(self.rule))

    # --- behind the scenes ---

    def lineage(self) -> Lineage:
        key = KeyRing.load_or_make(self.server.state_dir / "secret.key",
                                   may_make=False).rule_key(self.rule_id)
        platform = connect(PlatformAccess("test", "libvirt", self.lab.b.uri))
        try:
            return platform.target(key).lineage(
                ReplicaRef(self.rule_id, self.storage))
        finally:
            platform.close()

    def source_now(self) -> dict[str, str]:
        """What the open instant reads as, through the pull backup's own exports."""
        job = jobs.find_job(self.guest.domain())
        assert job is not None, "no backup job is open"
        return {d.disk: content(f"nbd+unix:///{d.export}?socket={job.socket}", "raw")
                for d in job.disks}

    def points(self) -> dict[int, dict[str, str]]:
        """What every published point reads as at the target."""
        return {point.number: {d.id: content(str(self.storage_dir / d.file), "qcow2")
                               for d in point.disks}
                for point in self.lineage().points}

    def check_images(self) -> None:
        for point in self.lineage().points:
            for disk in point.disks:
                done = subprocess.run(
                    ["qemu-img", "check", "-U", "-f", "qcow2",
                     str(self.storage_dir / disk.file)], capture_output=True, text=True,
                    check=False)
                assert done.returncode == 0, done.stdout + done.stderr

    def leftovers(self, *, running_replica: bool = False) -> list[str]:
        """Everything of ours that should not be there when no task runs."""
        found = []
        lineage = self.lineage()
        head = lineage.head
        base = head.tracking["checkpoint"] if head is not None and head.tracking else None
        domain = self.guest.domain()
        found += [f"checkpoint {c.getName()}" for c in domain.listAllCheckpoints(0)
                  if c.getName().startswith("hs-") and c.getName() != base]
        if domain.isActive() and jobs.find_job(domain) is not None:
            found.append("backup job")
        for host in self.lab.hosts.values():
            found += [f"domain {d.name()} on {host.name}" for d in host.conn.listAllDomains()
                      if d.name().startswith("hs-")]
        if not running_replica:
            found += [f"replica {d.name()}" for d in self.lab.b.conn.listAllDomains()
                      if d.name() == self.guest.name]
            found += [f"socket {p.name}" for p in Path(host.socket_dir).glob("hs-*")]
            found += [f"file {p.name}" for p in host.storage_dir.glob("hs-*")
                      if host is self.lab.a]
        expected = {f"hs-{self.rule_id}.lineage"}
        for point in lineage.points:
            expected |= {d.file for d in point.disks} | {b.name for b in point.digests}
            if point.firmware_state is not None:
                expected.add(point.firmware_state.name)
        there = {p.name for p in self.storage_dir.glob(f"hs-{self.rule_id}*")}
        if running_replica:
            there = {name for name in there if "-fo-" not in name}
        found += [f"volume {name}" for name in sorted(there - expected)]
        found += [f"missing {name}" for name in sorted(expected - there)]
        found += [f"temporary {p.name}" for p in self.server.temp_dir.glob("hs-*/*")]
        return found

    def story(self) -> str:
        """What the last tasks say, for the message of a failed test."""
        lines = []
        with self.server.client() as client:
            for task in reversed(client.tasks(largest=3)):
                lines.append(f"task {task['id']} {task['kind']} {task['state']} {task['outcome']} "
                             f"{task['error']}")
                for step in client.task(task["id"])["steps"]:
                    lines.append(f"   {step['name']} {step['state']} x{step['attempts']}")
                lines += [f"   {line['level']} {line['code']} {line['fields']}"
                          for line in client.task_log(task["id"])]
        return "\n".join(lines) + "\n" + self.server.log.read_text()[-3000:]

    def settled(self, timeout_s: float = 60) -> None:
        """Wait until no task is live."""
        def idle() -> bool:
            with self.server.client() as client:
                return client.rule(self.rule)["live_task"] is None

        wait_for(idle, timeout_s, "no task is live")


def remove_replicas(lab: Lab, rule_ids: Iterable[str]) -> None:
    """Clean a shared lab after a test: our files and domains on the target."""
    for domain in lab.b.conn.listAllDomains():
        if domain.isActive():
            domain.destroy()
        try:
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                                 | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA)
        except libvirt.libvirtError:
            pass        # a transient one is gone with its end
    for rule in rule_ids:
        for path in lab.b.storage_dir.glob(f"hs-{rule}*"):
            path.unlink()


@dataclass(frozen=True)
class Said:
    """What one call of the real command ended with."""

    exit: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def hotspare(server: Server, *arguments: str, stdin: str = "", timeout_s: float = 120,
             **environment: str) -> Said:
    """Run the command against ``server``, as its administrator on the same machine."""
    found = subprocess.run(
        [*server.program, *arguments], input=stdin, capture_output=True, text=True, check=False,
        timeout=timeout_s, env=os.environ | {"HOTSPARE_STATE_DIR": str(server.state_dir)}
        | environment)
    return Said(found.returncode, found.stdout, found.stderr)


def gated_end(rig: Rig, task: int, gate: Path, timeout_s: float = 120
              ) -> tuple[dict[str, Any], dict[str, str]]:
    """Let a task of a server whose fault point ``replicate.before-publish`` touches ``gate`` go
    to its end: the ended task, and what the source read as at its instant ({} when it is off)."""
    def came() -> bool:
        if gate.exists():
            return True
        with rig.server.client() as client:
            assert client.task(task)["state"] != "ended", rig.story()
        return False

    wait_for(came, timeout_s, "the run comes to its commit point")
    at_instant = rig.source_now() if rig.guest.running else {}
    gate.unlink()
    return rig.ended(task), at_instant


def gated_run(rig: Rig, gate: Path, timeout_s: float = 120
              ) -> tuple[dict[str, Any], dict[str, str]]:
    """One run, as :func:`gated_end`."""
    with rig.server.client() as client:
        task = client.start_rule(rig.rule)
    return gated_end(rig, task, gate, timeout_s)
