"""One database, SQLite or PostgreSQL: read and write transactions that mean the same on both."""

from __future__ import annotations

import select
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Row, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    InterfaceError,
    InternalError,
    InvalidatePoolError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..domain.errors import GiveUp, Refused, Retry

Record: TypeAlias = "Row[*tuple[Any, ...]]"
"""A row whose columns are known by the query that it came from."""

WAIT_MS: Final = 30_000
"""How long a transaction waits for another writer's lock."""

_SURROUNDINGS: Final = frozenset({
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_NOMEM})
"""Errors of SQLite that are not of the statement: they may be gone the next time."""

_IDLE_S: Final = 1.0            # a connection that rested so long may be of a server that is gone
_USED: Final = "hotspare_used"

_WRITER_LOCK: Final = 0x686F_7473_7061_7265     # "hotspare": an advisory lock of this database
_POSTGRESQL: Final = {
    "connect_timeout": 10,
    # A server that vanished without a word is noticed within half a minute, on both sides.
    "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "options": f"-c lock_timeout={WAIT_MS} -c idle_in_transaction_session_timeout={2 * WAIT_MS}"
               " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5"
               " -c tcp_keepalives_count=3",
}


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def parse_url(url: str) -> URL:
    """Raises Refused ``store.url`` for what is no address of a database that is supported. The
    password, when it has one, appears in no message."""
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise Refused("store.url", why="it is not an address") from None
    if parsed.drivername == "sqlite":
        return parsed
    if parsed.drivername in {"postgresql", "postgres"}:
        return parsed.set(drivername="postgresql+psycopg")
    raise Refused("store.url", why=f"{parsed.drivername} is neither postgresql nor sqlite")


def open_store(state_dir: Path, url: str | None = None) -> Store:
    """The database at ``url``; None: SQLite's file in the state directory. A file is made when
    it is missing, for this user only; SQLite gives its -wal and -shm the same rights."""
    url = sqlite_url(state_dir / "hotspare.db") if url is None else url
    parsed = parse_url(url)
    if parsed.drivername == "sqlite" and parsed.database:
        try:
            Path(parsed.database).touch(mode=0o600)
        except OSError as error:
            raise GiveUp("store.file", path=parsed.database,
                         why=error.strerror or str(error)) from error
    return Store(url)


