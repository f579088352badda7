"""What goes wrong between a DR machine and its server: kills, full disks, reports that make no
sense, a server that slept, two hundred machines and a server that is to end."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sqlite3
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from hotspare.domain.errors import GiveUp, OutOfSpace
from hotspare.services import Services, machines
from hotspare.store import Store, by_the_value, engine, schema
from hotspare.store.engine import open_store
from hotspare.worker.local_socket import LocalSocket
from hotspare.worker.outbox import Outbox
from hotspare.workflows import wire
from unit.fleet_rig import FleetRig, fleet
from unit.service_rig import ADMIN, OPERATOR, Rig, rig, wait_until
from unit.test_remote_link import codes, in_transfer, rule_of


@pytest.fixture
def made(tmp_path: Path) -> Iterator[FleetRig]:
    with fleet(tmp_path) as found:
        yield found


# --- the outbox -----------------------------------------------------------------------------------

_DIES = """
import os, signal, sys
from pathlib import Path
from hotspare.worker.outbox import Outbox
box = Outbox(Path(sys.argv[1]))
for n in range(int(sys.argv[2])):
    box.put("log", 7, 1, float(n), {"n": n})
    print(n, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_reported_survives_a_kill_and_keeps_its_order(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    for turn in (1, 2):
        done = subprocess.run([sys.executable, "-c", _DIES, str(path), "25"], check=False,
                              capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL and len(done.stdout.split()) == 25
        box = Outbox(path)
        found = box.batch()
        assert [c.seq for c in found] == list(range(1, 25 * turn + 1))
        assert [c.body["n"] for c in found] == list(range(25)) * turn
        box.close()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_is_waited_for_and_nothing_is_lost(made: FleetRig) -> None:
    worker = made.worker("m1")
    rule = rule_of(made, "m1")
    task = in_transfer(worker, made, rule)
    begun = worker.player.begun[0]
    wait_until(lambda: not worker.outbox.batch())
    box = worker.outbox._db
    pages = box.execute("PRAGMA page_count").fetchone()[0]
    box.execute(f"PRAGMA max_page_count={pages}")
    big = {"task": 1, "filler": "x" * 100_000}
    with pytest.raises(OutOfSpace) as caught:
        worker.outbox.put("log", task, begun.epoch, time.time(), big)
    assert "Make room there" in str(caught.value)

    said = threading.Event()

    def say() -> None:
        worker.link.log(begun, "info", "replicate.continues", big)
        worker.link.log(begun, "info", "replicate.continues", {"task": 2})
        said.set()

    threading.Thread(target=say, daemon=True).start()
    assert not said.wait(1.5), "what cannot be kept was taken for kept"
    # what comes down is heard all the same
    made.services.machines.set(ADMIN, "m1", max_tasks=3)
    assert worker.link.limits(begun).stop is False and not worker.link.overview()["away"]
    box.execute("PRAGMA max_page_count=1000000")
    assert said.wait(5.0)
    worker.player.hold.clear()
    assert made.rig.ended(task).outcome == "ok"
    wait_until(lambda: codes(made, task).count("replicate.continues") == 2)
    lines = [x.fields["task"] for x in made.services.logs.page(ADMIN, task=task).items
             if x.code == "replicate.continues"]
    assert lines == [1, 2]


def test_a_report_that_the_server_cannot_read_does_not_block_the_outbox(made: FleetRig) -> None:
    """One is no JSON, one is of a shape that nobody knows: the whole body is refused for them."""
    worker = made.worker("m1")
    rule = rule_of(made, "m1")
    task = in_transfer(worker, made, rule)
    epoch = worker.player.begun[0].epoch
    log = {"level": "info", "code": "replicate.continues"}
    wait_until(lambda: not worker.outbox.batch())
    with worker.outbox._lock:           # at once, so that they travel together
        for n, at in enumerate((1.0, math.nan, 2.0, 3.0)):
            worker.outbox._db.execute(
                "INSERT INTO report (call, task, epoch, at, body) VALUES (?, ?, ?, ?, ?)",
                ("log", task, epoch, time.time(), json.dumps(
                    {**log, "fields": {"task": n, "value": at}})))
        worker.outbox._db.execute(
            "INSERT INTO report (call, task, epoch, at, body) VALUES ('log', 'x', 1, 1.0, '{}')")
    worker.link.log(worker.player.begun[0], "info", "replicate.continues", {"task": 4})
    wait_until(lambda: codes(made, task).count("replicate.continues") == 4)
    assert [x.fields["task"] for x in made.services.logs.page(ADMIN, task=task).items
            if x.code == "replicate.continues"] == [0, 2, 3, 4]
    wait_until(lambda: not worker.outbox.batch())
    # an end that cannot be read is an end
    worker.outbox.put("finish", task, epoch, time.time(),
                      {"outcome": "ok", "error": None, "figures": {"rate": math.inf}})
    worker.link.log(worker.player.begun[0], "info", "replicate.continues", {"task": 5})
    ended = made.rig.ended(task)
    assert ended.outcome == "failed" and ended.error["code"] == "link.report-refused"
    worker.player.hold.clear()


def test_no_number_that_is_none_gets_in(made: FleetRig) -> None:
    link = made.enrol("m1").connect()
    for ahead in (math.nan, math.inf, -math.inf):
        with pytest.raises(GiveUp) as caught:
            link.post("/sync", {"protocol": wire.PROTOCOL, "version": "1", "temp_dir": "/t",
                                "ahead": ahead})
        assert caught.value.code == "input.invalid"
    assert [m.clock_offset for m in made.services.machines.list(ADMIN).items
            if m.name == "m1"] == [None]


def test_a_report_that_can_never_arrive_is_refused_where_it_is_made(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hotspare.worker import outbox

    monkeypatch.setattr(outbox, "LARGEST_REPORT", 200_000)
    box = Outbox(tmp_path / "outbox.sqlite")
    with pytest.raises(GiveUp) as caught:
        box.put("inventory", 1, 1, 0.0, {"vms": "x" * 200_000})
    assert caught.value.code == "link.too-large" and box.batch() == ()
    box.close()


def test_faults_of_a_value_and_of_the_database_are_told_apart(
        tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(store: Store, statement: str, value: Any = None) -> sa.exc.DBAPIError:
        with pytest.raises(sa.exc.DBAPIError) as caught, store.engine.begin() as conn:
            conn.exec_driver_sql(statement, value)
        return caught.value

    store = Store(postgres_url)
    with store.engine.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE poison (t text)")
        conn.exec_driver_sql("CREATE INDEX ON poison (t)")
    try:
        # PostgreSQL calls it operational, and it would block an outbox for ever
        long = "".join(os.urandom(1).hex() for _ in range(20_000))
        error = fault(store, "INSERT INTO poison VALUES (%s)", (long,))
        assert isinstance(error.orig, psycopg.OperationalError) and by_the_value(error)
        assert by_the_value(fault(store, "INSERT INTO poison VALUES (%s)", ("a\0b",)))
        assert not by_the_value(fault(store, "SELECT pg_terminate_backend(pg_backend_pid())"))
    finally:
        with store.engine.begin() as conn:
            conn.exec_driver_sql("DROP TABLE poison")
        store.close()
    monkeypatch.setattr(engine, "WAIT_MS", 1)
    here, other = open_store(tmp_path), open_store(tmp_path)
    assert by_the_value(fault(here, "SELECT * FROM nowhere"))
    with other.write():
        assert not by_the_value(fault(here, "SELECT 1"))
    here.close()
    other.close()


def test_a_local_list_outlives_a_question_that_fails(tmp_path: Path) -> None:
    from hotspare.client.local import local_tasks

    answers: list[dict[str, Any]] = [{"tasks": []}]
    local = LocalSocket(tmp_path, answers.pop)
    path = tmp_path / "worker.sock"
    assert local_tasks(path) == {"tasks": []}
    with pytest.raises(GiveUp):
        local_tasks(path)               # nothing is left to answer: the answer fails
    answers.append({"tasks": []})
    assert local_tasks(path) == {"tasks": []}
    local.close()


# --- the server -----------------------------------------------------------------------------------


def test_a_server_that_slept_blames_no_machine(tmp_path: Path, database: str | None) -> None:
    with rig(tmp_path, database=database) as here:
        here.platforms()
        rule = here.rule()
        here.player.stop()
        now = [here.services.context.uptime()]
        here.services.context.uptime = lambda: now[0]
        here.services.machines.seen("local")

        def looked(after: float) -> str:
            now[0] += after
            here.services.machines.watch()
            return here.state(rule)

        resting = looked(1.0)
        assert resting != "invalid"
        assert looked(3600.0) == resting, "the whole server slept: nobody could be heard"
        for _ in range(4):
            assert looked(5.0) == resting
        assert looked(5.0) == "invalid", "25 s awake, and not a word"
        now[0] += 1.0
        here.services.machines.seen("local")
        assert here.state(rule) == resting
        assert here.services.machines.silent("local") is False
        assert machines.LOST_AFTER_S < 30.0


class ServerProcess:
    def __init__(self, state: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "hotspare.cli.main", "server", "--state-dir", str(state),
             "--listen", "127.0.0.1:0", "--json"], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HOTSPARE_ADMIN_PASSWORD": "canary-password-51f0"})
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())

    def end(self) -> float:
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0
        return time.monotonic() - began


def test_a_server_with_two_hundred_long_polls_ends_at_once(tmp_path: Path) -> None:
    count = 200
    state = tmp_path / "server"
    state.mkdir(0o700)
    services = Services.open(state)
    with services.context.change() as change:
        change.conn.execute(sa.insert(schema.machine), [
            {"name": f"m{n}", "live": False, "max_tasks": 4, "temp_dir": "/t", "version": "1",
             "created_at": 0.0, "token_digest": wire.digest(f"token-{n}")} for n in range(count)])
    services.close()
    server = ServerProcess(state)
    trust = ssl.create_default_context(cafile=server.ready["ca"])
    port = int(server.ready["url"].rsplit(":", 1)[1])
    taken = 0.0

    async def polls() -> list[str]:
        async def ask(n: int, ends: Any, seen: int | None) -> Any:
            body = json.dumps({"protocol": wire.PROTOCOL, "version": "1", "temp_dir": "/t",
                               "wait": 20.0, "seen": seen}).encode()
            ends[1].write((f"POST /api/v1/link/sync HTTP/1.1\r\nHost: localhost\r\nAuthorization: "
                           f"Bearer token-{n}\r\nContent-Length: {len(body)}\r\n\r\n").encode()
                          + body)
            await ends[1].drain()
            head = (await ends[0].readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].partition("\r")[0])
            return json.loads(await ends[0].readexactly(length))

        ends = [await asyncio.open_connection("127.0.0.1", port, ssl=trust,
                                              server_hostname="localhost") for _ in range(count)]
        first = await asyncio.gather(*(ask(n, ends[n], None) for n in range(count)))
        waiting = [asyncio.create_task(ask(n, ends[n], first[n]["version"]))
                   for n in range(count)]
        await asyncio.sleep(4.0)
        assert not any(w.done() for w in waiting)
        nonlocal taken
        taken = await asyncio.to_thread(server.end)
        found = await asyncio.gather(*waiting, return_exceptions=True)
        return [a["error"]["code"] if isinstance(a, dict) else repr(a) for a in found]

    try:
        told = asyncio.run(polls())
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()
    # the watchdog would cut it off after 10 s
    assert taken < 8.0, f"it took {taken:.1f} s"
    assert told.count("server.stopping") > count * 0.9, set(told)
    # nobody else reads what a server keeps
    for path in (state, *state.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.parent.name == "tls", path
    assert stat.S_IMODE((state / "tls").stat().st_mode) == 0o700


def test_a_task_is_not_given_to_a_machine_that_is_lost(tmp_path: Path) -> None:
    with rig(tmp_path) as here:
        _lost(here)


def _lost(here: Rig) -> None:
    here.platforms()
    rule = here.rule()
    here.player.stop()
    with here.services.context.change() as change:
        change.conn.execute(sa.update(schema.machine).values(live=False))
        here.services.machines._show(change, "local")
    with pytest.raises(GiveUp) as caught:
        here.services.rules.start(OPERATOR, rule)
    assert str(caught.value)
