"""Answers that are problems: RFC 9457, application/problem+json."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson

CONTENT_TYPE = b"application/problem+json"


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One query field that is wrong."""

    field: str
    message: str
    """What is wrong, and what would be right."""
    value: str | None = None
    """What was sent, cut to 64 characters; None when the field is missing."""


class ProblemError(Exception):
    """The request is answered by a problem document instead of a result."""

    def __init__(self, status: int, detail: str, fields: tuple[FieldProblem, ...] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.fields = fields

    def body(self) -> bytes:
        """The document, as bytes of JSON."""
        return document(self.status, self.detail, self.fields)


def document(status: int, detail: str, fields: tuple[FieldProblem, ...] = ()) -> bytes:
    """A problem document; `errors` names the fields when fields are wrong."""
    # about:blank says that the title is the status's own phrase (RFC 9457, 4.2.1).
    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if fields:
        problem["errors"] = [{"field": f.field, "value": f.value, "message": f.message} for f in fields]
    return orjson.dumps(problem)
