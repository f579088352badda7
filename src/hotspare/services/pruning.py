"""How long history is kept, and its removal in the background.

Tasks go with their steps and their log lines. What statistics need is in the sums of each day.
Each transaction is short, and between two of them others have their turn.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.errors import Refused
from ..store import schema
from .context import Actor, Context
from .day_sums import ALL, day_of

_log = logging.getLogger(__name__)

SETTING: Final = "history"
_DAY_S: Final = 86400.0
_BATCH: Final = 200
_PAUSE_S: Final = 0.05
_FIRST_S, _EVERY_S = 60.0, 600.0


@dataclass(frozen=True)
class History:
    """Days that things are kept. ``least_tasks`` of each rule stay, however old they are."""

    task_days: int = 90             # tasks, and log lines
    least_tasks: int = 20
    audit_days: int = 730
    statistics_days: int = 1096     # sums by day, and closed rules


LIMITS: Final[dict[str, tuple[int, int]]] = {
    "task_days": (1, 3660), "least_tasks": (1, 1000), "audit_days": (30, 3660),
    "statistics_days": (30, 3660)}


class Pruner:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="pruner", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    # --- the setting -----------------------------------------------------------------------------

    def get(self, actor: Actor) -> History:
        actor.need("viewer")
        with self._context.read() as conn:
            return _history(conn)

    def set(self, actor: Actor, **days: int) -> History:
        """Change what is named. Raises Refused ``input.range``."""
        actor.need("administrator")
        for field, value in days.items():
            smallest, largest = LIMITS[field]
            if not smallest <= value <= largest:
                raise Refused("input.range", field=field, smallest=smallest, largest=largest)
        s = schema.setting
        with self._context.change() as change:
            history = replace(_history(change.conn), **days)
            if not change.conn.execute(sa.update(s).where(s.c.key == SETTING)
                                       .values(value=asdict(history))).rowcount:
                change.conn.execute(sa.insert(s).values(key=SETTING, value=asdict(history)))
            change.audit(actor, "settings.set", SETTING, **days)
        return history

    # --- the work --------------------------------------------------------------------------------

    def _loop(self) -> None:
        wait = _FIRST_S
        while not self._stop.wait(wait):
            wait = _EVERY_S
            try:
                removed = {k: v for k, v in self.prune().items() if v}
                if removed:
                    _log.info("old history was removed: %s",
                              ", ".join(f"{v} {k}" for k, v in removed.items()))
            except Exception:       # a full disk, say: the next round may do better
                _log.exception("old history could not be removed")

    def prune(self) -> dict[str, int]:
        """Remove all that is too old now; returns how many rows of each table."""
        now = self._context.clock()
        with self._context.read() as conn:
            history = _history(conn)
        logged = now - history.task_days * _DAY_S
        summed = day_of(now - history.statistics_days * _DAY_S)
        r, x = schema.rule, schema.log
        d, t = schema.rule_day, schema.total_day
        closed = sa.and_(r.c.deleted_at < now - history.statistics_days * _DAY_S,
                         *(sa.not_(sa.exists().where(other.c.rule == r.c.id))
                           for other in (schema.task, x)))
        return {
            "task": self._tasks(logged, history.least_tasks),
            "log": self._each(x.c.id, sa.and_(x.c.task.is_(None), x.c.at < logged), x.c.at),
            "audit": self._audit(now - history.audit_days * _DAY_S),
            "rule_day": self._whole(d, d.c.day, d.c.day < summed),
            # the sums over all rules are few, and stay
            "total_day": self._whole(t, t.c.day, sa.and_(t.c.day < summed, t.c.scope != ALL)),
            "rule": self._each(r.c.id, closed, r.c.id)}

    def _tasks(self, before: float, least: int) -> int:
        """Tasks that ended before, except the newest of each rule that is there."""
        t, r, newer = schema.task, schema.rule, schema.task.alias()
        kept = (sa.select(newer.c.id).where(newer.c.rule == t.c.rule)
                .order_by(newer.c.id.desc()).limit(1).offset(least - 1).scalar_subquery())
        old = (sa.select(t.c.id, t.c.ended_at).outerjoin(r, r.c.id == t.c.rule)
               .where(t.c.state == "ended", t.c.ended_at < before,
                      sa.or_(t.c.rule.is_(None), r.c.deleted_at.is_not(None), t.c.id < kept))
               .order_by(t.c.ended_at, t.c.id).limit(_BATCH))
        count, last = 0, (float("-inf"), 0)
        while not self._stop.is_set():
            # Those that stay are old, too: go on behind them, or each batch would see them again.
            with self._context.read() as conn:
                rows = conn.execute(old.where(sa.or_(
                    t.c.ended_at > last[0],
                    sa.and_(t.c.ended_at == last[0], t.c.id > last[1])))).all()
            if not rows:
                break
            count += self._remove(t.c.id, [row.id for row in rows])
            last = (rows[-1].ended_at, rows[-1].id)
            self._stop.wait(_PAUSE_S)
        return count

    def _each(self, key: sa.Column[Any], where: sa.ColumnElement[bool],
              order: sa.Column[Any]) -> int:
        query = sa.select(key).where(where).order_by(order).limit(_BATCH)
        return self._until(lambda conn: list(conn.execute(query).scalars()),
                           lambda keys: self._remove(key, keys))

    def _audit(self, before: float) -> int:
        """By number, which grows with time: the oldest lines are the first."""
        a = schema.audit
        query = sa.select(a.c.id, a.c.at).order_by(a.c.id).limit(_BATCH)
        return self._until(
            lambda conn: [row.id for row in conn.execute(query) if row.at < before],
            lambda keys: self._remove(a.c.id, keys))

    def _whole(self, table: sa.Table, day: sa.Column[Any], where: sa.ColumnElement[bool]) -> int:
        """Day by day."""
        def oldest(conn: Connection) -> list[str]:
            found = conn.execute(sa.select(sa.func.min(day)).where(where)).scalar()
            return [] if found is None else [found]

        def remove(days: list[str]) -> int:
            with self._context.change() as change:
                return change.conn.execute(sa.delete(table).where(where, day == days[0])).rowcount

        return self._until(oldest, remove)

    def _until(self, find: Callable[[Connection], list[Any]],
               remove: Callable[[list[Any]], int]) -> int:
        count = 0
        while not self._stop.is_set():
            with self._context.read() as conn:
                found = find(conn)
            if not found:
                break
            count += remove(found)
            self._stop.wait(_PAUSE_S)
        return count

    def _remove(self, key: sa.Column[Any], keys: list[Any]) -> int:
        with self._context.change() as change:
            return change.conn.execute(sa.delete(key.table).where(key.in_(keys))).rowcount


def _history(conn: Connection) -> History:
    s = schema.setting
    value = conn.execute(sa.select(s.c.value).where(s.c.key == SETTING)).scalar() or {}
    return History(**{k: int(v) for k, v in value.items() if k in LIMITS})
