"""Bringing a database to the schema that this version writes, once, whoever starts at the same time."""

from __future__ import annotations

import logging
from pathlib import Path

import sqlalchemy as sa

from crossfade.adapters.store import schema
from crossfade.errors import StoreError

log = logging.getLogger("crossfade.store")

_BEFORE_MIGRATIONS = {"1": "0001", "2": "0002"}
"""Revision by the schema number of versions that had no migrations."""


def upgrade(connection: sa.Connection, shown: str) -> None:
    """Carry out the migrations that a database lacks, in the transaction of `connection`.

    The transaction has to keep others from doing the same. Raises StoreError where the database has a later
    schema than this version knows, or none that Crossfade has ever had; it is left as it is then.
    """
    found = revision(connection)
    if found == schema.REVISION:
        return  # somebody else was quicker
    if found is not None and found.isdecimal() and int(found) > int(schema.REVISION):
        raise StoreError(
            f"{shown} was written by a later Crossfade (schema {int(found)}, this one knows "
            f"{int(schema.REVISION)}); install that version, or give another database"
        )
    if found is not None and found not in schema.REVISIONS:
        raise StoreError(
            f"{shown} has schema {found!r}, which no Crossfade has written; restore it from a backup, "
            "or give another database"
        )
    log.info("%s: schema %s becomes %s", shown, found or "none", schema.REVISION)
    _run(connection, stamp=found)


def revision(connection: sa.Connection) -> str | None:
    """Return the revision that a database has; None where it has no tables of ours."""
    inspector = sa.inspect(connection)
    if inspector.has_table(schema.VERSION_TABLE):
        found = connection.scalars(sa.select(schema.version.c.version_num)).all()
        return str(found[0]) if len(found) == 1 else f"{len(found)} revisions"
    if not inspector.has_table(schema.meta.name):
        return None
    number = connection.scalar(sa.select(schema.meta.c.value).where(schema.meta.c.key == "schema"))
    return _BEFORE_MIGRATIONS.get(str(number), str(number))


def _run(connection: sa.Connection, *, stamp: str | None) -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # our own line says what is done
    # Half a second to import, and only needed where there is something to migrate.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    if stamp is not None and not sa.inspect(connection).has_table(schema.VERSION_TABLE):
        command.stamp(config, stamp)
    command.upgrade(config, "head")
