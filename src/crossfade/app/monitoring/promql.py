"""Pieces of PromQL. Names and texts come from plans, so whatever they hold is quoted."""

from __future__ import annotations

import json


def selector(name: str, **labels: str) -> str:
    """Return an instant vector selector."""
    inside = ",".join(f"{label}={json.dumps(value, ensure_ascii=False)}" for label, value in labels.items())
    return f"{name}{{{inside}}}"


def highest(by: str, name: str, **labels: str) -> str:
    """Return the highest sample for each combination of `by`: several processes may tell of one rollout."""
    return f"max by ({by}) ({selector(name, **labels)})"


def literal(text: str) -> str:
    """Return a text as an alert's annotation takes it, in which two braces begin a template."""
    return text.replace("{{", '{{"{{"}}')
