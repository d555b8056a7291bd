"""The `notify` section: who is told of what, and where addresses and secrets are kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from crossfade.app.planfile import quantities
from crossfade.app.planfile.fields import Field, Section
from crossfade.app.planfile.source import Entries, Items, read_text
from crossfade.core.places import apprise_urls, signing_key, webhook_url
from crossfade.core.plan import Kept, NoticeKind, NoticeRule
from crossfade.errors import PlanError

RULE_KEYS = ("name", "on", "webhook", "secret", "apprise")
KEPT_KEYS = ("file", "env")
NOTICE_FORMS = (*(kind.value for kind in NoticeKind), "breaker open 5m", "gate waiting 1d")
VARIABLE = "[A-Za-z_][A-Za-z0-9_]{0,127}"
_EXAMPLE = "{on: [rollback, hold, blind], webhook: {file: webhook-url}}"
_BYTES = 64 * 1024
RULES_MAX = 50
"""Each has a task and a logbook of its own."""


def read_notices(field: Field | None, folder: Path) -> tuple[NoticeRule, ...]:
    """Return the rules, one or a list of them; those with mistakes are noted and left out.

    Files are looked for beside the plan and read, so that a mistake in them is told here; what they hold is read again
    when it is used.
    """
    if field is None:
        return ()
    several = isinstance(field.node, Items)
    rules: dict[str, NoticeRule] = {}
    if isinstance(field.node, Items) and len(field.node.items) > RULES_MAX:
        field.problem(f"has {len(field.node.items)} rules; {RULES_MAX} are the most, several kinds fit in one")
        return ()
    for item in field.items(_EXAMPLE) if several else (field,):
        rule = _rule(item, folder, several=several)
        if rule is not None and rule.name in rules:
            item.problem(f"another rule is called {rule.name!r} as well; name it otherwise")
        elif rule is not None:
            rules[rule.name] = rule
    return tuple(rules.values())


def _rule(field: Field, folder: Path, *, several: bool) -> NoticeRule | None:
    section = field.section(RULE_KEYS, _EXAMPLE)
    if section is None:
        return None
    name_field = section.require("name", "on-call") if several else section.get("name")
    name = name_field.parse(quantities.group_name) if name_field else None if several else "notices"
    kinds = _kinds(section)
    webhook = read_kept_place(section.get("webhook"), folder, webhook_url, "webhook-url", in_plan=True)
    secret = read_kept_place(section.get("secret"), folder, signing_key, "webhook-secret")
    apprise = read_kept_place(section.get("apprise"), folder, apprise_urls, "apprise-urls")
    if not _one_target(section) or name is None or not kinds or (webhook is None and apprise is None):
        return None
    return NoticeRule(name=name, on=kinds, webhook=webhook, secret=secret, apprise=apprise)


def _one_target(section: Section) -> bool:
    webhook, apprise = section.get("webhook"), section.get("apprise")
    if webhook is None and apprise is None:
        section.field.problem(
            "says nowhere to send to; write `webhook: https://...`, or `apprise: {file: apprise-urls}`"
        )
        return False
    if webhook is not None and apprise is not None:
        apprise.problem("stands beside a webhook; write a rule for each, so that one does not wait for the other")
        return False
    secret = section.get("secret")
    if apprise is not None and secret is not None:
        secret.problem("signs what goes to a webhook; apprise has none, remove it")
        return False
    return True


def _kinds(section: Section) -> dict[NoticeKind, float]:
    field = section.require("on", "[rollback, hold, blind]")
    if field is None:
        return {}
    items = field.items("[rollback, hold, blind]") if isinstance(field.node, Items) else (field,)
    found: dict[NoticeKind, float] = {}
    for item in items:
        parsed = item.parse(_kind)
        if parsed is None:
            continue
        kind, for_s = parsed
        if kind in found:
            item.problem(f"`{kind}` is listed twice; keep one")
        found[kind] = for_s
    return found


def _kind(text: str) -> tuple[NoticeKind, float]:
    """Return a kind and how long it must have lasted: `rollback`, `breaker open 5m`."""
    words = " ".join(text.split())
    match = re.fullmatch(r"([a-z ]+?)(?: ([0-9].*))?", words.lower())
    name = match[1] if match else words
    if name not in set(NoticeKind):
        near = get_close_matches(name, [kind.value for kind in NoticeKind], n=1, cutoff=0.6)
        hint = f"did you mean `{near[0]}`?" if near else f"write one of {', '.join(NoticeKind)}"
        raise ValueError(f"{text!r} is nothing that is told; {hint}")
    kind, lasted = NoticeKind(name), match[2] if match else None
    if lasted is None:
        return kind, 0.0
    if not kind.lasts:
        raise ValueError(f"{kind} happens in a moment and can't last {lasted}; write `{kind}`")
    return kind, quantities.positive_duration(lasted)


def read_kept_place(
    field: Field | None, folder: Path, check: Callable[[str], object], example: str, *, in_plan: bool = False
) -> Kept | None:
    """Return where something is kept; None, with a problem noted, where that can't be."""
    if field is None:
        return None
    if not isinstance(field.node, Entries):
        if in_plan:
            text = field.text()
            return None if text is None or not _good(field, check, text) else Kept(text=text)
        field.problem(f"is a secret and never stands in a plan; write {{file: {example}}}, or {{env: CROSSFADE_...}}")
        return None
    section = field.section(KEPT_KEYS, f"{{file: {example}}}")
    file, variable = (section.get(key) for key in KEPT_KEYS) if section else (None, None)
    if (file is None) == (variable is None):
        if section is not None and not section.misspelt:
            field.problem(f"write either {{file: {example}}} or {{env: CROSSFADE_...}}")
        return None
    if variable is not None:
        name = variable.parse(_variable)
        return Kept(variable=name) if name else None
    name = file.text() if file else None
    if name is None or file is None:
        return None
    path = (folder / name).absolute()
    try:
        content = read_text(path, limit=_BYTES)
    except PlanError as error:
        file.problem("; ".join(f"{path} {problem.message}" for problem in error.problems))
        return None
    return Kept(file=str(path)) if _good(file, check, content.strip(), f"{path}: ") else None


def _good(field: Field, check: Callable[[str], object], text: str, where: str = "") -> bool:
    try:
        check(text)
    except ValueError as error:
        field.problem(f"{where}{error}")
        return False
    return True


def _variable(text: str) -> str:
    if not re.fullmatch(VARIABLE, text):
        raise ValueError(f"{text!r} is no variable of the environment; write its name, such as CROSSFADE_WEBHOOK")
    return text
