"""What users said, and who was asked."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the tables; a rollout without rows has heard nothing."""
    op.create_table(
        "crossfade_feedback",
        sa.Column("id", _serial, primary_key=True),
        sa.Column("rollout", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("user_hash", sa.BigInteger, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("rating", sa.Integer),
        sa.Column("complaint", sa.Text, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("region", sa.Text, nullable=False),
        sa.UniqueConstraint("rollout", "key", name="crossfade_feedback_once"),
    )
    op.create_index("crossfade_feedback_of_users", "crossfade_feedback", ["rollout", "user_hash", "at"])
    op.create_table(
        "crossfade_asked",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("phase", sa.Text, primary_key=True),
        sa.Column("user_hash", sa.BigInteger, primary_key=True, autoincrement=False),
    )
