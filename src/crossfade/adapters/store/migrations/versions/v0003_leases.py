"""Who may act for a rollout; and a schema number that versions without migrations refuse."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the leases, and keep earlier versions away: they would write without one."""
    op.create_table(
        "crossfade_leases",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("lasts_s", sa.Double, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
    )
    op.execute("UPDATE crossfade_meta SET value = '3' WHERE key = 'schema'")
