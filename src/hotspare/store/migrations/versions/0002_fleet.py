"""Schedules, weekly bandwidth, groups, templates, enrolled machines, statistics, notifications.

SQLite copies a table to change a column, and dropping the old copy would delete what refers to
it; so columns are only added, renamed and dropped here, which both databases do in place.
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def where(clause: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(clause), "postgresql_where": sa.text(clause)}


def add(table: str, name: str, kind: Any, default: Any = None) -> None:
    """A column; with a default for the rows that are there it may not be NULL."""
    op.add_column(table, sa.Column(name, kind, nullable=default is None, server_default=default))


def upgrade() -> None:
    op.create_table("channel",
        sa.Column("id", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("name_key", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("language", sa.String(length=8), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.Column("last_sent_at", sa.Double(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channel")),
        sa.UniqueConstraint("name_key", name=op.f("uq_channel_name_key"))
    )
    op.create_table("enrolment",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("machine", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_enrolment"))
    )
    op.create_table("rule_group",
        sa.Column("id", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("name_key", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rule_group")),
        sa.UniqueConstraint("name_key", name=op.f("uq_rule_group_name_key"))
    )
    op.create_table("template",
        sa.Column("id", sa.String(length=8), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("name_key", sa.String(length=128), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_template")),
        sa.UniqueConstraint("name_key", name=op.f("uq_template_name_key"))
    )
    op.create_table("delivery",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True,
                  nullable=False),
        sa.Column("channel", sa.String(length=8), nullable=False),
        sa.Column("event", sa.String(length=64), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["channel"], ["channel.id"], name=op.f("fk_delivery_channel"),
                                ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery"))
    )
    op.create_index("ix_delivery_next_try_at", "delivery", ["next_try_at"])
    op.create_table("rule_day",
        sa.Column("rule", sa.String(length=8), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("ok", sa.Integer(), nullable=False),
        sa.Column("warning", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("stopped", sa.Integer(), nullable=False),
        sa.Column("full", sa.Integer(), nullable=False),
        sa.Column("bytes_queried", sa.BigInteger(), nullable=False),
        sa.Column("bytes_read", sa.BigInteger(), nullable=False),
        sa.Column("bytes_moved", sa.BigInteger(), nullable=False),
        sa.Column("bytes_zero", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("violations", sa.Integer(), nullable=False),
        sa.Column("longest_gap_s", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["rule"], ["rule.id"], name=op.f("fk_rule_day_rule"),
                                ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("rule", "day", name=op.f("pk_rule_day"))
    )
    op.create_index("ix_rule_day_day", "rule_day", ["day"])
    op.create_table("total_day",
        sa.Column("scope", sa.String(length=8), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("ok", sa.Integer(), nullable=False),
        sa.Column("warning", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("stopped", sa.Integer(), nullable=False),
        sa.Column("full", sa.Integer(), nullable=False),
        sa.Column("bytes_queried", sa.BigInteger(), nullable=False),
        sa.Column("bytes_read", sa.BigInteger(), nullable=False),
        sa.Column("bytes_moved", sa.BigInteger(), nullable=False),
        sa.Column("bytes_zero", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("retries", sa.Integer(), nullable=False),
        sa.Column("violations", sa.Integer(), nullable=False),
        sa.Column("longest_gap_s", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "day", name=op.f("pk_total_day"))
    )
    op.create_index("ix_total_day_day", "total_day", ["day"])
    op.create_table("tally",
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("tasks", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("bytes_moved", sa.BigInteger(), nullable=False),
        sa.Column("retries", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "outcome", "bucket", name=op.f("pk_tally"))
    )
    op.create_index("ix_log_at", "log", ["at"], **where("task IS NULL"))
    op.create_table("lane",
        sa.Column("machine", sa.String(length=64), nullable=False),
        sa.Column("source_host", sa.Text(), nullable=False),
        sa.Column("target_host", sa.Text(), nullable=False),
        sa.Column("served", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("machine", "source_host", "target_host",
                                name=op.f("pk_lane"))
    )
    _columns()


def _columns() -> None:
    add("machine", "transfer_buffer", sa.Integer(), str(4 * 1024 * 1024))
    add("machine", "time_zone", sa.String(64), "UTC")
    add("machine", "bandwidth", sa.JSON(), "[]")
    add("machine", "protocol", sa.Integer(), "1")
    add("machine", "token_digest", sa.String(64))
    add("machine", "address", sa.Text(), "")
    add("machine", "clock_offset", sa.Double())
    add("machine", "configured", sa.JSON(), "{}")
    add("machine", "busy", sa.JSON(none_as_null=True))
    add("machine", "reported", sa.BigInteger(), "0")
    add("machine", "revoked_at", sa.Double())
    add("machine", "deleted_at", sa.Double())
    op.create_index("uq_machine_token_digest", "machine", ["token_digest"], unique=True,
                    **where("token_digest IS NOT NULL"))

    add("task", "buffer", sa.Integer())
    op.create_index("ix_task_queued", "task",
                    ["machine", "source_host", "target_host", "priority", "id"],
                    **where("state = 'queued'"))
    add("task", "full", sa.Boolean(), sa.false())
    for name in ("bytes_queried", "bytes_read", "bytes_moved", "bytes_zero"):
        add("task", name, sa.BigInteger(), "0")
    add("task", "stall_s", sa.Double())
    add("task", "retries", sa.Integer(), "0")
    op.create_index("ix_task_ended_at", "task", ["ended_at"], **where("state = 'ended'"))

    op.execute('ALTER TABLE rule ADD COLUMN "group" VARCHAR(8)'
               " CONSTRAINT fk_rule_group REFERENCES rule_group (id)")
    for name in ("datacenter", "host", "temp_dir"):
        add("rule", name, sa.Text(), "")
    add("platform", "verified", sa.Boolean(), sa.true())
    add("rule", "vm_key", sa.Text(), "")
    add("rule", "revision", sa.Integer(), "1")
    add("rule", "fast_transfer", sa.Boolean(), sa.true())
    add("rule", "lan_free", sa.Boolean(), sa.false())
    add("rule", "delete_replica", sa.Boolean(), sa.false())
    add("rule", "time_zone", sa.String(64), "UTC")
    add("rule", "schedule", sa.JSON(none_as_null=True))
    add("rule", "rpo_s", sa.Integer())
    add("rule", "points", sa.Integer(), "0")
    add("rule", "latest_point", sa.Integer())
    add("rule", "latest_point_at", sa.Double())
    add("rule", "stored", sa.BigInteger(), "0")
    add("rule", "pause", sa.JSON(none_as_null=True))
    add("rule", "rpo_target_s", sa.Double())
    add("rule", "rpo_violated_at", sa.Double())
    add("rule", "full_runs", sa.Integer(), "0")
    op.execute("ALTER TABLE rule RENAME COLUMN bandwidth TO flat_limit")
    add("rule", "bandwidth", sa.JSON(), "[]")
    op.create_index("ix_rule_group", "rule", ["group"])
    op.drop_index("ix_rule_next_run_at", "rule")
    op.create_index("ix_rule_state", "rule", ["state", "next_run_at"],
                    **where("deleted_at IS NULL"))
    _carry_over()
    op.create_index("uq_rule_vm_key", "rule", ["vm_key"], unique=True,
                    **where("deleted_at IS NULL"))
    op.drop_column("task", "reason")
    op.drop_column("rule", "flat_limit")
    op.drop_column("rule", "interval_s")
    _seal("log", "audit")


def _seal(*tables: str) -> None:
    """What was written is never changed, by whatever program; pruning may delete it."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    if not sqlite:                  # it stays when the tables are dropped
        op.execute("CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger"
                   " LANGUAGE plpgsql AS $$"
                   " BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$")
    for table in tables:
        op.execute(f"CREATE TRIGGER {table}_append_only BEFORE UPDATE ON {table} " + (
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END" if sqlite else
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"))


def _carry_over() -> None:
    """An interval becomes a schedule, one limit a range of the whole week, and the catalogue's
    totals are counted."""
    conn = op.get_bind()
    week = {"days": [1, 2, 3, 4, 5, 6, 7], "start": 0, "end": 1440}
    for rule, interval, limit in conn.execute(sa.text(
            "SELECT id, interval_s, flat_limit FROM rule")).all():
        schedule = None if interval is None else {"kind": "interval", "every_s": interval}
        ranges = [] if limit is None else [week | {"limit": limit}]
        conn.execute(sa.text("UPDATE rule SET schedule = :s, bandwidth = :b WHERE id = :id"),
                     {"s": schedule and json.dumps(schedule), "b": json.dumps(ranges),
                      "id": rule})
    conn.execute(sa.text(
        "UPDATE rule SET"
        " points = (SELECT count(*) FROM restore_point p WHERE p.rule = rule.id),"
        " latest_point = (SELECT max(number) FROM restore_point p WHERE p.rule = rule.id),"
        " latest_point_at = (SELECT max(taken_at) FROM restore_point p WHERE p.rule = rule.id),"
        " stored = (SELECT coalesce(sum(moved), 0) FROM restore_point p"
        "           WHERE p.rule = rule.id)"))
    _key_machines(conn)


def _key_machines(conn: sa.Connection) -> None:
    """Two rules of one machine may have been made before its host's identity was known: the
    newer keeps a key of its own registration, so that nothing stands in the way of the index."""
    seen: set[str] = set()
    for rule, source, vm, host in conn.execute(sa.text(
            "SELECT r.id, r.source, r.vm, p.host_id FROM rule r JOIN platform p"
            " ON p.id = r.source ORDER BY r.deleted_at IS NOT NULL, r.created_at")).all():
        key = f"{host or source}/{vm}"
        key = f"{source}/{vm}" if key in seen else key
        seen.add(key)
        conn.execute(sa.text("UPDATE rule SET vm_key = :key WHERE id = :id"),
                     {"key": key, "id": rule})
