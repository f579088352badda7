"""A database that was lost, brought back from a backup, or moved: what was true of it may not be
any more, and no number that was given before may be given again, since names at hypervisors are
made of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.errors import GiveUp, Refused
from ..store import Store, schema
from ..store.dump import go_on_after
from . import ends
from .context import Change
from .keys import sync, write_private

LEFT_OUT: Final = frozenset({"token", "enrolment", "delivery"})
"""Of a backup: a session or code that was ended since would be good again, and notifications of
then would be sent now."""

FILES: Final = ("secret.key", "tls/ca.pem", "tls/ca-key.pem")
"""What the database is of no use without: the key of its secrets and of all lineages, and the CA
that DR machines and clients have pinned."""

MOVED: Final = "moved"
REBUILD: Final = "rebuild"
STAGED: Final = "staged"
"""Settings: where the database went; that the targets are to be read at the next start; that the
files beside it, which came with it, are to be put in their places."""

HOLD_S: Final = 120.0
"""How long the schedule waits for the targets to be read: a run that began meanwhile would hide
a failover that stands."""


def settle(change: Change) -> None:
    """End what ran when the backup was made, and ask for a look at all targets. A database that
    was left for another one is in use again."""
    t = schema.task
    for task in change.conn.execute(sa.select(t).where(t.c.state != "ended").order_by(
            sa.case((t.c.state == "queued", 0), else_=1), t.c.id)).all():
        ends.end(change, task, "failed", error=GiveUp("task.restored").as_dict(), figures={})
    skip_numbers(change.conn, change.now)
    change.conn.execute(sa.delete(schema.setting).where(schema.setting.c.key == MOVED))
    _set(change.conn, REBUILD, change.now)


def stage(conn: Connection, state_dir: Path, files: Mapping[str, bytes]) -> None:
    """Lay files of :data:`FILES` beside the ones that are there. The commit of the transaction
    makes them the right ones (:func:`put_files`), so database and key change at one instant.
    Raises GiveUp ``server.state-dir``."""
    for name, content in files.items():
        path = _staged(state_dir, name)
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_private(path, content)
        except OSError as error:
            raise GiveUp("server.state-dir", path=str(path.parent),
                         why=error.strerror or str(error)) from error
    _set(conn, STAGED, sorted(files))


def put_files(state_dir: Path, store: Store) -> None:
    """Finish a restore, or clean up after one that was broken off. A file that was there and
    differs is kept beside, ending in ``.before-restore``."""
    there = [name for name in FILES if _staged(state_dir, name).exists()]
    if not there:
        return
    with store.read() as conn:
        known = sa.inspect(conn).has_table(schema.setting.name)
        committed = conn.execute(sa.select(schema.setting.c.value).where(
            schema.setting.c.key == STAGED)).scalar() if known else None
    for name in there:
        path, staged = state_dir / name, _staged(state_dir, name)
        if name not in (committed or ()):
            staged.unlink()
            continue
        if path.exists() and path.read_bytes() != staged.read_bytes():
            path.replace(_kept(path))
        staged.replace(path)
        if name.startswith("tls/"):     # of another CA, perhaps; the start makes it anew
            (path.parent / "server.pem").unlink(missing_ok=True)
        sync(path.parent)
    if committed is not None:
        with store.write() as conn:
            conn.execute(sa.delete(schema.setting).where(schema.setting.c.key == STAGED))


def _staged(state_dir: Path, name: str) -> Path:
    path = state_dir / name
    return path.with_name(f"{path.name}.restored")


def _kept(path: Path) -> Path:
    """A name that is free: a key that is lost by the second restore would be lost for good."""
    kept = path.with_name(f"{path.name}.before-restore")
    number = 1
    while kept.exists():
        number += 1
        kept = path.with_name(f"{path.name}.before-restore-{number}")
    return kept


def skip_numbers(conn: Connection, now: float) -> None:
    """Go on with task numbers that no task had, at up to 16 tasks a second since 1970."""
    go_on_after(conn, schema.task, int(now) // 60 * 1000)


def take_rebuild(conn: Connection) -> bool:
    """Whether the targets are to be read, asked once."""
    s = schema.setting
    return conn.execute(sa.delete(s).where(s.c.key == REBUILD)).rowcount == 1


def mark_moved(conn: Connection, to: str, now: float) -> None:
    _set(conn, MOVED, {"to": to, "at": now})


def check(conn: Connection) -> None:
    """Raises Refused ``store.moved`` for a database that was left for another one."""
    moved = conn.execute(sa.select(schema.setting.c.value).where(
        schema.setting.c.key == MOVED)).scalar()
    if moved is not None:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(moved["at"]))
        raise Refused("store.moved", to=moved["to"], when=when)


def _set(conn: Connection, key: str, value: object) -> None:
    s = schema.setting
    conn.execute(sa.delete(s).where(s.c.key == key))
    conn.execute(sa.insert(s).values(key=key, value=value))
