"""A handshake that is given up leaves nothing open: QEMU 7.2 hangs for ever, with the guest that it
runs, when its NBD server is stopped while a client is in its handshake."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hotspare.dataplane.connection import Broken, connect
from hotspare.dataplane.control import Control
from hotspare.domain.errors import InstantLost, Stopped
from hotspare.platforms.port import NbdEndpoint

GREETING = b"NBDMAGICIHAVEOPT\0\x03"


class Silent:
    """An NBD server that greets, and then says nothing."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(5)
        self.endpoint = NbdEndpoint(f"nbd+unix:///disk?socket={path}")
        self.client: socket.socket | None = None

    def greet(self) -> bool:
        """At the first call."""
        if self.client is None:
            self.client, _ = self._listener.accept()
            self.client.settimeout(5)
            self.client.sendall(GREETING)
        return True

    def left(self) -> bool:
        """Whether the client has gone."""
        assert self.client is not None
        while self.client.recv(4096):
            pass
        return True

    def close(self) -> None:
        self._listener.close()
        if self.client is not None:
            self.client.close()


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Silent]:
    made = Silent(tmp_path / "s")
    yield made
    made.close()


def test_a_stop_ends_it(silent: Silent) -> None:
    control = Control(stop=silent.greet)
    with pytest.raises(Stopped) as held:        # its traceback holds the connection's handle
        connect(silent.endpoint, "source", control)
    assert silent.left()
    assert held.value.code == "task.stopped"


def test_a_server_that_is_silent_ends_it(silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotspare.dataplane.connection.CONNECT_S", 0.3)
    with pytest.raises(Broken) as held:
        connect(silent.endpoint, "source", Control(stop=not_yet(silent.greet)))
    assert silent.left()
    assert "no answer" in held.value.reason


def test_health_is_not_asked_meanwhile(silent: Silent, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may find that the instant must be let go, and end the backup job."""
    monkeypatch.setattr("hotspare.dataplane.connection.CONNECT_S", 0.3)

    def healthy() -> None:
        raise InstantLost("source.scratch-low", None)

    with pytest.raises(Broken):
        connect(silent.endpoint, "source", Control(not_yet(silent.greet), healthy))


def not_yet(work: Callable[[], bool]) -> Callable[[], bool]:
    def stop() -> bool:
        work()
        return False

    return stop
