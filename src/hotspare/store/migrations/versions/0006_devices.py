"""Which devices a machine of another hypervisor finds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("rule", sa.Column("devices", sa.String(16), nullable=False,
                                    server_default="auto"))
