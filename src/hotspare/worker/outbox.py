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

from ..workflows.wire import Call

LARGEST_BATCH = 200                 # calls
LARGEST_BYTES = 512 * 1024          # of a batch that has more than one call


class Outbox:
    """One file, ``outbox.sqlite``. Thread-safe."""

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self._db.execute(f"PRAGMA {pragma}")
        # AUTOINCREMENT: a number is not used again when the table was empty
        self._db.execute("CREATE TABLE IF NOT EXISTS report (seq INTEGER PRIMARY KEY"
                         " AUTOINCREMENT, call TEXT NOT NULL, task INTEGER NOT NULL,"
                         " epoch INTEGER NOT NULL, at REAL NOT NULL, body TEXT NOT NULL)")

    def put(self, call: str, task: int, epoch: int, at: float, body: dict[str, Any]) -> None:
        """Durable when it returns. ``body`` is JSON."""
        with self._lock:
            self._db.execute("INSERT INTO report (call, task, epoch, at, body)"
                             " VALUES (?, ?, ?, ?, ?)", (call, task, epoch, at, json.dumps(body)))

    def batch(self) -> tuple[Call, ...]:
        """The next calls to send, oldest first."""
        found: list[Call] = []
        size = 0
        with self._lock:
            for seq, call, task, epoch, at, body in self._db.execute(
                    "SELECT seq, call, task, epoch, at, body FROM report ORDER BY seq LIMIT ?",
                    (LARGEST_BATCH,)):
                size += len(body)
                if found and size > LARGEST_BYTES:
                    break
                found.append(Call(seq, call, task, epoch, at, json.loads(body)))
        return tuple(found)

    def arrived(self, seq: int) -> None:
        """The server has everything up to ``seq``; later numbers are higher than that, also when
        this file is older than what the server has."""
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM report WHERE seq <= ?", (seq,))
            self._db.execute("INSERT INTO sqlite_sequence (name, seq) SELECT 'report', 0 WHERE NOT"
                             " EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'report')")
            self._db.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'report'"
                             " AND seq < ?", (seq, seq))

    def finished(self) -> set[tuple[int, int]]:
        """Tasks, with their epochs, whose end the server has not heard of yet."""
        with self._lock:
            return {(task, epoch) for task, epoch in self._db.execute(
                "SELECT task, epoch FROM report WHERE call = 'finish'")}

    def close(self) -> None:
        with self._lock:
            self._db.close()
