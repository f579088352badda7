"""Notifications: real mail and webhook receivers on loopback, the real sending process; for the
other services, what their library puts on the wire."""

from __future__ import annotations

import json
import logging
import os
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope

from hotspare import courier
from hotspare.domain.channels import EVENTS, SERVICES, Event
from hotspare.domain.errors import GiveUp, HotspareError
from hotspare.domain.notice import Notice, compose
from hotspare.server import tls
from hotspare.services import Services, sender
from hotspare.services.notifications import MOST_WAITING, announce
from hotspare.services.sender import Sender
from unit.service_rig import ADMIN, OPERATOR, prepared, rig, served, wait_until

CANARY = "CANARY-notify-3b7a"


@dataclass
class Hook:
    """A webhook receiver. ``status`` is what it answers; 302 sends the caller to ``elsewhere``."""

    status: int = 200
    answer: bytes = b"{}"
    elsewhere: str = ""
    delay_s: float = 0.0
    got: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    url: str = ""
    address: str = ""

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.got]


@contextmanager
def hook(port: int = 0, identity: tls.Identity | None = None) -> Iterator[Hook]:
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(made.delay_s)
            if made.delay_s > 10:           # the caller has gone
                return
            made.got.append((self.path, dict(self.headers), body))
            self.send_response(made.status)
            if made.status == 302:
                self.send_header("Location", made.elsewhere)
            self.send_header("Content-Length", str(len(made.answer)))
            self.end_headers()
            self.wfile.write(made.answer)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if identity is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(identity.certificate, identity.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    made.address = f"127.0.0.1:{server.server_port}"
    made.url = f"json{'s' if identity else ''}://{made.address}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5.0)


@dataclass
class Mailbox:
    """A mail server that keeps what it takes."""

    got: list[Any] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.got.append(message_from_bytes(envelope.content, policy=policy.default))
        self.encrypted.append(session.ssl is not None)
        return "250 taken"

    def check(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str,
              data: Any) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == CANARY.encode(), handled=False)


@contextmanager
def mail_server(box: Mailbox, **options: Any) -> Iterator[int]:
    controller = Controller(box, hostname="127.0.0.1", port=_free_port(), **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def _free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("notify"))


@pytest.fixture
def state(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "state"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "GATHER_S", 0.1)
    monkeypatch.setattr("hotspare.services.notifications.GATHER_S", 0.1)
    monkeypatch.setattr(sender, "FIRST_WAIT_S", 0.5)


@dataclass
class Time:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def opened(folder: Path, clock: Callable[[], float] = time.time) -> Iterator[Services]:
    services = Services.open(folder, clock=clock)
    try:
        yield services
    finally:
        services.stop()
        services.close()


def lose(services: Services, *names: str) -> None:
    """Each machine lost, in a change of its own."""
    for name in names:
        with services.context.change() as change:
            announce(change, "machine.lost", machine=name)


def waiting(services: Services) -> int:
    return sum(c.waiting for c in services.notifications.list(ADMIN).items)


# --- from the event to the receiver --------------------------------------------------------------


def test_a_failed_run_is_told_by_webhook_and_by_mail(state: Path, quick: None) -> None:
    box = Mailbox()
    with hook() as web, mail_server(box) as port, rig(state, scheduler=True) as made:
        notifications = made.services.notifications
        notifications.add(ADMIN, name="ops", url=web.url, events=["rule.run-failed"])
        notifications.add(ADMIN, name="post", language="zh-CN", url=(
            f"mailto://127.0.0.1:{port}/?from=hotspare@example.org&to=ops@example.org"))
        notifications.add(ADMIN, name="other", url=web.url, events=["machine.lost"])
        notifications.add(ADMIN, name="off", url=web.url, enabled=False)
        made.player.fail["replicate"] = GiveUp(
            "storage.unknown", storage="default", platform="dst", known="fast")
        made.run(made.rule("web"))
        wait_until(lambda: web.got and box.got, 20.0)
        wait_until(lambda: not waiting(made.services))
        (told,), (mail,) = web.bodies, box.got
        assert (told["title"], told["type"]) == ("Hotspare: Run failed: web", "failure")
        for part in ("(replicate) of the rule web failed", "DR machine: local", "Time: 20",
                     "Cause: There is no storage default on dst.", "Remedy: Known there: fast.",
                     "hotspare rule log web"):
            assert part in told["message"], told["message"]
        assert mail["subject"] == "Hotspare: 任务失败: web"
        assert (mail["to"], "hotspare@example.org" in mail["from"]) == ("ops@example.org", True)
        text = mail.get_body(("plain", "html")).get_content()
        for part in ("规则 web 的任务", "复制", "原因：", "hotspare rule log web"):
            assert part in text.replace("&nbsp;", " "), text
        shown = {c.name: c for c in notifications.list(ADMIN).items}
        assert (shown["ops"].last_sent_at, shown["ops"].last_error) != (None, "")
        assert shown["other"].last_sent_at is None
        # a good run tells nothing
        made.player.fail.clear()
        made.run("web")
        time.sleep(0.5)
        assert (len(web.got), waiting(made.services)) == (1, 0)


