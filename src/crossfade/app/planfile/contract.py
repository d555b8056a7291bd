"""The `contract` section: the two versions' OpenAPI documents, and the changes that are wanted."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from crossfade.app.planfile.fields import Field
from crossfade.core.contract.rules import RULES
from crossfade.core.plan import ContractDocuments, Exemption

CONTRACT_KEYS = ("v1", "v2", "except")
EXEMPTION_KEYS = ("rule", "at", "reason")


def read_contract(field: Field | None, folder: Path) -> ContractDocuments | None:
    """Return the section; None where it is left out or wrong. Files are looked for beside the plan, not yet read."""
    section = field.section(CONTRACT_KEYS, "{v1: openapi/v1.yaml, v2: openapi/v2.yaml}") if field else None
    if section is None:
        return None
    v1, v2 = (section.require(version, f"openapi/{version}.yaml") for version in ("v1", "v2"))
    places = [one.parse(_document) if one else None for one in (v1, v2)]
    wanted = section.get("except")
    exemptions = [_exemption(item) for item in wanted.items("[{rule: ..., at: ..., reason: ...}]")] if wanted else []
    first, second = places
    if first is None or second is None:
        return None
    return ContractDocuments(
        v1=_beside(first, folder), v2=_beside(second, folder), exemptions=tuple(one for one in exemptions if one)
    )


def _exemption(item: Field) -> Exemption | None:
    section = item.section(EXEMPTION_KEYS, '{rule: ..., at: "GET /trips 200 /stars", reason: ...}')
    if section is None:
        return None
    rule_field = section.require("rule", "response-property-removed")
    at_field = section.require("at", '"GET /trips 200 /stars"')
    reason_field = section.require("reason", "nobody reads it since ...")
    rule = rule_field.parse(_rule) if rule_field else None
    at = at_field.text() if at_field else None
    reason = reason_field.text() if reason_field else None
    return Exemption(rule=rule, at=" ".join(at.split()), reason=reason) if rule and at and reason else None


def _rule(text: str) -> str:
    if text not in RULES:
        near = get_close_matches(text, RULES, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else "docs/reference/contract.md lists them"
        raise ValueError(f"{text!r} is no rule of the contract; {hint}")
    return text


def _document(text: str) -> str:
    """Return an http(s) URL or a path as written."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc
        _ = parts.port
    except ValueError:
        good = False
    if not good:
        raise ValueError(
            f"{text!r} is no place of a document; write a file, or such as http://127.0.0.1:8101/openapi.json"
        )
    return text


def _beside(place: str, folder: Path) -> str:
    return place if "://" in place else str(folder / place)
