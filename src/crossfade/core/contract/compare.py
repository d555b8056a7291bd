"""Two documents compared, operation by operation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from crossfade.core.contract.document import Documents, Node
from crossfade.core.contract.findings import Finding
from crossfade.core.contract.values import Values

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_JSON = "application/json"
_IGNORED_HEADERS = frozenset({"accept", "content-type", "authorization"})
"""OpenAPI says that parameters of these names are ignored."""
_PLACEHOLDER = re.compile(r"\{[^}/]*\}")
_STYLES = {"query": "form", "cookie": "form", "path": "simple", "header": "simple"}
_MEDIA_PARTS = re.compile(r"\s*;.*")


@dataclass(frozen=True, slots=True)
class Prefixes:
    """What V1's paths begin with where V2's begin otherwise: /v1 and /v2."""

    v1: str = ""
    v2: str = ""

    def in_v2(self, path: str) -> str:
        """Return V2's path for one of V1's."""
        if path == self.v1 or path.startswith(self.v1.rstrip("/") + "/"):
            return self.v2.rstrip("/") + path[len(self.v1.rstrip("/")) :]
        return path


def prefixes_of(v1_path: str, v2_path: str) -> Prefixes:
    """Return what differs at the begin of two paths: /v1 and /v2 of /v1/trips and /v2/trips."""
    one, other = v1_path.rstrip("/").split("/"), v2_path.rstrip("/").split("/")
    while len(one) > 1 and len(other) > 1 and one[-1] == other[-1]:
        one.pop()
        other.pop()
    return Prefixes("/".join(one), "/".join(other))


def compare(v1: Documents, v2: Documents, prefixes: Prefixes = Prefixes()) -> list[Finding]:
    """Return how V2 differs from what V1's clients rely on, in V1's order; DocumentError where one can't be read."""
    return list(_Comparison(v1, v2, prefixes).findings())


@dataclass(frozen=True, slots=True)
class _Operation:
    """One operation of one version."""

    path: str
    path_item: Node
    node: Node


class _Comparison:
    """Both documents."""

    def __init__(self, v1: Documents, v2: Documents, prefixes: Prefixes) -> None:
        self._v1, self._v2, self._prefixes = v1, v2, prefixes
        self._values = Values(v1, v2)

    def findings(self) -> Iterator[Finding]:
        v1_base, v2_base = base_path(self._v1), base_path(self._v2)
        theirs = {shape_of(v2_base + path): (path, node) for path, node in paths_of(self._v2)}
        by_path = {shape_of(path): (path, node) for path, node in paths_of(self._v2)}
        moved = False
        for path, item in paths_of(self._v1):
            other = theirs.get(shape_of(self._prefixes.in_v2(v1_base + path)))
            if other is None:
                other = by_path.get(shape_of(path)) or by_path.get(shape_of(self._prefixes.in_v2(path)))
                if other is not None and not moved:
                    moved = True
                    yield Finding(
                        rule="base-path-changed",
                        said=f"V2 serves below {v2_base or '/'}, V1 below {v1_base or '/'}",
                        v1=item.spot,
                        v2=other[1].spot,
                    )
            if other is None:
                said = f"V2 has no path {self._prefixes.in_v2(path)}"
                yield Finding(rule="path-removed", said=said, path=path, v1=item.spot)
                continue
            yield from self._path((path, self._v1.follow(item)), (other[0], self._v2.follow(other[1])))

    def _path(self, one_path: tuple[str, Node], other_path: tuple[str, Node]) -> Iterator[Finding]:
        path, v1 = one_path
        v2 = other_path[1]
        for method in METHODS:
            one, other = v1.get(method), v2.get(method)
            if one is None:
                continue
            if other is None:
                said = f"V2 has no {method.upper()} here"
                yield Finding(
                    rule="operation-removed", said=said, method=method.upper(), path=path, v1=one.spot, v2=v2.spot
                )
                continue
            operation = _Pair(
                self._v1, self._v2, self._values, _Operation(*one_path, one), _Operation(*other_path, other)
            )
            for finding in operation.findings():
                yield replace(finding, method=method.upper(), path=path)


