"""What a DR machine tells its own host: its tasks, over a unix socket that only its user opens.

It answers also while the control server is away. One connection, one answer: JSON, then the end.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

NAME = "worker.sock"


class LocalSocket:
    """Answers at ``STATE_DIR/worker.sock`` until it is closed."""

    def __init__(self, state_dir: Path, overview: Callable[[], dict[str, Any]]) -> None:
        self._path = state_dir / NAME
        self._overview = overview
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._path.unlink(missing_ok=True)      # of a process that was killed: ours is locked
        folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY)
        try:
            # An address has 108 bytes at most, a state directory may be deeper.
            self._socket.bind(f"/proc/self/fd/{folder}/{NAME}")
        finally:
            os.close(folder)
        self._path.chmod(0o600)     # before it listens: nobody could connect until then
        self._socket.listen(16)
        self._closing = threading.Event()
        threading.Thread(target=self._serve, name="local-socket", daemon=True).start()

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                asking, _ = self._socket.accept()
            except OSError:                     # closed, or no file descriptor is left now
                self._closing.wait(1.0)
                continue
            with asking, contextlib.suppress(OSError):
                asking.settimeout(5.0)
                try:
                    answer = json.dumps(self._overview())
                except Exception:
                    logger.exception("the local list of tasks failed")
                    continue
                asking.sendall(answer.encode())

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._path.unlink(missing_ok=True)
