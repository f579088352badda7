"""What the server keeps in memory for a connection that is open."""

from __future__ import annotations

import socket
import ssl
import tracemalloc
from contextlib import ExitStack
from pathlib import Path

from unit.service_rig import rig, served

_MANY = 50


def test_an_open_connection_costs_little(tmp_path: Path) -> None:
    """A fleet keeps some thousand of them."""
    with rig(tmp_path) as made, served(made) as over, ExitStack() as stack:
        context = ssl.create_default_context(cafile=str(over.ca))
        port = int(over.url.rsplit(":", 1)[1])

        def connect() -> None:
            plain = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            way = stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))
            way.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert way.recv(4096).startswith(b"HTTP/1.1")

        connect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(_MANY):
                connect()
            each = (tracemalloc.get_traced_memory()[0] - before) / _MANY
        finally:
            tracemalloc.stop()
        assert each < 128 * 1024, f"{each / 1024:.0f} KiB"
