"""Outcomes from a file: every line arrives, and what is wrong is told by file and line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from crossfade.app import posting
from crossfade.app.client import Client
from crossfade.errors import UsageError


class Desk(Client):
    """A controller that takes everything, or refuses with a text."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, object]]] = []
        self.refusal = ""

    def post(self, path: str, body: dict[str, Any]) -> Any:
        assert path == "/outcomes"
        if self.refusal:
            raise UsageError(self.refusal)
        self.batches.append(body["outcomes"])
        return {"taken": len(body["outcomes"]), "repeated": 1, "outdated": 0}


@pytest.fixture
def desk() -> Desk:
    return Desk()


def write(folder: Path, text: str) -> Path:
    path = folder / "outcomes"
    path.write_text(text)
    return path


def test_csv(tmp_path: Path, desk: Desk) -> None:
    text = 'metric,user,value,region\nconversion,u1,1,eu\n\nconversion,"u,2",0.5,\n'
    assert posting.post(write(tmp_path, text), desk) == {"taken": 2, "repeated": 1, "outdated": 0}
    assert desk.batches == [
        [
            {"metric": "conversion", "user": "u1", "value": 1.0, "region": "eu"},
            {"metric": "conversion", "user": "u,2", "value": 0.5},
        ]
    ]


def test_json_lines_in_batches(tmp_path: Path, desk: Desk) -> None:
    rows = [{"metric": "conversion", "user": f"u{n}", "value": 1} for n in range(2500)]
    text = "\ufeff" + "\n".join(json.dumps(row) for row in rows)
    assert posting.post(write(tmp_path, text), desk)["taken"] == 2500
    assert [len(batch) for batch in desk.batches] == [1000, 1000, 500]
    assert [row for batch in desk.batches for row in batch] == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no outcome"),
        ("metric,user,value\n", "holds no outcome"),
        ("user,value\nu1,1\n", ":1: a CSV begins with a head that has metric, user and value"),
        ("metric,user,value\n\nconversion,u1,yes\n", ":3: value: 'yes' is no number"),
        ("metric,user,value\nconversion,u1\n", ":2: value: None is no number"),
        ('{"metric": "a"}\n{"metric"\n', ":2: is no JSON object on one line"),
        ('{"metric": "a"}\n[1]\n', ":2: is no JSON object"),
    ],
)
def test_what_can_not_be_read_is_told_by_line(tmp_path: Path, desk: Desk, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        posting.post(write(tmp_path, text), desk)
    assert message in str(caught.value)
    assert desk.batches == []


def test_a_file_that_is_no_text_or_not_there(tmp_path: Path, desk: Desk) -> None:
    path = tmp_path / "outcomes"
    with pytest.raises(UsageError, match="can't be read: No such file"):
        posting.post(path, desk)
    path.write_bytes(b"metric,user,value\n\xff\xfe")
    with pytest.raises(UsageError, match="no UTF-8 text"):
        posting.post(path, desk)


def test_what_the_controller_refuses_is_told_by_line(tmp_path: Path, desk: Desk) -> None:
    desk.refusal = (
        "outcomes.1.metric: 'x' is no posted outcome of the plan; it has conversion; "
        "body.outcomes.2.value: Input should be less than or equal to 1"
    )
    path = write(tmp_path, "metric,user,value\na,u1,1\n\nx,u2,1\na,u3,2\n")
    with pytest.raises(UsageError) as caught:
        posting.post(path, desk)
    assert str(caught.value).splitlines() == [
        f"{path}:4: metric: 'x' is no posted outcome of the plan; it has conversion",
        f"{path}:5: value: Input should be less than or equal to 1",
        "lines 2 to 5 were not taken; mend, and post all again",
    ]
