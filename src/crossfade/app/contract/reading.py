"""Documents from files and URLs, with what they refer to, within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import aiohttp

from crossfade.app.contract.text import Text
from crossfade.core.contract.document import DocumentError, Documents, Spot, references
from crossfade.errors import UnreachableError, UsageError

BYTES_MAX = 20 * 1024 * 1024
DOCUMENTS_MAX = 50
TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Read:
    """One version's documents, and where everything stands in them."""

    documents: Documents
    texts: Mapping[str, Text]
    named: str
    """As it was given."""

    def place(self, spot: Spot) -> str:
        """Return `file:line` or `URL:line`."""
        return f"{shown(spot.uri)}:{self.texts[spot.uri].line(spot.pointer)}"


def uri_of(place: str) -> str:
    """Return the URI of a file or a URL."""
    return place if "://" in place else Path(place).absolute().as_uri()


def shown(uri: str) -> str:
    """Return a file as a path, relative to the working directory where it lies below it; a URL as it is."""
    if not uri.startswith("file:"):
        return uri
    path = Path(unquote(urlsplit(uri).path))
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


async def read(place: str) -> Read:
    """Read a document and all that it refers to.

    Raises UsageError, with file and line, where one can't be read or understood; UnreachableError where nobody answers.
    A file may refer to other files and URLs, what came from a URL only to its own server.
    """
    root = uri_of(place)
    texts: dict[str, Text] = {}
    left = [urldefrag(root)[0]]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        while left:
            uri = left.pop()
            if uri in texts:
                continue
            if len(texts) >= DOCUMENTS_MAX:
                raise UsageError(f"{place} refers to more than {DOCUMENTS_MAX} documents; bundle them into one")
            texts[uri] = _parse(uri, await _fetch(uri, session))
            for target in references(texts[uri].value):
                other = urldefrag(urljoin(uri, target))[0]
                if other not in texts:
                    _check_may(uri, other)
                    left.append(other)
    try:
        documents = Documents(urldefrag(root)[0], {uri: text.value for uri, text in texts.items()})
    except DocumentError as error:
        raise UsageError(f"{shown(error.spot.uri)}: {error}") from None
    return Read(documents, texts, place)


def _check_may(uri: str, other: str) -> None:
    one, two = urlsplit(uri), urlsplit(other)
    if two.scheme not in {"file", "http", "https"}:
        raise UsageError(f"{shown(uri)} refers to {other}; files and http(s) URLs are read")
    if one.scheme != "file" and (one.scheme, one.netloc) != (two.scheme, two.netloc):
        raise UsageError(f"{shown(uri)} refers to {other} on another server, which is not asked; bundle it into one")


def _parse(uri: str, data: bytes) -> Text:
    try:
        return Text(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown(uri)}: byte {error.start + 1} is not UTF-8; save it as UTF-8") from None
    except ValueError as error:
        said = str(error)
        raise UsageError(f"{shown(uri)}:{said}" if said[:1].isdigit() else f"{shown(uri)}: {said}") from None


async def _fetch(uri: str, session: aiohttp.ClientSession) -> bytes:
    if uri.startswith("file:"):
        return await asyncio.to_thread(_file, uri)
    try:
        async with session.get(uri, allow_redirects=False) as answer:
            if answer.status != 200:
                raise UsageError(f"{uri} answers with status {answer.status} instead of a document")
            data = await answer.content.read(BYTES_MAX + 1)
            while len(data) <= BYTES_MAX and (more := await answer.content.read(BYTES_MAX + 1 - len(data))):
                data += more
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise UnreachableError(f"{uri} can't be read: {error or 'no answer in time'}") from None
    if len(data) > BYTES_MAX:
        raise UsageError(f"{uri} is longer than {BYTES_MAX:,} bytes; no document of an API is")
    return data


def _file(uri: str) -> bytes:
    path = Path(unquote(urlsplit(uri).path))
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{shown(uri)} can't be read: {reason}") from None
    if len(data) > BYTES_MAX:
        raise UsageError(f"{shown(uri)} is longer than {BYTES_MAX:,} bytes; no document of an API is")
    return data
