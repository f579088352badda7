"""10,000 rules on 200 DR machines, one control server: SQLite first, then PostgreSQL.

The server is ``hotspare server``, a process as an operator has it. One load process plays all
machines over the link's real protocol and TLS (``scale_players``); this process is the operator:
it makes platforms and rules, starts them, and looks at lists, all over REST.

1. *Burst*: 3,000 rules are started, 50 with each request, by a few requests at once.
   ``dispatch_per_s`` is rules by the time from the first request until the last task has
   come to its machine. The caps hold, four tasks on a machine and on a host: most tasks have to
   end, with all that they report, before others can be given.
2. *Steady*: each rule runs every 15 minutes. Starts by hand would leave them due all within a
   minute, so the bench makes all rules idle and due evenly over the interval by an UPDATE of its
   own (state, enabled, next_run_at); that is the one thing that does not go through the product.
   ``start_lag_p99_s`` is the time from when a rule was due until its machine had the task.
   ``list_p95_ms`` is the time of a page of the rule list, with changing filter, sort and place,
   while that goes on.

``server_rss_mib`` is the peak over everything, ``db_bytes_per_task`` what the files of the database
grew by for each run. The bench fails when a run was lost, done twice or refused.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import ssl
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import sqlalchemy as sa

from . import common, lab

HOTSPARE = str(Path(sys.executable).with_name("hotspare"))
WANTED = {"start_lag_p99_s": "<= 2", "list_p95_ms": "<= 100", "dispatch_per_s": ">= 50",
          "server_rss_mib": "<= 400"}
_PER_GROUP = 50
_AT_ONCE = 4                        # requests of the operator in the burst
_LIST_EVERY_S = 0.25
_SETTLE_S = 10.0
_RUNNING = 100                      # runs of the steady load that are under way, and more
_TICKS = os.sysconf("SC_CLK_TCK")


class Rest:
    """One connection to the REST API; for one thread."""

    def __init__(self, url: str, ca: str, token: str) -> None:
        parts = urlsplit(url)
        self._http = http.client.HTTPSConnection(
            str(parts.hostname), parts.port, timeout=300,
            context=ssl.create_default_context(cadata=ca))
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        return json.loads(self.raw(method, path, body))

    def raw(self, method: str, path: str, body: Any = None) -> bytes:
        headers = self._headers | ({} if body is None else {"Content-Type": "application/json"})
        content = None if body is None else json.dumps(body)
        try:
            self._http.request(method, f"/api/v1{path}", content, headers)
            answer = self._http.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError):
            self._http.close()      # it was idle for too long
            self._http.request(method, f"/api/v1{path}", content, headers)
            answer = self._http.getresponse()
        data = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {data.decode()[:2000]}")
        return data


@dataclass
class Server:
    """``hotspare server`` as a process."""

    process: subprocess.Popen[str]
    url: str
    ca: str
    token: str

    def rest(self) -> Rest:
        return Rest(self.url, self.ca, self.token)

    def peak_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(x for x in status.splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) / 1024


@contextmanager
def running_server(directory: Path, database: str | None) -> Iterator[Server]:
    state = directory / "state"
    command = [HOTSPARE, "server", "--state-dir", str(state), "--listen", "127.0.0.1:0", "--json"]
    environment = os.environ | {"HOTSPARE_ADMIN_PASSWORD": "bench-password-1"}
    if database is not None:
        environment["HOTSPARE_DATABASE"] = database
    with (directory / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=log, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError((directory / "server.log").read_text()[-2000:])
        ready = json.loads(line)
        yield Server(process, ready["url"], Path(ready["ca"]).read_text(),
                     Path(ready["local_token"]).read_text().strip())
    finally:
        _end(process)


class Players:
    """The load process."""

    def __init__(self, server: Server, codes: dict[str, str], shape: argparse.Namespace,
                 since: float) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.scale_players"], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True)
        self._lock = threading.Lock()
        self.ended, self.requests = 0, 0
        self.seen: list[tuple[int, str, str, float]] = []
        self.errors: list[str] = []
        self._tell({"url": server.url, "ca": server.ca, "codes": codes,
                    "transfer_s": shape.transfer_ms / 1000, "retention": shape.retention,
                    "since": since, "vms": shape.per_source})

    def _tell(self, what: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self._lock:
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the load process ended")
        return json.loads(line)

    def look(self) -> None:
        """Ask what happened since."""
        found = self._tell({})
        self.seen += [tuple(s) for s in found["seen"]]
        self.errors += found["errors"]
        self.ended, self.requests = found["ended"], found["requests"]

    def until(self, what: Callable[[], bool], seconds: float, name: str) -> None:
        end = time.monotonic() + seconds
        while True:
            self.look()
            if what():
                return
            if time.monotonic() > end:
                raise RuntimeError(f"not within {seconds:.0f} s: {name};"
                                   f" {len(self.seen)} tasks came, {self.ended} ended,"
                                   f" errors: {self.errors[-3:]}")
            time.sleep(0.2)

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        _end(self.process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


# --- processor time ------------------------------------------------------------------------------


@dataclass
class Processor:
    """Processor seconds of each side since it was made."""

    sides: Mapping[str, Callable[[], float]]
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._at = {side: spent() for side, spent in self.sides.items()}

    def spent(self) -> dict[str, float]:
        return {side: spent() - self._at[side] for side, spent in self.sides.items()}

    def shares(self) -> dict[str, float]:
        """Cores that each side used in the mean."""
        took = time.monotonic() - self.began
        return {side: spent / took for side, spent in self.spent().items()}


def _spent(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _spent_with_children(pid: int) -> float:
    """Also of children that have ended and were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total = sum(int(fields[n]) for n in (11, 12, 13, 14)) / _TICKS
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            total += _spent(int(child))
        except OSError:             # it ended just now
            pass
    return total


