"""What a mirror compares and how strictly: the plan's `mirror` section as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

STATUS = "status code"
"""Path of the HTTP status. A field of a body never has such a path: there a name with a blank stands in brackets."""
BODY = "body"
"""Path of an answer's body where it is not told field by field."""
HEADER = "header "
"""What the path of a response header begins with; its name follows in lower case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """Values that a number in V2's answers can have, at a path and below it."""

    path: str
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """One field of V2's answer, and the field of the reference that it is held against."""

    path: str
    reference: str
    """Path in the reference's answer."""
    within: float = 0.0
    """Greatest distance, in the field's unit; 0: equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Who knows what is true: asked once for each question."""

    url: str
    """`{name}` stands for the parameter of that name in the question's query."""
    fields: tuple[Expected, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """How V2 is compared with V1. A path names a field and everything below it; list items are `[]`."""

    must_match: tuple[str, ...] = ()
    """Fields that are judged; empty: whatever V1 answers. Status and headers are judged always, unless ignored."""
    ignore: tuple[str, ...] = ()
    unordered: Mapping[str, str] = field(default_factory=dict)
    """Lists whose order means nothing: path of the list -> field that tells its items apart; `any`: their whole."""
    headers: tuple[str, ...] = ("content-type",)
    """Response headers that are compared, in lower case."""
    send: tuple[str, ...] = ("accept", "accept-language")
    """Request headers that are sent as recorded, in lower case, beside those of the plan's assignment."""
    with_headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers that are sent with each question."""
    mask: tuple[str, ...] = ()
    """Names of fields, headers and parameters whose values are never kept, beside the usual ones."""
    bounds: tuple[Bound, ...] = ()
    reference: Reference | None = None
    limit: float = 0.001
    """Share of the questions that V2 may answer otherwise in a judged field, beyond V1's noise."""
    rate: float = 20.0
    """Questions per second; each is asked twice of V1 and once of V2."""

    def __post_init__(self) -> None:
        for name in ("unordered", "with_headers"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        if not 0 < self.limit < 1:
            raise ValueError(f"a limit is a share between 0 and 1, not {self.limit:g}")
        if not self.rate > 0:
            raise ValueError(f"a rate is more than none, not {self.rate:g}")
