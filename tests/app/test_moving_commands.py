"""`crossfade export rollout` and `crossfade import`: moving house, and every way in which a file can be wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from crossfade.adapters.store import SqlStore
from crossfade.app.cli import main
from crossfade.testing.conformance.store import some_events, some_kept, some_lease, some_look


def crossfade(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


async def _fill(database: str) -> None:
    store = SqlStore(database)
    await store.open()
    await store.append("r", 0, some_events("r", 1, 3))
    await store.save_ticks("r", [some_kept(n) for n in range(3)], b"state")
    await store.save_look("r", some_look(1.0, {"n": 1}))
    await store.acquire(some_lease("a"), None)
    await store.close()


async def _told(database: str) -> tuple[object, ...]:
    store = SqlStore(database, must_exist=True)
    await store.open()
    try:
        return list(await store.events("r")), list(await store.ticks("r")), await store.evidence("r")
    finally:
        await store.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state folder with a rollout in it."""
    folder = tmp_path / "state" / "r"
    folder.mkdir(parents=True)
    asyncio.run(_fill(f"sqlite:///{folder}/store.db"))
    return folder.parent


@pytest.fixture
def file(state: Path, tmp_path: Path) -> Path:
    """The rollout, written out."""
    file = tmp_path / "r.rollout"
    done = crossfade("export", "rollout", "r", "--state", state, "--output", file)
    assert (done.exit_code, done.stderr) == (0, f"r: 9 records from sqlite:///{state}/r/store.db\n")
    return file


def test_a_rollout_moves_from_one_store_to_another(state: Path, file: Path, tmp_path: Path) -> None:
    """The lease stays behind: whoever serves the new store takes one there."""
    database = f"sqlite:///{tmp_path}/new.db"
    done = crossfade("import", file, "--database", database)
    assert (done.exit_code, done.stdout) == (0, f"r: 9 records are kept in {database}\n")
    assert asyncio.run(_told(database)) == asyncio.run(_told(f"sqlite:///{state}/r/store.db"))


def test_without_a_url_it_is_kept_in_the_state(file: Path, tmp_path: Path) -> None:
    assert crossfade("import", file, "--state", tmp_path / "new", "-o", "json").exit_code == 0
    assert len(asyncio.run(_told(f"sqlite:///{tmp_path}/new/r/store.db"))) == 3


def test_standard_output_is_the_file(state: Path, file: Path) -> None:
    assert crossfade("export", "rollout", "--state", state).stdout_bytes == file.read_bytes()


def test_importing_twice_or_into_its_own_store_is_refused(state: Path, file: Path, tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/new.db"
    assert crossfade("import", file, "--database", database).exit_code == 0
    for arguments in (["--database", database], ["--state", state]):
        done = crossfade("import", file, *arguments)
        assert done.exit_code == 3
        assert done.stderr == "crossfade: rollout r is kept here already; nothing was changed\n"


@pytest.mark.parametrize("cut", [0, 1, 40, 200, -1, -30])
def test_a_file_that_was_cut_off_makes_nothing(cut: int, file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes()[:cut])
    done = crossfade("import", file, "--state", tmp_path / "new")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"{file}:")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_damaged_line_is_named_and_nothing_is_kept(file: Path, tmp_path: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b"A", b"B")
    file.write_bytes(b"".join(lines))
    done = crossfade("import", file, "--database", f"sqlite:///{tmp_path}/new.db")
    assert done.exit_code == 2
    assert done.stderr.startswith(f"{file}:5: this line or the one before it was changed or lost")
    assert not (tmp_path / "new.db").exists()


def test_a_file_that_is_not_there_and_one_that_is_none_are_told(tmp_path: Path) -> None:
    missing = crossfade("import", tmp_path / "no", "--state", tmp_path)
    folder = crossfade("import", tmp_path, "--state", tmp_path)
    assert (missing.exit_code, folder.exit_code) == (2, 2)
    assert missing.stderr == f"{tmp_path}/no can't be read: No such file or directory\n"
    assert "can't be read" in folder.stderr


def test_a_rollout_that_is_not_kept_is_told(state: Path, tmp_path: Path) -> None:
    done = crossfade("export", "rollout", "q", "--state", state, "--output", tmp_path / "q")
    assert done.exit_code == 2
    assert not (tmp_path / "q").exists()
    other = crossfade("export", "rollout", "q", "--database", f"sqlite:///{state}/r/store.db")
    assert (other.exit_code, other.stderr) == (2, "there is no rollout 'q' in this store; it holds r\n")


def test_a_place_that_can_not_be_written_is_told(state: Path) -> None:
    done = crossfade("export", "rollout", "--state", state, "--output", "/proc/no/such")
    assert done.exit_code == 2
    assert done.stderr == "/proc/no/such can't be written: No such file or directory\n"
