"""`clients: notices`: what owners are told, in whose words, and what its mistakes are told as."""

from __future__ import annotations

import jsonschema
import pytest
import yaml
from tests.app.conftest import PLAN, Desk

from crossfade.app.planfile import json_schema
from crossfade.app.planfile.summary import summarise
from crossfade.core.plan import Kept, OwnerNotices, OwnerStep

SAID = """\
deprecation:
  since: "2027-03-01"
  sunset: "2027-09-01"
  brownouts: [{name: first, at: "2027-06-01T10:00Z", for: 15m, share: 10%}]
"""
MAIL = "from: api-team@example.org, mail: {env: CROSSFADE_MAIL}"


def read(desk: Desk, section: str, said: str = SAID) -> OwnerNotices:
    text = f"{PLAN}{said}clients: {{notices: {section}}}\n"
    jsonschema.validate(yaml.safe_load(text), json_schema())
    found = desk.load(text).owner_notices
    assert found is not None
    return found


def test_left_out_everything_that_can_come_is_told_in_our_words(desk: Desk) -> None:
    found = read(desk, f"{{{MAIL}}}")
    assert list(found.templates) == [OwnerStep.PREPARED, OwnerStep.ANNOUNCED, OwnerStep.BROWNOUT, OwnerStep.LAST_WEEK]
    assert (found.sender, found.mail) == ("api-team@example.org", Kept(variable="CROSSFADE_MAIL"))
    assert list(read(desk, "{}", 'deprecation: {since: "2027-03-01"}\n').templates) == ["prepared", "announced"]
    assert desk.load(f"{PLAN}{SAID}clients: {{}}\n").owner_notices is None


def test_steps_and_texts_of_ones_own(desk: Desk) -> None:
    (desk.folder / "a.txt").write_bytes(b"Subject: V1 of $rollout\r\n\r\n$clients\r\n")
    found = read(desk, f"{{{MAIL}, steps: [last week, announced], templates: {{announced: a.txt}}}}")
    assert list(found.templates) == [OwnerStep.ANNOUNCED, OwnerStep.LAST_WEEK]
    assert found.templates[OwnerStep.ANNOUNCED] == "Subject: V1 of $rollout\n\n$clients\n"


def test_check_says_what_owners_are_told_and_no_secret(desk: Desk) -> None:
    (desk.folder / "mail").write_text("smtps://crossfade:hunter2@mail.example.org\n")
    plan = desk.load(f"{PLAN}{SAID}clients: {{notices: {{from: a@b.example, mail: {{file: mail}}}}}}\n")
    told = " ".join(summarise(plan).split())
    assert "owners of clients are told of prepared, announced, brownout, last week: by mail from a@b.example" in told
    assert "hunter2" not in told + repr(plan)
    assert plan.digest == desk.load(f"{PLAN}{SAID}").digest  # it may be added later


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ("{mail: {env: X}}", "is missing; write `from: api-team@example.org`"),
        ("{mail: smtp://x, from: a@b.c}", "is a secret and never stands in a plan; write {file: mail-url}"),
        ("{mail: {file: bad}, from: a@b.c}", "bad: is no URL of a mail server; write smtps://USER:PASSWORD@"),
        ("{mail: {env: X}, from: 'a@b.c, d@e.f'}", "'a@b.c, d@e.f' is no mail address"),
        ("{secret: {file: bad}}", "bad: is no secret of a webhook"),
        ("{steps: [anounced]}", "'anounced' is no step; did you mean 'announced'?"),
        ("{steps: [announced, announced]}", "`announced` is listed twice"),
        ("{steps: [retired]}", "never comes: the last phase doesn't end with `then: retire v1`"),
        ("{templates: {announced: gone.txt}}", "gone.txt can't be read"),
        ("{steps: [announced], templates: {prepared: bad}}", "is the text of a step that is not told; told are"),
        ("{templates: {anounced: bad}}", "unknown key; did you mean 'announced'?"),
        ("{text: x}", "unknown key"),
        ("yes", "is a single value; write a mapping"),
    ],
)  # fmt: skip
def test_mistakes_are_told_where_they_stand(desk: Desk, section: str, told: str) -> None:
    (desk.folder / "bad").write_text("nothing of the kind")
    (problem,) = desk.problems(f"{PLAN}{SAID}clients: {{notices: {section}}}\n")
    assert problem.field.startswith("clients.notices")
    assert told in problem.message


def test_a_mistake_in_a_template_is_told_with_its_own_file_and_line(desk: Desk) -> None:
    path = desk.folder / "a.txt"
    path.write_text("Subject: x\n\nHello $ownr,\n")
    (problem,) = desk.problems(f"{PLAN}{SAID}clients: {{notices: {{templates: {{announced: a.txt}}}}}}\n")
    assert (problem.file, problem.line) == (str(path), 3)
    assert problem.message.startswith("there is no field $ownr here; there are $rollout, $owner, $clients")
    path.write_text("Subject: x\n\nGone from $sunset on\n")
    plan = f"{PLAN}deprecation: {{since: 2027-03-01}}\nclients: {{notices: {{templates: {{announced: a.txt}}}}}}\n"
    assert desk.problems(plan)[0].line == 3  # the plan has no sunset


def test_what_is_wrong_with_the_dates_is_told_alone(desk: Desk) -> None:
    (problem,) = desk.problems(f"{PLAN}deprecation: {{since: soon}}\nclients: {{notices: {{}}}}\n")
    assert problem.field == "deprecation.since"


@pytest.mark.parametrize("without", ["  client: header X-Client-Id\n", SAID])
def test_it_needs_dates_and_clients_with_names(desk: Desk, without: str) -> None:
    text = f"{PLAN}{SAID}clients: {{else: user agent, notices: {{}}}}\n".replace(without, "")
    assert [p.message for p in desk.problems(text)] == [
        "need `assignment: client`, by which owners' clients are known, and `deprecation`, whose dates they tell"
    ]
