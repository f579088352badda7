"""Care of the control database: backup, restore, and the move to another database."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DatabaseError

from .. import __version__
from ..domain.errors import GiveUp, Refused
from ..services import restored
from ..services.context import Actor, change_on
from ..services.keys import sync
from ..store import Store, schema
from ..store.dump import dump, load
from ..store.engine import open_store, others, parse_url
from .process import only_one, prepare
from .sealed import SealedReader, SealedWriter

PASSPHRASE_LENGTH: Final = 8
_GOING_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Done:
    """What was written: rows by table, and of when it is (seconds since the epoch)."""

    rows: Mapping[str, int]
    taken_at: float
    version: str

    @property
    def total(self) -> int:
        return sum(self.rows.values())


def backup(state_dir: Path, database: str | None, file: Path, passphrase: str,
           force: bool = False) -> Done:
    """Write database, key and CA to ``file``, sealed; the server may run meanwhile. The file is
    there whole, read back and found right, or not at all. Raises Refused ``backup.exists``."""
    if len(passphrase) < PASSPHRASE_LENGTH:
        raise Refused("backup.passphrase-short", smallest=PASSPHRASE_LENGTH)
    new = file.with_name(f".{file.name}.new")
    try:
        if os.path.lexists(file) and not force:
            raise Refused("backup.exists", path=str(file))
        with _database(state_dir, database) as store:
            _write(new, passphrase, _content(state_dir, store))
            done = _verified(new, passphrase)
            _audit(store, "admin.backup", file.name, rows=done.total)
        new.replace(file)
        sync(file.parent)
    except OSError as error:
        raise GiveUp("backup.file", path=str(file), why=error.strerror or str(error)) from error
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)
    return done


def restore(state_dir: Path, database: str | None, file: Path, passphrase: str,
            force: bool = False) -> Done:
    """Bring back what a backup has; whatever does not succeed leaves all as it was, also when
    the process or the host dies. The server must be stopped. People must sign in anew, and rules
    whose replicas have newer points adopt them at the next start. Raises Refused
    ``restore.not-empty``."""
    prepare(state_dir)
    with only_one(state_dir), _opened(file, passphrase) as items:
        head = next(items)
        with closing(open_store(state_dir, database)) as store:
            restored.put_files(state_dir, store)        # what an earlier one left
            with _target(store, force) as conn:
                rows = load(conn, items, without=restored.LEFT_OUT)
                now = time.time()
                with change_on(conn, now) as change:
                    restored.settle(change)
                _audit_in(conn, now, "admin.restore", file.name, taken_at=head["taken_at"])
                restored.stage(conn, state_dir, {
                    name: base64.b64decode(content) for name, content in head["files"].items()
                    if name in restored.FILES})
            restored.put_files(state_dir, store)
    return Done(rows, head["taken_at"], head["version"])


def migrate(state_dir: Path, database: str | None, to: str, force: bool = False) -> Done:
    """Copy everything from the database of the state directory (or ``database``) to the one at
    ``to``, and mark the old one as left. The server must be stopped."""
    prepare(state_dir)
    with only_one(state_dir), _database(state_dir, database) as old:
        url = parse_url(to)
        if url == old.engine.url:
            raise Refused("migrate.same")
        now = time.time()
        with closing(open_store(state_dir, to)) as new, old.read() as source, \
                _target(new, force) as conn:
            rows = load(conn, dump(source))
            conn.execute(sa.delete(schema.setting).where(schema.setting.c.key == restored.MOVED))
            _audit_in(conn, now, "admin.migrate", url.database or "")
        with old.write() as conn:
            restored.mark_moved(conn, url.render_as_string(hide_password=True), now)
    return Done(rows, now, __version__)


# --- databases ---------------------------------------------------------------------------------


@contextmanager
def _database(state_dir: Path, database: str | None) -> Iterator[Store]:
    """The one that is in use."""
    if database is None and not (state_dir / "hotspare.db").exists():
        raise GiveUp("care.no-database", path=str(state_dir))
    prepare(state_dir)
    with closing(open_store(state_dir, database)) as store:
        try:
            if store.empty():
                raise GiveUp("care.no-database", path=str(state_dir))
            restored.put_files(state_dir, store)
            yield store
        except DatabaseError as error:
            raise GiveUp("care.damaged", detail=str(error.orig)) from error


@contextmanager
def _target(store: Store, force: bool) -> Iterator[Connection]:
    """A write transaction on a database that is to be filled."""
    try:
        if not force and not store.empty():
            raise Refused("restore.not-empty")
        with store.write() as conn:
            if others(conn, "hotspare%", _GOING_S):
                raise Refused("restore.in-use")
            yield conn
    except DatabaseError as error:
        raise GiveUp("care.damaged", detail=str(error.orig)) from error


def _audit(store: Store, action: str, what: str, **detail: Any) -> None:
    with store.write() as conn:
        _audit_in(conn, time.time(), action, what, **detail)


def _audit_in(conn: Connection, now: float, action: str, what: str, **detail: Any) -> None:
    who = Actor(f"local uid {os.geteuid()}", "administrator")
    with change_on(conn, now) as change:
        change.audit(who, action, what[:64], **detail)


# --- the file ----------------------------------------------------------------------------------


def _content(state_dir: Path, store: Store) -> Iterator[Any]:
    files = {name: base64.b64encode((state_dir / name).read_bytes()).decode()
             for name in restored.FILES if (state_dir / name).exists()}
    if restored.FILES[0] not in files:
        raise GiveUp("server.key-missing", path=str(state_dir / restored.FILES[0]))
    with store.read() as conn:
        yield {"version": __version__, "taken_at": time.time(), "files": files}
        yield from dump(conn)


def _write(path: Path, passphrase: str, items: Iterator[Any]) -> None:
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb") as file:
        with SealedWriter(file, passphrase) as sealed, \
                gzip.GzipFile(fileobj=sealed, mode="wb", mtime=0) as packed:
            for item in items:
                packed.write(json.dumps(item, separators=(",", ":")).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _opened(path: Path, passphrase: str) -> Iterator[Iterator[Any]]:
    """The items of a backup. Raises Refused ``backup.…`` for one that is none, is damaged, or has
    another passphrase."""
    with _reading(path):
        file = path.open("rb")
    with file:
        with _reading(path):
            sealed = io.BufferedReader(SealedReader(file, passphrase), 1 << 16)
            packed = gzip.GzipFile(fileobj=sealed, mode="rb")
        with packed:
            yield _items(path, packed)


def _items(path: Path, packed: gzip.GzipFile) -> Iterator[Any]:
    with _reading(path):
        yield from (json.loads(line) for line in packed)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise GiveUp("backup.file", path=str(path), why=error.strerror or str(error)) from error
    except (EOFError, ValueError) as error:
        raise Refused("backup.damaged") from error


def _verified(path: Path, passphrase: str) -> Done:
    """Read a backup to its end."""
    with _opened(path, passphrase) as items:
        head, end, count = next(items), {}, 0
        for item in items:
            count += isinstance(item, list)
            end = item
    if not isinstance(end, dict) or sum(end.get("rows", {"": -1}).values()) != count:
        raise Refused("backup.damaged")
    return Done(end["rows"], head["taken_at"], head["version"])
