"""What each rule of notices has seen, and what nobody has taken yet."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the ledgers; a version that doesn't know them sends nothing and harms nothing."""
    op.create_table(
        "crossfade_notices",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("rule", sa.Text, primary_key=True),
        sa.Column("ledger", sa.LargeBinary, nullable=False),
    )
