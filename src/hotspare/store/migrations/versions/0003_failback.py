"""Failback, and tasks that look at restore points beside a rule's other tasks."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def index(name: str, columns: list[str], clause: str) -> None:
    where: dict[str, Any] = {"sqlite_where": sa.text(clause), "postgresql_where": sa.text(clause)}
    op.create_index(name, "task", columns, unique=True, **where)


def upgrade() -> None:
    op.drop_index("uq_task_live_rule", table_name="task")
    index("uq_task_live_rule", ["rule"],
          "state <> 'ended' AND rule IS NOT NULL AND kind NOT IN ('test', 'scrub')")
    index("uq_task_live_side", ["rule", "kind"],
          "state <> 'ended' AND rule IS NOT NULL AND kind IN ('test', 'scrub')")
    op.add_column("rule", sa.Column("failback", sa.JSON(none_as_null=True)))
    op.add_column("rule", sa.Column("commit_at", sa.Double()))
    op.create_index("ix_rule_commit_at", "rule", ["commit_at"],
                    sqlite_where=sa.text("commit_at IS NOT NULL"),
                    postgresql_where=sa.text("commit_at IS NOT NULL"))