def test_a_lost_machine_and_its_return_are_told(state: Path) -> None:
    with hook() as web, rig(state) as made:
        services = made.services
        made.rule()
        services.notifications.add(ADMIN, name="ops", url=web.url)
        made.player.stop()
        real = services.context.uptime
        services.context.uptime = lambda: real() + 31.0
        services.machines.watch()
        assert waiting(services) == 1
        services.machines.seen("local")
        assert waiting(services) == 2
        services.sender.send_due()
        services.context.clock = lambda: time.time() + 5.0
        services.sender.send_due()
        assert [(b["title"], b["type"]) for b in web.bodies] == [
            ("Hotspare: DR machine lost: local", "failure"),
            ("Hotspare: DR machine back: local", "success")]
        assert "(1) show invalid" in web.bodies[0]["message"]


def test_a_name_cannot_bring_headers_of_its_own(state: Path) -> None:
    """Names are checked when they are given; here one got past that."""
    clock, box = Time(), Mailbox()
    with mail_server(box) as port, hook() as web, opened(state, clock) as services:
        services.notifications.add(ADMIN, name="post", url=(
            f"mailto://127.0.0.1:{port}/?from=hotspare@example.org&to=ops@example.org"))
        services.notifications.add(ADMIN, name="hook", url=web.url)
        evil = "m1\r\nBcc: thief@example.org\r\n\r\n<script>alert(1)</script>"
        lose(services, evil)
        clock.now += 3
        services.sender.send_due()
        (mail,), (told,) = box.got, web.bodies
        assert mail["bcc"] is None and mail["to"] == "ops@example.org"
        assert "\n" not in mail["subject"] and "Bcc: thief" in mail["subject"]
        assert all("thief" not in str(value) for name, value in mail.items() if name != "Subject")
        html = mail.get_body(("html",))
        assert html is None or "<script>" not in html.get_content()
        assert "\n" not in told["title"]
        shown = {c.name: c.last_error for c in services.notifications.list(ADMIN).items}
        assert shown == {"post": "", "hook": ""}


def test_a_hundred_failures_at_once_are_one_message(state: Path) -> None:
    clock = Time()
    with hook() as web, opened(state, clock) as services:
        services.notifications.add(ADMIN, name="ops", url=web.url)
        names = [f"m{i}" for i in range(100)]
        lose(services, *names)
        assert services.sender.send_due() <= sender.GATHER_S    # not yet: more may come
        assert not web.got
        clock.now += 3
        services.sender.send_due()
        (told,) = web.bodies
        assert told["title"] == "Hotspare: DR machine lost (100)"
        assert all(name in told["message"] for name in names)
        # what follows within a minute waits for its end, also by its own count
        lose(services, "late1")
        clock.now += 10
        assert 0 < services.sender.send_due() <= 50
        lose(services, "late2")
        clock.now += 49.9
        services.sender.send_due()
        assert len(web.got) == 1
        clock.now += 0.2
        services.sender.send_due()
        assert web.bodies[1]["title"] == "Hotspare: DR machine lost (2)"
        assert waiting(services) == 0
        # another event does not wait for this one
        with services.context.change() as change:
            announce(change, "machine.back", machine="m1")
        clock.now += 3
        services.sender.send_due()
        assert web.bodies[2]["title"] == "Hotspare: DR machine back: m1"


