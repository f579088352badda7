"""The link over HTTPS: one long poll that tells everything, one stream of reports.

Limits, stop flags and the list of live tasks are answered from the last poll; reports go through
the outbox. So a running transfer needs the control server for nothing: while it is away, its tasks
go on with what was last known. Progress is not kept for it.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .. import __version__
from ..domain.codec import decode_known, encode
from ..domain.errors import GiveUp, HotspareError, OutOfSpace, Retry
from ..domain.limits import Configured
from ..domain.lineage import Manifest
from ..domain.proof import Check, Verdict
from ..platforms.port import PlatformAccess
from ..workflows.bench import Closing
from ..workflows.link import Limits, Outcome, Progress, Scrubbed, Task
from ..workflows.wire import (
    PROTOCOL,
    Call,
    LiveTask,
    Report,
    Reported,
    Rules,
    Sync,
    Synced,
    ToldPoints,
    overview,
    proof_body,
)
from .clock import Clock, uptime
from .https import Server
from .instance import Instance
from .outbox import Outbox
from .vault import Vault

logger = logging.getLogger(__name__)

POLL_S = 10.0
"""Longest silence of a machine that is well; it counts as lost after more than two of them."""
PROGRESS_EVERY_S = 1.0
GATHER_S, SPACE_S = 0.03, 0.25
"""Reports that come close together travel together: so long after the first of them, and so long
after the last time. Two hundred machines that sent each by itself would keep the server busy."""
_LONGEST_PAUSE_S = 5.0
REPORT_S = 60.0
_ANSWER_S = 15.0
_FINAL = frozenset({"link.token", "link.too-old", "link.too-new"})
"""Refusals that no waiting mends: the machine ends."""
_UNREADABLE = frozenset({"input.invalid", "input.too-large", "store.value"})
"""Refusals of what was sent, not of who sent it or when."""
TWICE_S = 40.0
"""How long a process that has not been in contact waits for the machine that it may be a copy of
to fall silent; longer than the server takes to believe it."""


_HEARD_S = 30.0


@dataclass(frozen=True, slots=True)
class About:
    """What the machine says of itself."""

    temp_dir: str
    configured: Configured = field(default_factory=Configured)


def _keep(kept: dict[Any, Any], wanted: Container[Any]) -> None:
    for key in [k for k in kept if k not in wanted]:
        del kept[key]


class RemoteLink:
    """Implements :class:`hotspare.workflows.link.Link`. ``start()`` begins to talk."""

    def __init__(self, server: Server, outbox: Outbox, about: About,
                 on_refused: Callable[[], None], instance: Instance | None = None) -> None:
        """``on_refused`` is called when the server wants nothing of this machine any more."""
        self._server, self._outbox, self._about = server, outbox, about
        self._instance = instance
        self._began = uptime()
        self._news = threading.Condition()
        self._synced: Synced | None = None
        self._live: dict[int, LiveTask] = {}
        self._offered: set[tuple[int, int]] = set()
        self._finished = outbox.finished()
        self._progress: dict[int, Progress] = {}
        self._unsent: set[int] = set()
        self._steps: dict[int, str] = {}
        self._clock = Clock()
        self._busy: dict[str, Any] | None = None
        self._contact: float | None = None      # when the server last answered
        self._away = True
        self._said = ""
        self._waiting = True                    # reports, perhaps of an earlier process
        self._alone = False                     # one report at a time: one of them is unreadable
        self._told = ToldPoints()
        self._closing = threading.Event()
        self._vault = Vault(server, self._closing)
        self._on_refused = on_refused
        self.refused: HotspareError | None = None

    def start(self) -> RemoteLink:
        for work in (self._sync_loop, self._send_loop):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()
        return self

    def close(self) -> None:
        """Whoever waits is let go. What was not sent stays in the outbox."""
        self._closing.set()
        with self._news:
            self._news.notify_all()

    # --- down ----------------------------------------------------------------------------------

    def next_task(self, wait_s: float) -> Task | None:
        with self._news:
            found: Task | None = None

            def offered() -> bool:
                nonlocal found
                found = next((live.task for live in self._live.values()
                              if (live.task.id, live.task.epoch) not in self._offered), None)
                return found is not None or self._closing.is_set()

            self._news.wait_for(offered, wait_s)
            if found is not None:
                self._offered.add((found.id, found.epoch))
            return found

    def task(self, task_id: int) -> Task | None:
        """Waits for the first word of the server in this process's life, and no longer."""
        with self._news:
            self._news.wait_for(lambda: self._synced is not None or self._closing.is_set())
            if self._synced is None:
                raise Closing
            live = self._live.get(task_id)
        return None if live is None else live.task

    def limits(self, task: Task) -> Limits:
        with self._news:
            live = self._live.get(task.id)
            if live is not None and live.task.epoch == task.epoch:
                return live.limits
            return Limits(stop=self._synced is not None)

    def access(self, platform: str) -> PlatformAccess:
        with self._news:
            tasks = [x.task for x in self._live.values()]
            stamp = None if self._away or self._synced is None else self._synced.stamp
        return self._vault.access(platform, tasks, stamp)

    def rule_key(self, rule: str) -> bytes:
        with self._news:
            tasks = [x.task for x in self._live.values()]
        return self._vault.key(rule, tasks)

    def busy(self, why: dict[str, Any] | None) -> None:
        self._busy = why                        # told with the next long poll

    def foreign(self, rules: list[str]) -> list[str]:
        """Those of ``rules`` that are another machine's. Raises Away."""
        return [str(r) for r in self._server.post("/foreign", encode(Rules(tuple(rules))))]

    # --- up ------------------------------------------------------------------------------------

    def step(self, task: Task, step: str, state: Literal["running", "done", "skipped"],
             detail: dict[str, Any]) -> None:
        self._steps[task.id] = step
        self._report("step", task, {"step": step, "state": state, "detail": detail})

    def progress(self, task: Task, progress: Progress) -> None:
        with self._news:
            self._progress[task.id] = progress
            self._unsent.add(task.id)
            self._news.notify_all()

    def log(self, task: Task, level: Literal["info", "warning", "error"], code: str,
            fields: dict[str, Any]) -> None:
        self._report("log", task, {"level": level, "code": code, "fields": fields})

    def pause(self, task: Task, reason: dict[str, Any] | None) -> None:
        self._report("pause", task, {"reason": reason})

    def adopt(self, task: Task, points: tuple[Manifest, ...]) -> None:
        """The target has the truth: the catalogue follows as soon as the server hears of it."""
        assert task.rule is not None
        self._report("adopt", task, self._told.body(task.rule.id, encode(points)))

    def failover(self, task: Task, number: int | None, detail: dict[str, Any]) -> None:
        self._report("failover", task, {"number": number, "detail": detail})

    def scrubbed(self, task: Task, points: tuple[Scrubbed, ...], newest: int) -> None:
        self._report("scrubbed", task, {"points": points, "newest": newest})

    def mended(self, task: Task, number: int, damage: dict[str, Any]) -> None:
        self._report("mended", task, {"number": number, "damage": damage})

    def proof(self, task: Task, verdict: Verdict, checks: Sequence[Check],
              screenshot: bytes | None) -> None:
        self._report("proof", task, proof_body(verdict, checks, screenshot))

    def failback(self, task: Task, detail: dict[str, Any] | None) -> None:
        self._report("failback", task, {"detail": detail})
        # The server has to know before the source is touched: if this machine is lost then, its
        # successor finds by that what was put aside.
        if not self._heard(_HEARD_S):
            raise Retry("link.unheard", after_s=5)

    def _heard(self, wait_s: float) -> bool:
        """Wait until the server has all that was reported."""
        end = time.monotonic() + wait_s
        while not self._outbox.empty():
            if self._closing.wait(0.02):
                raise Closing
            if time.monotonic() > end:
                return False
        return True

    def inventory(self, task: Task, report: dict[str, Any]) -> None:
        self._report("inventory", task, report)

    def finish(self, task: Task, outcome: Outcome, error: dict[str, Any] | None,
               figures: dict[str, Any]) -> None:
        self._report("finish", task, {"outcome": outcome, "error": error, "figures": figures})

    def _report(self, call: str, task: Task, body: dict[str, Any]) -> None:
        self._write(call, task, encode(body))
        with self._news:
            if call == "finish":
                # Never offered again, though the server may list it until it has heard of this.
                self._finished.add((task.id, task.epoch))
                self._live.pop(task.id, None)
                self._progress.pop(task.id, None)
                self._unsent.discard(task.id)
                self._steps.pop(task.id, None)
            self._waiting = True
            self._news.notify_all()

    def _write(self, call: str, task: Task, body: dict[str, Any]) -> None:
        """Durably. A full disk is waited for: a task whose word is lost would be lost."""
        at, pause = time.time(), 0.5
        while True:
            try:
                self._outbox.put(call, task.id, task.epoch, at, body)
                return
            except OutOfSpace as error:
                if pause == 0.5:
                    logger.warning("%s", error)
                if self._closing.wait(pause):
                    raise Closing from None
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    # --- what the machine itself shows ---------------------------------------------------------

    def overview(self) -> dict[str, Any]:
        """This machine's tasks as far as it knows; JSON."""
        with self._news:
            known = self._synced and replace(self._synced, tasks=tuple(self._live.values()))
            progress = {task: encode(p) for task, p in self._progress.items()}
            return {"tasks": overview(known, self._steps, progress), "server": self._server.url,
                    "away": self._away, "contact": self._contact}

    # --- the long poll -------------------------------------------------------------------------

    def _sync_loop(self) -> None:
        pause = 0.25
        while not self._closing.is_set():
            seen = self._synced.version if self._synced and not self._away else None
            about = Sync(PROTOCOL, __version__, self._about.temp_dir, self._clock.ahead(), seen,
                         POLL_S, self._about.configured, self._busy,
                         self._instance.before if self._instance else "")
            try:
                asked = uptime()
                answer = self._server.post("/sync", encode(about), _ANSWER_S + about.wait)
                synced = decode_known(Synced, answer)
                self._clock.heard(asked, synced.came, synced.answered, uptime())
                self._take(synced)
                pause = 0.25
            except Exception as error:
                if isinstance(error, HotspareError) and self._is_final(error.code):
                    self.refused = error
                    self._on_refused()
                    return
                self._lose_contact(error)
                self._closing.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _is_final(self, code: str) -> bool:
        if code == "link.twice":        # who was in contact before is the one that is replaced
            return self._contact is not None or uptime() - self._began > TWICE_S
        return code in _FINAL

    def _take(self, synced: Synced) -> None:
        if self._away:
            logger.info("in contact with %s", self._server.url)
            self._said = ""
        try:
            if self._instance is not None and self._contact is None:
                self._instance.accepted()
            self._outbox.arrived(synced.reported)
        except (OSError, sqlite3.Error) as error:
            # A full disk must not keep a stop from being heard; the server skips what it has.
            logger.warning("the state directory cannot be written: %s", error)
        with self._news:
            self._synced, self._away, self._contact = synced, False, time.time()
            live = {x.task.id: x for x in synced.tasks
                    if (x.task.id, x.task.epoch) not in self._finished}
            listed = {(x.task.id, x.task.epoch) for x in synced.tasks}
            self._finished &= listed | self._outbox.finished()
            self._offered &= listed
            self._live = live
            _keep(self._steps, live)
            _keep(self._progress, live)
            self._vault.keep([x.task for x in live.values()])
            self._news.notify_all()

    def _lose_contact(self, error: Exception) -> None:
        if str(error) != self._said:
            self._said = str(error)
            logger.warning("%s", error, exc_info=not isinstance(error, HotspareError))
        with self._news:
            self._away = True
            self._unsent.clear()

    # --- reports -------------------------------------------------------------------------------

    def _send_loop(self) -> None:
        sent_at = 0.0
        pause = 0.25
        while not self._closing.is_set():
            with self._news:
                self._news.wait_for(lambda: self._closing.is_set() or (
                    not self._away and (self._waiting or self._unsent)))
                early = not self._waiting
            least, space = (0.0, PROGRESS_EVERY_S) if early else (GATHER_S, SPACE_S)
            if self._closing.wait(max(least, sent_at + space - time.monotonic())):
                break
            sent_at = time.monotonic()
            try:
                self._send()
                pause = 0.25
            except Exception as error:
                if not isinstance(error, HotspareError):
                    logger.exception("sending reports failed")
                with self._news:
                    self._waiting = True
                self._closing.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _send(self) -> None:
        with self._news:
            self._waiting = False
            progress = {str(t): self._progress[t] for t in self._unsent if t in self._progress}
            self._unsent.clear()
        if self._alone:
            progress, calls = {}, self._outbox.batch(1)
        else:
            calls = self._outbox.batch()
        if not calls and not progress:
            return
        report = Report(self._clock.ahead() or 0.0, calls, progress)
        try:
            answer = decode_known(Reported, self._server.post("/report", encode(report), REPORT_S))
        except HotspareError as error:
            if error.code not in _UNREADABLE:
                raise
            self._unreadable(calls, error)
            return
        self._alone = False
        for call in calls:
            refusal = answer.refused.get(str(call.seq))
            if refusal is not None:
                self._refused(call, refusal)
        if calls:
            self._outbox.arrived(answer.reported)
            with self._news:
                self._waiting = True        # until a batch comes out empty

    def _unreadable(self, calls: tuple[Call, ...], error: HotspareError) -> None:
        """The server cannot make out what was sent. Each report goes by itself then; the one that
        is refused is said and left out, so that it does not keep the others from being heard."""
        if self._alone and calls:
            self._refused(calls[0], error.as_dict())
            self._outbox.arrived(calls[0].seq)
        elif not calls:
            logger.warning("the control server refused the progress of tasks: %s", error)
        self._alone = bool(calls) and not self._alone
        with self._news:
            self._waiting = True

    def _refused(self, call: Call, error: dict[str, Any]) -> None:
        said = GiveUp("link.report-refused", call=call.call, task=call.task,
                      error=error.get("message"))
        logger.warning("%s", said)
        if call.call == "adopt":
            self._told.refused()
        if call.call == "finish" and error.get("code") != "task.fenced" and (
                (call.body.get("error") or {}).get("code") != said.code):
            # The server could not make sense of how it ended; a task must end all the same.
            self._outbox.put("finish", call.task, call.epoch, call.at, {
                "outcome": "failed", "error": said.as_dict(), "figures": {}})