class _Pair:
    """One operation in both versions."""

    def __init__(self, v1: Documents, v2: Documents, values: Values, v1_op: _Operation, v2_op: _Operation) -> None:
        self._v1_doc, self._v2_doc, self._all_values = v1, v2, values
        self._v1, self._v2 = v1_op, v2_op

    def findings(self) -> Iterator[Finding]:
        """Yield findings without method and path."""
        one, other = self._v1.node, self._v2.node
        if other.truth("deprecated") and not one.truth("deprecated"):
            yield Finding(rule="operation-deprecated", said="V2 deprecates it", v1=one.spot, v2=other.spot)
        yield from self._security()
        yield from self._parameters()
        yield from self._request_body()
        yield from self._responses()
        if one.value.get("callbacks") and one.value["callbacks"] != other.value.get("callbacks"):
            said = "`callbacks` differ, which are not compared"
            yield Finding(rule="not-compared", said=said, part="callbacks", v1=one.spot, v2=other.spot)

    def _values(self, part: str, v1: Node, v2: Node, *, request: bool, text: bool = False) -> Iterator[Finding]:
        for one in self._all_values.compare(v1, v2, request=request, text=text):
            yield Finding(rule=one.rule, said=one.said, part=part, field=one.field, v1=one.v1, v2=one.v2)

    # security

    def _security(self) -> Iterator[Finding]:
        v1, v2 = _security(self._v1_doc, self._v1.node), _security(self._v2_doc, self._v2.node)
        if not v2 or all(any(_satisfies(way, needed) for needed in v2) for way in v1 or [{}]):
            return
        lost = next(way for way in v1 or [{}] if not any(_satisfies(way, needed) for needed in v2))
        known = any(needed.keys() <= lost.keys() for needed in v2)
        if known and lost:
            scopes = sorted({scope for needed in v2 for key in needed for scope in needed[key] - lost.get(key, set())})
            rule, said = "security-scope-added", f"V2 asks for the scope {', '.join(scopes)}"
        else:
            rule = "security-added"
            said = "V2 takes no request as V1 does: " + (
                f"V1 took {' with '.join(sorted(_plain(lost)))}" if lost else "V1 took requests without credentials"
            )
        yield Finding(rule=rule, said=said, part="security", v1=self._v1.node.spot, v2=self._v2.node.spot)

    # parameters

    def _parameters(self) -> Iterator[Finding]:
        v1, v2 = _parameters(self._v1_doc, self._v1), _parameters(self._v2_doc, self._v2)
        for key, one in v1.items():
            place, name = one.text("in"), one.text("name")
            other = v2.get(key)
            if other is None:
                if place != "path":
                    said = f"V2 doesn't read the parameter {name}"
                    yield Finding(rule="parameter-removed", said=said, part=f"{place} {name}", v1=one.spot)
                continue
            yield from self._parameter(f"{place} {name}", one, other)
        for key, other in v2.items():
            if key not in v1 and other.truth("required") and other.text("in") != "path":
                place, name = other.text("in"), other.text("name")
                said = f"V2 needs the parameter {name}, which V1 doesn't know"
                yield Finding(rule="parameter-added-required", said=said, part=f"{place} {name}", v2=other.spot)

    def _parameter(self, part: str, v1: Node, v2: Node) -> Iterator[Finding]:
        if v2.truth("required") and not v1.truth("required"):
            said = "V2 needs it, V1 lets it be left out"
            yield Finding(rule="parameter-required", said=said, part=part, v1=v1.spot, v2=v2.spot)
        one, other = _style(v1, v1.text("in")), _style(v2, v2.text("in"))
        if one != other:
            said = f"it is written as {other} in V2 and as {one} in V1"
            yield Finding(rule="parameter-style-changed", said=said, part=part, v1=v1.spot, v2=v2.spot)
        if v1.truth("allowEmptyValue") and not v2.truth("allowEmptyValue"):
            said = "V2 refuses it without a value, which V1 takes"
            yield Finding(rule="request-bound-narrowed", said=said, part=part, v1=v1.spot, v2=v2.spot)
        v1_schema, v2_schema = _schema_of(v1), _schema_of(v2)
        if v1_schema is None or v2_schema is None:
            return
        if not v1.truth("required") and not v2.truth("required"):
            had, has = (_default(doc, node) for doc, node in ((self._v1_doc, v1_schema), (self._v2_doc, v2_schema)))
            if had != has:
                said = f"left out it means {has} in V2 and {had} in V1"
                yield Finding(
                    rule="parameter-default-changed", said=said, part=part, v1=v1_schema.spot, v2=v2_schema.spot
                )
        yield from self._values(part, v1_schema, v2_schema, request=True, text="content" not in v1.value)

    # bodies

    def _request_body(self) -> Iterator[Finding]:
        one, other = (
            doc.follow(body) if (body := operation.node.get("requestBody")) else None
            for doc, operation in ((self._v1_doc, self._v1), (self._v2_doc, self._v2))
        )
        if one is None:
            if other is not None and other.truth("required"):
                said = "V2 needs a body, V1 has none"
                yield Finding(rule="request-body-added-required", said=said, part="body", v2=other.spot)
            return
        if other is None:
            yield Finding(rule="request-body-removed", said="V2 reads no body", part="body", v1=one.spot)
            return
        if other.truth("required") and not one.truth("required"):
            said = "V2 needs a body, V1 lets it be left out"
            yield Finding(rule="request-body-required", said=said, part="body", v1=one.spot, v2=other.spot)
        yield from self._content("body", one, other, request=True)

    def _content(self, part: str, v1: Node, v2: Node, *, request: bool) -> Iterator[Finding]:
        mine, theirs = _media(v1), _media(v2)
        for name, media in mine.items():
            matching = _matching(name, theirs, request=request)
            if matching is None:
                rule = "request-media-type-removed" if request else "response-media-type-removed"
                said = f"V2 doesn't read {name}" if request else f"V2 doesn't answer {name}"
                yield Finding(rule=rule, said=said, part=_with_media(part, name), v1=media.spot, v2=v2.spot)
                continue
            one, other = media.get("schema"), matching.get("schema")
            if one is not None and other is not None:
                yield from self._values(_with_media(part, name), one, other, request=request)
            elif one is not None and not request:
                said = "V2 doesn't say what it answers"
                yield Finding(
                    rule="response-anything", said=said, part=_with_media(part, name), v1=one.spot, v2=matching.spot
                )

    # responses

    def _responses(self) -> Iterator[Finding]:
        mine, theirs = (
            {str(status): doc.follow(node) for status, node in (responses.members() if responses else ())}
            for doc, responses in (
                (self._v1_doc, self._v1.node.get("responses")),
                (self._v2_doc, self._v2.node.get("responses")),
            )
        )
        for status, one in mine.items():
            other = theirs.get(status) or theirs.get(f"{status[:1]}XX") or theirs.get("default")
            if other is None:
                good = status[:1] in {"1", "2", "3"}
                rule = "response-status-removed" if good else "response-error-status-removed"
                yield Finding(rule=rule, said=f"V2 doesn't answer with {status}", part=status, v1=one.spot)
                continue
            yield from self._headers(status, one, other)
            yield from self._content(status, one, other, request=False)

    def _headers(self, status: str, v1: Node, v2: Node) -> Iterator[Finding]:
        mine, theirs = (
            {name.lower(): (name, doc.follow(header)) for name, header in (held.members() if held else ())}
            for doc, held in ((self._v1_doc, v1.get("headers")), (self._v2_doc, v2.get("headers")))
        )
        for key, (name, one) in mine.items():
            if key == "content-type":
                continue
            part = f"{status} header {name}"
            if key not in theirs:
                rule = "response-header-removed" if one.truth("required") else "response-optional-header-removed"
                yield Finding(rule=rule, said=f"V2 doesn't send {name}", part=part, v1=one.spot, v2=v2.spot)
                continue
            other = theirs[key][1]
            if one.truth("required") and not other.truth("required"):
                said = f"V2 may leave {name} out, which V1 always sends"
                yield Finding(rule="response-header-optional", said=said, part=part, v1=one.spot, v2=other.spot)
            had, has = _style(one, "header"), _style(other, "header")
            if had != has:
                said = f"it is written as {has} in V2 and as {had} in V1"
                yield Finding(rule="response-header-style-changed", said=said, part=part, v1=one.spot, v2=other.spot)
            v1_schema, v2_schema = _schema_of(one), _schema_of(other)
            if v1_schema is not None and v2_schema is not None:
                yield from self._values(part, v1_schema, v2_schema, request=False, text=True)


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────────────


