"""Small OpenAPI documents, as values."""

from __future__ import annotations

from typing import Any

from crossfade.core.contract.compare import Prefixes, compare
from crossfade.core.contract.document import Documents
from crossfade.core.contract.findings import Finding

Json = dict[str, Any]
JSON = "application/json"


def document(paths: Json, version: str = "3.1.0", **more: Any) -> Json:
    return {"openapi": version, "info": {"title": "t", "version": "1"}, "paths": paths, **more}


def content(schema: Any, kind: str = JSON) -> Json:
    return {"content": {kind: {"schema": schema}}}


def operation(**more: Any) -> Json:
    return {"responses": {"200": {"description": "ok"}}, **more}


def answering(schema: Any, version: str = "3.1.0", **components: Any) -> Json:
    found = {"/x": {"get": {"responses": {"200": {"description": "ok", **content(schema)}}}}}
    return document(found, version, components={"schemas": components})


def asking(schema: Any, version: str = "3.1.0", **components: Any) -> Json:
    found = {"/x": {"post": operation(requestBody=content(schema))}}
    return document(found, version, components={"schemas": components})


def compared(v1: Json, v2: Json, prefixes: Prefixes | None = None) -> list[Finding]:
    return compare(Documents("v1", {"v1": v1}), Documents("v2", {"v2": v2}), prefixes or Prefixes())


def told(findings: list[Finding]) -> set[tuple[str, str]]:
    """Return rules and where: the part of an operation, and the field in it."""
    return {(one.rule, " ".join(part for part in (one.part, one.field) if part)) for one in findings}