class Store:
    """What a write transaction read is still true when it writes: it has the database's one
    writer lock from its begin (SQLite: BEGIN IMMEDIATE; PostgreSQL: an advisory lock, and each of
    its statements sees all that was committed before). Writers of this process queue at a lock
    of ours first: SQLite's own waiting sleeps up to 100 ms between tries, and PostgreSQL's would
    hold a connection each.

    Both transactions raise Retry ``store.unavailable`` when the database cannot be reached or
    broke the connection off, ``store.full`` or ``store.trouble`` when SQLite's file cannot be
    written; the next one joins it anew. Whether a write that was broken off in its commit was
    made is not known, so what is retried must look first."""

    def __init__(self, url: str) -> None:
        parsed = parse_url(url)
        self._sqlite = parsed.drivername == "sqlite"
        more: dict[str, Any] = {} if self._sqlite else {
            "pool_size": 16, "max_overflow": 48,
            "connect_args": {"application_name": parsed.query.get("application_name", "hotspare")}
            | _POSTGRESQL}
        # Errors of the database must not carry values: they reach logs.
        self.engine = sa.create_engine(parsed, hide_parameters=True, **more)
        self._writer = threading.Lock()
        self._holder: int | None = None
        if self._sqlite:
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            self._read_options: dict[str, Any] = {"hotspare_read": True}
        else:
            event.listen(self.engine, "checkin", _note_use)
            event.listen(self.engine, "checkout", self._probe)
            self._read_options = {"isolation_level": "REPEATABLE READ",
                                  "postgresql_readonly": True}

    def _probe(self, dbapi: Any, record: Any, _proxy: Any) -> None:
        """Ask the server whether it is there, which is a way to it, only of a connection that was
        idle for long, or where something came unasked: a server that ends says so."""
        if (time.monotonic() - record.info.get(_USED, 0.0) > _IDLE_S
                or _has_input(dbapi)):
            try:
                self.engine.dialect.do_ping(dbapi)
            except self.engine.dialect.loaded_dbapi.Error as error:
                raise InvalidatePoolError from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; nothing may be written."""
        with self._reached(), self.engine.connect() as conn:
            conn.execution_options(**self._read_options)
            with conn.begin():
                yield conn

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """For one statement, which is consistent by itself; nothing may be written. On PostgreSQL
        a third of the ways to the server."""
        if self._sqlite:
            with self.read() as conn:
                yield conn
        else:
            with self._reached(), self.engine.connect() as conn:
                yield conn.execution_options(isolation_level="AUTOCOMMIT")

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed at the end, durably, or rolled back by an exception."""
        me = threading.get_ident()
        if self._holder == me:
            raise RuntimeError("a write transaction inside a write transaction")
        with self._writer:
            self._holder = me
            try:
                with self._reached(), self.engine.begin() as conn:
                    if not self._sqlite:
                        # Not repeatable read: its view would be of before the wait.
                        conn.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"),
                                     {"key": _WRITER_LOCK})
                    yield conn
            finally:
                self._holder = None

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            raise Retry("store.busy") from error
        except (OperationalError, InterfaceError) as error:
            if not self._sqlite:
                raise Retry("store.unavailable", detail=_first_line(error)) from error
            code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
            if code == sqlite3.SQLITE_FULL:
                raise Retry("store.full", detail=_first_line(error)) from error
            if code in _SURROUNDINGS:
                raise Retry("store.trouble", detail=_first_line(error)) from error
            raise
        except DataError as error:      # too long, or a character that PostgreSQL does not take
            raise Refused("store.value", detail=_first_line(error)) from None

    def empty(self) -> bool:
        """Whether nothing was ever stored: no table of ours is there, or has a row."""
        from .schema import metadata

        with self.read() as conn:
            there = set(sa.inspect(conn).get_table_names())
            return not any(conn.execute(sa.select(sa.literal(1)).select_from(t).limit(1)).first()
                           for t in metadata.sorted_tables if t.name in there)

    def migrate(self) -> None:
        """Bring the schema to this version's. Raises when the database is newer."""
        from .migrate import upgrade

        with self.write() as conn:
            upgrade(conn)

    def close(self) -> None:
        self.engine.dispose()


def named(url: str, name: str) -> str:
    """The same database, where PostgreSQL sees this process by that name (:func:`others`)."""
    parse_url(url)                      # refuses what is none
    parsed = make_url(url)
    return url if parsed.drivername == "sqlite" else parsed.update_query_dict(
        {"application_name": name}).render_as_string(hide_password=False)


def others(conn: Connection, names: str, wait_s: float) -> bool:
    """Whether other processes of ours, whose names are LIKE ``names``, work with a PostgreSQL
    database, on whatever host. One that has just ended is seen for a moment still, and one whose
    host vanished for half a minute."""
    end = time.monotonic() + wait_s
    while conn.dialect.name == "postgresql" and conn.execute(sa.text(
            "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND"
            " datname = current_database() AND application_name LIKE :names"),
            {"names": names}).scalar():
        if time.monotonic() > end:
            return True
        time.sleep(0.1)
        conn.execute(sa.text("SELECT pg_stat_clear_snapshot()"))
    return False


def by_the_value(error: DBAPIError) -> bool:
    """Whether it is the statement's own fault: said again it fails again. The drivers call some of
    these operational, a row that is too large for an index for one."""
    if not isinstance(error, OperationalError | InterfaceError | InternalError):
        return True
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        return code in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG)
    return str(getattr(error.orig, "sqlstate", None) or "").startswith("54")


def _first_line(error: sa.exc.DBAPIError) -> str:
    return (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]


def _has_input(dbapi: Any) -> bool:
    look = select.poll()            # select.select() takes no descriptor above 1023
    look.register(dbapi, select.POLLIN)
    return bool(look.poll(0))


def _note_use(_dbapi: Any, record: Any) -> None:
    record.info[_USED] = time.monotonic()


def _configure_sqlite(dbapi: Any, _record: Any) -> None:
    dbapi.isolation_level = None        # the driver begins nothing by itself; _begin_sqlite does
    cursor = dbapi.cursor()
    cursor.execute(f"PRAGMA busy_timeout={WAIT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")   # NORMAL loses commits at a power loss under WAL
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(conn: Connection) -> None:
    reading = conn.get_execution_options().get("hotspare_read")
    conn.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
