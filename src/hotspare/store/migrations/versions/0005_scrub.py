"""Scrubs and their schedules, and a source that runs beside its replica."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_EVENTS_BEFORE = {"rule.run-failed", "rule.rpo-violated", "rule.unexpected-full", "machine.lost",
                  "machine.back"}
_NEW_EVENTS = ("rule.tracking-lied", "rule.both-run", "point.damaged")


def upgrade() -> None:
    op.add_column("restore_point", sa.Column("scrubbed_at", sa.Double()))
    op.add_column("restore_point", sa.Column("damaged_at", sa.Double()))
    op.add_column("restore_point", sa.Column("damage", sa.JSON(none_as_null=True)))
    op.create_index("ix_restore_point_damaged", "restore_point", ["rule"],
                    sqlite_where=sa.text("damaged_at IS NOT NULL"),
                    postgresql_where=sa.text("damaged_at IS NOT NULL"))
    op.add_column("rule", sa.Column("source_power", sa.String(16)))
    op.add_column("rule", sa.Column("both_run_since", sa.Double()))
    op.create_table(
        "proof_schedule",
        sa.Column("id", sa.String(8), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("name_key", sa.String(128), nullable=False, unique=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("all_points", sa.Boolean(), nullable=False),
        sa.Column("schedule", sa.JSON(), nullable=False),
        sa.Column("time_zone", sa.String(64), nullable=False),
        sa.Column("rule", sa.String(8), sa.ForeignKey("rule.id", ondelete="CASCADE")),
        sa.Column("group", sa.String(8), sa.ForeignKey("rule_group.id", ondelete="CASCADE")),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("next_run_at", sa.Double()),
        sa.Column("last_run_at", sa.Double()),
        sa.Column("at_rule", sa.String(8)),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("created_by", sa.String(64), nullable=False))
    op.create_index("ix_proof_schedule_next_run_at", "proof_schedule", ["next_run_at"])
    channel = sa.table("channel", sa.column("id", sa.String), sa.column("events", sa.JSON))
    for row in op.get_bind().execute(sa.select(channel)).all():
        if set(row.events) >= _EVENTS_BEFORE:       # it is told all
            op.get_bind().execute(sa.update(channel).where(channel.c.id == row.id).values(
                events=[*row.events, *_NEW_EVENTS]))