def test_an_outage_is_waited_out_and_then_given_up(
        state: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock, port = Time(), _free_port()
    with opened(state, clock) as services:
        services.notifications.add(ADMIN, name="ops", url=f"json://127.0.0.1:{port}/x")
        lose(services, "m1")
        clock.now += 3
        waits = []
        for _ in range(12):
            waits.append(services.sender.send_due())
            clock.now += waits[-1]
        assert waits[:3] == [10, 20, 40] and max(waits) <= 60     # the loop looks each minute
        assert "Connection refused" in services.notifications.get(ADMIN, "ops").last_error
        with hook(port) as web:
            web.status = 500
            clock.now += 3600
            services.sender.send_due()
            assert len(web.got) == 1
            assert "500" in services.notifications.get(ADMIN, "ops").last_error
            web.status = 200
            lose(services, "m2")
            clock.now += 3600
            services.sender.send_due()
            assert "m1" in web.bodies[1]["message"] and "m2" in web.bodies[1]["message"]
            shown = services.notifications.get(ADMIN, "ops")
            assert (shown.waiting, shown.last_error, shown.last_sent_at) == (0, "", clock.now)
        lose(services, "m3")
        clock.now += 100
        services.sender.send_due()
        assert waiting(services) == 1
        clock.now += 86400
        services.sender.send_due()
        assert waiting(services) == 0
        assert "1 notifications for the channel ops were given up" in caplog.text


def test_waits_between_tries_grow_to_an_hour(state: Path) -> None:
    clock, tries = Time(), []

    def refuses(**order: Any) -> dict[str, Any]:
        tries.append(clock.now)
        return {"failed": "no"}

    with opened(state, clock) as services:
        services.notifications.add(ADMIN, name="ops", url="json://127.0.0.1/x")
        courier_less = Sender(services.context, refuses)
        lose(services, "m1")
        while waiting(services):
            clock.now += courier_less.send_due()
    gaps = [round(b - a) for a, b in pairwise(tries)]
    assert gaps[:9] == [10, 20, 40, 80, 160, 320, 640, 1280, 2560]
    assert set(gaps[9:]) == {3600}
    assert 86400 <= tries[-1] - tries[0] <= 86400 + 3600


def test_one_that_fails_or_hangs_does_not_hold_up_the_others(
        state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Time()
    with hook() as good, hook() as hangs, opened(state, clock) as services:
        hangs.delay_s = 14.0        # shorter than the library's own time-out: we end it
        services.notifications.add(ADMIN, name="hangs", url=hangs.url)
        services.notifications.add(ADMIN, name="good", url=good.url)
        monkeypatch.setattr(sender.carry, "__kwdefaults__", {"seconds": 8.0})
        lose(services, "m1")
        clock.now += 3
        begun = time.monotonic()
        services.sender.send_due()
        assert time.monotonic() - begun < 13
        assert good.got and not hangs.got
        shown = {c.name: c for c in services.notifications.list(ADMIN).items}
        assert "no end within 8 s" in shown["hangs"].last_error
        assert (shown["hangs"].waiting, shown["good"].waiting) == (1, 0)


def test_every_event_on_both_databases(database: str | None, tmp_path: Path) -> None:
    with hook() as web, rig(tmp_path, database=database) as made:
        made.platforms()
        services, rule = made.services, made.rule("web")
        services.notifications.add(ADMIN, name="ops", url=web.url)
        made.player.fail["replicate"] = GiveUp("rule.no-point", name="web")
        made.run(rule)
        with services.context.change() as change:
            announce(change, "rule.rpo-violated", rule=rule,
                     fields={"point": 3, "age_s": 900, "target_s": 600})
            announce(change, "rule.unexpected-full", rule=rule, fields={
                "runs": 2, "reason": "tracking.broken", "code": "rule.unexpected-full-again"})
            announce(change, "machine.lost", machine="local")
            announce(change, "machine.back", machine="local")
        assert waiting(services) == 5
        services.context.clock = lambda: time.time() + 5
        services.sender.send_due()
        assert [b["title"].removeprefix("Hotspare: ") for b in web.bodies] == [
            "Run failed: web", "RPO not kept: web", "Full copy that was not expected: web",
            "DR machine lost: local", "DR machine back: local"]
        for body, part in zip(web.bodies, ("no restore point yet", "900 s old", "number 2 in a row",
                                           "does not answer", "answers again"), strict=True):
            assert part in body["message"] and "<" not in body["message"], body
        assert waiting(services) == 0
        announced = services.notifications.edit(ADMIN, "ops", name="night", enabled=False)
        assert (announced.name, announced.enabled) == ("night", False)
        services.notifications.remove(ADMIN, "night")


def test_one_that_cannot_be_told_does_not_hold_up_the_others(
        state: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Time()
    with hook() as web, opened(state, clock) as services:
        services.notifications.add(ADMIN, name="ops", url=web.url)
        with services.context.change() as change:
            announce(change, "machine.back", machine="m1", fields={"cause": {"no": "code"}})
        lose(services, "m2")
        clock.now += 3
        services.sender.send_due()
        assert [b["title"] for b in web.bodies] == ["Hotspare: DR machine lost: m2"]
        assert waiting(services) == 1 and "could not be sent" in caplog.text
        clock.now += 86400
        services.sender.send_due()
        assert waiting(services) == 0


def test_those_that_failed_come_after_those_that_work(state: Path) -> None:
    clock, order = Time(), []

    def half(**message: Any) -> dict[str, Any]:
        order.append(message["url"][-1])
        return {"failed": "" if message["url"].endswith("5") else "no"}

    with opened(state, clock) as services:
        for n in range(1, 6):
            services.notifications.add(ADMIN, name=f"c{n}", url=f"json://127.0.0.1/{n}")
        mine = Sender(services.context, half)
        lose(services, "m1")
        clock.now += 3
        mine.send_due()
        assert sorted(order) == ["1", "2", "3", "4", "5"]
        order.clear()
        lose(services, "m2")
        clock.now += 61
        assert mine.send_due() == 0.0, "there is more"
        assert len(order) == 3 and "5" in order[:2], "of what failed, two at a time"
        mine.send_due()
        assert sorted(order) == ["1", "2", "3", "4", "5"]


def test_a_clock_that_is_put_back_holds_nothing_up(state: Path) -> None:
    clock = Time()
    with hook() as web, opened(state, clock) as services:
        services.notifications.add(ADMIN, name="ops", url=web.url)
        lose(services, "m1")
        clock.now -= 10 * 86400             # it was ten days ahead when the message was put in
        services.sender.send_due()
        assert [b["title"] for b in web.bodies] == ["Hotspare: DR machine lost: m1"]
        clock.now -= 10 * 86400             # and again after one was sent
        lose(services, "m2")
        clock.now += 3
        services.sender.send_due()
        assert waiting(services) == 0 and len(web.got) == 2


def test_a_database_that_takes_nothing_does_not_send_it_again_and_again(
        state: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk, say: the message went out, and cannot be taken out of the outbox."""
    clock = Time()
    with hook() as web, opened(state, clock) as services:
        services.notifications.add(ADMIN, name="ops", url=web.url)
        lose(services, "m1")
        with services.context.store.write() as conn:
            conn.exec_driver_sql(
                "CREATE TRIGGER full_disk BEFORE DELETE ON delivery BEGIN"
                " SELECT RAISE(ABORT, 'database or disk is full'); END")
        for _ in range(5):
            clock.now += 61
            services.sender.send_due()
        assert len(web.got) == 1 and "could not be recorded" in caplog.text
        lose(services, "m2")                # what is new is told all the same, once
        for _ in range(3):
            clock.now += 61
            services.sender.send_due()
        assert [b["title"] for b in web.bodies] == [
            "Hotspare: DR machine lost: m1", "Hotspare: DR machine lost: m2"]
        with services.context.store.write() as conn:
            conn.exec_driver_sql("DROP TRIGGER full_disk")
        clock.now += 61
        services.sender.send_due()
        assert (len(web.got), waiting(services)) == (2, 0)


# --- crashes -------------------------------------------------------------------------------------

_CHILD = """
import os, signal, sys
from pathlib import Path
from hotspare.services import Services
from hotspare.services.notifications import announce
services = Services.open(Path(sys.argv[1]))
with services.context.change() as change:
    announce(change, "machine.lost", machine="committed")
try:
    with services.context.change() as change:
        announce(change, "machine.lost", machine="rolled-back")
        raise KeyError
except KeyError:
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_killed_between_commit_and_sending_nothing_is_lost(state: Path, quick: None) -> None:
    with hook() as web:
        with opened(state) as services:
            services.notifications.add(ADMIN, name="ops", url=web.url)
        child = subprocess.run([sys.executable, "-c", _CHILD, str(state)], check=False,
                               capture_output=True, timeout=60)
        assert (child.returncode, child.stderr) == (-9, b"")
        with opened(state) as services:
            services.start()
            wait_until(lambda: web.got, 20.0)
            wait_until(lambda: not waiting(services))
        assert [b["title"] for b in web.bodies] == ["Hotspare: DR machine lost: committed"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_crash_after_sending_sends_again(state: Path) -> None:
    """At least once, never not at all."""
    with hook() as web, opened(state, Time()) as services:
        services.notifications.add(ADMIN, name="ops", url=web.url)

        def sent_then_dies(**order: str) -> dict[str, Any]:
            sender.carry(**order)
            raise SystemExit            # of its thread, as if it had been killed here

        lose(services, "m1")
        services.context.clock.now += 3  # type: ignore[attr-defined]
        Sender(services.context, sent_then_dies).send_due()
        assert (len(web.got), waiting(services)) == (1, 1)
        services.sender.send_due()
        assert (len(web.got), waiting(services)) == (2, 0)


_STOPPED = """
import sys, threading, time
from pathlib import Path
from hotspare.services import Services, sender
services = Services.open(Path(sys.argv[1]))
services.start()
while not any(t.name == "courier" for t in threading.enumerate()):
    time.sleep(0.01)
time.sleep(1.0)
services.stop()
services.close()
"""


def test_a_service_that_hangs_does_not_hold_up_the_end(state: Path) -> None:
    with hook() as web:
        web.delay_s = 14.0
        with opened(state) as services:
            services.notifications.add(ADMIN, name="ops", url=web.url)
            lose(services, "m1")
        begun = time.monotonic()
        subprocess.run([sys.executable, "-c", _STOPPED, str(state)], check=True, timeout=60)
        assert time.monotonic() - begun < 13
        with opened(state) as services:
            assert waiting(services) == 1


def test_the_outbox_is_bounded_and_says_how_many_more(state: Path) -> None:
    clock = Time()
    with hook() as web, opened(state, clock) as services:
        services.notifications.add(ADMIN, name="ops", url=web.url)
        with services.context.change() as change:
            for i in range(MOST_WAITING + 500):
                announce(change, "machine.lost", machine=f"m{i}")
        assert waiting(services) == MOST_WAITING
        clock.now += 3
        services.sender.send_due()
        assert web.bodies[0]["title"] == f"Hotspare: DR machine lost ({MOST_WAITING + 500})"
        assert waiting(services) == 0


# --- secrets -------------------------------------------------------------------------------------


def test_the_address_is_nowhere_but_encrypted(
        state: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    url = (f"json://user:{CANARY}@127.0.0.1:1/{CANARY}/x"
           f"?+Authorization={CANARY}&-key={CANARY}&:p={CANARY}")
    with opened(state, Time()) as services:
        added = services.notifications.add(ADMIN, name="ops", url=url)
        lose(services, "m1")
        services.context.clock.now += 3  # type: ignore[attr-defined]
        services.sender.send_due()
        tested = services.notifications.test(ADMIN, "ops")
        edited = services.notifications.edit(ADMIN, "ops", language="zh-CN")
        assert (added.kind, added.host) == ("json", "127.0.0.1")
        assert not tested.sent and "Connection refused" in tested.error
        audit = services.users.audit(ADMIN)
        assert {a.action for a in audit.items} >= {"notify.add", "notify.edit", "notify.test"}
        for said in (added, edited, tested, services.notifications.list(ADMIN), audit,
                     caplog.text, capfd.readouterr()):
            assert CANARY not in str(said)
    for file in state.rglob("*"):
        if file.is_file():
            assert CANARY.encode() not in file.read_bytes(), file


def test_the_address_is_in_no_argument_and_no_environment(state: Path) -> None:
    with hook() as web, opened(state) as services:
        web.delay_s = 3.0
        url = web.url.replace("//", f"//user:{CANARY}@") + f"/{CANARY}"
        services.notifications.add(ADMIN, name="ops", url=url)
        thread = threading.Thread(target=services.notifications.test, args=(ADMIN, "ops"))
        thread.start()

        def children() -> list[Path]:
            return [p for p in Path("/proc").glob("[0-9]*") if _is_ours(p)]

        (child,) = wait_until(children, 10.0)
        for name in ("cmdline", "environ"):
            assert CANARY.encode() not in (child / name).read_bytes()
        thread.join(20.0)
        assert web.got[0][0].endswith(CANARY)


def _is_ours(process: Path) -> bool:
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        return int(fields[1]) == os.getpid() and (
            b"hotspare.courier" in (process / "cmdline").read_bytes())
    except OSError:
        return False


def test_what_the_library_says_is_redacted() -> None:
    url = f"slack://Tabc/Bdef/{CANARY}/#chan?x=%2F{CANARY}"
    said = f"HTTPSConnectionPool(host='slack.com'): /services/Tabc/Bdef/{CANARY} (Caused by …)"
    told = courier.redacted(said, url, "slack.com")
    assert "slack.com" in told and not any(p in told for p in ("Tabc", "Bdef", CANARY))


def test_no_answer_leads_elsewhere(state: Path) -> None:
    with hook() as web, hook() as thief, opened(state) as services:
        web.status, web.elsewhere = 302, f"http://{thief.address}/"
        services.notifications.add(ADMIN, name="ops",
                                   url=web.url.replace("//", f"//user:{CANARY}@"))
        assert not services.notifications.test(ADMIN, "ops").sent
        assert web.got and not thief.got


def test_a_certificate_that_nobody_vouches_for_is_refused(
        state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = tls.ensure(tmp_path / "tls", ["127.0.0.1"])
    with hook(identity=identity) as web, opened(state) as services:
        services.notifications.add(ADMIN, name="ops", url=web.url)
        told = services.notifications.test(ADMIN, "ops")
        assert not told.sent and "certificate verify failed" in told.error
        assert not web.got
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(identity.ca))
        assert services.notifications.test(ADMIN, "ops").sent
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        services.notifications.edit(ADMIN, "ops", url=f"{web.url}?verify=no")
        assert services.notifications.test(ADMIN, "ops").sent


def test_mail_with_starttls_and_a_password(
        state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = tls.ensure(tmp_path / "tls", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    box = Mailbox()
    with mail_server(box, tls_context=context, require_starttls=True, auth_required=True,
                     authenticator=box.check) as port, opened(state) as services:
        url = f"mailtos://hotspare:{CANARY}@127.0.0.1:{port}/?from=a@example.org&to=b@example.org"
        services.notifications.add(ADMIN, name="post", url=url)
        told = services.notifications.test(ADMIN, "post")
        assert not told.sent and "certificate verify failed" in told.error and not box.logins
        monkeypatch.setenv("SSL_CERT_FILE", str(identity.ca))
        assert services.notifications.test(ADMIN, "post").error == ""
        assert (box.logins, box.encrypted) == ([(b"hotspare", CANARY.encode())], [True])
        services.notifications.edit(ADMIN, "post", url=url.replace(CANARY, "wrong-password"))
        told = services.notifications.test(ADMIN, "post")
        assert not told.sent and "535" in told.error and "wrong-password" not in told.error


# --- what is allowed -----------------------------------------------------------------------------


@pytest.mark.parametrize(("url", "code"), [
    ("", "notify.scheme"), (CANARY, "notify.scheme"), ("file:///etc/passwd", "notify.scheme"),
    ("syslog://", "notify.scheme"), ("dbus://", "notify.scheme"), ("gnome://", "notify.scheme"),
    ("windows://", "notify.scheme"), ("macosx://", "notify.scheme"),
    ("exec:///bin/sh", "notify.scheme"), ("foobar://x", "notify.scheme"),
    ("https://discord.com/api/webhooks/1/x", "notify.scheme"),
    ("apprise://127.0.0.1/x", "notify.scheme"), ("mqtt://127.0.0.1/x", "notify.scheme"),
    ("jsons://", "notify.address"), ("slack://x", "notify.address"),
    (f"matrixs://{'a' * 64}", "notify.address"),
    ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?template=/etc/passwd",
     "notify.parameter"),
    ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/?%54emplate=/x", "notify.parameter"),
    ("mailtos://u:p@example.org?pgppub=/etc/passwd", "notify.parameter"),
    ("jsons://example.org/?optional=yes", "notify.parameter"),
    ("jsons://example.org/?retry=9;wait=9", "notify.parameter"),
    ("jsons://example.org/?redirect=yes", "notify.parameter"),
    ("gotifys://example.org/token?+header=x", "notify.parameter"),
    ("json://u:p@example.org/", "notify.clear"), ("gotify://example.org/token", "notify.clear"),
    ("json://example.org/?+Authorization=x", "notify.clear"),
    ("mailto://u:p@example.org", "notify.clear"),
    ("mailtos://u:p@example.org?mode=insecure", "notify.clear"),
])
def test_addresses_that_are_refused(url: str, code: str) -> None:
    with pytest.raises(HotspareError) as caught:
        courier.open_channel(url)
    assert caught.value.code == code
    assert "<" not in str(caught.value) and CANARY not in str(caught.value)


def test_the_refusal_comes_through_the_process(state: Path) -> None:
    with opened(state) as services, pytest.raises(HotspareError) as caught:
        services.notifications.add(ADMIN, name="ops", url="jsons://example.org/?optional=yes")
    assert caught.value.code == "notify.parameter"


def test_a_program_that_is_missing_is_said(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender.sys, "executable", "/nonexistent/python")  # type: ignore[attr-defined]
    with opened(state) as services, pytest.raises(HotspareError) as caught:
        services.notifications.add(ADMIN, name="ops", url="jsons://example.org/")
    assert caught.value.code == "notify.courier"


# --- what other services get ---------------------------------------------------------------------

TITLE, BODY = "Hotspare: Run failed: web", "Line one\nCause: 空间不足"
EXAMPLES: dict[str, tuple[str, str, str]] = {
    # scheme: address, host and path that is called
    "slack": ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops", "hooks.slack.com",
              "/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"),
    "discord": ("discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", "discord.com",
                "/api/webhooks/4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"),
    "workflows": ("workflows://prod-1.westus.logic.azure.com:443/643e69f83c8944/iE9W8",
                  "prod-1.westus.logic.azure.com",
                  "/workflows/643e69f83c8944/triggers/manual/paths/invoke"),
    "tgram": ("tgram://123456789:abcdefg_hijklmnop/12315544/", "api.telegram.org",
              "/bot123456789:abcdefg_hijklmnop/sendMessage"),
    "feishu": ("feishu://feishu-token-1", "open.feishu.cn",
               "/open-apis/bot/v2/hook/feishu-token-1/"),
    "lark": ("lark://lark-token-12345", "open.larksuite.com",
             "/open-apis/bot/v2/hook/lark-token-12345"),
    "dingtalk": ("dingtalk://SECsecret@abcdefgtoken", "oapi.dingtalk.com", "/robot/send"),
    "wecombot": ("wecombot://botkey-1234567", "qyapi.weixin.qq.com", "/cgi-bin/webhook/send"),
    "schan": ("schan://sendkey1234", "sctapi.ftqq.com", "/sendkey1234.send"),
    "pover": ("pover://ubcdefghijklmnopqrstuvwxyzabcd@abcdefghijklmnopqrstuvwxyz1234",
              "api.pushover.net", "/1/messages.json"),
    "pagerduty": ("pagerduty://A1BRTD4JD@ABCDEFGH", "events.pagerduty.com", "/v2/enqueue"),
    "opsgenie": ("opsgenie://api-key-apikey", "api.opsgenie.com", "/v2/alerts"),
    "ntfys": ("ntfys://token@ntfy.example.org/topic", "ntfy.example.org", "/"),
    "ntfy": ("ntfy://cloud-topic", "ntfy.sh", "/"),
    "gotifys": ("gotifys://gotify.example.org/token12345", "gotify.example.org", "/message"),
    "rockets": ("rockets://AbC123def/xyZ789@rocket.example.org/#ops", "rocket.example.org",
                "/hooks/AbC123def/xyZ789"),
    "mmosts": ("mmosts://mm.example.org/3ccdd113474722377935511fc85d3dd4", "mm.example.org",
               "/hooks/3ccdd113474722377935511fc85d3dd4"),
    "barks": ("barks://bark.example.org/devicekey", "bark.example.org", "/push"),
    "signals": ("signals://signal.example.org/+15551112222/+15551113333", "signal.example.org",
                "/v2/send"),
    "xmls": ("xmls://hook.example.org/in", "hook.example.org", "/in"),
    "forms": ("forms://hook.example.org/in", "hook.example.org", "/in"),
}
ANSWERS = {"slack": b"ok", "tgram": b'{"ok": true, "result": {}}', "feishu": b'{"code": 0}',
           "dingtalk": b'{"errcode": 0}', "wecombot": b'{"errcode": 0}', "schan": b'{"code": 0}',
           "lark": b'{"code": 0}', "opsgenie": b'{"requestId": "r1"}'}


@dataclass
class Wire:
    """At the edge of the library: what it would put on the wire."""

    answer: bytes = b"{}"
    missing: str = "no such path"
    sent: list[requests.PreparedRequest] = field(default_factory=list)

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        assert options["verify"] is not False, "TLS is verified"
        assert options["timeout"] == (courier.CONNECT_S, courier.READ_S)
        self.sent.append(request)
        response = requests.Response()
        response.request, response.url = request, request.url or ""
        response.status_code = 404 if response.url.endswith(self.missing) else 200
        response._content = self.answer
        return response


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    made = Wire()
    monkeypatch.setattr(requests.Session, "send", requests.Session.send)   # restored at the end
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", made.send)
    return made


@pytest.mark.parametrize("scheme", EXAMPLES)
def test_what_the_other_services_get(scheme: str, wire: Wire) -> None:
    url, host, path = EXAMPLES[scheme]
    wire.answer = ANSWERS.get(scheme, b"{}")
    _, shown = courier.open_channel(url)
    assert host == shown or host.endswith(f".{shown}")
    assert courier.send(url, TITLE, BODY, "failure") == ""
    request = wire.sent[-1]
    at = urlsplit(request.url or "")
    assert (at.scheme, at.hostname, at.path) == ("https", host, path)
    told = request.body or b""
    text = told.decode() if isinstance(told, bytes) else told
    if scheme in {"pover", "schan", "forms"}:
        text = json.dumps(parse_qs(text), ensure_ascii=False)
    elif scheme != "xmls":
        text = json.dumps(json.loads(text), ensure_ascii=False)
    for part in ("Run failed: web", "Line one", "Cause: 空间不足"):
        assert part in text.replace("&nbsp;", " ").replace("\\\\", ""), text


@pytest.mark.parametrize(("scheme", "body"), [
    ("feishu", {"msg_type": "text"}), ("dingtalk", {"msgtype": "text"}),
    ("wecombot", {"msgtype": "text"}), ("lark", {"msg_type": "text"}),
    ("pagerduty", {"event_action": "trigger"})])
def test_the_shape_of_the_payload(scheme: str, body: dict[str, str], wire: Wire) -> None:
    wire.answer = ANSWERS.get(scheme, b"{}")
    assert courier.send(EXAMPLES[scheme][0], TITLE, BODY, "failure") == ""
    told = json.loads(wire.sent[-1].body or b"")
    assert body.items() <= told.items(), told


def test_dingtalk_signs_and_wecom_has_its_key(wire: Wire) -> None:
    courier.send(EXAMPLES["dingtalk"][0], TITLE, BODY, "failure")
    asked = parse_qs(urlsplit(wire.sent[-1].url or "").query)
    assert asked["access_token"] == ["abcdefgtoken"] and asked["timestamp"] and asked["sign"]
    courier.send(EXAMPLES["wecombot"][0], TITLE, BODY, "failure")
    assert parse_qs(urlsplit(wire.sent[-1].url or "").query) == {"key": ["botkey-1234567"]}


@pytest.mark.parametrize(("scheme", "answer"), [
    ("feishu", {"code": 19024, "msg": "Key Words Not Found"}),
    ("lark", {"code": 19024, "msg": "Key Words Not Found"}),
    ("dingtalk", {"errcode": 310000, "errmsg": "keywords not in content, key abcdefgtoken"}),
    ("wecombot", {"errcode": 93000, "errmsg": "invalid webhook url"}),
    ("schan", {"code": 40001, "message": "bad pushtoken"})])
def test_a_refusal_in_a_good_answer_is_no_success(
        scheme: str, answer: dict[str, Any], wire: Wire) -> None:
    """These answer 200 to a message that they throw away, and the library believes it."""
    wire.answer = json.dumps(answer).encode()
    why = courier.send(EXAMPLES[scheme][0], TITLE, BODY, "failure")
    assert str(answer.get("code", answer.get("errcode"))) in why, why
    assert "abcdefgtoken" not in why


def test_good_news_reaches_opsgenie_too(wire: Wire) -> None:
    wire.answer = ANSWERS["opsgenie"]
    assert courier.send(EXAMPLES["opsgenie"][0], TITLE, BODY, "success") == ""
    assert [urlsplit(r.url or "").path for r in wire.sent] == ["/v2/alerts"]


def test_matrix_logs_in_and_writes_to_the_room(wire: Wire) -> None:
    wire.missing = "/state/m.room.encryption"
    wire.answer = json.dumps({"access_token": "t", "user_id": "@u:m.example.org",
                              "home_server": "m.example.org", "room_id": "!r:m.example.org",
                              "event_id": "$1", "device_id": "D"}).encode()
    assert courier.send("matrixs://u:p@m.example.org/!r:m.example.org", TITLE, BODY,
                        "failure") == ""
    assert {urlsplit(r.url or "").hostname for r in wire.sent} == {"m.example.org"}
    told = [str(r.body) for r in wire.sent if "/send/m.room.message" in (r.url or "")]
    assert len(told) == 1 and "Line one" in told[0]


def test_every_service_is_tested_and_documented() -> None:
    tested = set(EXAMPLES) | {"mailto", "json", "matrixs"}
    plain = {s.removesuffix("s") for s in tested}
    assert {s for s in SERVICES if s not in tested and s.removesuffix("s") not in plain} == set()
    docs = (Path(__file__).parents[2] / "docs/user/notifications.md").read_text()
    assert [s for s in SERVICES if f"`{s}://" not in docs] == []
    assert get_args(Event) == tuple(EVENTS)
    assert [e for e in EVENTS if f"`{e}`" not in docs] == []


# --- texts ---------------------------------------------------------------------------------------


def test_many_missed_objectives_name_their_rules() -> None:
    _, body = compose([Notice("rule.rpo-violated", 1.8e9, {
        "rule": f"r{i}", "machine": "m", "point": i, "age_s": 9, "target_s": 5})
        for i in range(5)], "en")
    assert all(f"r{i}: The newest restore point {i} is" in body for i in range(5))
    assert body.count("Remedy:") == 1


def test_very_many_notices_are_named_at_least() -> None:
    notices = [Notice("machine.lost", 1.8e9, {"machine": f"m{i}", "rules": 1}) for i in range(900)]
    _, body = compose([*notices, Notice("machine.lost", 1.8e9, {"machine": "m1", "more": 7})], "en")
    assert all(f"m{i}" in body for i in range(900)) and "And 708 more:" in body
    assert body.count("\n") < 250 and body.count("Remedy:") == 1


def test_many_notices_name_each_cause_once() -> None:
    full = {"code": "storage.unknown", "fields": {"storage": "s", "platform": "p", "known": "-"}}
    notices = [Notice("rule.run-failed", 1.8e9 + i, {
        "rule": f"web {i % 3}", "machine": "m", "task": i, "kind": "replicate", "cause": full})
        for i in range(7)]
    title, body = compose(notices, "en")
    assert title == "Hotspare: Run failed (7)"
    assert body.count("There is no storage s on p.") == 1
    assert "web 0 (×3), web 1 (×2), web 2 (×2)" in body and "rule log 'web 0'" in body
    alone, text = compose([Notice("rule.run-failed", 1.8e9, {
        "rule": "a", "machine": "m", "task": 1, "kind": "undo", "cause": None})], "zh-CN")
    assert alone == "Hotspare: 任务失败: a" and "撤销切换" in text and "原因" not in text


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_every_event_has_its_title(event: str, language: Any) -> None:
    title, body = compose([Notice(event, 1.8e9, {"rule": "a", "machine": "m"})], language)
    assert "notify." not in title + body and title.startswith("Hotspare: ")


# --- over the API and the command line -----------------------------------------------------------


def test_channels_are_kept_in_order(state: Path) -> None:
    with opened(state) as services:
        notifications = services.notifications
        notifications.add(ADMIN, name="One", url="jsons://example.org/")
        for call, code in [
                (lambda: notifications.add(ADMIN, name="one", url="jsons://example.org/"),
                 "notify.exists"),
                (lambda: notifications.get(ADMIN, "two"), "notify.not-found"),
                (lambda: notifications.edit(ADMIN, "one", events=["x"]), "input.invalid"),
                (lambda: notifications.add(OPERATOR, name="x", url="jsons://h/"), "auth.role"),
                (lambda: notifications.list(OPERATOR), "auth.role"),
                (lambda: notifications.edit(OPERATOR, "one"), "auth.role"),
                (lambda: notifications.test(OPERATOR, "one"), "auth.role"),
                (lambda: notifications.remove(OPERATOR, "one"), "auth.role")]:
            with pytest.raises(HotspareError) as caught:
                call()
            assert caught.value.code == code
        lose(services, "m1")
        assert notifications.edit(ADMIN, "one", name="two", enabled=False,
                                  events=["machine.lost"]).waiting == 0
        lose(services, "m2")
        assert notifications.edit(ADMIN, "two", enabled=True).waiting == 0
        lose(services, "m3")
        notifications.remove(ADMIN, "two")
        assert services.sender.send_due() > 0 and not notifications.list(ADMIN).items


def test_the_command_line(state: Path, tmp_path: Path) -> None:
    from unit.test_cli import Cli

    url = tmp_path / "url"
    with hook() as web, rig(state) as made, served(made) as server:
        cli = Cli(tmp_path, {"HOTSPARE_SERVER": server.url, "HOTSPARE_CA": str(server.ca),
                             "HOTSPARE_TOKEN": made.services.users.local_token()})
        url.write_text(web.url.replace("//", f"//user:{CANARY}@") + "\n")
        made_one = cli.json("notify", "add", "ops", "--url-file", str(url), "--event",
                            "machine.lost", "--event", "rule.run-failed")
        assert (made_one["kind"], made_one["host"], made_one["events"]) == (
            "json", "127.0.0.1", ["rule.run-failed", "machine.lost"])
        assert "Sent." in cli("notify", "test", "ops").stdout
        assert web.bodies[0]["title"] == "Hotspare: Test"
        web.status = 500
        assert "500" in cli("notify", "test", "ops", code=6).stderr
        assert "500" in cli("notify", "list").stdout
        cli("notify", "add", "two", code=2)             # no terminal to ask at
        cli("notify", "add", "two", code=2, HOTSPARE_CHANNEL_URL="file:///etc/passwd")
        cli("notify", "edit", "ops", "--event", "nonsense", code=2)
        edited = cli.json("notify", "edit", "ops", "--rename", "night", "--disable",
                          "--language", "zh-CN")
        assert (edited["name"], edited["enabled"], edited["language"]) == ("night", False, "zh-CN")
        assert edited["events"] == made_one["events"]
        shown = cli("notify", "list")
        assert "night" in shown.stdout and CANARY not in shown.stdout
        cli("notify", "remove", "night")
        cli("notify", "remove", "night", code=3)


GARBAGE: list[Any] = [None, True, 0, "", " ", "\x00", "a\nb", "\ud800", "x" * 70_000, [], [1],
                      {}, "json://", "json://[", "://", "json://%00", "slack://%ff/%ff/%ff",
                      "mailto://\u202e@x", ["machine.lost", None]]


def test_garbage_is_refused_in_one_shape(state: Path) -> None:
    import httpx

    with rig(state) as made, served(made) as server, httpx.Client(
            base_url=f"{server.url}/api/v1", timeout=60.0, trust_env=False,
            verify=ssl.create_default_context(cafile=str(server.ca)),
            headers={"Authorization": f"Bearer {made.services.users.local_token()}"}) as http:
        body = {"name": "x", "url": "jsons://example.org/", "events": None, "language": "en",
                "enabled": True}
        for name in [*body, "unknown"]:
            for value in GARBAGE:
                for method, path in (("POST", "/channels"), ("PATCH", "/channels/none")):
                    answer = http.request(
                        method, path, content=json.dumps(body | {name: value}).encode(),
                        headers={"Content-Type": "application/json"})
                    assert answer.status_code < 500, (name, value, answer.text)
                    if answer.status_code >= 400:
                        assert set(answer.json()["error"]) == {
                            "code", "message", "remedy", "fields"}
                    else:
                        http.delete(f"/channels/{answer.json()['id']}")
