"""Reports on their way to the control server: durable, in order, each applied once.

A task never waits for the server: what it says is on this machine's disk when the call returns,
and a sender brings it over when it can. Numbers grow over the machine's whole life; the server
keeps the last one that it applied, so a report whose answer was lost is skipped there.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

from ..domain.errors import GiveUp, OutOfSpace
from ..workflows.wire import LARGEST_REPORT, Call

LARGEST_BATCH = 200                 # calls
LARGEST_BYTES = 512 * 1024          # of a batch that has more than one call
_AROUND = 64 * 1024                 # what a body of one call has beside it, at most


class Outbox:
    """One file, ``outbox.sqlite``. Thread-safe."""

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._path = path
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._db.execute(f"PRAGMA {pragma}")
        # AUTOINCREMENT: a number is not used again when the table was empty
        self._db.execute("CREATE TABLE IF NOT EXISTS report (seq INTEGER PRIMARY KEY"
                         " AUTOINCREMENT, call TEXT NOT NULL, task INTEGER NOT NULL,"
                         " epoch INTEGER NOT NULL, at REAL NOT NULL, body TEXT NOT NULL)")

    def put(self, call: str, task: int, epoch: int, at: float, body: dict[str, Any]) -> None:
        """Durable when it returns. ``body`` is JSON. Raises OutOfSpace ``worker.outbox`` when it
        cannot be written now: nothing of it was; GiveUp ``link.too-large``, as it would never
        arrive."""
        text = json.dumps(body)
        if len(text) > LARGEST_REPORT - _AROUND:
            raise GiveUp("link.too-large", call=call, size=len(text), largest=LARGEST_REPORT)
        try:
            with self._lock:
                self._db.execute("INSERT INTO report (call, task, epoch, at, body)"
                                 " VALUES (?, ?, ?, ?, ?)", (call, task, epoch, at, text))
        except sqlite3.OperationalError as error:
            raise OutOfSpace("worker.outbox", path=str(self._path), why=str(error)) from error

    def batch(self, largest: int = LARGEST_BATCH) -> tuple[Call, ...]:
        """The next calls to send, oldest first."""
        found: list[Call] = []
        size = 0
        with self._lock:
            for seq, call, task, epoch, at, body in self._db.execute(
                    "SELECT seq, call, task, epoch, at, body FROM report ORDER BY seq LIMIT ?",
                    (largest,)):
                size += len(body)
                if found and size > LARGEST_BYTES:
                    break
                found.append(Call(seq, call, task, epoch, at, json.loads(body)))
        return tuple(found)

    def empty(self) -> bool:
        with self._lock:
            return self._db.execute("SELECT 1 FROM report LIMIT 1").fetchone() is None

    def arrived(self, seq: int) -> None:
        """The server has everything up to ``seq``; later numbers are higher than that.

        When this file never came so far it is older than what the server has (lost, or brought
        back from a backup): what it holds is new to the server and gets later numbers."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            last = self._db.execute("SELECT max(seq) FROM sqlite_sequence"
                                    " WHERE name = 'report'").fetchone()[0]
            if last is None:
                self._db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('report', ?)",
                                 (seq,))
            elif last < seq:
                self._db.execute("UPDATE report SET seq = seq + ?", (seq,))
                self._db.execute("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'report'",
                                 (seq,))
            else:
                self._db.execute("DELETE FROM report WHERE seq <= ?", (seq,))

    def finished(self) -> set[tuple[int, int]]:
        """Tasks, with their epochs, whose end the server has not heard of yet."""
        with self._lock:
            return {(task, epoch) for task, epoch in self._db.execute(
                "SELECT task, epoch FROM report WHERE call = 'finish'")}

    def close(self) -> None:
        with self._lock:
            self._db.close()