# --- the phases ----------------------------------------------------------------------------------


@dataclass
class Bench:
    """One server with its load."""

    shape: argparse.Namespace
    server: Server
    players: Players
    size: Callable[[], int]         # bytes of the database
    spread: Callable[[float], None]
    give_past: Callable[[], None]
    sides: Mapping[str, Callable[[], float]]

    def set_up(self) -> None:
        """Platforms and rules, over REST."""
        rest, shape = self.server.rest(), self.shape
        for n in range(shape.machines):
            for side in ("source", "target"):
                rest.ask("POST", "/platforms", {
                    "name": f"{side}-{n:03}", "uri": f"qemu+ssh://{side}-{n:03}/system",
                    "machine": _machine(n)})
        self.players.until(lambda: self.players.ended >= 4 * shape.machines, 300.0,
                           "all platforms are checked and refreshed")
        for name, machine, vms in self._groups():
            rest.ask("POST", "/groups", {
                "name": name, "vms": vms, "source": f"source-{machine:03}",
                "target": f"target-{machine:03}", "storage": "default",
                "retention": shape.retention,
                "schedule": {"kind": "interval", "every_s": shape.interval}})
        self.give_past()

    def _groups(self) -> Iterator[tuple[str, int, list[str]]]:
        made = 0
        for n in range(self.shape.machines):
            vms = [f"source-{n:03}-{v:04}" for v in range(self.shape.per_source)]
            for first in range(0, len(vms), _PER_GROUP):
                part = vms[first:first + _PER_GROUP][:self.shape.rules - made]
                if part:
                    made += len(part)
                    yield f"group-{n:03}-{first // _PER_GROUP}", n, part

    def burst(self) -> tuple[int, float]:
        """Rules that were started, and how many were dispatched in a second."""
        self.players.look()
        before, ended = len(self.players.seen), self.players.ended
        rules: dict[str, list[str]] = {}
        for rule in _all(self.server.rest(), "/rules?limit=500"):
            rules.setdefault(rule["machine"], []).append(rule["id"])
        # some of each machine: those of one wait for each other
        chosen = [r for of_all in itertools.zip_longest(*rules.values()) for r in of_all if r]
        chosen = chosen[:self.shape.burst]
        started = len(chosen)
        parts = iter([chosen[n:n + _PER_GROUP] for n in range(0, started, _PER_GROUP)])
        lock = threading.Lock()

        def operator() -> None:
            rest = self.server.rest()
            while True:
                with lock:
                    part = next(parts, None)
                if part is None:
                    return
                done = rest.ask("POST", "/rules/actions", {"action": "start", "rules": part})
                bad = [d for d in done if not d["ok"]]
                if bad:
                    raise RuntimeError(f"a start was refused: {bad[0]['error']}")

        began = time.time()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            operators = [pool.submit(operator) for _ in range(_AT_ONCE)]
            self.players.until(lambda: len(self.players.seen) - before >= started,
                               started / 5 + 60, "all rules of the burst have run")
            for done in operators:
                done.result()
        last = max(at for *_, at in self.players.seen[before:])
        self.players.until(lambda: self.players.ended - ended >= started, 120.0,
                           "all runs of the burst have ended")
        rest = self.server.rest()
        self.players.until(lambda: not rest.ask("GET", "/tasks?state=live&limit=1")["items"],
                           120.0, "the server has heard of all their ends")
        return started, started / (last - began)

    def steady(self) -> tuple[list[float], list[float]]:
        """Seconds of lag of each start, milliseconds of each list."""
        self.spread(time.time() + _SETTLE_S)
        rest = self.server.rest()
        due = {rule["id"]: rule["next_run_at"] for rule in _all(rest, "/rules?limit=500")}
        if len(due) != self.shape.rules:
            raise RuntimeError(f"{len(due)} rules are listed")
        self.players.look()
        before, began = len(self.players.seen), min(due.values())
        until = began + self.shape.seconds
        lists = _lists(self.server.rest(), self.shape, until)
        self.players.look()
        expected = {rule for rule, at in due.items() if at <= until}
        first: dict[str, float] = {}

        def all_came() -> bool:
            for _, _, rule, at in self.players.seen[before:]:
                first.setdefault(rule, at)
            return expected <= first.keys()

        self.players.until(all_came, 120.0, "all runs that were due have come")
        seen = Counter(rule for _, _, rule, _ in self.players.seen[before:])
        twice = [rule for rule, times in seen.items() if times > 1]
        if twice or any(first[r] < due[r] for r in first):
            raise RuntimeError(f"runs that were not due: {twice or 'too early'}")
        return [first[rule] - due[rule] for rule in expected], lists

    def check(self) -> None:
        """What came has ended, well, once; nothing was refused. Others run meanwhile."""
        self.players.look()
        came = len(self.players.seen)
        self.players.until(lambda: self.players.ended >= came, 120.0, "all tasks have ended")
        ran = sum(kind == "replicate" for _, kind, _, _ in self.players.seen[:came])
        total = self.server.rest().ask("GET", "/statistics?days=2")["total"]
        if total["failed"] or total["stopped"] or total["warning"] or total["ok"] < ran - _RUNNING:
            raise RuntimeError(f"{ran} tasks came, the server counts {total}")
        numbers = [task for task, *_ in self.players.seen]
        if len(set(numbers)) != len(numbers):
            raise RuntimeError("a task was given twice")
        if self.players.errors:
            raise RuntimeError(f"{len(self.players.errors)} errors: {self.players.errors[:5]}")


