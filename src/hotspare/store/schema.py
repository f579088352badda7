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
    # bytes in flight of one task
    Column("transfer_buffer", sa.Integer, nullable=False, default=4 * 1024 * 1024),
    Column("temp_dir", sa.Text, nullable=False),
    Column("time_zone", sa.String(64), nullable=False, default="UTC"),  # of its bandwidth ranges
    # weekly ranges, shared by its tasks
    Column("bandwidth", sa.JSON, nullable=False, default=list),
    Column("version", sa.String(64), nullable=False),
    Column("protocol", sa.Integer, nullable=False, default=1),      # of the link that it speaks
    Column("token_digest", sa.String(64)),  # NULL: a machine of the server's own process
    Column("address", sa.Text, nullable=False, default=""),          # where it called from last
    Column("clock_offset", sa.Double),      # seconds that its clock is ahead of ours
    # what its own configuration file said last: a change there wins over the control server's
    Column("configured", sa.JSON, nullable=False, default=dict),
    # why it takes no new task now (code, fields), as it reported
    Column("busy", sa.JSON(none_as_null=True)),
    Column("created_at", Time, nullable=False),
    # number of its last report that was applied
    Column("reported", sa.BigInteger, nullable=False, default=0),
    Column("revoked_at", Time),
    Column("deleted_at", Time),
)
Index("uq_machine_token_digest", machine.c.token_digest, unique=True,
      **_where("token_digest IS NOT NULL"))

