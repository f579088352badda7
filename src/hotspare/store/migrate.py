"""Migrations, run at each start: no command to forget, nothing to configure."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from ..domain.errors import Refused


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def revision(conn: Connection) -> str | None:
    """The revision of the database's schema; None while it has none."""
    return MigrationContext.configure(conn).get_current_revision()


def is_known(revision: str | None) -> bool:
    """Whether this version understands a schema of that revision."""
    script = ScriptDirectory.from_config(configuration())
    return revision is None or revision in {r.revision for r in script.walk_revisions()}


def upgrade(conn: Connection, to: str = "head") -> None:
    """In the caller's write transaction. Raises Refused ``store.newer`` for a database that a
    newer version wrote."""
    config = configuration()
    current = revision(conn)
    head = ScriptDirectory.from_config(config).get_current_head()
    to = str(head) if to == "head" else to
    for wanted in (current, to):
        if not is_known(wanted):
            raise Refused("store.newer", revision=wanted)
    if current == to:
        return
    config.attributes["connection"] = conn
    command.upgrade(config, to)
