"""The rules of the comparison, each with its severity and what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Severity(StrEnum):
    """What a finding means for V1's clients."""

    BREAKING = "breaking"
    """A client that keeps to V1's document may fail."""
    WARNING = "warning"
    """A client may fail, depending on how it is written; or this can't be told from the documents."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One way in which V2 can differ."""

    severity: Severity
    right: str
    """What would be right."""


_B, _W = Severity.BREAKING, Severity.WARNING

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        # operations
        "path-removed": Rule(_B, "serve it in V2"),
        "operation-removed": Rule(_B, "serve it in V2"),
        "base-path-changed": Rule(_B, "serve V2's paths below the same base path"),
        "security-added": Rule(_B, "go on accepting requests as V1 does"),
        "security-scope-added": Rule(_B, "ask for no scope that V1 doesn't ask for"),
        "operation-deprecated": Rule(_W, "tell V1's clients, or leave it undeprecated"),
        # parameters
        "parameter-removed": Rule(_B, "go on reading it"),
        "parameter-required": Rule(_B, "let it be left out, as in V1"),
        "parameter-added-required": Rule(_B, "let it be left out, with the meaning that V1 has"),
        "parameter-style-changed": Rule(_B, "write it in the URL or header as in V1"),
        "parameter-default-changed": Rule(_W, "keep V1's default"),
        # request bodies
        "request-body-removed": Rule(_B, "go on reading it"),
        "request-body-required": Rule(_B, "let it be left out, as in V1"),
        "request-body-added-required": Rule(_B, "let it be left out"),
        "request-media-type-removed": Rule(_B, "go on reading it"),
        # responses
        "response-status-removed": Rule(_B, "go on answering with it"),
        "response-error-status-removed": Rule(_W, "go on answering with it"),
        "response-media-type-removed": Rule(_B, "go on offering it"),
        "response-header-removed": Rule(_B, "go on sending it"),
        "response-optional-header-removed": Rule(_W, "go on sending it"),
        "response-header-style-changed": Rule(_B, "write it as in V1"),
        "response-header-optional": Rule(_B, "always send it"),
        # values in requests: V2 must take whatever V1 takes
        "request-type-narrowed": Rule(_B, "go on taking V1's type"),
        "request-format-changed": Rule(_B, "keep V1's format"),
        "request-not-nullable": Rule(_B, "go on taking null"),
        "request-enum-narrowed": Rule(_B, "go on taking every value of V1"),
        "request-bound-narrowed": Rule(_B, "take whatever V1's bound lets through"),
        "request-pattern-changed": Rule(_B, "keep V1's pattern, or none"),
        "request-property-removed": Rule(_W, "go on reading it"),
        "request-property-refused": Rule(_B, "go on taking it"),
        "request-property-required": Rule(_B, "let it be left out, as in V1"),
        "request-property-added-required": Rule(_B, "let it be left out, with the meaning that V1 has"),
        "request-additional-properties-closed": Rule(_B, "go on taking properties that the document doesn't name"),
        "request-alternative-removed": Rule(_B, "go on taking every alternative of V1"),
        "request-never-valid": Rule(_B, "take V1's values"),
        # values in responses: V2 must answer only what V1's clients can take
        "response-type-widened": Rule(_B, "answer with V1's type only"),
        "response-format-changed": Rule(_B, "keep V1's format"),
        "response-nullable": Rule(_B, "never answer with null"),
        "response-enum-widened": Rule(_W, "answer with V1's values only, or be sure that clients take others"),
        "response-enum-opened": Rule(_W, "answer with V1's values only, or be sure that clients take others"),
        "response-bound-widened": Rule(_B, "keep within V1's bound"),
        "response-pattern-changed": Rule(_B, "keep V1's pattern"),
        "response-property-removed": Rule(_B, "go on sending it"),
        "response-optional-property-removed": Rule(_W, "go on sending it"),
        "response-property-optional": Rule(_B, "always send it"),
        "response-additional-properties-opened": Rule(_W, "send no property that the document doesn't name"),
        "response-alternative-added": Rule(_B, "answer with V1's alternatives only"),
        "response-anything": Rule(_B, "say what is answered, and keep to V1's"),
        # both
        "discriminator-changed": Rule(_B, "keep V1's discriminator and its values"),
        "not-compared": Rule(_W, "compare it yourself"),
        # exceptions
        "exception-unused": Rule(_W, "remove it from the plan"),
    }
)
