"""One database, SQLite or PostgreSQL: read and write transactions that mean the same on both."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Row, make_url
from sqlalchemy.exc import ArgumentError, DataError, InterfaceError, OperationalError

from ..domain.errors import Refused, Retry

Record: TypeAlias = "Row[*tuple[Any, ...]]"
"""A row whose columns are known by the query that it came from."""

WAIT_MS: Final = 30_000
"""How long a transaction waits for another writer's lock."""

_WRITER_LOCK: Final = 0x686F_7473_7061_7265     # "hotspare": an advisory lock of this database
_POSTGRESQL: Final = {
    "application_name": "hotspare", "connect_timeout": 10,
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
    """The database at ``url``; None: SQLite's file in the state directory, made when missing."""
    if url is None:
        path = state_dir / "hotspare.db"
        path.touch(mode=0o600)
        url = sqlite_url(path)
    return Store(url)


class Store:
    """What a write transaction read is still true when it writes: it has the database's one
    writer lock from its begin (SQLite: BEGIN IMMEDIATE; PostgreSQL: an advisory lock, and each of
    its statements sees all that was committed before). Writers of this process queue at a lock
    of ours first: SQLite's own waiting sleeps up to 100 ms between tries, and PostgreSQL's would
    hold a connection each.

    Both transactions raise Retry ``store.unavailable`` when the database cannot be reached or
    broke the connection off; the next one joins it anew. Whether a write that was broken off in
    its commit was made is not known, so what is retried must look first."""

    def __init__(self, url: str) -> None:
        parsed = parse_url(url)
        self._sqlite = parsed.drivername == "sqlite"
        more: dict[str, Any] = {} if self._sqlite else {
            "pool_pre_ping": True, "pool_size": 16, "max_overflow": 48,
            "connect_args": _POSTGRESQL}
        # Errors of the database must not carry values: they reach logs.
        self.engine = sa.create_engine(parsed, hide_parameters=True, **more)
        self._writer = threading.Lock()
        self._holder: int | None = None
        if self._sqlite:
            event.listen(self.engine, "connect", _configure_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
            self._read_options: dict[str, Any] = {"hotspare_read": True}
        else:
            self._read_options = {"isolation_level": "REPEATABLE READ",
                                  "postgresql_readonly": True}

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view; nothing may be written."""
        with self._reached(), self.engine.connect() as conn:
            conn.execution_options(**self._read_options)
            with conn.begin():
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
        except (OperationalError, InterfaceError) as error:
            if self._sqlite:
                raise
            raise Retry("store.unavailable", detail=_first_line(error)) from error
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


def _first_line(error: sa.exc.DBAPIError) -> str:
    return (str(error.orig).strip() or type(error.orig).__name__).splitlines()[0]


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