def paths_of(documents: Documents) -> Iterator[tuple[str, Node]]:
    """Yield the paths as the document writes them, each with its item or a reference to it."""
    paths = documents.root.get("paths")
    for path, node in paths.members() if paths else ():
        if path.startswith("/"):
            yield path, node


def shape_of(path: str) -> str:
    """Return a path as it is matched: what placeholders are called means nothing."""
    return _PLACEHOLDER.sub("{}", path.rstrip("/") or "/")


def base_path(documents: Documents) -> str:
    """Return the path of the first server, its variables at their defaults."""
    servers = documents.root.get("servers")
    first = next(servers.items(), None) if servers else None
    if first is None:
        return ""
    url, variables = first.text("url"), first.get("variables")
    for name, variable in variables.members() if variables else ():
        url = url.replace(f"{{{name}}}", variable.text("default"))
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    return path.rstrip("/") if path.startswith("/") else ""


_Way = dict[tuple[Any, ...], set[str]]
"""What a request must show all of: scopes by scheme."""


def _security(documents: Documents, operation: Node) -> list[_Way]:
    """Return the ways to be let in; none where anybody is."""
    listed = operation.get("security") or documents.root.get("security")
    ways = [
        {_scheme(documents, name): {str(scope) for scope in node.value or ()} for name, node in way.members()}
        for way in (listed.items() if listed else ())
    ]
    return [] if {} in ways and len(ways) == 1 else ways


