"""NBD connections without waiting: libnbd handles in one poll loop, never blocked for long.

Two things differ from libnbd's own synchronous calls: a server that hangs cannot hold the caller
(every wait ends after ``TURN_S`` and looks at the control), and a broken connection is one
exception, :class:`Broken`, whatever way it broke.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import nbd  # type: ignore[import-not-found,unused-ignore]

from ..platforms.port import Export, NbdEndpoint
from .control import TURN_S, Control

CONNECT_S = 20.0
"""Seconds until a connection that is not ready counts as broken."""

DRAIN_S = 0.25
"""Seconds that are given to answers on their way when a connection is left."""

_GONE = {errno.ENOTCONN, errno.ESHUTDOWN, errno.EPIPE, errno.ECONNRESET}
_HANGUP = select.POLLHUP | select.POLLERR | select.POLLNVAL
_POLL = (0, select.POLLIN, select.POLLOUT, select.POLLIN | select.POLLOUT)

Done = Callable[[Any, int], None]
"""Called when a command completed, with its subject and 0 or an errno."""


class Broken(Exception):
    """A connection ended or hangs. ``side`` is ``source`` or ``target``."""

    def __init__(self, side: str, reason: str) -> None:
        super().__init__(f"{side}: {reason}")
        self.side = side
        self.reason = reason


class Connection:
    """One connection and the commands in flight on it.

    Commands are told apart by libnbd's cookies: a callback for each would be a call into Python
    with an object of ctypes, and nothing may be raised there.
    """

    __slots__ = ("_in_flight", "_peek", "_pread", "_pwrite", "_retire", "armed", "direction",
                 "fd", "handle", "last_event", "side", "touched")

    def __init__(self, handle: nbd.NBD, side: str) -> None:
        self.handle = handle
        self.side = side
        self.fd: int = handle.aio_get_fd()
        self.armed = 0
        self.touched = True         # what it waits for may have changed since it was armed
        self.last_event = time.monotonic()
        self._in_flight: dict[int, tuple[Done, object]] = {}    # by cookie
        self._pread, self._pwrite = handle.aio_pread, handle.aio_pwrite
        self._peek = handle.aio_peek_command_completed
        self._retire = handle.aio_command_completed
        self.direction = handle.aio_get_direction

    @property
    def in_flight(self) -> int:
        return len(self._in_flight)

    def read(self, buffer: memoryview, offset: int, done: Done, subject: object = None) -> None:
        """Start reading ``len(buffer)`` bytes; the buffer must live until ``done``."""
        try:
            self._began(self._pread(buffer, offset), done, subject)
        except nbd.Error as error:
            raise Broken(self.side, str(error.args[0])) from error

    def write(self, buffer: memoryview, offset: int, done: Done, subject: object = None) -> None:
        try:
            self._began(self._pwrite(buffer, offset), done, subject)
        except nbd.Error as error:
            raise Broken(self.side, str(error.args[0])) from error

    def zero(self, length: int, offset: int, done: Done, subject: object = None) -> None:
        """WRITE_ZEROES: the range reads as zero afterwards, whatever a backing file holds."""
        try:
            self._began(self.handle.aio_zero(length, offset), done, subject)
        except nbd.Error as error:
            raise Broken(self.side, str(error.args[0])) from error

    def flush(self, done: Done, subject: object = None) -> None:
        """Make durable all writes that completed (on any connection, see ``can_multi_conn``)
        before this call."""
        try:
            self._began(self.handle.aio_flush(), done, subject)
        except nbd.Error as error:
            raise Broken(self.side, str(error.args[0])) from error

    def block_status(self, length: int, offset: int,
                     extents: Callable[[str, int, list[int]], None], done: Done,
                     subject: object = None) -> None:
        """``extents(context, offset, [length, flags, …])`` is called before ``done``."""
        def reply(context: str, start: int, entries: list[int], _error: object) -> int:
            extents(context, start, entries)
            return 0

        try:
            self._began(self.handle.aio_block_status(length, offset, reply), done, subject)
        except nbd.Error as error:
            raise Broken(self.side, str(error.args[0])) from error

    def _began(self, cookie: int, done: Done, subject: object) -> None:
        if not self._in_flight:
            self.last_event = time.monotonic()
        self._in_flight[cookie] = done, subject
        self.touched = True

    def notify(self, events: int, now: float) -> None:
        """Let libnbd read or write what the socket is ready for, then end completed commands.
        Raises Broken, and whatever a command's ``done`` raises."""
        handle = self.handle
        self.last_event = now
        try:
            wanted = self.direction() if self.touched else self.armed
            self.touched = True
            if wanted & 1 and events & ~select.POLLOUT:
                # also for POLLHUP and POLLERR: libnbd then reads the end of the stream
                handle.aio_notify_read()
            elif wanted & 2 and events & select.POLLOUT:
                handle.aio_notify_write()
        except nbd.Error as error:
            raise Broken(self.side, str(error.args[0])) from error
        self._end_commands()
        if events & _HANGUP and (not wanted or handle.aio_is_dead() or handle.aio_is_closed()):
            raise Broken(self.side, "the server closed the connection")

    def forget_ended(self, wait_ms: int) -> None:
        """Serve the socket once, and drop what ended without calling anybody."""
        in_flight = self._in_flight
        try:
            self.handle.poll(wait_ms)
            while in_flight and (cookie := self._peek()):
                del in_flight[cookie]
                with suppress(nbd.Error):
                    self._retire(cookie)
        except nbd.Error:
            in_flight.clear()       # the connection is dead: nothing comes any more

    def _end_commands(self) -> None:
        in_flight, peek, retire = self._in_flight, self._peek, self._retire
        while in_flight and (cookie := peek()):
            done, subject = in_flight.pop(cookie)
            code = 0
            try:
                retire(cookie)
            except nbd.Error as error:
                code = error.errnum or errno.EIO
                if code in _GONE:
                    raise Broken(self.side, os.strerror(code)) from error
            done(subject, code)

    def close(self) -> None:
        """Say good-bye when nothing is in flight, and end the connection. Never waits."""
        handle = self.handle
        try:
            if not self.in_flight and handle.aio_is_ready():
                handle.aio_disconnect(0)
        except nbd.Error:
            pass    # it is being closed: how it ends does not matter
        _end(handle)
        self._in_flight.clear()
        del self.handle, self._pread, self._pwrite, self._peek, self._retire, self.direction


