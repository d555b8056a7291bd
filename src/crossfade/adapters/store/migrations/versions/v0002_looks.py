"""What each decision rested on: looks with their inputs, ticks with their place in the evidence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the looks; what was kept before has no place in the evidence."""
    op.add_column("crossfade_ticks", sa.Column("revision", sa.BigInteger))
    op.add_column("crossfade_ticks", sa.Column("previous", sa.BigInteger))
    op.add_column("crossfade_decisions", sa.Column("look", sa.BigInteger))
    op.create_index("crossfade_decisions_look", "crossfade_decisions", ["look"])
    op.create_table(
        "crossfade_looks",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("rollout", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("due", sa.Double, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("tick", sa.BigInteger),
        sa.Column("rollback_ready", sa.Boolean),
        sa.Column("trouble", sa.Text),
        sa.Column("window", sa.LargeBinary),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
    )
    op.create_index("crossfade_looks_in_order", "crossfade_looks", ["rollout", "id"])