def _machine(n: int) -> str:
    return f"dr-{n:03}"


def _all(rest: Rest, path: str) -> Iterator[dict[str, Any]]:
    cursor: str | None = ""
    while cursor is not None:
        page = rest.ask("GET", f"{path}&cursor={cursor}" if cursor else path)
        yield from page["items"]
        cursor = page["next"]


def _lists(rest: Rest, shape: argparse.Namespace, until: float) -> list[float]:
    """Milliseconds of pages of 100 rules, as consoles show them, until then."""
    half, machine = shape.rules // 2, _machine(shape.machines // 2)
    asked = itertools.cycle([
        {"sort": "name"}, {"sort": "-last_success", "cursor": half},
        {"state": "idle", "sort": "next_run"}, {"machine": machine, "sort": "-newest"},
        {"source": f"source-{shape.machines // 3:03}", "sort": "state"},
        {"text": "-0042", "sort": "vm"}, {"group": "group-000-0", "sort": "-name"},
        {"sort": "state", "cursor": max(0, shape.rules - 100)},
        {"state": "running", "sort": "machine"},
        {"text": "no such rule"}, {"sort": "-created", "cursor": half}])
    took = []
    while time.time() < until:
        query = urlencode({k: v for k, v in next(asked).items() if v != 0})
        began = time.perf_counter()
        rest.raw("GET", f"/rules?{query}&limit=100")
        took.append((time.perf_counter() - began) * 1000)
        time.sleep(max(0.0, _LIST_EVERY_S - took[-1] / 1000))
    return took


