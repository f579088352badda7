"""Folder and resource pool of a rule's replica."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("folder", "pool"):
        op.add_column("rule", sa.Column(name, sa.Text(), nullable=False, server_default=""))
