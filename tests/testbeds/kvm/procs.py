"""Processes by id: is it still the one we mean, end it, find what a lab left."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def start_time(pid: int) -> int | None:
    """Return a process's start time in clock ticks, which tells it from a later one of the same id.

    None for a process that is gone or is a zombie.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def alive(pid: int) -> bool:
    """Return whether a process runs (a zombie does not)."""
    return start_time(pid) is not None


def command(pid: int) -> list[str]:
    """Return the words of a process's command line, empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def read_pid(path: Path, mark: str) -> int | None:
    """Return the id in a pid file if that process lives and its command line contains `mark`.

    The mark guards against an id that some other process got meanwhile.
    """
    try:
        pid = int(path.read_text("ascii").strip())
    except (OSError, ValueError):
        return None
    return pid if alive(pid) and any(mark in word for word in command(pid)) else None


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that is gone already is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_for(condition: Callable[[], Any], timeout_s: float, what: str) -> Any:
    """The first true answer of ``condition``."""
    end = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
        time.sleep(0.05)


def wait_gone(pid: int, timeout: float) -> bool:
    """Wait until a process is gone (reaping it when it is our child); return whether it is."""
    end = time.monotonic() + timeout
    while True:
        gone = not alive(pid)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        if gone:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.01)


def end(pid: int, *, grace: float = 5.0) -> None:
    """End a process: SIGTERM, and SIGKILL after the grace time."""
    send(pid, signal.SIGTERM)
    if not wait_gone(pid, grace):
        send(pid, signal.SIGKILL)
        wait_gone(pid, 5.0)


def children(parent: int) -> list[int]:
    """Return the living direct children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text("utf-8", "replace")
            except OSError:
                continue
            fields = text.rpartition(")")[2].split()
            if int(fields[1]) == parent and fields[0] not in "ZX":
                found.append(int(entry.name))
    return found


def using(directory: Path, programs: tuple[str, ...]) -> list[int]:
    """Return the processes running one of `programs` whose command line names the lab's directory.

    The directory's name is random, so this finds exactly a lab's own. The check of the program
    keeps a test's or a user's shell that merely mentions the directory out of it.
    """
    mark = f"{directory}/"
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        words = command(int(entry.name))
        if not words or not any(mark in word for word in words):
            continue
        if Path(words[0].rstrip(":")).name.startswith(programs):
            found.append(int(entry.name))
    return found
