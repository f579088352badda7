"""Limits that hold over all DR machines, as an administrator sees and sets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from ..domain.limits import check_per_host
from ..store import schema
from .context import Actor, Change, Context
from .dispatcher import SETTING, dispatch, per_host
from .views import explained


@dataclass(frozen=True)
class SettingsView:
    """``in_force`` is what the dispatcher holds to: never above the largest ``max_tasks``."""

    max_tasks_per_host: int
    in_force: int
    warnings: list[dict[str, Any]]      # code, message, remedy, fields


class Settings:
    def __init__(self, context: Context) -> None:
        self._context = context

    def get(self, actor: Actor) -> SettingsView:
        actor.need("viewer")
        with self._context.read() as conn:
            return _view(conn)

    def set(self, actor: Actor, max_tasks_per_host: int) -> SettingsView:
        """Raises Refused ``limits.per-host``."""
        actor.need("administrator")
        check_per_host(max_tasks_per_host)
        with self._context.change() as change:
            set_per_host(change, actor, max_tasks_per_host)
            dispatch(change)
            return _view(change.conn)


def set_per_host(change: Change, actor: Actor, value: int, **detail: Any) -> None:
    """Of all DR machines. The caller dispatches."""
    s = schema.setting
    stored = {"max_tasks_per_host": value}
    if not change.conn.execute(sa.update(s).where(s.c.key == SETTING)
                               .values(value=stored)).rowcount:
        change.conn.execute(sa.insert(s).values(key=SETTING, value=stored))
    change.audit(actor, "settings.set", SETTING, **stored, **detail)


def _view(conn: Connection) -> SettingsView:
    wanted, in_force = per_host(conn)
    warning = explained({"code": "limits.per-host-lowered",
                         "fields": {"value": wanted, "largest": in_force}})
    return SettingsView(wanted, in_force, [warning] if warning and in_force < wanted else [])
