"""Use cases, with authorisation and audit: the only door for the API and the console."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..store import Store
from ..store.engine import sqlite_url
from .context import Actor, Context, Limits, Role
from .keys import KeyRing
from .link import LocalLink
from .machines import Machines
from .platforms import Platforms
from .rules import NewRule, Rules
from .scheduler import Scheduler
from .tasks import LiveProgress, Tasks
from .users import Users

__all__ = ["Actor", "Limits", "LocalLink", "NewRule", "Role", "Services"]


class Services:
    """All services over one state directory (``hotspare.db``, ``secret.key``)."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.live_progress = LiveProgress()
        self.machines = Machines(context)
        self.platforms = Platforms(context)
        self.rules = Rules(context)
        self.tasks = Tasks(context, self.live_progress)
        self.users = Users(context)
        self.scheduler = Scheduler(context, self.machines)

    @staticmethod
    def open(state_dir: Path, limits: Limits | None = None,
             clock: Callable[[], float] = time.time) -> Services:
        """Open, and bring the schema up to date. Nothing runs before :meth:`start`."""
        database = state_dir / "hotspare.db"
        keys = KeyRing.load_or_make(state_dir / "secret.key", may_make=not database.exists())
        database.touch(mode=0o600)
        store = Store(sqlite_url(database))
        store.migrate()
        return Services(Context(store=store, keys=keys, limits=limits or Limits(), clock=clock))

    def link(self, machine: str, temp_dir: Path) -> LocalLink:
        """Register a machine of this process, and its end of the link."""
        self.machines.register(machine, str(temp_dir))
        return LocalLink(self.context, self.live_progress, self.machines, machine)

    def start(self) -> None:
        """Begin to run what is due."""
        self.scheduler.start()

    def stop(self) -> None:
        """Wake everybody who waits, for good."""
        self.context.hub.close()
        self.scheduler.stop()

    def close(self) -> None:
        self.context.store.close()
