"""The load of the bench ``scale``: many DR machines in one process, by the link's real protocol.

Each machine enrols by its code, polls, and reports, over TLS connections of its own, as
``hotspare.worker.remote_link`` does it: the same requests in the same order, gathered the same way.
What is played is the work between two reports: no disk is read, and the outbox is in memory.

    python -m bench.scale_players       # told what to do by lines of JSON, see _serve()
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import ssl
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from hotspare import __version__
from hotspare.domain.codec import decode_known, encode
from hotspare.domain.lineage import Blob, DiskPoint, Manifest
from hotspare.domain.machine import CpuSpec, DiskSpec, NicSpec, VmDescription
from hotspare.platforms.port import Check, ConnectionReport, Place, PlatformAccess, VmSummary
from hotspare.worker.outbox import LARGEST_BATCH
from hotspare.worker.remote_link import GATHER_S, POLL_S, PROGRESS_EVERY_S, SPACE_S
from hotspare.workflows.link import Progress
from hotspare.workflows.wire import (
    INSTANCE,
    PROTOCOL,
    Call,
    Enrol,
    Report,
    Secrets,
    Sync,
    Synced,
    ToldPoints,
    digest,
    read_code,
)

_PREFIX = "/api/v1/link"
_IDLE_S = 25.0                      # an idle connection is not used again after that, as there
_GIB = 1 << 30

STEPS = {"create-replica": 0.05, "read-configuration": 0.1, "query-changes": 0.2, "transfer": 0.0,
         "publish": 0.15, "adopt": 0.05, "retire": 0.2, "sweep": 0.05}
"""The steps of a run, and the seconds that each takes besides what it says to the server: some
that the bench ``cycle`` finds. That of the transfer is given."""


class Connection:
    """One connection, kept: HTTP/1.1 with a length on both sides is all that is needed."""

    def __init__(self, url: str, trust: ssl.SSLContext, **headers: str) -> None:
        self._more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        parts = urlsplit(url)
        self._address = str(parts.hostname), int(parts.port or 443)
        self._trust, self._host = trust, parts.netloc
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used = 0.0
        self._turn = asyncio.Lock()

    async def ask(self, method: str, path: str, token: str = "", body: Any = None) -> Any:
        """The decoded answer. Raises RuntimeError for a refusal, OSError when the server is not
        there."""
        content = b"" if body is None else json.dumps(body).encode()
        request = (f"{method} {_PREFIX}{path} HTTP/1.1\r\nhost: {self._host}\r\n"
                   f"authorization: Bearer {token}\r\n{self._more}"
                   f"content-length: {len(content)}\r\n\r\n")
        async with self._turn:
            try:
                reader, writer = await self._connected()
                writer.write(request.encode() + content)
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
                answer = await reader.readexactly(int(fields["content-length"]))
                self._used = time.monotonic()
            except BaseException as error:
                self.close()
                if isinstance(error, asyncio.IncompleteReadError):
                    raise ConnectionResetError("the server closed the connection") from None
                raise
        status = int(lines[0].split()[1])
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer.decode(errors='replace')}")
        return json.loads(answer)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and time.monotonic() - self._used > _IDLE_S:
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(
                *self._address, ssl=self._trust, limit=16 << 20)
        return self._streams

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Seen:
    """A task that came to its machine."""

    task: int
    kind: str
    rule: str
    at: float


@dataclass
class Load:
    """What all machines share, and what they found."""

    url: str
    ca: str
    transfer_s: float
    retention: int
    since: float                    # the past of each rule was before
    vms: int                        # of each source
    seen: list[Seen] = field(default_factory=list)
    ended: int = 0
    requests: int = 0
    errors: list[str] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.trust = ssl.create_default_context(cadata=self.ca)

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.errors.append(repr(task.exception()))


class Machine:
    """One DR machine."""

    def __init__(self, load: Load, name: str) -> None:
        self.load, self.name = load, name
        self.token = ""
        instance = {INSTANCE: secrets.token_hex(16)}
        self._poll, self._send, self._asking = (
            Connection(load.url, load.trust, **instance) for _ in range(3))
        self._version: int | None = None
        self._stamp: int | None = None
        self._known: dict[str, tuple[int, PlatformAccess]] = {}
        self._keys: dict[str, str] = {}
        self._live: dict[int, dict[str, Any]] = {}
        self._begun: set[tuple[int, int]] = set()
        self._outbox: list[dict[str, Any]] = []
        self._seq = 0
        self._news = asyncio.Event()
        self._progress: dict[int, dict[str, Any]] = {}
        self._lineages: dict[str, list[dict[str, Any]]] = {}
        self._told = ToldPoints()

    async def enrol(self, code: str) -> None:
        secret, _ = read_code(code)
        self.token = secrets.token_urlsafe(32)
        await self._ask(self._asking, "POST", "/enrol", encode(Enrol(
            secret, self.name, digest(self.token), PROTOCOL, __version__, "/var/tmp")))  # noqa: S108

    async def synced_once(self) -> None:
        """The first poll; the others follow by themselves."""
        await self._sync()
        self.load.begin(self._sync_loop())
        self.load.begin(self._send_loop())

    async def _ask(self, connection: Connection, method: str, path: str, body: Any = None) -> Any:
        self.load.requests += 1
        return await connection.ask(method, path, self.token, body)

    # --- down ----------------------------------------------------------------------------------

    async def _sync_loop(self) -> None:
        while True:
            try:
                await self._sync()
            except (OSError, RuntimeError) as error:
                self.load.errors.append(f"{self.name} sync: {error!r}")
                self._version = None
                await asyncio.sleep(random.uniform(0.25, 1.0))      # noqa: S311

    async def _sync(self) -> None:
        first = self._version is None
        said = Sync(PROTOCOL, __version__, "/var/tmp", 0.0, self._version, POLL_S)  # noqa: S108
        answer = await self._ask(self._poll, "POST", "/sync", encode(said))
        if first:
            decode_known(Synced, answer)        # once: it would be what costs most here
        at = time.time()
        self._version, self._stamp = answer["version"], answer["stamp"]
        self._arrived(answer["reported"])
        self._live = {x["task"]["id"]: x for x in answer["tasks"]}
        self._forget()
        listed = {(t["task"]["id"], t["task"]["epoch"]) for t in answer["tasks"]}
        self._begun &= listed
        for live in answer["tasks"]:
            task = live["task"]
            key = task["id"], task["epoch"]
            if key not in self._begun:
                self._begun.add(key)
                self.load.seen.append(Seen(task["id"], task["kind"],
                                           (task["rule"] or {}).get("id", ""), at))
                self.load.begin(self._play(task))

    # --- up ------------------------------------------------------------------------------------

    def _report(self, call: str, task: dict[str, Any], body: Any) -> None:
        self._seq += 1
        self._outbox.append(encode(Call(self._seq, call, task["id"], task["epoch"], time.time(),
                                        encode(body))))
        self._news.set()

    def _arrived(self, seq: int) -> None:
        if self._outbox and self._outbox[0]["seq"] <= seq:
            self._outbox = [c for c in self._outbox if c["seq"] > seq]

    async def _send_loop(self) -> None:
        sent = 0.0
        while True:
            await self._news.wait()
            least, space = (GATHER_S, SPACE_S) if self._outbox else (0.0, PROGRESS_EVERY_S)
            await asyncio.sleep(max(least, sent + space - time.monotonic()))
            self._news.clear()
            sent = time.monotonic()
            calls, progress = self._outbox[:LARGEST_BATCH], self._progress
            self._progress = {}
            if not calls and not progress:
                continue
            body = {**encode(Report()), "calls": calls, "progress": progress}
            try:
                answer = await self._ask(self._send, "POST", "/report", body)
            except (OSError, RuntimeError) as error:
                self.load.errors.append(f"{self.name} report: {error!r}")
                self._news.set()
                await asyncio.sleep(0.25)
                continue
            self.load.errors += [str(e) for e in answer["refused"].values()]
            self._arrived(answer["reported"])
            if self._outbox:
                self._news.set()

    # --- the work ------------------------------------------------------------------------------

    async def _play(self, task: dict[str, Any]) -> None:
        kind = task["kind"]
        if kind in {"check", "refresh"}:
            await self._read_platform(task)
            figures: dict[str, Any] = {}
        elif kind == "replicate":
            figures = await self._replicate(task)
        else:
            raise RuntimeError(f"nobody asked for a task of the kind {kind}")
        stopped = self._live.get(task["id"], {}).get("limits", {}).get("stop", False)
        self._report("finish", task, {"outcome": "stopped" if stopped else "ok", "error": None,
                                      "figures": figures})
        self.load.ended += 1

    async def _access(self, task: dict[str, Any], platform: str) -> PlatformAccess:
        stamp, access = self._known.get(platform, (None, None))
        if access is None or stamp != self._stamp:
            access = (await self._secrets(task)).platforms[platform]
        return access

    async def _secrets(self, task: dict[str, Any]) -> Secrets:
        found = decode_known(Secrets, await self._ask(
            self._asking, "GET", f"/tasks/{task['id']}/secrets"))
        self._known |= {p: (found.stamp, access) for p, access in found.platforms.items()}
        if found.key:
            self._keys[task["rule"]["id"]] = found.key
        return found

    def _forget(self) -> None:
        """What no live task uses any more, as a machine does with each poll."""
        rules = [x["task"]["rule"] for x in self._live.values() if x["task"]["rule"]]
        used = {x["task"]["platform"] for x in self._live.values()} | {
            rule[side] for rule in rules for side in ("source", "target")}
        self._known = {p: known for p, known in self._known.items() if p in used}
        self._keys = {r["id"]: self._keys[r["id"]] for r in rules if r["id"] in self._keys}

    async def _read_platform(self, task: dict[str, Any]) -> None:
        access = await self._access(task, task["platform"])
        host = str(urlsplit(access.uri).hostname)
        self._step(task, task["kind"], "running")
        report: dict[str, Any] = {"connection": ConnectionReport(
            True, "QEMU 7.2.0, libvirt 9.0.0", f"id-{host}", (Check("connect", True),))}
        if task["kind"] == "refresh":
            report |= {
                "places": [Place("storage", "default", free=1 << 44), Place("network", "lan")],
                "vms": [VmSummary(f"{host}-{n:04}", f"web-{host}-{n:04}", "running", 40 * _GIB)
                        for n in range(self.load.vms if host.startswith("source") else 0)]}
        self._report("inventory", task, report)
        self._step(task, task["kind"], "done")

    def _step(self, task: dict[str, Any], step: str, state: str, **detail: Any) -> None:
        self._report("step", task, {"step": step, "state": state, "detail": detail})

    async def _replicate(self, task: dict[str, Any]) -> dict[str, Any]:
        rule = task["rule"]
        points = self._lineages.get(rule["id"])
        if points is None:          # a replica with a past: each run then has all to do
            points = self._lineages[rule["id"]] = past(rule, self.load.retention, self.load.since)
        figures: dict[str, Any] = {
            "full": False, "bytes_queried": 1 << 26, "bytes_read": 1 << 26, "compared": 0,
            "bytes_moved": 1 << 26, "bytes_zero": 1 << 20, "stall_s": 0.1, "retries": 0,
            "transfer_s": 0.0}
        for step, seconds in STEPS.items():
            began = time.monotonic()
            self._step(task, step, "running")
            detail: dict[str, Any] = {}
            match step:
                case "create-replica":
                    await self._access(task, rule["source"])
                    await self._access(task, rule["target"])
                    if rule["id"] not in self._keys:
                        await self._secrets(task)
                case "read-configuration":
                    self._report("adopt", task, self._told.body(rule["id"], points))
                case "query-changes":
                    detail = {"bytes": 1 << 26, "consistency": "quiesced", "stall_ms": 100}
                case "transfer":
                    figures["transfer_s"] = await self._transfer(task)
                    detail = {"moved": 1 << 26, **figures}
                case "publish":
                    points.append(_point(rule, task["id"], task["epoch"],
                                         points[-1]["number"] + 1, time.time()))
                    detail = {"point": points[-1]["number"]}
                case "retire":          # its connections were let go with the point
                    await self._access(task, rule["target"])
                case "sweep":
                    await self._access(task, rule["source"])
                case "adopt":
                    self._report("adopt", task, self._told.body(rule["id"], points))
                    self._report("log", task, {"level": "info", "code": "replicate.published",
                                               "fields": {"point": points[-1]["number"]}})
            await asyncio.sleep(seconds)
            if step == "retire" and len(points) > self.load.retention:
                oldest = points.pop(0)["number"]
                self._report("adopt", task, self._told.body(rule["id"], points))
                self._report("log", task, {"level": "info", "code": "retention.merged",
                                           "fields": {"point": oldest}})
                detail = {"retired": 1}
            self._step(task, step, "done", seconds=time.monotonic() - began, **detail)
        return figures

    async def _transfer(self, task: dict[str, Any]) -> float:
        began, took = time.monotonic(), (
            self.load.transfer_s * random.uniform(0.5, 1.5))  # noqa: S311
        while (spent := time.monotonic() - began) < took:
            part = spent / took
            self._progress[task["id"]] = encode(Progress(
                "transfer", int(part * (1 << 26)), 1 << 26, (1 << 26) / took, took - spent,
                {"vda": (int(part * (1 << 26)), 1 << 26)}))
            self._news.set()
            await asyncio.sleep(min(0.5, took - spent))
        return took


def past(rule: dict[str, Any], count: int, since: float) -> list[dict[str, Any]]:
    """What a rule of these ``id``, ``vm`` and ``replica_name`` had published before ``since``."""
    return [_point(rule, n, 1, n, since - 900.0 * (count - n)) for n in range(1, count + 1)]


def _point(rule: dict[str, Any], task: int, epoch: int, number: int, taken_at: float
           ) -> dict[str, Any]:
    """A manifest as a machine of some size has it."""
    vm = VmDescription(
        ref=rule["vm"], name=rule["replica_name"], uuid=rule["vm"], memory=4 * _GIB, vcpus=4,
        cpu=CpuSpec("host-model"), features=("acpi", "apic", "pae"), agent=True, power="running",
        disks=tuple(DiskSpec(disk, size * _GIB, location=f"/srv/images/{rule['vm']}-{disk}.qcow2")
                    for disk, size in (("vda", 40), ("vdb", 100))),
        nics=(NicSpec("52:54:00:12:34:56", network="lan"),))
    manifest = Manifest(
        rule=rule["id"], number=number, epoch=epoch, task=task, taken_at=taken_at,
        consistency="quiesced", vm=vm,
        disks=tuple(DiskPoint(d.id, d.size, f"hs-{rule['id']}-{d.id}-{number}.qcow2", 1 << 25, 8192)
                    for d in vm.disks),
        digests=tuple(Blob(f"hs-{rule['id']}-{d.id}-{number}.digests", 1 << 20, "0" * 64)
                      for d in vm.disks),
        tracking={"checkpoint": f"hs-{rule['id']}-{number}", "disks": {"vda": "hs", "vdb": "hs"}})
    encoded: dict[str, Any] = encode(manifest)
    return encoded


async def _serve() -> None:
    """Lines of JSON on standard input: first ``{url, ca, codes, transfer_s, retention, since,
    vms}``,
    then anything for what happened since the last answer; its end is our end."""
    reader = asyncio.StreamReader(limit=16 << 20)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    told = json.loads(await reader.readline())
    codes = told.pop("codes")
    load = Load(**told)
    machines = {name: Machine(load, name) for name in codes}
    few = asyncio.Semaphore(8)

    async def begin(machine: Machine) -> None:
        async with few:
            await machine.enrol(codes[machine.name])
            await machine.synced_once()

    await asyncio.gather(*(begin(m) for m in machines.values()))
    print(json.dumps({"machines": len(machines)}), flush=True)
    while await reader.readline():
        seen, load.seen = load.seen, []
        errors, load.errors = load.errors, []
        print(json.dumps({"seen": [[s.task, s.kind, s.rule, s.at] for s in seen],
                          "ended": load.ended, "requests": load.requests, "errors": errors}),
              flush=True)


if __name__ == "__main__":
    asyncio.run(_serve())
