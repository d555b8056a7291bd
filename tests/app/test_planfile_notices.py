"""`notify`: who is told of what, where addresses are kept, and what can't be meant."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
import yaml
from tests.app.conftest import PLAN, Desk

from crossfade.app.planfile import json_schema
from crossfade.app.planfile.summary import summarise
from crossfade.core.plan import Kept, NoticeKind

SECRET = f"whsec_{'a' * 32}"


@pytest.fixture
def told(desk: Desk) -> Desk:
    """A folder with what the rules name."""
    (desk.folder / "url").write_text("https://hooks.example.org/T0/secret\n")
    (desk.folder / "key").write_text(SECRET + "\n")
    (desk.folder / "chats").write_text("# the team\nslack://a/b/c\n\nmailto://u:p@example.org\n")
    return desk


def notify(text: str) -> str:
    return f"{PLAN}notify: {text}\n"


def test_one_rule_needs_no_name(told: Desk) -> None:
    (rule,) = told.load(notify("{on: [rollback, Breaker  open 5m], webhook: {file: url}, secret: {env: KEY}}")).notices
    assert (rule.name, dict(rule.on)) == ("notices", {NoticeKind.ROLLBACK: 0, NoticeKind.BREAKER_OPEN: 300})
    assert (rule.webhook, rule.secret, rule.apprise) == (
        Kept(file=str(told.folder / "url")),
        Kept(variable="KEY"),
        None,
    )


def test_several_rules(told: Desk) -> None:
    text = "[{name: a, on: [blind], webhook: 'https://example.org'}, {name: b, on: hold 1h, apprise: {file: chats}}]"
    first, second = told.load(notify(text)).notices
    assert (first.name, first.webhook) == ("a", Kept(text="https://example.org"))
    assert (dict(second.on), second.apprise) == ({NoticeKind.HOLD: 3600}, Kept(file=str(told.folder / "chats")))


def test_who_is_told_is_no_part_of_the_digest_and_no_secret_is_in_the_plan(told: Desk) -> None:
    with_rules = told.load(notify("{on: [rollback], webhook: {file: url}, secret: {file: key}}"))
    assert with_rules.digest == told.load(PLAN).digest
    direct = told.load(notify("{on: [rollback], webhook: 'https://example.org/T0/private'}"))
    shown = repr(with_rules) + repr(direct) + summarise(with_rules) + summarise(direct)
    assert not any(word in shown for word in ("T0", SECRET, "private"))


def test_check_says_who_is_told(told: Desk) -> None:
    text = "[{name: a, on: [blind 2m, rollback], webhook: 'https://example.org/x', secret: {env: KEY}}, "
    said = summarise(told.load(notify(text + "{name: b, on: [completed], apprise: {env: CHATS}}]")))
    assert "told to a (webhook https://example.org/..., signed): blind 2m, rollback" in said
    assert "told to b (apprise in $CHATS): completed" in said


MISTAKES = [
    ("^https://example.org", "", "write a mapping"),
    ("^{on: [rollback]}", "", "says nowhere to send to"),
    ("^{webhook: {file: url}}", ".on", "is missing; write `on: [rollback, hold, blind]`"),
    ("{on: [^rolback], webhook: {file: url}}", ".on[0]", "did you mean `rollback`?"),
    ("{on: [^5m], webhook: {file: url}}", ".on[0]", "write one of rollback, hold, blind"),
    ("{on: [^rollback 5m], webhook: {file: url}}", ".on[0]", "happens in a moment and can't last 5m"),
    ("{on: [hold ^5], webhook: {file: url}}", ".on[0]", "'5' is no duration"),
    ("{on: [hold, ^hold 5m], webhook: {file: url}}", ".on[1]", "listed twice"),
    ("{on: ^[], webhook: {file: url}}", ".on", "empty list"),
    ("{on: [hold], webhook: ^hooks.example.org}", ".webhook", "such as https://example.org/notices"),
    ("{on: [hold], webhook: ^https://u:p@example.org}", ".webhook", "leave them out"),
    ("{on: [hold], webhook: {file: ^nowhere}}", ".webhook.file", "can't be read"),
    ("{on: [hold], webhook: {file: ^key}}", ".webhook.file", "is no address to post to"),
    ("{on: [hold], webhook: {env: ^A-B}}", ".webhook.env", "such as CROSSFADE_WEBHOOK"),
    ("{on: [hold], webhook: ^{file: url, env: URL}}", ".webhook", "write either {file: webhook-url} or"),
    ("{on: [hold], webhook: {^fil: url}}", ".webhook.fil", "did you mean 'file'?"),
    ("{on: [hold], webhook: {file: url}, secret: ^whsec_abc}", ".secret", "never stands in a plan"),
    ("{on: [hold], webhook: {file: url}, secret: {file: ^url}}", ".secret.file", "is no secret of a webhook"),
    ("{on: [hold], apprise: ^slack://a/b/c}", ".apprise", "never stands in a plan"),
    ("{on: [hold], apprise: {file: ^key}}", ".apprise.file", "no URLs of apprise"),
    ("{on: [hold], apprise: {file: chats}, ^secret: {file: key}}", ".secret", "signs what goes to a webhook"),
    ("{on: [hold], webhook: {file: url}, apprise: ^{file: chats}}", ".apprise", "write a rule for each"),
    ("{name: ^a b, on: [hold], webhook: {file: url}}", ".name", ""),
    ("[^{on: [hold], webhook: {file: url}}]", "[0].name", "is missing; write `name: on-call`"),
    (
        "[{name: a, on: [hold], webhook: {file: url}}, ^{name: a, on: [blind], webhook: {file: url}}]",
        "[1]",
        "another rule is called 'a' as well",
    ),
]


@pytest.mark.parametrize(("text", "field", "message"), MISTAKES)
def test_a_mistake_is_told_with_its_place(told: Desk, text: str, field: str, message: str) -> None:
    (problem, *_) = told.problems(notify(text.replace("^", "")))
    assert (problem.field, problem.line) == (f"notify{field}", PLAN.count("\n") + 1)
    assert message in problem.message
    if "hold ^" not in text and "^secret" not in text:
        assert problem.column == len("notify: ") + text.index("^") + 1


def test_too_many_rules(told: Desk) -> None:
    rules = [f"{{name: r{n}, on: [hold], webhook: {{file: url}}}}" for n in range(51)]
    assert len(told.load(notify(f"[{', '.join(rules[:50])}]")).notices) == 50
    (problem,) = told.problems(notify(f"[{', '.join(rules)}]"))
    assert (problem.field, problem.message.split(";")[0]) == ("notify", "has 51 rules")


def _read(text: str) -> Any:
    """Return a plan as editors read it: by YAML 1.2, in which `on` is a name."""
    return yaml.safe_load(notify(text.replace("on: ", "'on': ")))


def test_the_schema_knows_the_same_rules(told: Desk) -> None:
    schema: dict[str, Any] = json_schema()
    good = (
        "{on: [rollback, breaker open 5m], webhook: 'https://example.org', secret: {env: KEY}}",
        "[{name: a, on: [hold 15m], apprise: {file: chats}}]",
    )
    for text in good:
        told.load(notify(text))
        jsonschema.validate(_read(text), schema)
    bad = (
        "{on: [rollback]}",
        "{on: [rollback 5m], webhook: {file: url}}",
        "{on: [hold], webhook: {file: url, env: URL}}",
        "{on: [hold], webhook: {file: url}, apprise: {file: chats}}",
        "{on: [hold], webhook: {file: url}, secret: whsec_a}",
    )
    for text in bad:
        told.problems(notify(text))
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(_read(text), schema)