def _scheme(documents: Documents, name: str) -> tuple[Any, ...]:
    """Return what a scheme is; two documents may call it by other names."""
    node: Node | None = documents.root
    for key in ("components", "securitySchemes", name):
        node = node.get(key) if node else None
    if node is None:
        return (name,)
    said = documents.follow(node)
    kind = said.text("type")
    keys = {"apiKey": ("in", "name"), "http": ("scheme",), "openIdConnect": ("openIdConnectUrl",)}.get(kind, ())
    return (kind, *(said.text(key).lower() for key in keys))


def _satisfies(way: _Way, needed: _Way) -> bool:
    return all(scheme in way and needed[scheme] <= way[scheme] for scheme in needed)


def _plain(way: _Way) -> list[str]:
    return [" ".join(str(part) for part in scheme if part) for scheme in way]


def _parameters(documents: Documents, operation: _Operation) -> dict[tuple[str, str], Node]:
    """Return parameters by place and name; those of a path by their position, whatever they are called."""
    positions = {name.strip("{}"): str(index) for index, name in enumerate(_PLACEHOLDER.findall(operation.path))}
    found: dict[tuple[str, str], Node] = {}
    for owner in (operation.path_item, operation.node):
        held = owner.get("parameters")
        for item in held.items() if held else ():
            parameter = documents.follow(item)
            place, name = parameter.text("in"), parameter.text("name")
            if place == "header" and name.lower() in _IGNORED_HEADERS:
                continue
            key = positions.get(name, name) if place == "path" else name.lower() if place == "header" else name
            found[place, key] = parameter
    return found


def _style(parameter: Node, place: str) -> str:
    if parameter.get("content") is not None:
        return "content"
    style = parameter.text("style", _STYLES.get(place, "form"))
    return f"{style}, exploded" if parameter.truth("explode", default=style == "form") else style


def _schema_of(parameter: Node) -> Node | None:
    content = parameter.get("content")
    if content is not None:
        return next((media.get("schema") for _, media in content.members()), None)
    return parameter.get("schema")


def _default(documents: Documents, schema: Node) -> Any:
    return documents.follow(schema).value.get("default") if isinstance(schema.value, dict) else None


def _media(owner: Node) -> dict[str, Node]:
    content = owner.get("content")
    return {_MEDIA_PARTS.sub("", name).lower(): node for name, node in (content.members() if content else ())}


def _matching(name: str, theirs: dict[str, Node], *, request: bool) -> Node | None:
    """Return V2's content for one of V1's: a request's type may become a range, a range of answers narrower."""
    if name in theirs:
        return theirs[name]
    ranges = (f"{name.partition('/')[0]}/*", "*/*")
    if request:
        return next((theirs[one] for one in ranges if one in theirs), None)
    if name == "*/*":
        return next(iter(theirs.values()), None)
    if name.endswith("/*"):
        return next((node for other, node in theirs.items() if other.startswith(name[:-1])), None)
    return None


def _with_media(part: str, name: str) -> str:
    return part if name == _JSON else f"{part} {name}"
