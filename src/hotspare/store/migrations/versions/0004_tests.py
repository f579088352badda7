"""Verdicts on restore points."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "proof",
        sa.Column("id", Id, autoincrement=True, nullable=False),
        sa.Column("rule", sa.String(8), nullable=False),
        sa.Column("point", sa.Integer, nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("task", Id, nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("checks", sa.JSON, nullable=False),
        sa.Column("screenshot", sa.LargeBinary),
        sa.Column("at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_proof"),
        sa.UniqueConstraint("task", name="uq_proof_task"),
        sa.ForeignKeyConstraint(["rule", "point"], ["restore_point.rule", "restore_point.number"],
                                name="fk_proof_rule_restore_point", ondelete="CASCADE"),
        sqlite_autoincrement=True)
    op.create_index("ix_proof_rule", "proof", ["rule", "id"])
    op.create_index("ix_proof_point", "proof", ["rule", "point", "id"])
