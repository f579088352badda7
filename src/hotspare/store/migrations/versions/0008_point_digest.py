"""The digest by which a DR machine names a restore point that it told before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Empty for those that are there: they are told whole once more.
    op.add_column("restore_point", sa.Column("digest", sa.String(64), nullable=False,
                                             server_default=""))
