"""Sends what waits in the outbox of notifications.

At least once: a notification is deleted after it was sent, so a crash between the two sends it
again, and a crash at any other time loses none.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import sqlalchemy as sa

from ..domain.channels import EVENTS
from ..domain.errors import GiveUp, HotspareError
from ..domain.notice import Notice, compose
from ..store import Record, schema
from .context import Context

_log = logging.getLogger(__name__)

NOTIFICATIONS: Final = "notifications"
"""The hub's topic: something was put into the outbox."""

GATHER_S: Final = 2.0           # a first message waits for what happens at the same instant
QUIET_S: Final = 60.0           # between two messages of the same event to the same channel
FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 3600.0
GIVE_UP_S: Final = 86400.0
LONGEST_SEND_S: Final = 40.0
_IDLE_S = 60.0
_AT_ONCE = 2                    # one service that hangs does not hold up the others

_SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")
_HANDED_DOWN = {"PATH", "LANG", "LC_ALL", "TZ", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
                "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}


def carry(*, seconds: float = LONGEST_SEND_S, **order: str) -> dict[str, Any]:
    """What :mod:`hotspare.courier` answers to an order; its process is killed when it takes
    longer than ``seconds``. Raises Refused ``notify.…`` or GiveUp ``notify.courier``."""
    try:
        done = subprocess.run(
            [sys.executable, "-S", "-P", "-m", "hotspare.courier"], check=False, cwd="/",
            input=json.dumps(order | {"seconds": seconds}).encode(), timeout=seconds,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment())
        answer: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise GiveUp("notify.courier", why=f"no end within {seconds:.0f} s") from None
    except (OSError, ValueError):       # its output may hold anything: it is not repeated
        raise GiveUp("notify.courier", why="it died") from None
    if "error" in answer:
        raise HotspareError.from_dict(answer["error"])
    return answer


def _environment() -> dict[str, str]:
    """Proxies and trust, nothing else of ours; no passwords of a .netrc."""
    kept = {k: v for k, v in os.environ.items() if k.upper() in _HANDED_DOWN}
    if _SYSTEM_CA.exists():             # the library's own bundle knows no CA of the house
        kept.setdefault("REQUESTS_CA_BUNDLE", str(_SYSTEM_CA))
    return kept | {"NETRC": os.devnull, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}


class Sender:
    """One thread; what is due for one channel and of one event goes as one message."""

    def __init__(self, context: Context,
                 carry: Callable[..., dict[str, Any]] = carry) -> None:
        self._context = context
        self._carry = carry
        self._not_before: dict[tuple[str, str], float] = {}
        # sent, but still in the outbox: what could not be recorded (a full disk) goes but once
        self._sent: dict[tuple[str, str], set[tuple[int, float]]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sender", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """A message that is under way arrives or not; it is sent again after the next start."""
        self._stop.set()
        self._context.hub.publish(NOTIFICATIONS)
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _loop(self) -> None:
        while not self._stop.is_set() and not self._context.hub.closed:
            seen = self._context.hub.version(NOTIFICATIONS)
            wait = _IDLE_S
            try:
                wait = self.send_due()
            except Exception:           # a full disk, say: the next round may do better
                if not self._stop.is_set():
                    _log.exception("the sender of notifications failed and goes on")
            if not self._stop.is_set():
                self._context.hub.wait(NOTIFICATIONS, seen, min(max(wait, 0.1), _IDLE_S))

    def send_due(self) -> float:
        """Send what is due; returns in how many seconds more is."""
        d = schema.delivery
        now = self._context.clock()
        with self._context.read() as conn:
            groups = conn.execute(sa.select(
                d.c.channel, d.c.event, sa.func.min(d.c.next_try_at).label("at"),
                sa.func.max(d.c.attempts).label("attempts"))
                .group_by(d.c.channel, d.c.event)
                # those that failed last: one that hangs comes after all that work
                .order_by(sa.func.max(d.c.attempts), sa.func.min(d.c.id))).all()
        due: dict[str, list[str]] = {}
        failing: set[str] = set()
        waits = [_IDLE_S]
        for group in groups:
            at = max(group.at, self._not_before.get((group.channel, group.event), 0.0))
            # an instant that no wait explains was written before the clock was put back
            if at <= now or at > now + LONGEST_WAIT_S:
                if group.attempts:
                    # a round has few that may hang: what is new need not wait for all of them
                    if len(failing | {group.channel}) > _AT_ONCE:
                        waits.append(0.0)
                        continue
                    failing.add(group.channel)
                due.setdefault(group.channel, []).append(group.event)
            else:
                waits.append(at - now)
        self._not_before = {k: v for k, v in self._not_before.items() if v > now}
        self._side_by_side(due, waits)
        return min(waits)

    def _side_by_side(self, due: dict[str, list[str]], waits: list[float]) -> None:
        """Channel by channel; the events of one stay in order."""
        channels: SimpleQueue[str] = SimpleQueue()
        for channel in due:
            channels.put(channel)

        def work() -> None:
            with suppress(Empty):
                while True:
                    channel = channels.get_nowait()
                    try:
                        waits.extend([self._send(channel, event) for event in due[channel]])
                    except Exception:       # of the database: it is tried again
                        if not self._stop.is_set():
                            _log.exception("what was sent could not be recorded")

        # Not a pool: its threads would be waited for when this process ends.
        threads = [threading.Thread(target=work, name="courier", daemon=True)
                   for _ in range(min(len(due), _AT_ONCE))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send(self, channel: str, event: str) -> float:
        """Send all that waits for the channel of this event, due or not, in one message.
        Returns in how many seconds the next may go."""
        c, d = schema.channel, schema.delivery
        with self._context.read() as conn:
            to = conn.execute(sa.select(c).where(c.c.id == channel)).one_or_none()
            rows = conn.execute(sa.select(d).where(d.c.channel == channel, d.c.event == event)
                                .order_by(d.c.id)).all()
        if to is None or not rows or self._stop.is_set():
            return _IDLE_S
        key = channel, event
        told = self._sent.setdefault(key, set())
        new = [r for r in rows if (r.id, r.at) not in told]
        failed = self._tell(to, event, new) if new else ""
        wait = QUIET_S
        if failed:
            wait = min(FIRST_WAIT_S * 2 ** max(r.attempts for r in new), LONGEST_WAIT_S)
        else:
            told |= {(r.id, r.at) for r in new}
        self._not_before[key] = self._context.clock() + wait
        self._record(to, [r.id for r in rows if (r.id, r.at) in told],
                     [r.id for r in new] if failed else [], failed, wait)
        del self._sent[key]
        return wait

    def _tell(self, to: Record, event: str, rows: list[Record]) -> str:
        """Why it failed, or nothing."""
        try:
            title, body = compose([Notice(r.event, r.at, r.fields) for r in rows], to.language)
            return str(self._carry(url=self._context.keys.decrypt(to.secret, to.id), title=title,
                                   body=body, severity=EVENTS[event])["failed"])
        except HotspareError as error:
            return str(error)
        except Exception as error:      # one that cannot be told must not hold up the others
            _log.exception("a notification of %s could not be sent", event)
            return type(error).__name__

    def _record(self, to: Record, sent: list[int], unsent: list[int], failed: str,
                wait: float) -> None:
        c, d = schema.channel, schema.delivery
        with self._context.change() as change:
            change.conn.execute(sa.delete(d).where(d.c.id.in_(sent)))
            if failed:
                mine = d.c.id.in_(unsent)
                old = sa.and_(mine, d.c.at <= change.now - GIVE_UP_S)
                lost = change.conn.execute(sa.delete(d).where(old)).rowcount
                change.conn.execute(sa.update(d).where(mine).values(
                    attempts=d.c.attempts + 1, next_try_at=change.now + wait))
                if lost:
                    change.log("error", "notify.given-up",
                               {"count": lost, "name": to.name, "why": failed})
                    _log.error("%d notifications for the channel %s were given up", lost, to.name)
            change.conn.execute(sa.update(c).where(c.c.id == to.id).values(
                last_error=failed, **({} if failed else {"last_sent_at": change.now})))
