"""OpenAPI documents as values that know where they stand. Nothing is fetched: whoever compares has read them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

REFS_MAX = 64
"""References that lead to references, one after the other."""


@dataclass(frozen=True, slots=True, order=True)
class Spot:
    """A place in a document."""

    uri: str
    pointer: str
    """RFC 6901; empty for the whole document."""


class DocumentError(ValueError):
    """A document that can't be read as OpenAPI; `spot` is where."""

    def __init__(self, spot: Spot, message: str) -> None:
        super().__init__(message)
        self.spot = spot


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a document."""

    value: Any
    spot: Spot

    def get(self, key: str) -> Node | None:
        """Return the member of a mapping; None where there is none or this is no mapping."""
        if not isinstance(self.value, dict) or key not in self.value:
            return None
        return Node(self.value[key], Spot(self.spot.uri, f"{self.spot.pointer}/{escaped(key)}"))

    def members(self) -> Iterator[tuple[str, Node]]:
        """Yield the members of a mapping, in order; nothing where this is none."""
        for key in self.value if isinstance(self.value, dict) else ():
            found = self.get(key)
            if found is not None:
                yield key, found

    def items(self) -> Iterator[Node]:
        """Yield the items of a list; nothing where this is none."""
        for index, value in enumerate(self.value if isinstance(self.value, list) else ()):
            yield Node(value, Spot(self.spot.uri, f"{self.spot.pointer}/{index}"))

    def text(self, key: str, default: str = "") -> str:
        """Return a member that is text, else the default."""
        value = self.value.get(key) if isinstance(self.value, dict) else None
        return value if isinstance(value, str) else default

    def truth(self, key: str, *, default: bool = False) -> bool:
        """Return a member that is true or false, else the default."""
        value = self.value.get(key) if isinstance(self.value, dict) else None
        return value if isinstance(value, bool) else default


class Documents:
    """One version's document, and those that it refers to."""

    def __init__(self, root: str, held: Mapping[str, Any]) -> None:
        """`held` has every document by its URI, `root` among them.

        Raises DocumentError where the root says not that it is OpenAPI 3.0 or 3.1.
        """
        self.root = Node(held[root], Spot(root, ""))
        self._held = held
        self.views: dict[Any, Any] = {}
        """What schemas say in effect, kept by whoever reads them."""
        said = self.root.text("openapi")
        if not said.startswith(("3.0", "3.1")):
            what = f"OpenAPI {said}" if said else "Swagger 2" if self.root.get("swagger") else "no OpenAPI document"
            raise DocumentError(self.root.spot, f"is {what}; OpenAPI 3.0 and 3.1 are compared")
        self.is_30 = said.startswith("3.0")

    def follow(self, node: Node) -> Node:
        """Return what a reference leads to; the node itself where it is none. DocumentError where it leads nowhere."""
        for _ in range(REFS_MAX):
            target = node.value.get("$ref") if isinstance(node.value, dict) else None
            if not isinstance(target, str):
                return node
            node = self._at(target, node)
        raise DocumentError(node.spot, f"leads from reference to reference, more than {REFS_MAX} times")

    def _at(self, target: str, node: Node) -> Node:
        uri, fragment = urldefrag(urljoin(node.spot.uri, target))
        if uri not in self._held:
            raise DocumentError(node.spot, f"refers to {target}, which was not read")
        value = self._held[uri]
        parts = unquote(fragment).split("/")[1:]
        for part in parts:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(value, dict) and key in value:
                value = value[key]
            elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
                value = value[int(key)]
            else:
                raise DocumentError(node.spot, f"refers to {target}, where nothing is")
        pointer = "".join(f"/{part}" for part in parts)
        return Node(value, Spot(uri, pointer))


def escaped(key: str) -> str:
    """Return a key as a part of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def references(value: Any) -> Iterator[str]:
    """Yield every `$ref` in a document, without recursion; examples and the like included."""
    left, seen = [value], set[int]()
    while left:
        one = left.pop()
        if not isinstance(one, (dict, list)) or id(one) in seen:
            continue  # YAML's aliases may hold the same part many times over
        seen.add(id(one))
        if isinstance(one, dict):
            target = one.get("$ref")
            if isinstance(target, str):
                yield target
            left.extend(one.values())
        else:
            left.extend(one)
