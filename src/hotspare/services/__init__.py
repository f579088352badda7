"""Use cases, with authorisation and audit: the only door for the API and the console."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..domain.limits import Configured
from ..store.engine import open_store
from . import queue, restored
from .context import Actor, Context, Role
from .fleet import Fleet
from .groups import Groups
from .intake import Intake
from .keys import KeyRing
from .limits import Settings
from .link import LocalLink
from .live_progress import LiveProgress
from .logs import Logs
from .machines import Machines
from .metrics import Metrics
from .moves import Moves
from .notifications import Notifications
from .platforms import Platforms
from .proofs import Proofs
from .pruning import Pruner
from .rebuild import Rebuild
from .rules import NewRule, Rules
from .scheduler import Scheduler
from .schedules import Schedules
from .sender import Sender
from .source_watch import SourceWatch
from .statistics import Statistics
from .tasks import Tasks
from .templates import Templates
from .tests import Tests
from .users import Users

__all__ = ["Actor", "LocalLink", "NewRule", "Role", "Services"]


class Services:
    """All services over one state directory (``hotspare.db``, ``secret.key``)."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.live_progress = LiveProgress()
        self.machines = Machines(context)
        self.platforms = Platforms(context)
        self.rules = Rules(context, self.live_progress)
        self.groups = Groups(context)
        self.templates = Templates(context)
        self.moves = Moves(context, self.rules)
        self.intake = Intake(context)
        self.fleet = Fleet(context, self.live_progress, self.machines, self.intake)
        self.tasks = Tasks(context, self.live_progress)
        self.tests = Tests(context)
        self.logs = Logs(context)
        self.statistics = Statistics(context)
        self.metrics = Metrics(context)
        self.pruner = Pruner(context)
        self.users = Users(context)
        self.settings = Settings(context)
        self.notifications = Notifications(context)
        self.schedules = Schedules(context)
        self.proofs = Proofs(context)
        self.rebuild = Rebuild(context)
        self.source_watch = SourceWatch(context)
        self.scheduler = Scheduler(context, self.machines, self.proofs, self.source_watch)
        self.sender = Sender(context)

    @staticmethod
    def open(state_dir: Path, clock: Callable[[], float] = time.time,
             database: str | None = None) -> Services:
        """Open, and bring the schema up to date. Nothing runs before :meth:`start`. ``database``
        is the address of a PostgreSQL database; None: ``hotspare.db`` in the state directory."""
        store = open_store(state_dir, database)
        key = state_dir / "secret.key"
        try:
            restored.put_files(state_dir, store)
            fresh = store.empty()
            lost = fresh and key.exists()       # there was a database before
            keys = KeyRing.load_or_make(key, may_make=fresh)
            store.migrate()
            services = Services(Context(store=store, keys=keys, clock=clock))
            with services.context.change() as change:
                restored.check(change.conn)
                if lost:
                    restored.skip_numbers(change.conn, change.now)
                queue.refit(change)
        except BaseException:
            store.close()
            raise
        return services

    def link(self, machine: str, temp_dir: Path, configured: Configured | None = None
             ) -> LocalLink:
        """Register a machine of this process, with what its file says, and its end of the link."""
        self.machines.register(machine, str(temp_dir), configured)
        return LocalLink(self.context, self.live_progress, self.machines, self.intake, machine)

    def start(self) -> None:
        """Begin to run what is due."""
        self.rebuild.resume()
        self.scheduler.start()
        self.sender.start()
        self.pruner.start()

    def stop(self) -> None:
        """Wake everybody who waits, for good."""
        self.context.hub.close()
        self.scheduler.stop()
        self.sender.stop()
        self.pruner.stop()

    def close(self) -> None:
        self.context.store.close()
