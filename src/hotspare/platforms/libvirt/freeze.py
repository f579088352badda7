"""Freeze, begin, thaw: in a process of its own, which thaws whatever happens to its parent.

A guest whose file systems stay frozen is an outage. ``kill -9`` of a process between freeze and
thaw was seen to leave a guest so for ever. So a child does both: it has a session of its own and
its own connection, it learns of its parent's end by the end of its standard input, and it thaws
after :data:`LIMIT_S` in any case, also while the begin of the job still hangs.

Protocol: JSON lines. In: the access (also the secret: not in the arguments), then orders. Out: one
answer per order. ``python -m hotspare.platforms.libvirt.freeze`` is started by :class:`Helper`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import IO, Any

import libvirt

from ...domain import errors
from ...domain.errors import HotspareError, Refused, Retry
from ...faultpoints import fault_point
from ..port import PlatformAccess
from .connection import Connection
from .jobs import Order, Tag, refuse_busy
from .liberrors import mapped, translate

LIMIT_S = 4.0
"""Longest freeze, seconds. Together with the thaw itself it stays below 5 s."""

AGENT_TIMEOUT_S = 5
"""A hung agent blocks libvirt's call for minutes otherwise (seen)."""

IDLE_S = 120.0
"""A helper that gets no order for so long ends by itself; the next run starts another one."""

_THAW_TRIES_S = 60.0
_ANSWER_S = 150.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A job that was begun."""

    tag: Tag
    stall_ms: float
    thawed: bool = True


# --- in the child ------------------------------------------------------------------------------


class Attempt:
    """One order: freezes, begins and thaws in its own thread; anybody may thaw earlier."""

    def __init__(self, connection: Connection, order: Order, require: bool) -> None:
        self._connection, self._order, self._require = connection, order, require
        self._lock = threading.RLock()
        self._frozen_at = 0.0           # monotonic; set before the guest is asked to freeze
        self._stall_ms = 0.0
        self._thawed = True
        self._cut_short = False
        self._freezing = False          # the guest may freeze at any moment
        self.cancelled = False
        self.answer: dict[str, Any] = {}

    def run(self) -> None:
        try:
            outcome = self._run()
            self.answer = {"outcome": dataclasses.asdict(outcome)}
        except HotspareError as error:
            self.answer = {"error": pack(error)}
        except libvirt.libvirtError as error:
            self.answer = {"error": pack(translate(error, vm=self._order.vm))}

    def overdue(self, parent_gone: bool) -> None:
        """Called often: thaw when the guest stood still for too long or nobody waits for us."""
        with self._lock:
            self.cancelled = self.cancelled or parent_gone
            frozen_at = self._frozen_at
        if frozen_at and (parent_gone or time.monotonic() - frozen_at > LIMIT_S):
            self._cut_short = True
            self._thaw(self._domain())

    @property
    def abandoned(self) -> bool:
        """Nobody waits for the answer, and the guest is not and will not be frozen. A begin may
        still run: it is libvirt's by now, and the next run finds its job or ends it."""
        with self._lock:
            return self.cancelled and not self._freezing and not self._frozen_at

    def _domain(self) -> Any:
        with mapped(vm=self._order.vm):
            return self._connection.conn.lookupByUUIDString(self._order.vm)

    def _run(self) -> Outcome:
        domain = self._domain()
        refuse_busy(domain)
        note = self._freeze(domain)
        try:
            fault_point("source.frozen")
            with self._lock:
                if self.cancelled:
                    raise Retry("source.cancelled")
                if self._cut_short:
                    note = "quiesce.cut-short"
            if note and self._require:
                raise Refused("quiesce.failed", vm=self._order.vm, note=note)
            tag = Tag(time.time(), "crash" if note else "quiesced", note)
            self._order.begin(domain, tag)
            fault_point("source.before-thaw")
        finally:
            self._thaw(domain)
            with contextlib.suppress(libvirt.libvirtError):
                # others' commands (a long trim) must not fall under our time-out
                domain.agentSetResponseTimeout(libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, 0)
        if self._cut_short and tag.consistency == "quiesced":
            # the instant may lie after the early thaw
            tag = Tag(tag.taken_at, "crash", "quiesce.cut-short")
        return Outcome(tag, self._stall_ms, self._thawed)

    def _freeze(self, domain: Any) -> str:
        """Freeze; the note that says why it could not be done, or empty."""
        try:
            domain.agentSetResponseTimeout(AGENT_TIMEOUT_S, 0)
            domain.fsThaw(None, 0)      # a leftover of a crash; also finds out if the agent lives
        except libvirt.libvirtError as error:
            return _agent_note(error)
        with self._lock:
            if self.cancelled:
                raise Retry("source.cancelled")
            self._freezing, self._thawed = True, False
            self._frozen_at = begun = time.monotonic()
        try:
            return "" if domain.fsFreeze(None, 0) > 0 else "quiesce.nothing-frozen"
        except libvirt.libvirtError as error:
            return _agent_note(error)   # it may still come to it: the thaw follows all the same
        finally:
            with self._lock:
                # an early thaw may have overtaken the freeze: then another one is due
                self._freezing, self._thawed = False, False
                self._frozen_at = self._frozen_at or begun

    def _thaw(self, domain: Any) -> None:
        """Thaw unless that is done. An agent that does not answer is asked again and again."""
        end = time.monotonic() + _THAW_TRIES_S
        while True:
            with self._lock:
                if not self._frozen_at:
                    return
                try:
                    domain.fsThaw(None, 0)
                except libvirt.libvirtError as error:
                    if _is_off(error):
                        self._frozen_at, self._thawed = 0.0, True
                        return
                else:
                    self._stall_ms = (time.monotonic() - self._frozen_at) * 1000
                    self._frozen_at, self._thawed = 0.0, True
                    return
            if time.monotonic() > end:
                return
            time.sleep(0.2)
            with contextlib.suppress(HotspareError):
                domain = self._domain()