enrolment = Table(
    "enrolment", metadata,
    Column("digest", sa.String(64), primary_key=True),   # of the one-time code
    Column("machine", sa.String(64), nullable=False),
    Column("created_at", Time, nullable=False),
    Column("created_by", sa.String(64), nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("used_at", Time),
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
    # host_id was read at this address
    Column("verified", sa.Boolean, nullable=False, default=True),
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

rule_group = Table(
    "rule_group", metadata,
    Column("id", sa.String(8), primary_key=True),
    Column("name", sa.String(64), nullable=False),
    Column("name_key", sa.String(128), nullable=False, unique=True),
    Column("created_at", Time, nullable=False),
    Column("created_by", sa.String(64), nullable=False),
)

template = Table(
    "template", metadata,
    Column("id", sa.String(8), primary_key=True),
    Column("name", sa.String(64), nullable=False),
    Column("name_key", sa.String(128), nullable=False, unique=True),
    Column("settings", sa.JSON, nullable=False),         # a rule's, except name and machine
    Column("created_at", Time, nullable=False),
    Column("created_by", sa.String(64), nullable=False),
)

rule = Table(
    "rule", metadata,
    Column("id", sa.String(8), primary_key=True),
    Column("name", sa.String(64), nullable=False),
    Column("name_key", sa.String(128), nullable=False),
    Column("group", ForeignKey("rule_group.id")),
    Column("source", ForeignKey("platform.id"), nullable=False),
    Column("vm", sa.String(255), nullable=False),
    Column("vm_name", sa.Text, nullable=False),
    Column("vm_key", sa.Text, nullable=False),           # the machine, through any registration
    Column("target", ForeignKey("platform.id"), nullable=False),
    Column("datacenter", sa.Text, nullable=False, default=""),  # empty: the platform has one place
    Column("host", sa.Text, nullable=False, default=""),
    Column("folder", sa.Text, nullable=False, default=""),
    Column("pool", sa.Text, nullable=False, default=""),
    Column("storage", sa.Text, nullable=False),
    Column("replica_name", sa.Text, nullable=False),
    Column("networks", sa.JSON, nullable=False),
    Column("machine", ForeignKey("machine.name"), nullable=False),
    Column("temp_dir", sa.Text, nullable=False, default=""),         # empty: the DR machine's own
    Column("retention", sa.Integer, nullable=False),
    Column("quiesce", sa.String(16), nullable=False),
    Column("fast_transfer", sa.Boolean, nullable=False, default=True),
    Column("lan_free", sa.Boolean, nullable=False, default=False),
    Column("devices", sa.String(16), nullable=False, default="auto"),
    Column("delete_replica", sa.Boolean, nullable=False, default=False),        # with the rule
    # of the schedule and the ranges
    Column("time_zone", sa.String(64), nullable=False, default="UTC"),
    # weekly ranges, see domain.bandwidth
    Column("bandwidth", sa.JSON, nullable=False, default=list),
    Column("schedule", sa.JSON(none_as_null=True)),      # NULL: a one-off rule
    Column("rpo_s", sa.Integer),            # wanted; NULL: as the schedule gives
    Column("revision", sa.Integer, nullable=False, default=1),      # grows with each edit
    Column("enabled", sa.Boolean, nullable=False),       # the schedule is on
    Column("next_run_at", Time),
    Column("epoch", sa.Integer, nullable=False),
    Column("state", sa.String(32), nullable=False),      # as shown
    Column("own_state", sa.String(32), nullable=False),  # without invalid
    Column("state_before", sa.String(32)),  # to go back to after a failover or a failed removal
    Column("failover_point", sa.Integer),
    Column("failover_detail", sa.JSON(none_as_null=True)),
    Column("failback", sa.JSON(none_as_null=True)),      # what a failback has done so far
    Column("commit_at", Time),              # when a failback is committed by itself
    Column("source_power", sa.String(16)),  # seen while the replica runs: running, …, unknown
    Column("both_run_since", Time),         # the source was seen to run beside its replica
    Column("points", sa.Integer, nullable=False, default=0),  # of the catalogue, kept by adopt
    Column("latest_point", sa.Integer),
    Column("latest_point_at", Time),
    Column("stored", sa.BigInteger, nullable=False, default=0),     # bytes that the points moved
    Column("pause", sa.JSON(none_as_null=True)),         # reason and end of a paused transfer
    Column("rpo_target_s", sa.Double),      # in force; NULL: none, or to be worked out anew
    Column("rpo_violated_at", Time),        # since when; NULL: kept
    Column("full_runs", sa.Integer, nullable=False, default=0),     # unexpected ones in a row
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
Index("uq_rule_vm_key", rule.c.vm_key, unique=True, **_where("deleted_at IS NULL"))
Index("ix_rule_machine", rule.c.machine)
Index("ix_rule_commit_at", rule.c.commit_at, **_where("commit_at IS NOT NULL"))
Index("ix_rule_group", rule.c.group)
Index("ix_rule_replica_name", rule.c.replica_name, **_where("deleted_at IS NULL"))
# What the scheduler looks at: of the idle rules the one that is due next.
Index("ix_rule_state", rule.c.state, rule.c.next_run_at, **_where("deleted_at IS NULL"))

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
    Column("point", sa.Integer),
    Column("arguments", sa.JSON, nullable=False),
    Column("settings", sa.JSON(none_as_null=True)),      # RuleSettings, fixed at dispatch
    # what the limits count against; NULL: they do not count it
    Column("source_host", sa.Text),
    Column("target_host", sa.Text),
    Column("buffer", sa.Integer),           # bytes in flight to each of them, fixed at dispatch
    Column("progress", sa.JSON(none_as_null=True)),
    Column("error", sa.JSON(none_as_null=True)),
    Column("figures", sa.JSON, nullable=False),
    Column("full", sa.Boolean, nullable=False, default=False),          # every block was read
    Column("bytes_queried", sa.BigInteger, nullable=False, default=0),
    Column("bytes_read", sa.BigInteger, nullable=False, default=0),
    Column("bytes_moved", sa.BigInteger, nullable=False, default=0),
    Column("bytes_zero", sa.BigInteger, nullable=False, default=0),
    Column("stall_s", sa.Double),           # freeze to thaw
    Column("retries", sa.Integer, nullable=False, default=0),
    Column("trigger", sa.String(16), nullable=False),    # manual, schedule, service
    Column("requested_by", sa.String(64), nullable=False),
    Column("created_at", Time, nullable=False),
    Column("dispatched_at", Time),
    Column("started_at", Time),
    Column("ended_at", Time),
    sqlite_autoincrement=True,              # a number is never used twice: names are made of it
)
Index("uq_task_live_rule", task.c.rule, unique=True,
      **_where("state <> 'ended' AND rule IS NOT NULL AND kind NOT IN ('test', 'scrub')"))
Index("uq_task_live_side", task.c.rule, task.c.kind, unique=True,
      **_where("state <> 'ended' AND rule IS NOT NULL AND kind IN ('test', 'scrub')"))
Index("uq_task_live_platform", task.c.platform, task.c.kind, unique=True,
      **_where("state <> 'ended' AND platform IS NOT NULL"))
# The only one of all live tasks: PostgreSQL, whose statistics lag behind, would read another
# whole where this one has the answer.
Index("ix_task_live_rule", task.c.rule, **_where("state <> 'ended'"))
# What the limits count: few, whatever is queued.
Index("ix_task_begun", task.c.machine, **_where("state IN ('dispatched', 'running')"))
Index("ix_task_rule", task.c.rule, task.c.id)
Index("ix_task_queued", task.c.machine, task.c.source_host, task.c.target_host, task.c.priority,
      task.c.id, **_where("state = 'queued'"))
Index("ix_task_ended_at", task.c.ended_at, **_where("state = 'ended'"))

lane = Table(                               # where tasks are queued; only heads are looked at
    "lane", metadata,
    Column("machine", sa.String(64), primary_key=True),
    Column("source_host", sa.Text, primary_key=True),
    Column("target_host", sa.Text, primary_key=True),
    Column("served", sa.BigInteger, nullable=False),     # its last turn; the lowest is next
)

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
    Column("digest", sa.String(64), nullable=False, default=""),     # of what was told: wire
    Column("scrubbed_at", Time),            # read again at the target
    Column("damaged_at", Time),             # found to be wrong; NULL: not known to be
    Column("damage", sa.JSON(none_as_null=True)),        # domain.damage
)
Index("ix_restore_point_damaged", restore_point.c.rule, **_where("damaged_at IS NOT NULL"))

proof_schedule = Table(                     # of scrubs and tests
    "proof_schedule", metadata,
    Column("id", sa.String(8), primary_key=True),
    Column("name", sa.String(64), nullable=False),
    Column("name_key", sa.String(128), nullable=False, unique=True),
    Column("kind", sa.String(16), nullable=False),       # a side kind of task
    Column("all_points", sa.Boolean, nullable=False),    # else the newest
    Column("schedule", sa.JSON, nullable=False),
    Column("time_zone", sa.String(64), nullable=False),
    Column("rule", ForeignKey("rule.id", ondelete="CASCADE")),          # neither: of all rules
    Column("group", ForeignKey("rule_group.id", ondelete="CASCADE")),
    Column("enabled", sa.Boolean, nullable=False),
    Column("next_run_at", Time),
    Column("last_run_at", Time),
    Column("at_rule", sa.String(8)),        # of a run under way: the last rule that had its turn
    Column("created_at", Time, nullable=False),
    Column("created_by", sa.String(64), nullable=False),
)
Index("ix_proof_schedule_next_run_at", proof_schedule.c.next_run_at)

proof = Table(                              # what tests of restore points found
    "proof", metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("rule", sa.String(8), nullable=False),
    Column("point", sa.Integer, nullable=False),
    Column("kind", sa.String(16), nullable=False),       # test, scrub
    Column("task", Id, nullable=False, unique=True),     # kept when the task is pruned
    Column("verdict", sa.String(16), nullable=False),    # passed, failed, unproven
    Column("checks", sa.JSON, nullable=False),           # of domain.proof.Check
    Column("screenshot", sa.LargeBinary),   # PNG
    Column("at", Time, nullable=False),
    sa.ForeignKeyConstraint(["rule", "point"], ["restore_point.rule", "restore_point.number"],
                            ondelete="CASCADE"),
    sqlite_autoincrement=True,
)
Index("ix_proof_rule", proof.c.rule, proof.c.id)
Index("ix_proof_point", proof.c.rule, proof.c.point, proof.c.id)

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
Index("ix_log_at", log.c.at, **_where("task IS NULL"))  # the others go with their tasks

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

rule_day = Table(                           # kept when tasks and logs are pruned
    "rule_day", metadata,
    Column("rule", ForeignKey("rule.id", ondelete="CASCADE"), primary_key=True),
    Column("day", sa.String(10), primary_key=True),      # YYYY-MM-DD, UTC
    Column("ok", sa.Integer, nullable=False, default=0),
    Column("warning", sa.Integer, nullable=False, default=0),
    Column("failed", sa.Integer, nullable=False, default=0),
    Column("stopped", sa.Integer, nullable=False, default=0),
    Column("full", sa.Integer, nullable=False, default=0),
    Column("bytes_queried", sa.BigInteger, nullable=False, default=0),
    Column("bytes_read", sa.BigInteger, nullable=False, default=0),
    Column("bytes_moved", sa.BigInteger, nullable=False, default=0),
    Column("bytes_zero", sa.BigInteger, nullable=False, default=0),
    Column("seconds", sa.Double, nullable=False, default=0),        # that its runs took
    Column("retries", sa.Integer, nullable=False, default=0),
    # times that the RPO began to be missed
    Column("violations", sa.Integer, nullable=False, default=0),
    # between two points, to the later one
    Column("longest_gap_s", sa.Double, nullable=False, default=0),
)
Index("ix_rule_day_day", rule_day.c.day)

total_day = Table(                          # the same sums over all rules, and over each group
    "total_day", metadata,
    Column("scope", sa.String(8), primary_key=True),     # id of a group; empty: all rules
    Column("day", sa.String(10), primary_key=True),
    *(Column(c.name, c.type, nullable=False, default=0) for c in rule_day.c
      if c.name not in {"rule", "day"}),
)
Index("ix_total_day_day", total_day.c.day)

tally = Table(                              # of all tasks that ever ended, for counters
    "tally", metadata,
    Column("kind", sa.String(16), primary_key=True),
    Column("outcome", sa.String(16), primary_key=True),
    # how long they took: index of the first bound that is not exceeded
    Column("bucket", sa.Integer, primary_key=True, autoincrement=False),
    Column("tasks", sa.BigInteger, nullable=False),
    Column("seconds", sa.Double, nullable=False),
    Column("bytes_moved", sa.BigInteger, nullable=False),
    Column("retries", sa.BigInteger, nullable=False),
)

channel = Table(                            # where notifications go
    "channel", metadata,
    Column("id", sa.String(8), primary_key=True),
    Column("name", sa.String(64), nullable=False),
    Column("name_key", sa.String(128), nullable=False, unique=True),
    Column("kind", sa.String(32), nullable=False),       # the scheme of its address
    Column("host", sa.Text, nullable=False),             # that it calls
    Column("secret", sa.LargeBinary, nullable=False),    # the address, encrypted
    Column("events", sa.JSON, nullable=False),
    Column("language", sa.String(8), nullable=False),
    Column("enabled", sa.Boolean, nullable=False),
    Column("last_error", sa.Text, nullable=False, default=""),
    Column("last_sent_at", Time),
    Column("created_at", Time, nullable=False),
    Column("created_by", sa.String(64), nullable=False),
)

delivery = Table(                           # notifications that wait to be sent
    "delivery", metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("channel", ForeignKey("channel.id", ondelete="CASCADE"), nullable=False),
    Column("event", sa.String(64), nullable=False),
    Column("fields", sa.JSON, nullable=False),
    Column("at", Time, nullable=False),
    Column("attempts", sa.Integer, nullable=False),
    Column("next_try_at", Time, nullable=False),
)
Index("ix_delivery_next_try_at", delivery.c.next_try_at)
