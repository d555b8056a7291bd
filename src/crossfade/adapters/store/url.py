"""Which database a URL means: `sqlite:////path/to/file` or `postgresql://USER@HOST/DATABASE`."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError

from crossfade.errors import StoreError


def parse(text: str) -> sa.URL:
    """Return the URL with the driver that is used; raises StoreError where it names no store."""
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        raise StoreError(
            "the store's URL can't be read; write sqlite:////path/to/file or postgresql://user@host/database"
        ) from None
    if url.drivername in ("sqlite", "sqlite+aiosqlite"):
        if url.database in (None, "", ":memory:"):
            raise StoreError(f"{text} would lose everything when the process ends; write sqlite:////path/to/file")
        return url.set(drivername="sqlite+aiosqlite")
    if url.drivername in ("postgresql", "postgres", "postgresql+asyncpg"):
        query = {("ssl" if name == "sslmode" else name): value for name, value in url.query.items()}
        return url.set(drivername="postgresql+asyncpg", query=query)
    raise StoreError(
        f"{url.drivername} is not a store that Crossfade knows; "
        "write sqlite:////path/to/file or postgresql://user@host/database"
    )


def without_password(url: sa.URL) -> str:
    """Return a URL as it may be shown."""
    query = {name: value for name, value in url.query.items() if name != "password"}
    plain = url.set(drivername=url.get_backend_name(), query=query)
    return plain.render_as_string(hide_password=True)


def file_of(url: sa.URL) -> Path | None:
    """Return the file of a SQLite URL; None for other databases and for SQLite's own `file:` URIs."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith("file:"):
        return None
    return Path(url.database)
