"""The sentences of the language: guards, targets, gates. Grammar only; what they mean for a metric is told elsewhere.

Earley, because words aren't reserved: a metric may be called `no` or `stable`. Blanks stand in the grammar instead of
being ignored, or `nocritical errors` would pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from lark import Lark, Token, Tree
from lark.exceptions import LarkError

from crossfade.app.planfile import quantities
from crossfade.core.plan import Action, Comparison, GateKind

MAX_LENGTH = 120

_COMMON = r"""
_S: " "
CMP: "<=" | ">=" | "<" | ">" | "="
QUANTITY: /[-+]?[0-9][^ <>=-]*( (%|ms|s))?/
DURATION: /[0-9][0-9. smhdw]*[smhdw]/
"""
_GUARD = (
    r"""
start: "monitor"i -> monitor
     | "open"i _S? ">" _S? DURATION arrow WORD -> open
     | CMP _S? QUANTITY [worse] arrow WORD -> breach
     | CMP _S? QUANTITY RELATIVE arrow WORD -> breach
RELATIVE: " of v1"i | " times v1"i
worse: " and worse than v1"i
arrow: _S? "->" _S?
WORD: /[A-Za-z]+/
"""
    + _COMMON
)
_GATE = (
    r"""
start: NAME " on target"i -> on_target
     | NAME _S? CMP _S? QUANTITY -> limit
     | "no critical errors for "i DURATION -> no_critical_errors
     | "no stuck breaker"i -> no_stuck_breaker
     | "stable"i [" for "i DURATION] -> stable
     | "no cascading failures"i -> no_cascading_failures
     | "rollback ready"i -> rollback_ready
     | "drill passed"i -> drill_passed
     | "rehearsal passed"i -> rehearsal_passed
     | "peak load passed"i -> peak_load_passed
     | "no v1 requests for "i DURATION -> no_v1_requests
     | "no exempted client left"i -> no_exempted_clients
     | "v2 share rises continuously"i -> share_rises
     | "approved by a person"i -> approved
     | "approved by "i PEOPLE " people"i -> approved
PEOPLE: /[0-9]+/
NAME: /[A-Za-z][A-Za-z0-9_]*/
"""
    + _COMMON
)

GUARD_FORMS = (
    "monitor",
    "> 1% -> rollback",
    "> 1% and worse than v1 -> rollback",
    "> 300ms -> hold",
    "< 95% of v1 -> hold",
    "> 1.2 times v1 -> hold",
    "open > 5m -> alert",
)
GATE_FORMS = (
    "failure_rate on target",
    "latency_p95 <= 300ms",
    "no critical errors for 3d",
    "no stuck breaker",
    "stable for 24h",
    "stable",
    "no cascading failures",
    "rollback ready",
    "drill passed",
    "rehearsal passed",
    "peak load passed",
    "no v1 requests for 1d",
    "no exempted client left",
    "v2 share rises continuously",
    "approved by a person",
    "approved by 2 people",
)
STABLE_S = 86_400.0
"""What `stable` alone means: for the last 24 h."""
_SEVERAL = tuple("23456789")


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitWords:
    """A comparison as written; its unit is the metric's matter."""

    comparison: Comparison
    quantity: str
    multiple: float | None = None
    """The quantity is so many times V1's value; None where it is one by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardWords:
    """A guard as written."""

    action: Action
    text: str
    breach: LimitWords | None = None
    worse_than_v1: bool = False
    open_longer_than_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateWords:
    """A gate as written."""

    kind: GateKind
    text: str
    metric: str | None = None
    limit: LimitWords | None = None
    for_s: float = 0.0
    people: int = 1


def tidy(text: str) -> str:
    """Return a sentence with single blanks and the signs of the founding document in ASCII."""
    return " ".join(text.replace("≤", "<=").replace("≥", ">=").replace("→", "->").split())


def guard(text: str) -> GuardWords:
    """Return a guard sentence's parts; ValueError where it is none."""
    text = tidy(text)
    tree = _parse(_guard_grammar(), text)
    if tree is None:
        forms = ", ".join(f'"{form}"' for form in GUARD_FORMS)
        raise ValueError(f"{text!r} is no guard; write one like {forms}")
    words = _tokens(tree)
    if tree.data == "monitor":
        return GuardWords(action=Action.MONITOR, text=text)
    action = _action(words["WORD"])
    if tree.data == "open":
        longer = quantities.positive_duration(words["DURATION"])
        return GuardWords(action=action, text=text, open_longer_than_s=longer)
    worse = any(isinstance(child, Tree) and child.data == "worse" for child in tree.children)
    return GuardWords(action=action, text=text, breach=_limit(words), worse_than_v1=worse)


