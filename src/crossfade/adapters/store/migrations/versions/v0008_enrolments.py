"""Who has joined a cohort or left one."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the table; a rollout without rows has the plan's cohorts."""
    op.create_table(
        "crossfade_enrolments",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("user_hash", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("cohort", sa.Text, nullable=False),
        sa.Column("consented_at", sa.Double, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("by", sa.Text, nullable=False),
    )
