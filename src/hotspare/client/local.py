"""The tasks of the DR machine on this host, asked of itself: works while the server is away."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import TypedDict, cast

from ..domain.errors import GiveUp
from .session import default_state_dir

_ANSWER_S = 10.0
_LARGEST = 16 * 1024 * 1024


class LocalProgress(TypedDict):
    step: str
    done: int
    total: int
    rate: float
    seconds_left: float | None
    disks: dict[str, list[int]]


class LocalTask(TypedDict):
    task: int
    kind: str
    of: str
    state: str                      # running, pending
    step: str
    code: str                       # what a pending one waits for
    message: str
    progress: LocalProgress | None


class LocalTasks(TypedDict):
    tasks: list[LocalTask]
    server: str
    away: bool                      # the control server does not answer
    contact: float | None           # when it last did


def local_tasks(path: Path | None = None) -> LocalTasks:
    """Raises GiveUp ``local.no-socket``."""
    where = path or default_state_dir() / "worker.sock"
    parts: list[bytes] = []
    try:
        folder = os.open(where.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
                asked.settimeout(_ANSWER_S)
                # An address has 108 bytes at most, a state directory may be deeper.
                asked.connect(f"/proc/self/fd/{folder}/{where.name}")
                while (part := asked.recv(65536)) and sum(map(len, parts)) < _LARGEST:
                    parts.append(part)
        finally:
            os.close(folder)
        return cast(LocalTasks, json.loads(b"".join(parts)))
    except OSError as error:
        raise GiveUp("local.no-socket", path=str(where),
                     why=error.strerror or str(error)) from error
    except ValueError as error:
        raise GiveUp("local.no-socket", path=str(where), why="it does not answer") from error
