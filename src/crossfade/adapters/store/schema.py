"""The tables, as they are after the last migration; `migrations/` is how they came to be, and proven equal."""

from __future__ import annotations

import sqlalchemy as sa

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011")
"""Of the migrations, in order: a database that has the last one needs no look at them."""
REVISION = REVISIONS[-1]
VERSION_TABLE = "crossfade_version"
"""Where the migrations keep the revision that a database has."""

metadata = sa.MetaData()
_serial = sa.BigInteger().with_variant(sa.Integer, "sqlite")

meta = sa.Table(
    "crossfade_meta",  # read by versions from before the migrations: its schema number keeps them away
    metadata,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
version = sa.table(VERSION_TABLE, sa.column("version_num", sa.Text))
events = sa.Table(
    "crossfade_events",
    metadata,
    sa.Column("id", _serial, primary_key=True),
    sa.Column("rollout", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.UniqueConstraint("rollout", "revision", name="crossfade_events_revision"),
)
ticks = sa.Table(
    "crossfade_ticks",
    metadata,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.Column("revision", sa.BigInteger),
    sa.Column("previous", sa.BigInteger),
)
evidence = sa.Table(
    "crossfade_evidence",
    metadata,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("state", sa.LargeBinary, nullable=False),
)
decisions = sa.Table(
    "crossfade_decisions",
    metadata,
    sa.Column("id", _serial, primary_key=True),
    sa.Column("rollout", sa.Text, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("look", sa.BigInteger),
    sa.Index("crossfade_decisions_latest", "rollout", "id"),
    sa.Index("crossfade_decisions_look", "look"),
)
looks = sa.Table(
    "crossfade_looks",
    metadata,
    sa.Column("id", _serial, primary_key=True),
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
    sa.Index("crossfade_looks_in_order", "rollout", "id"),
)
leases = sa.Table(
    "crossfade_leases",
    metadata,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("lasts_s", sa.Double, nullable=False),
    sa.Column("beat", sa.BigInteger, nullable=False),
)
notices = sa.Table(
    "crossfade_notices",
    metadata,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("logbook", sa.LargeBinary, nullable=False),
)
register = sa.Table(
    "crossfade_register",
    metadata,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("contact", sa.Text, nullable=False),
    sa.Column("notes", sa.Text, nullable=False),
    sa.Column("exempt_until", sa.Text),
)
ledger = sa.Table(
    "crossfade_ledger",
    metadata,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("state", sa.LargeBinary, nullable=False),
)
population = sa.Table(
    "crossfade_population",
    metadata,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("state", sa.LargeBinary, nullable=False),
)
feedback = sa.Table(
    "crossfade_feedback",
    metadata,
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
    sa.Index("crossfade_feedback_of_users", "rollout", "user_hash", "at"),
)
asked = sa.Table(
    "crossfade_asked",
    metadata,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("phase", sa.Text, primary_key=True),
    sa.Column("user_hash", sa.BigInteger, primary_key=True, autoincrement=False),
)
keys = sa.Table(
    "crossfade_keys",  # never copied out: an export may be shown
    metadata,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("key", sa.LargeBinary, nullable=False),
)
enrolments = sa.Table(
    "crossfade_enrolments",
    metadata,
    sa.Column("rollout", sa.Text, primary_key=True),
    sa.Column("user_hash", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("cohort", sa.Text, nullable=False),
    sa.Column("consented_at", sa.Double, nullable=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("by", sa.Text, nullable=False),
)
