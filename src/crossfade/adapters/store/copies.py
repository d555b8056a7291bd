"""Everything kept of a rollout, row by row, out of one database and into another."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from crossfade.adapters.store import schema
from crossfade.errors import ConflictError, StoreError
from crossfade.ports import Record

_CHUNK = 500
"""Rows read or written by one statement."""

_KEYS: dict[str, tuple[sa.Table, sa.Column[Any]]] = {
    "events": (schema.events, schema.events.c.revision),
    "ticks": (schema.ticks, schema.ticks.c.number),
    "evidence": (schema.evidence, schema.evidence.c.number),
    "decisions": (schema.decisions, schema.decisions.c.id),  # before the looks that they name: those are many
    "looks": (schema.looks, schema.looks.c.id),
    "notices": (schema.notices, schema.notices.c.rule),
    "register": (schema.register, schema.register.c.client),
    "ledger": (schema.ledger, schema.ledger.c.rollout),
    "population": (schema.population, schema.population.c.rollout),
    "feedback": (schema.feedback, schema.feedback.c.id),
    "enrolments": (schema.enrolments, schema.enrolments.c.user_hash),
}
"""Tables by kind, in the order in which they are copied, and what orders the rows of a rollout."""
_OWN = {"events": {"id"}, "feedback": {"id"}, "decisions": {"id"}}
"""Columns that a database gives itself and nothing names."""


def _names(kind: str) -> list[str]:
    return [column.name for column in _KEYS[kind][0].c if column.name not in {"rollout", *_OWN.get(kind, ())}]


async def rows_of(connection: AsyncConnection, rollout: str) -> AsyncIterator[Record]:
    """Yield all rows of a rollout."""
    for kind, (table, key) in _KEYS.items():
        names = _names(kind)
        query = sa.select(table).where(table.c.rollout == rollout).order_by(key).limit(_CHUNK)
        rows = (await connection.execute(query)).mappings().all()
        while rows:
            for row in rows:
                yield Record(kind=kind, fields={name: row[name] for name in names})
            rows = (await connection.execute(query.where(key > rows[-1][key.name]))).mappings().all()


async def must_be_new(connection: AsyncConnection, rollout: str) -> None:
    """Raise ConflictError where anything of a rollout is kept, or somebody is about to begin it."""
    for table in (*(table for table, _ in _KEYS.values()), schema.leases):
        kept = sa.select(sa.literal(1)).where(table.c.rollout == rollout).limit(1)
        if await connection.scalar(kept) is not None:
            raise ConflictError(f"rollout {rollout} is kept here already; nothing was changed")


class Copier:
    """Writes rows into a database that numbers looks anew."""

    def __init__(self, connection: AsyncConnection, rollout: str) -> None:
        self._connection = connection
        self._rollout = rollout
        self._records: list[dict[str, Any]] = []
        """Decisions, which wait for the numbers of their looks."""
        self._looks: dict[int, int | None] = {}
        """New number by the old one, of looks that a decision names."""

    async def copy(self, records: Iterable[Record]) -> None:
        """Write all records; raises StoreError for one that has no place here."""
        rest = iter(records)
        while chunk := list(islice(rest, _CHUNK)):
            for kind in _KEYS:
                rows = [self._row(record) for record in chunk if record.kind == kind]
                if rows:
                    await self._write(kind, rows)
            if unknown := next((record.kind for record in chunk if record.kind not in _KEYS), None):
                raise StoreError(f"there is no place for {unknown!r} here; use the version that wrote it")
        for row in self._records:
            row["look"] = self._looks.get(row["look"])
        if self._records:
            await self._connection.execute(sa.insert(schema.decisions), self._records)

    def _row(self, record: Record) -> dict[str, Any]:
        expected = _names(record.kind)
        if set(record.fields) != set(expected):
            raise StoreError(
                f"{record.kind} have {', '.join(expected)} here and not {', '.join(record.fields)}; "
                "use the version that wrote them"
            )
        columns = _KEYS[record.kind][0].c
        if unfit := [name for name, value in record.fields.items() if _unfit(columns[name], value)]:
            raise StoreError(f"{unfit[0]} of {record.kind} can't be {record.fields[unfit[0]]!r}")
        return {"rollout": self._rollout, **record.fields}

    async def _write(self, kind: str, rows: list[dict[str, Any]]) -> None:
        if kind == "decisions":
            self._records += rows
            self._looks |= {row["look"]: None for row in rows if row["look"] is not None}
        elif kind == "looks":
            old = [row.pop("id") for row in rows]
            numbered = sa.insert(schema.looks).returning(schema.looks.c.id, sort_by_parameter_order=True)
            new = (await self._connection.scalars(numbered, rows)).all()
            self._looks |= {before: now for before, now in zip(old, new, strict=True) if before in self._looks}
        else:
            await self._connection.execute(sa.insert(_KEYS[kind][0]), rows)


def _unfit(column: sa.Column[Any], value: object) -> bool:
    """Tell whether a column can't hold a value."""
    if value is None:
        return not column.nullable
    wanted = column.type.python_type
    if wanted is int:
        return not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63
    if wanted is float:
        return not isinstance(value, (int, float))
    return not isinstance(value, wanted)
