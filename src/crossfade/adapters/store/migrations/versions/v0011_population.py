"""Which users were seen in the present phase."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the table; a rollout without a row counts them from now on."""
    op.create_table(
        "crossfade_population",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
