"""Tokens and the record of acts in files: shared by processes, whole after a crash, for their owner alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.adapters.access import FileAudit, FileTokens
from crossfade.core.access import Act, Role, Token, digest_of, issue
from crossfade.errors import ConflictError, StoreError, UsageError


def token(name: str, *, now: float = 0.0, lasts_s: float | None = None) -> Token:
    return issue(name, Role.VIEWER, name, now=now, by="ada", expires_s=lasts_s)


def act(number: int) -> Act:
    return Act(at=float(number), by="ada", role="admin", address="", act="pause", reason="Ünï\n\x00\ud800")


async def test_tokens_come_back_as_they_were_added_to_every_process(tmp_path: Path) -> None:
    one, two = FileTokens(tmp_path / "tokens.json"), FileTokens(tmp_path / "tokens.json")
    added = [token("a", lasts_s=5), token("b")]
    assert list(await one.tokens()) == []
    for each in added:
        await one.add(each)
    assert list(await two.tokens()) == added
    await two.remove("a")
    assert list(await one.tokens()) == added[1:]
    assert digest_of("b") == added[1].digest != "b"


async def test_a_name_is_taken_until_its_token_is_over(tmp_path: Path) -> None:
    tokens = FileTokens(tmp_path / "tokens.json")
    await tokens.add(token("ci", now=0.0, lasts_s=60.0))
    with pytest.raises(ConflictError, match="revoke it first"):
        await tokens.add(token("ci", now=59.0))
    await tokens.add(token("ci", now=60.0))
    with pytest.raises(UsageError, match="there is no token 'bob'; there is ci"):
        await tokens.remove("bob")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"tokens": 5}', '{"tokens": [{"name": "x"}]}', "\x00"])
async def test_a_damaged_file_lets_nobody_in_and_says_what_to_do(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    tokens = FileTokens(path)
    await tokens.add(token("ci"))
    await tokens.tokens()
    path.write_text(text)
    with pytest.raises(StoreError, match=r"so no token is accepted.*create the tokens anew"):
        await tokens.tokens()
    with pytest.raises(StoreError):
        await tokens.add(token("more"))
    assert path.read_text() == text


async def test_what_a_crash_left_half_written_is_not_read(tmp_path: Path) -> None:
    tokens = FileTokens(tmp_path / "tokens.json")
    await tokens.add(token("ci"))
    (tmp_path / ".tokens.json.new").write_text('{"tok')
    assert [t.name for t in await FileTokens(tmp_path / "tokens.json").tokens()] == ["ci"]
    await tokens.add(token("more"))
    assert {mode for _, mode in _files(tmp_path)} == {0o600}


async def test_acts_come_newest_first_and_the_oldest_files_are_let_go(tmp_path: Path) -> None:
    audit = FileAudit(tmp_path / "audit.jsonl", size=1000, files=3)
    for number in range(60):
        await audit.append(act(number))
    found = [one.at for one in await audit.latest(1000)]
    assert found == [float(59 - n) for n in range(len(found))]
    assert 12 <= len(found) < 40
    assert (await audit.latest(2))[1] == await _as_kept(act(58), tmp_path)
    files = {name for name, _ in _files(tmp_path) if not name.startswith(".")}
    assert files == {"audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"}
    assert max((tmp_path / name).stat().st_size for name in files) <= 1000
    assert {mode for _, mode in _files(tmp_path)} == {0o600}


def _files(folder: Path) -> list[tuple[str, int]]:
    return [(path.name, path.stat().st_mode & 0o777) for path in folder.iterdir()]


async def _as_kept(one: Act, folder: Path) -> Act:
    other = FileAudit(folder / "other.jsonl")
    await other.append(one)
    (kept,) = await other.latest(5)
    for name in ("other.jsonl", ".other.jsonl.lock"):
        (folder / name).unlink()
    assert (kept.at, kept.by, kept.reason[:4]) == (one.at, one.by, one.reason[:4])
    return kept


async def test_a_line_that_cant_be_read_is_passed_over(tmp_path: Path) -> None:
    audit = FileAudit(tmp_path / "audit.jsonl")
    await audit.append(act(1))
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"at": 5\n\xff\xfe\n{"at": 1, "later": 2}\n[]\n')
    await audit.append(act(2))
    assert [one.at for one in await audit.latest(10)] == [2.0, 1.0]


async def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(StoreError):
        await FileAudit(tmp_path / "taken" / "audit.jsonl").append(act(1))
    with pytest.raises(StoreError):
        await FileTokens(tmp_path / "taken" / "tokens.json").add(token("ci"))