def percentile(values: list[float], part: float) -> float:
    """The smallest value that so large a part of all does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -int(-len(ordered) * part // 1) - 1))]


# --- a database ----------------------------------------------------------------------------------


@contextmanager
def bench_on(shape: argparse.Namespace, directory: Path, database: str | None,
             size: Callable[[], int], postmaster: int | None) -> Iterator[Bench]:
    from hotspare.services import catalogue
    from hotspare.store import schema
    from hotspare.store.engine import open_store

    def spread(begin: float) -> None:
        """All idle, and due one after the other, in an order of no meaning."""
        store = open_store(directory / "state", database)
        try:
            with store.write() as conn:
                r = schema.rule
                rules = conn.execute(sa.select(r.c.id).order_by(r.c.id)).scalars().all()
                conn.execute(sa.update(r).where(r.c.id == sa.bindparam("rule")), [
                    {"rule": rule, "next_run_at": begin + n * shape.interval / len(rules),
                     "state": "idle", "own_state": "idle", "enabled": True}
                    for n, rule in enumerate(rules)])
        finally:
            store.close()

    def give_past() -> None:
        """What the players have at their targets, in the catalogue: each rule has run before."""
        from .scale_players import past
        store, r = open_store(directory / "state", database), schema.rule
        try:
            with store.write() as conn:
                rules = conn.execute(sa.select(r.c.id, r.c.vm, r.c.replica_name)).mappings().all()
                for n in range(0, len(rules), 500):
                    rows = [{"rule": rule["id"], **catalogue.columns(point)}
                            for rule in rules[n:n + 500]
                            for point in past(dict(rule), shape.retention, since)]
                    conn.execute(sa.insert(schema.restore_point), rows)
                conn.execute(sa.update(r).values(
                    points=shape.retention, latest_point=shape.retention,
                    latest_point_at=rows[-1]["taken_at"],
                    stored=sum(row["moved"] for row in rows[-shape.retention:])))
        finally:
            store.close()

    since = time.time()
    with ExitStack() as stack:
        server = stack.enter_context(running_server(directory, database))
        rest = server.rest()
        codes = {_machine(n): rest.ask("POST", f"/machines/{_machine(n)}/enrol", {})["code"]
                 for n in range(shape.machines)}
        players = Players(server, codes, shape, since)
        stack.callback(players.close)
        sides = {"server": lambda: _spent(server.process.pid),
                 "load": lambda: _spent(players.process.pid),
                 "operator": lambda: sum(os.times()[:2])}
        if postmaster is not None:
            sides["postgresql"] = lambda: _spent_with_children(postmaster)
        yield Bench(shape, server, players, size, spread, give_past, sides)


def _cores(shares: Mapping[str, float]) -> str:
    return "".join(f" {side} {cores:.2f}" for side, cores in shares.items()) + " cores"


def measure(bench: Bench, suffix: str = "") -> dict[str, float]:
    """All figures of one database, their names with ``suffix``."""
    shape = bench.shape
    began, processor = time.monotonic(), Processor(bench.sides)
    bench.set_up()
    print(f"  {shape.rules} rules on {shape.machines} machines: {time.monotonic() - began:.0f} s;"
          + _cores(processor.shares()), flush=True)
    size, processor = bench.size(), Processor(bench.sides)
    requests = bench.players.requests
    started, rate = bench.burst()
    asked = (bench.players.requests - requests) / started
    figures = {"server_cpu_ms_per_task": processor.spent()["server"] * 1000 / started}
    shares = processor.shares()
    used = {f"burst_{side}_cores": cores for side, cores in shares.items()}
    grown = (bench.size() - size) / started
    print(f"  burst: {rate:.1f} a second, {asked:.1f} requests of machines for each,"
          f" {figures['server_cpu_ms_per_task']:.1f} ms of the server's processor;"
          + _cores(shares), flush=True)
    processor = Processor(bench.sides)
    requests = bench.players.requests
    lags, lists = bench.steady()
    shares = processor.shares()
    used |= {f"steady_{side}_cores": cores for side, cores in shares.items()}
    asked = (bench.players.requests - requests) / (time.monotonic() - processor.began)
    bench.check()
    print(f"  steady: {len(lags)} starts, {len(lists)} lists, {asked:.0f} requests of machines"
          " a second;" + _cores(shares), flush=True)
    figures |= {
        "start_lag_p99_s": percentile(lags, 0.99), "start_lag_median_s": statistics.median(lags),
        "list_p95_ms": percentile(lists, 0.95), "list_median_ms": statistics.median(lists),
        "dispatch_per_s": rate, "server_rss_mib": bench.server.peak_mib(),
        "db_bytes_per_task": grown, **used}
    return {f"{name}{suffix}": value for name, value in figures.items()}


def on_sqlite(shape: argparse.Namespace) -> dict[str, float]:
    with common.scratch("/var/tmp") as directory:       # noqa: S108 - on disk: commits are synced
        def size() -> int:
            return (directory / "state" / "hotspare.db").stat().st_size

        with bench_on(shape, directory, None, size, None) as bench:
            return measure(bench)


def on_postgresql(shape: argparse.Namespace) -> dict[str, float]:
    from hotspare.store import Store
    from testbeds.postgres import Postgres

    with common.scratch("/var/tmp") as directory, Postgres() as postgres:   # noqa: S108
        url = postgres.lend()
        store = Store(url)

        def size() -> int:
            with store.read() as conn:
                return int(conn.execute(sa.text(
                    "SELECT pg_database_size(current_database())")).scalar_one())

        assert postgres._process is not None
        try:
            with bench_on(shape, directory, url, size, postgres._process.pid) as bench:
                return measure(bench, "_pg")
        finally:
            store.close()


def main() -> int:
    shape = common.arguments(rules=10_000, machines=200, burst=3_000, interval=900, seconds=180,
                             transfer_ms=2000, retention=7, only=0)
    shape.per_source = -(-shape.rules // shape.machines)
    figures: dict[str, float] = {}
    for number, (name, run) in enumerate((("SQLite", on_sqlite), ("PostgreSQL", on_postgresql)), 1):
        if shape.only in (0, number):
            print(name, flush=True)
            figures |= run(shape)
    common.report("scale", figures, {},
                  WANTED | {f"{k}_pg": v for k, v in WANTED.items()})
    return 0


if __name__ == "__main__":
    sys.exit(lab.run_bench(main))
