"""One database: read and write transactions, SQLite now, PostgreSQL by URL later."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection, Row

Record: TypeAlias = "Row[*tuple[Any, ...]]"
"""A row whose columns are known by the query that it came from."""

BUSY_TIMEOUT_MS = 30_000


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


class Store:
    """A write transaction takes SQLite's write lock at its begin (BEGIN IMMEDIATE): what it read
    is still true when it writes. Writers of this process queue at a lock of ours first, since
    SQLite's own waiting sleeps up to 100 ms between tries."""

    def __init__(self, url: str) -> None:
        # Errors of the database must not carry values: they reach logs.
        self.engine = sa.create_engine(url, hide_parameters=True,
                                       pool_pre_ping=not url.startswith("sqlite"))
        self._writer = threading.Lock()
        self._holder: int | None = None
        if self.engine.dialect.name == "sqlite":
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; nothing may be written."""
        with self.engine.connect().execution_options(hotspare_read=True) as conn, conn.begin():
            yield conn

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end, durably, or rolled back by an exception."""
        me = threading.get_ident()
        if self._holder == me:
            raise RuntimeError("a write transaction inside a write transaction")
        with self._writer:
            self._holder = me
            try:
                with self.engine.begin() as conn:
                    yield conn
            finally:
                self._holder = None

    def migrate(self) -> None:
        """Bring the schema to this version's. Raises when the database is newer."""
        from .migrate import upgrade

        upgrade(self.engine)

    def close(self) -> None:
        self.engine.dispose()


def _configure_sqlite(dbapi: Any, _record: Any) -> None:
    dbapi.isolation_level = None        # the driver begins nothing by itself; _begin_sqlite does
    cursor = dbapi.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")   # NORMAL loses commits at a power loss under WAL
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(conn: Connection) -> None:
    reading = conn.get_execution_options().get("hotspare_read")
    conn.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
