"""The durable step runner of one process: DBOS Transact in one narrow role.

A run is a function that asks for its steps one after another. Each finished step's result is
recorded, so that after kill -9 the run goes on with the first step that has none. Nothing else of
DBOS is used: no queues, no schedules, no cancellation (docs/decisions/0002-step-runner.md).
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from ..domain.errors import GiveUp

logger = logging.getLogger(__name__)

Json = dict[str, Any]
Record = Callable[[str, Callable[[], Json]], Json]
"""``record(name, step)`` runs ``step`` unless its result is known already, and returns it."""

Body = Callable[[Json, Record], None]

_APPLICATION_VERSION = "hotspare-steps-1"
"""A constant: DBOS's default is a hash of the source, and after an upgrade pending work would
silently never be recovered. Raised only together with a migration of the step lists."""


class Runner(Protocol):
    def start(self, run_id: str, argument: Json) -> None:
        """Begin a run, or do nothing when a run of this id began before."""
        ...


class DbosRunner:
    """Runs ``body`` durably; its state is one SQLite file under ``state_dir``.

    One live process per state directory: a second one is refused, since DBOS would run the same
    work twice. There is one runner a process, as DBOS keeps global state.
    """

    def __init__(self, state_dir: Path, body: Body) -> None:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(state_dir / "runner.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GiveUp("worker.already-running", directory=str(state_dir)) from None
        self._launch(state_dir / "steps.sqlite", body)
        self._started: set[str] = set()
        self._guard = threading.Lock()

    def _launch(self, path: Path, body: Body) -> None:
        import sqlalchemy as sa
        from dbos import DBOS, DBOSPortableJSONSerializer

        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        engine = sa.create_engine(f"sqlite:///{path}")

        @sa.event.listens_for(engine, "connect")
        def _(connection: Any, _record: Any) -> None:
            connection.isolation_level = "IMMEDIATE"
            for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL",
                           "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")

        @sa.event.listens_for(engine, "handle_error")
        def _(failed: sa.engine.ExceptionContext) -> None:
            # DBOS waits for a lock and gives a run up for a full disk, of which its task would
            # never hear: both are waited for.
            code = getattr(failed.original_exception, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                logger.warning("%s cannot be written: %s", path, failed.original_exception)
                raise sa.exc.OperationalError(None, None, sqlite3.OperationalError(
                    f"database is locked: {failed.original_exception}"))

        logging.getLogger("dbos").setLevel(logging.ERROR)
        self._dbos = DBOS
        DBOS(config={
            "name": "hotspare", "executor_id": "machine", "log_level": "ERROR",
            "application_version": _APPLICATION_VERSION, "serializer": DBOSPortableJSONSerializer(),
            "system_database_url": f"sqlite:///{path}", "system_database_engine": engine,
            "scheduler_polling_interval_sec": 3600.0,
        })

        def record(name: str, step: Callable[[], Json]) -> Json:
            return DBOS.run_step({"name": name}, step)

        @DBOS.workflow(name="hotspare.run", max_recovery_attempts=1_000_000)
        def run(argument: Json) -> None:
            body(argument, record)

        self._run = run
        DBOS.launch()
        self._prune()

    def _prune(self) -> None:
        """DBOS never deletes what has ended; the control server keeps the history."""
        for status in ("SUCCESS", "ERROR", "CANCELLED"):
            ended = self._dbos.list_workflows(status=status)
            if ended:
                self._dbos.delete_workflows([w.workflow_id for w in ended])

    def start(self, run_id: str, argument: Json) -> None:
        from dbos import SetWorkflowID

        with self._guard:
            if run_id in self._started:
                return
            self._started.add(run_id)
            if len(self._started) % 500 == 0:
                self._prune()
        with SetWorkflowID(run_id):
            self._dbos.start_workflow(self._run, argument)
