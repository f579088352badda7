"""Indexes of the tasks that are live or have begun, and of replicas' names."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    def index(name: str, table: str, column: str, where: str) -> None:
        op.create_index(name, table, [column], sqlite_where=sa.text(where),
                        postgresql_where=sa.text(where))

    op.drop_index("ix_task_live", "task")
    index("ix_task_live_rule", "task", "rule", "state <> 'ended'")
    index("ix_task_begun", "task", "machine", "state IN ('dispatched', 'running')")
    index("ix_rule_replica_name", "rule", "replica_name", "deleted_at IS NULL")