def target(text: str) -> LimitWords | str:
    """Return a target's parts, `<= 0.5%`, or the bare quantity it consists of; the quantity isn't checked."""
    text = tidy(text)
    if match := re.fullmatch(r"(<=|>=|<|>|=) ?([^ <>=].*?)( of v1| times v1)", text, re.IGNORECASE):
        comparison = Comparison(match[1])
        return LimitWords(comparison=comparison, quantity=match[2], multiple=_multiple(match[2], match[3]))
    if match := re.fullmatch(r"(<=|>=|<|>|=) ?([^ <>=].*)", text):
        return LimitWords(comparison=Comparison(match[1]), quantity=match[2])
    return text


def gate(text: str) -> GateWords:
    """Return a gate sentence's parts; ValueError where it is none."""
    text = tidy(text)
    tree = _parse(_gate_grammar(), text)
    if tree is None:
        raise ValueError(f"{text!r} is no gate; {_nearest_gate(text)}")
    words = _tokens(tree)
    kind = GateKind(tree.data)
    for_s = quantities.positive_duration(words["DURATION"]) if "DURATION" in words else 0.0
    return GateWords(
        kind=kind,
        text=text,
        metric=words.get("NAME"),
        limit=_limit(words) if kind is GateKind.LIMIT else None,
        for_s=for_s or (STABLE_S if kind is GateKind.STABLE else 0.0),
        people=_people(words["PEOPLE"]) if "PEOPLE" in words else 1,
    )


def _people(number: str) -> int:
    if number not in _SEVERAL:
        raise ValueError(f"{number} people can't be asked for; write `approved by a person`, or 2 to 9 people")
    return int(number)


def _offered() -> str:
    return ", ".join(f"`{form}`" for form in GATE_FORMS)


def _nearest_gate(text: str) -> str:
    """Return what the author may have meant, with the author's own metric where the form names one."""
    first, _, rest = text.partition(" ")
    forms = [*GATE_FORMS, f"{first} on target"]
    near = get_close_matches(text.lower(), [form.lower() for form in forms], n=1, cutoff=0.55) if rest else []
    return f"did you mean `{near[0]}`?" if near else f"write one of {_offered()}"


def _action(word: str) -> Action:
    try:
        return Action(word.lower())
    except ValueError:
        near = get_close_matches(word.lower(), list(Action), n=1, cutoff=0.6)
        hint = f"did you mean {str(near[0])!r}?" if near else f"write {', '.join(Action)}"
        raise ValueError(f"{word!r} is no action; {hint}") from None


def _limit(words: dict[str, str]) -> LimitWords:
    quantity = words["QUANTITY"]
    multiple = _multiple(quantity, words["RELATIVE"]) if "RELATIVE" in words else None
    return LimitWords(comparison=Comparison(words["CMP"]), quantity=quantity, multiple=multiple)


def _multiple(quantity: str, words: str) -> float:
    """Return how many times V1's value `95% of v1` or `1.2 times v1` is."""
    percentage = quantity.endswith("%")
    if percentage != (words.strip().lower() == "of v1"):
        right = f"{quantity} of v1" if percentage else f"{quantity} times v1"
        raise ValueError(f"{quantity + words!r} is no part of V1's value; write `{right}`")
    return quantities.multiple(quantity)


def _tokens(tree: Tree[Token]) -> dict[str, str]:
    return {child.type: str(child) for child in tree.children if isinstance(child, Token)}


def _parse(grammar: Lark, text: str) -> Tree[Token] | None:
    if len(text) > MAX_LENGTH:  # Earley is cubic in what it can't parse
        return None
    try:
        return grammar.parse(text)
    except LarkError:
        return None


@lru_cache(maxsize=1)
def _guard_grammar() -> Lark:
    return Lark(_GUARD, parser="earley", maybe_placeholders=False)


@lru_cache(maxsize=1)
def _gate_grammar() -> Lark:
    return Lark(_GATE, parser="earley", maybe_placeholders=False)
