"""The ledger of clients."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table; a rollout without a row has counted no clients yet."""
    op.create_table(
        "crossfade_ledger",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