def _agent_note(error: Any) -> str:
    code, words = error.get_error_code(), str(error)
    if code == libvirt.VIR_ERR_ARGUMENT_UNSUPPORTED or "not connected" in words:
        return "quiesce.no-agent"       # no channel in the domain; nobody listens in the guest
    if code in (libvirt.VIR_ERR_AGENT_UNRESPONSIVE, libvirt.VIR_ERR_AGENT_UNSYNCED,
                libvirt.VIR_ERR_OPERATION_TIMEOUT):
        return "quiesce.agent-hung"
    return "quiesce.failed"


def _is_off(error: Any) -> bool:
    return error.get_error_code() in (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_ERR_NO_DOMAIN)


class _Lines:
    """Lines of standard input, read without blocking the watch."""

    def __init__(self, fd: int) -> None:
        self._fd, self._rest = fd, b""
        self.ended = False

    def get(self, wait_s: float) -> str | None:
        if b"\n" not in self._rest and not self.ended and select.select(
                [self._fd], [], [], wait_s)[0]:
            piece = os.read(self._fd, 1 << 20)
            self._rest += piece
            self.ended = not piece
        if b"\n" not in self._rest:
            return None
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()


def serve(source: int, sink: IO[str]) -> None:
    """The child's main loop: ends with its input, after a last thaw if one is due."""
    # a service manager that ends the whole group must not end us between freeze and thaw: our
    # input ends with our parent, which is signal enough
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    lines = _Lines(source)
    connection: Connection | None = None
    while not lines.ended:
        line = lines.get(IDLE_S)
        if line is None:
            break           # idle, or our input has ended
        if connection is None:
            connection = Connection(PlatformAccess(**json.loads(line)))
            with contextlib.suppress(HotspareError):
                _ = connection.conn     # early; the order says what is wrong with it
            continue
        request = json.loads(line)
        attempt = Attempt(connection, Order(**request["order"]), request["require"])
        thread = threading.Thread(target=attempt.run, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.005)
            with contextlib.suppress(HotspareError):
                attempt.overdue(lines.ended)
            if attempt.abandoned:
                return
            if not lines.ended:
                lines.get(0)            # nothing is sent now: this is how the end is seen
        with contextlib.suppress(OSError):
            sink.write(json.dumps(attempt.answer) + "\n")
            sink.flush()
    if connection is not None:
        connection.close()


# --- between them ------------------------------------------------------------------------------


def pack(error: HotspareError) -> dict[str, Any]:
    """An error for its way through a pipe."""
    return {"kind": type(error).__name__, "code": error.code, "fields": error.as_dict()["fields"],
            "after_s": getattr(error, "after_s", 1.0)}


def unpack(data: dict[str, Any]) -> HotspareError:
    """The error again, of its own class."""
    kind = getattr(errors, data["kind"], errors.GiveUp)
    fields = dict(data["fields"])
    if issubclass(kind, Retry):
        return Retry(data["code"], after_s=data["after_s"], **fields)
    error: HotspareError = kind(data["code"], **fields)
    return error


# --- in the parent -----------------------------------------------------------------------------


class Helper:
    """The child, seen from its parent. Start it early: it needs some 0.2 s to connect. It takes
    one order after another."""

    def __init__(self, access: PlatformAccess) -> None:
        # -S: our own search path is handed down, site would only look for it again
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-P", "-m", "hotspare.platforms.libvirt.freeze"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, cwd="/",
            env=environment)
        self._send({"id": access.id, "kind": access.kind, "uri": access.uri,
                    "options": dict(access.options), "secret": access.secret})

    @property
    def alive(self) -> bool:
        """Whether it can take an order."""
        return self._process.poll() is None

    def begin(self, order: Order, require: bool) -> Outcome:
        """Freeze, begin the job, thaw. Raises what :meth:`Order.begin` does, Refused
        ``quiesce.failed``, or Retry ``source.helper-died`` (the caller thaws then)."""
        self._send({"order": dataclasses.asdict(order), "require": require})
        line = self._receive()
        if not line:
            raise Retry("source.helper-died", after_s=5, vm=order.vm)
        answer = json.loads(line)
        if "error" in answer:
            raise unpack(answer["error"])
        outcome = answer["outcome"]
        return Outcome(Tag(**outcome["tag"]), outcome["stall_ms"], outcome["thawed"])

    def close(self) -> None:
        """Let the child go; it ends by itself, after thawing if that is due."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        # it is not waited for: an idle one ends within milliseconds, a busy one must not hold us
        threading.Thread(target=self._process.wait, daemon=True).start()

    def _send(self, data: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):      # the missing answer tells
            self._process.stdin.write(json.dumps(data).encode() + b"\n")
            self._process.stdin.flush()

    def _receive(self) -> bytes:
        assert self._process.stdout is not None
        ready = select.select([self._process.stdout], [], [], _ANSWER_S)[0]
        return self._process.stdout.readline() if ready else b""


if __name__ == "__main__":
    serve(0, sys.stdout)
