"""The register of clients; what a rule of notices has seen is its logbook: the ledger is that of clients."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the register, and rename a column."""
    op.execute("ALTER TABLE crossfade_notices RENAME COLUMN ledger TO logbook")
    op.create_table(
        "crossfade_register",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("client", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("contact", sa.Text, nullable=False),
        sa.Column("notes", sa.Text, nullable=False),
        sa.Column("exempt_until", sa.Text),
    )
