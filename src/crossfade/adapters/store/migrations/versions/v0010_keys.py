"""Keys that every controller of a rollout signs with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the table; a rollout without rows has signed nothing yet."""
    op.create_table(
        "crossfade_keys",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("key", sa.LargeBinary, nullable=False),
    )
