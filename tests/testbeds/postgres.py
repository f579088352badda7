"""A private PostgreSQL server on a unix socket, and databases in it, for tests and benches.

    with Postgres() as postgres:
        url = postgres.lend()

It runs as an unprivileged account (initdb refuses root), ends with the process that started it,
and lies under /tmp. Nothing but the account and root can reach its socket; it listens at no port.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from .kvm.errors import MissingPrerequisite, TestbedError
from .kvm.tools import SYSTEM_PATH, need
from .kvm.users import Identity, current

_PROGRAMS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))


class Postgres:
    """One server with its own data directory. Durable as in production: fsync is on."""

    def __init__(self) -> None:
        if not _PROGRAMS:
            raise MissingPrerequisite("PostgreSQL is not installed.",
                                      "Install the package postgresql.")
        self._bin = _PROGRAMS[-1]
        self._identity: Identity = current()
        self.dir = Path(tempfile.mkdtemp(prefix="hs-pg-", dir="/tmp"))
        self._identity.own(self.dir)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._free: list[str] = []
        self._log = self.dir / "log"

    def __enter__(self) -> Postgres:
        try:
            self._run("initdb", "-D", self.dir / "data", "-A", "trust", "-U", "hotspare",
                      "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    # --- the server ----------------------------------------------------------------------------

    def start(self) -> None:
        """Start, and return when connections are taken. Does nothing when it runs."""
        if self._process is not None:
            return
        settings = {"listen_addresses": "", "unix_socket_directories": self.dir,
                    "max_connections": 200, "shared_buffers": "64MB"}
        with self._log.open("ab") as log:
            # It ends with us, whatever ends us.
            self._process = subprocess.Popen(
                [need("setpriv"), "--pdeathsig", "INT", *self._identity.prefix(kvm=False)[1:-1],
                 "--", str(self._bin / "postgres"), "-D", str(self.dir / "data"),
                 *(f"--{name}={value}" for name, value in settings.items())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/",
                env={"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8"}, start_new_session=True)
        end = time.monotonic() + 30.0
        while subprocess.run([self._bin / "pg_isready", "-q", "-h", self.dir, "-d", "postgres"],
                             check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop(signal.SIGQUIT)
                raise TestbedError(f"PostgreSQL did not start: {self._log.read_text()[-2000:]}",
                                   "Look at what it says.")
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT breaks connections off and shuts down, SIGQUIT is a crash with recovery."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30.0)
            self._process = None

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        self.stop(how)
        self.start()

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.dir, ignore_errors=True)

    # --- its databases -------------------------------------------------------------------------

    def url(self, database: str) -> str:
        return f"postgresql://hotspare@/{database}?host={self.dir}"

    def create(self) -> str:
        """The address of a new, empty database."""
        name = f"t{next(self._numbers)}"
        self._execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        return self.url(name)

    def lend(self) -> str:
        """The address of a database with this version's schema and no row. The migrations take
        300 ms and CREATE DATABASE 600, so one that was given back is lent again."""
        if self._free:
            return self._free.pop()
        from hotspare.store import Store

        url = self.create()
        store = Store(url)
        store.migrate()
        store.close()
        return url

    def give_back(self, url: str) -> None:
        """Break its connections off, delete all rows; numbers begin at 1 again."""
        from hotspare.store import schema

        name = url.rpartition("?")[0].rpartition("/")[2]
        self._execute("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                                  f" WHERE datname = '{name}'")
        tables = schema.metadata.sorted_tables
        self._execute(
            name, "SET session_replication_role = replica",     # no foreign key is looked at
            *(f'DELETE FROM "{table.name}"' for table in tables),
            "SELECT setval(seqrelid, seqstart, false) FROM pg_sequence")
        self._free.append(url)

    def _execute(self, database: str, *statements: str) -> None:
        import psycopg

        # CREATE DATABASE refuses a transaction, and one statement alone needs none.
        with psycopg.connect(self.url(database), autocommit=len(statements) == 1) as conn:
            for statement in statements:
                conn.execute(statement.encode())

    def _run(self, program: str, *args: str | Path) -> None:
        done = subprocess.run(
            [*self._identity.prefix(kvm=False), self._bin / program, *args], check=False,
            capture_output=True, cwd="/", env={"PATH": SYSTEM_PATH, "LC_ALL": "C.UTF-8",
                                               "HOME": os.fspath(self.dir)})
        if done.returncode:
            raise TestbedError(f"{program} failed: {done.stderr.decode(errors='replace')}",
                               "Run it by hand to see more.")
