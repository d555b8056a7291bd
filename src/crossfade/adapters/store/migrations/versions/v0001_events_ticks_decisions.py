"""The tables of the first release, which made them without migrations and counted them as schema 1."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what the first release made."""
    serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    meta = op.create_table(
        "crossfade_meta",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "crossfade_events",
        sa.Column("id", serial, primary_key=True),
        sa.Column("rollout", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.UniqueConstraint("rollout", "revision", name="crossfade_events_revision"),
    )
    op.create_table(
        "crossfade_ticks",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "crossfade_evidence",
        sa.Column("rollout", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "crossfade_decisions",
        sa.Column("id", serial, primary_key=True),
        sa.Column("rollout", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
    )
    op.create_index("crossfade_decisions_latest", "crossfade_decisions", ["rollout", "id"])
    op.bulk_insert(meta, [{"key": "schema", "value": "1"}])