def _end(handle: nbd.NBD) -> None:
    """End its socket. The handle does that when the last reference is gone, but a traceback may
    hold one for long, and a server may wait for us before it ends."""
    # Asked for anew: a dead handle has closed it, and its number may be another file's now.
    try:
        with socket.socket(fileno=os.dup(handle.aio_get_fd())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
    except (OSError, nbd.Error):
        pass    # it ended already


class Loop:
    """Polls some connections together."""

    def __init__(self, connections: Sequence[Connection]) -> None:
        self._connections = connections
        self._by_fd = {c.fd: c for c in connections}
        self._poll = select.poll()
        for connection in connections:
            self._poll.register(connection.fd, 0)

    def turn(self, timeout_s: float = TURN_S) -> bool:
        """Wait for at most ``timeout_s`` and serve what is ready; False when nothing was. Raises
        Broken, and whatever a command's ``done`` raises."""
        for connection in self._connections:
            if connection.touched:
                connection.touched = False
                wanted = connection.direction()
                if wanted != connection.armed:
                    self._poll.modify(connection.fd, _POLL[wanted])
                    connection.armed = wanted
        ready = self._poll.poll(int(timeout_s * 1000 + 0.999) if timeout_s > 0 else 0)
        if not ready:
            return False
        now = time.monotonic()
        for fd, events in ready:
            self._by_fd[fd].notify(events, now)
        return True

    def check_stall(self, limit_s: float) -> None:
        """Raises Broken when commands wait and their server said nothing for ``limit_s``."""
        now = time.monotonic()
        for connection in self._connections:
            if connection.in_flight and now - connection.last_event > limit_s:
                raise Broken(connection.side, f"no answer for {limit_s:.0f} s")


def drain(connections: Sequence[Connection], limit_s: float) -> None:
    """Wait a moment for the answers that are on their way, and forget them.

    A client that leaves while replies are being sent makes nbdkit 1.32 (Debian 12) fail an
    assertion; with VMware's library below it, its disk then stays open on the host.
    """
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        busy = [c for c in connections if c.in_flight]
        if not busy:
            return
        for connection in busy:
            connection.forget_ended(10)


def connect(endpoint: NbdEndpoint, side: str, control: Control,
            context: str | None = None) -> Connection:
    """A connection that finished its handshake. Raises Broken, or what ``control`` raises.

    None is left in its handshake: QEMU 7.2 of Debian 12 hangs for ever, with its guest, when its
    NBD server is stopped then (seen). So health is not asked meanwhile: it may end the job."""
    handle = nbd.NBD()
    if context is not None:
        handle.add_meta_context(context)
    # Buffers are our own, initialised, and never looked at after a failed read; libnbd need not
    # clear a mebibyte before each read.
    handle.set_pread_initialize(False)
    handle.set_uri_allow_local_file(True)
    end = time.monotonic() + CONNECT_S
    try:
        handle.aio_connect_uri(endpoint.uri)
        while not handle.aio_is_ready():
            if handle.aio_is_dead() or handle.aio_is_closed():
                raise Broken(side, "the server ended the handshake")
            if time.monotonic() > end:
                raise Broken(side, f"no answer within {CONNECT_S:.0f} s")
            handle.poll(int(TURN_S * 1000))
            control.check_stop()
    except BaseException as error:
        _end(handle)
        if isinstance(error, nbd.Error):
            raise Broken(side, str(error.args[0])) from error
        raise
    return Connection(handle, side)


@contextmanager
def connected(export: Export, side: str, control: Control, wanted: int = 1,
              context: str | None = None) -> Iterator[tuple[NbdEndpoint, list[Connection]]]:
    """Open an export and up to ``wanted`` connections to it.

    A target that does not promise ``multi_conn`` gets one connection, since a flush there covers
    only its own connection's writes. Raises Broken, and what ``export.open`` raises.
    """
    with export.open() as endpoint:
        connections: list[Connection] = []
        try:
            connections.append(connect(endpoint, side, control, context))
            limit = min(wanted, endpoint.connections)
            if side == "target" and not connections[0].handle.can_multi_conn():
                limit = 1
            while len(connections) < limit:
                connections.append(connect(endpoint, side, control, context))
            yield endpoint, connections
        except Broken as error:
            if said := endpoint.complaint():
                raise Broken(side, f"{error.reason} ({said})") from error
            raise
        finally:
            drain(connections, DRAIN_S)
            for connection in connections:
                connection.close()
