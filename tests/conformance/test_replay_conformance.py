"""What a controller has kept in a database is decided again from it to the same result."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from tests.simulation.test_controller_faults import World, begun, lived
from tests.simulation.test_replay import report_of

from crossfade.adapters.store import SqlStore


async def _on_a_database(url: str) -> None:
    world = World()
    store = SqlStore(url)
    await store.open()
    world.store = store  # type: ignore[assignment]
    controller = await begun(world)
    await lived(world, controller, 70, 0.05)
    await lived(world, controller, 4, 0.5, failures=2500)
    report = await report_of(store)
    assert (report.different, report.blind, report.same > 70) == ([], [], True)
    async with store._database.transaction(write=True) as connection:
        await connection.execute(
            sa.text("update crossfade_decisions set data = replace(data, 'ROLL BACK: ', 'HOLD: ')")
        )
    changed = await report_of(store)
    assert [found.kept.split(":")[0] for found in changed.different] == ["HOLD"]
    await store.close()


async def test_decisions_kept_by_sqlite_are_made_again(tmp_path: Path) -> None:
    await _on_a_database(f"sqlite:///{tmp_path}/store.db")


@pytest.mark.external
async def test_decisions_kept_by_postgresql_are_made_again(postgresql_server: str) -> None:
    await _on_a_database(f"{postgresql_server}/postgres")
