"""The tables. Times are seconds since the epoch; JSON columns hold what is never searched in.

Change a table only together with a migration; a test compares the two.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Column, ForeignKey, Index, Table

metadata = sa.MetaData(naming_convention={
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
})

Time = sa.Double
Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")   # SQLite counts up INTEGER keys only


def _where(clause: str) -> dict[str, Any]:
    """A partial index, the same on both databases."""
    return {"sqlite_where": sa.text(clause), "postgresql_where": sa.text(clause)}


machine = Table(
    "machine", metadata,
    Column("name", sa.String(64), primary_key=True),
    Column("live", sa.Boolean, nullable=False),
    Column("last_seen", Time),
    Column("max_tasks", sa.Integer, nullable=False),
    Column("temp_dir", sa.Text, nullable=False),
    Column("version", sa.String(64), nullable=False),
    Column("created_at", Time, nullable=False),
)

platform = Table(
    "platform", metadata,
    Column("id", sa.String(8), primary_key=True),
    Column("name", sa.String(64), nullable=False),
    Column("name_key", sa.String(128), nullable=False),
    Column("kind", sa.String(16), nullable=False),
    Column("uri", sa.Text, nullable=False),
    Column("options", sa.JSON, nullable=False),
    Column("secret", sa.LargeBinary),       # encrypted; the key is outside the database
    Column("machine", ForeignKey("machine.name"), nullable=False),
    Column("state", sa.String(16), nullable=False),      # unchecked, ok, failed
    Column("product", sa.Text, nullable=False),
    Column("host_id", sa.Text, nullable=False),
    Column("checks", sa.JSON, nullable=False),
    Column("places", sa.JSON, nullable=False),
    Column("error", sa.JSON(none_as_null=True)),
    Column("checked_at", Time),
    Column("refreshed_at", Time),
    Column("created_at", Time, nullable=False),
    Column("deleted_at", Time),
)
Index("uq_platform_name_key", platform.c.name_key, unique=True, **_where("deleted_at IS NULL"))
Index("uq_platform_uri", platform.c.kind, platform.c.uri, unique=True,
      **_where("deleted_at IS NULL"))

platform_vm = Table(
    "platform_vm", metadata,
    Column("platform", ForeignKey("platform.id", ondelete="CASCADE"), primary_key=True),
    Column("ref", sa.String(255), primary_key=True),
    Column("name", sa.Text, nullable=False),
    Column("power", sa.String(16), nullable=False),
    Column("size", sa.BigInteger, nullable=False),
    Column("protectable", sa.Boolean, nullable=False),
    Column("reason", sa.Text, nullable=False),
    Column("fields", sa.JSON, nullable=False),
)
Index("ix_platform_vm_name", platform_vm.c.platform, platform_vm.c.name)

rule = Table(
    "rule", metadata,
    Column("id", sa.String(8), primary_key=True),
    Column("name", sa.String(64), nullable=False),
    Column("name_key", sa.String(128), nullable=False),
    Column("source", ForeignKey("platform.id"), nullable=False),
    Column("vm", sa.String(255), nullable=False),
    Column("vm_name", sa.Text, nullable=False),
    Column("target", ForeignKey("platform.id"), nullable=False),
    Column("storage", sa.Text, nullable=False),
    Column("replica_name", sa.Text, nullable=False),
    Column("networks", sa.JSON, nullable=False),
    Column("machine", ForeignKey("machine.name"), nullable=False),
    Column("retention", sa.Integer, nullable=False),
    Column("quiesce", sa.String(16), nullable=False),
    Column("bandwidth", sa.BigInteger),     # bytes per second; NULL: no limit; 0: paused
    Column("interval_s", sa.Integer),       # NULL: a one-off rule
    Column("enabled", sa.Boolean, nullable=False),       # the schedule is on
    Column("next_run_at", Time),
    Column("epoch", sa.Integer, nullable=False),
    Column("state", sa.String(32), nullable=False),      # as shown
    Column("own_state", sa.String(32), nullable=False),  # without invalid
    Column("state_before", sa.String(32)),  # to go back to after a failover or a failed removal
    Column("failover_point", sa.Integer),
    Column("failover_detail", sa.JSON(none_as_null=True)),
    Column("last_result", sa.String(16)),
    Column("last_error", sa.JSON(none_as_null=True)),
    Column("last_task", Id),
    Column("last_success_at", Time),
    Column("created_at", Time, nullable=False),
    Column("created_by", sa.String(64), nullable=False),
    Column("deleted_at", Time),
)
Index("uq_rule_name_key", rule.c.name_key, unique=True, **_where("deleted_at IS NULL"))
Index("uq_rule_source_vm", rule.c.source, rule.c.vm, unique=True, **_where("deleted_at IS NULL"))
Index("ix_rule_next_run_at", rule.c.next_run_at, **_where("deleted_at IS NULL AND enabled"))
Index("ix_rule_machine", rule.c.machine)

task = Table(
    "task", metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("kind", sa.String(16), nullable=False),
    Column("rule", ForeignKey("rule.id")),
    Column("platform", ForeignKey("platform.id")),
    Column("machine", ForeignKey("machine.name"), nullable=False),
    Column("epoch", sa.Integer, nullable=False),
    Column("priority", sa.Integer, nullable=False),
    Column("state", sa.String(16), nullable=False),      # queued, dispatched, running, ended
    Column("outcome", sa.String(16)),       # ok, warning, failed, stopped
    Column("stop", sa.Boolean, nullable=False),
    Column("reason", sa.JSON(none_as_null=True)),        # what a queued task waits for
    Column("point", sa.Integer),
    Column("arguments", sa.JSON, nullable=False),
    Column("settings", sa.JSON(none_as_null=True)),      # RuleSettings, fixed at dispatch
    Column("source_host", sa.Text),
    Column("target_host", sa.Text),
    Column("progress", sa.JSON(none_as_null=True)),
    Column("error", sa.JSON(none_as_null=True)),
    Column("figures", sa.JSON, nullable=False),
    Column("trigger", sa.String(16), nullable=False),    # manual, schedule, service
    Column("requested_by", sa.String(64), nullable=False),
    Column("created_at", Time, nullable=False),
    Column("dispatched_at", Time),
    Column("started_at", Time),
    Column("ended_at", Time),
    sqlite_autoincrement=True,              # a number is never used twice: names are made of it
)
Index("uq_task_live_rule", task.c.rule, unique=True,
      **_where("state <> 'ended' AND rule IS NOT NULL"))
Index("uq_task_live_platform", task.c.platform, task.c.kind, unique=True,
      **_where("state <> 'ended' AND platform IS NOT NULL"))
Index("ix_task_live", task.c.state, task.c.machine, **_where("state <> 'ended'"))
Index("ix_task_rule", task.c.rule, task.c.id)

task_step = Table(
    "task_step", metadata,
    Column("task", ForeignKey("task.id", ondelete="CASCADE"), primary_key=True),
    Column("name", sa.String(64), primary_key=True),
    Column("position", sa.Integer, nullable=False),
    Column("state", sa.String(16), nullable=False),      # running, done, skipped
    Column("attempts", sa.Integer, nullable=False),
    Column("detail", sa.JSON, nullable=False),
    Column("started_at", Time, nullable=False),
    Column("ended_at", Time),
)

restore_point = Table(
    "restore_point", metadata,
    Column("rule", ForeignKey("rule.id", ondelete="CASCADE"), primary_key=True),
    Column("number", sa.Integer, primary_key=True),
    Column("task", Id, nullable=False),
    Column("epoch", sa.Integer, nullable=False),
    Column("taken_at", Time, nullable=False),
    Column("consistency", sa.String(16), nullable=False),
    Column("note", sa.Text, nullable=False),
    Column("size", sa.BigInteger, nullable=False),       # bytes of all disks
    Column("moved", sa.BigInteger, nullable=False),      # bytes written for this point
    Column("manifest", sa.JSON, nullable=False),
)

log = Table(
    "log", metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Time, nullable=False),
    Column("level", sa.String(16), nullable=False),
    Column("code", sa.String(64), nullable=False),
    Column("fields", sa.JSON, nullable=False),
    Column("rule", ForeignKey("rule.id")),
    Column("platform", ForeignKey("platform.id")),
    Column("task", ForeignKey("task.id", ondelete="CASCADE")),
)
Index("ix_log_task", log.c.task, log.c.id)
Index("ix_log_rule", log.c.rule, log.c.id)

user = Table(
    "user", metadata,
    Column("name", sa.String(64), primary_key=True),
    Column("password", sa.Text),            # argon2id; NULL: no login by password
    Column("role", sa.String(16), nullable=False),       # viewer, operator, administrator
    Column("disabled", sa.Boolean, nullable=False),
    Column("created_at", Time, nullable=False),
)

token = Table(
    "token", metadata,
    Column("digest", sa.String(64), primary_key=True),   # BLAKE3 of the token
    Column("user", ForeignKey("user.name", ondelete="CASCADE"), nullable=False),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time),
)
Index("ix_token_user", token.c.user)

audit = Table(
    "audit", metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("at", Time, nullable=False),
    Column("user", sa.String(64), nullable=False),       # kept when the user is deleted
    Column("action", sa.String(64), nullable=False),
    Column("object", sa.String(64), nullable=False),
    Column("detail", sa.JSON, nullable=False),
)

setting = Table(
    "setting", metadata,
    Column("key", sa.String(64), primary_key=True),
    Column("value", sa.JSON, nullable=False),
)
