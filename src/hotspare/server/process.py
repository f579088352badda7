"""A process with a state directory: prepared, held by one process, with a log."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..domain.errors import Refused

_M_ARENA_MAX = -8               # malloc.h
_PATIENCE_S = 0.5
"""A doctor that looks whether a server runs has the lock for a moment."""


def prepare(state_dir: Path) -> None:
    """Make it, for this user only. Raises Refused ``server.state-dir``."""
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = state_dir.stat()
        if found.st_uid != os.geteuid():
            raise Refused("server.state-dir", path=str(state_dir), why="it is another user's")
        if found.st_mode & 0o077:
            state_dir.chmod(0o700)
    except OSError as error:
        raise Refused("server.state-dir", path=str(state_dir),
                      why=error.strerror or str(error)) from error


def few_arenas() -> None:
    """glibc gives each of many threads a heap of its own, and what one has freed no other uses:
    with forty threads that answer requests most of the memory is then unused. Before any thread."""
    with suppress(OSError, AttributeError):     # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


@contextmanager
def only_one(state_dir: Path) -> Iterator[None]:
    """One process a state directory: the kernel lets the lock go whatever ends the process."""
    fd = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        end = time.monotonic() + _PATIENCE_S
        while not _locked(fd):
            if time.monotonic() > end:
                raise Refused("server.running", path=str(state_dir))
            time.sleep(0.02)
        yield
    finally:
        os.close(fd)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def configure_logging() -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO,
                        format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for noisy in ("alembic", "httpx", "httpcore", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
