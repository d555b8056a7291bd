"""The proxy's state as HAProxy keeps it: lines of two maps, in memory and on disk, and how they are read.

Both maps hold the same text in the running proxy and in the state directory. The integers decide requests, the
headers are kept in base64 so that no value needs quoting.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crossfade.adapters.haproxy.render import (
    BROWNOUT_BODY,
    BROWNOUT_ENDS,
    BROWNOUT_SALT,
    BROWNOUT_SHARE,
    BROWNOUT_UNTIL,
    BY_ITSELF,
    EXEMPT_MAP,
    GENERATION,
    HEADER_MAP,
    HEADERS,
    INT_MAP,
    KILL,
    RETIRED,
    RETIRED_MAP,
    ROLLBACKS,
    ROLLED_BACK,
    SPLIT,
    V1_HEADERS,
)
from crossfade.core.brownout import Absence
from crossfade.core.split import Split
from crossfade.errors import ProxyRefusedError, ReadBackError
from crossfade.ports import ProxyState

THROWN = (ROLLED_BACK, ROLLBACKS, BY_ITSELF)
"""What only rollback switches write."""
_NOT_THROWN = {ROLLED_BACK: -1, ROLLBACKS: 0, BY_ITSELF: -1}
_ABSENT = "-"
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Maps:
    """The content of the maps."""

    ints: Mapping[str, int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    retired: bool = False
    """V1 is given nothing, whatever the integers say."""
    exempt: frozenset[str] = frozenset()
    """Clients' ids."""

    @property
    def generation(self) -> int:
        """Return the generation of who set this."""
        return self.ints.get(GENERATION, 0)

    @property
    def killed(self) -> bool:
        """Tell whether everyone is on V1; an unreadable proxy counts as killed, as its rules have it."""
        return self.ints.get(KILL, 1) != 0

    def share(self, key: str) -> int:
        """Return the share (basis points) that a request with this key meets now."""
        return 0 if self.killed else self.ints.get(key, 0)


def share_keys(ints: Mapping[str, int]) -> list[str]:
    """Return the keys that hold shares."""
    return [key for key in ints if key == SPLIT or key.startswith(f"{SPLIT}.")]


def initial(cohorts: Sequence[str]) -> Maps:
    """Return the state of a proxy nobody has set yet: everyone on V1."""
    return encode(ProxyState(generation=0), cohorts, {})


def encode(state: ProxyState, cohorts: Sequence[str], old: Mapping[str, int], *, ends: int = 0) -> Maps:
    """Return the maps for a state; what switches have written is as in `old`.

    `ends` is when its brownout does, in the wall clock's seconds since the epoch.

    `own.<cohort>` remembers whether the split names the cohort; the share in force stands in `split.<cohort>`
    either way. Raises ProxyRefusedError for a cohort the plan does not have, a header that is none of
    V1_HEADERS or has characters a header can't carry, and a generation beyond 63 bits.
    """
    unknown = sorted(set(state.split.cohorts) - set(cohorts))
    if unknown:
        raise ProxyRefusedError(f"cohort {unknown[0]!r} is not in the plan, which has {', '.join(cohorts) or 'none'}")
    if not 0 <= state.generation <= _INT64_MAX:
        raise ProxyRefusedError(f"generation {state.generation} is not within 0..2**63-1")
    ints = {
        GENERATION: state.generation,
        **{key: old.get(key, value) for key, value in _NOT_THROWN.items()},
        KILL: int(state.killed),
        HEADERS: int(bool(state.v1_headers)),
        BROWNOUT_UNTIL: state.brownout.until if state.brownout else 0,
        BROWNOUT_SHARE: state.brownout.share if state.brownout else 0,
        BROWNOUT_ENDS: ends if state.brownout else 0,
        SPLIT: state.split.everyone,
    }
    for name in cohorts:
        ints[f"{SPLIT}.{name}"] = state.split.share_of(name)
        ints[f"own.{name}"] = int(name in state.split.cohorts)
    texts = _encode_headers(state.v1_headers) | _encode_brownout(state.brownout)
    return Maps(ints=ints, headers=texts, retired=state.retired, exempt=state.exempt)


def _encode_headers(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if name not in V1_HEADERS:
            raise ProxyRefusedError(f"V1 header {name!r} can't be set; these can: {', '.join(V1_HEADERS)}")
        if not value or not value.isascii() or not value.isprintable():
            raise ProxyRefusedError(f"V1 header {name}: {value!r} has to be printable ASCII and not empty")
        if len(value) > 1000:
            raise ProxyRefusedError(f"V1 header {name} has {len(value)} characters; 1000 are the limit")
    return {
        name: base64.b64encode(headers[name].encode()).decode() if name in headers else _ABSENT for name in V1_HEADERS
    }


def _encode_brownout(wanted: Absence | None) -> dict[str, str]:
    if wanted is None:
        return {BROWNOUT_SALT: _ABSENT, BROWNOUT_BODY: _ABSENT}
    if not re.fullmatch("[0-9a-f]{1,64}", wanted.salt):
        raise ProxyRefusedError(f"a brownout's salt is hexadecimal, not {wanted.salt!r}")
    return {BROWNOUT_SALT: wanted.salt, BROWNOUT_BODY: base64.b64encode(wanted.body.encode()).decode()}


def decode(maps: Maps) -> ProxyState:
    """Return the state that the maps say; raises ReadBackError where they make none."""
    try:
        cohorts = {
            key.removeprefix("own."): maps.ints[f"{SPLIT}.{key.removeprefix('own.')}"]
            for key, value in maps.ints.items()
            if key.startswith("own.") and value
        }
        headers = {
            name: base64.b64decode(value, validate=True).decode()
            for name, value in maps.headers.items()
            if name in V1_HEADERS and value != _ABSENT
        }
        return ProxyState(
            generation=maps.ints[GENERATION],
            split=Split(everyone=maps.ints[SPLIT], cohorts=cohorts),
            killed=maps.killed,
            v1_headers=headers,
            retired=maps.retired,
            brownout=_decode_brownout(maps),
            exempt=maps.exempt,
        )
    except (KeyError, ValueError, binascii.Error) as error:
        raise ReadBackError(f"the proxy's maps make no state ({error!r}): {dict(maps.ints)}") from error


def _decode_brownout(maps: Maps) -> Absence | None:
    if not maps.ints.get(BROWNOUT_UNTIL, 0):
        return None
    return Absence(
        until=maps.ints[BROWNOUT_UNTIL],
        share=maps.ints[BROWNOUT_SHARE],
        salt=maps.headers[BROWNOUT_SALT],
        body=base64.b64decode(maps.headers[BROWNOUT_BODY], validate=True).decode(),
    )


def floor(old: Maps, new: Maps) -> Maps:
    """Return what may be written before memory is changed from `old` to `new`: no share above either."""
    shares = {key: min(old.share(key), new.share(key)) for key in share_keys(new.ints)}
    kill = {KILL: int(old.killed or new.killed)}
    if kill[KILL]:
        shares = {key: min(old.ints.get(key, 0), new.ints[key]) for key in shares}
    return Maps(ints={**new.ints, **shares, **kill}, headers=new.headers, retired=old.retired)


def rises(old: Maps, new: Maps) -> bool:
    """Tell whether V2's share rises for anyone, or V1 is retired."""
    return (new.retired and not old.retired) or any(new.share(key) > old.share(key) for key in share_keys(new.ints))


def steps(old: Maps, new: Maps) -> list[tuple[str, str, str]]:
    """Return (map, key, value) in the order in which memory is set: no prefix puts more on V2 than old or new.

    The generation comes first, so that an actor with an earlier one notices; then what lowers, then headers,
    what raises, and an end of the kill; that V1 is retired last. Nothing here brings it back.
    """
    ints = {key: value for key, value in new.ints.items() if key not in THROWN}
    rank = {GENERATION: 0, KILL: 1 if new.killed else 9}

    def order(key: str) -> int:
        if key in rank:
            return rank[key]
        return 2 if ints[key] < old.ints.get(key, 0) else 5

    lowering = sorted((key for key in ints if order(key) < 5), key=order)
    raising = sorted((key for key in ints if order(key) >= 5), key=order)
    return [
        *((INT_MAP, key, str(ints[key])) for key in lowering),
        *((HEADER_MAP, name, value) for name, value in new.headers.items()),
        *((INT_MAP, key, str(ints[key])) for key in raising),
        *([(RETIRED_MAP, RETIRED, "1")] if new.retired and not old.retired else []),
    ]


def rolled_back(old: Maps, generation: int | None, *, by_itself: bool = False) -> Maps:
    """Return `old` with everyone on V1 by a rollback switch, or by a proxy that nobody looked after.

    Without a generation the next one is outdated too: it may be that of a raise that has just begun and does not
    know of the rollback.
    """
    at = max(old.generation, generation or 0)
    outdated = old.generation + 1 if generation is None else at
    ints = {
        **old.ints,
        **dict.fromkeys(share_keys(old.ints) or [SPLIT], 0),
        GENERATION: at,
        KILL: 1,
        ROLLED_BACK: max(outdated, old.ints.get(ROLLED_BACK, -1)),
        ROLLBACKS: old.ints.get(ROLLBACKS, 0) + 1,
        BY_ITSELF: outdated if by_itself else old.ints.get(BY_ITSELF, -1),
    }
    return Maps(ints=ints, headers=old.headers, retired=old.retired)


def render_ints(ints: Mapping[str, int]) -> str:
    """Return the integer map's file."""
    return "".join(f"{key} {value}\n" for key, value in ints.items())


def render_headers(headers: Mapping[str, str]) -> str:
    """Return the header map's file."""
    return "".join(f"{key} {value}\n" for key, value in headers.items())


def parse_pairs(text: str, what: str) -> dict[str, str]:
    """Return the `key value` lines of a map; raises ReadBackError naming the line that is none."""
    pairs: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        key, _, value = line.strip().partition(" ")
        if not value:
            raise ReadBackError(f"{what}, line {number}: {line!r} is no `key value`")
        pairs[key] = value
    return pairs


def parse_ints(text: str, what: str) -> dict[str, int]:
    """Return an integer map; raises ReadBackError naming the value that is no number."""
    pairs = parse_pairs(text, what)
    try:
        return {key: int(value) for key, value in pairs.items()}
    except ValueError as error:
        raise ReadBackError(f"{what}: {error}") from error


def exempt_entries(clients: Iterable[str]) -> list[tuple[str, str]]:
    """Return the entries of the map of exempt clients."""
    return [(base64.b64encode(client.encode(errors="surrogateescape")).decode(), "1") for client in sorted(clients)]


def parse_exempt(text: str) -> frozenset[str]:
    """Return the clients in a map; raises ReadBackError naming an entry that is none."""
    try:
        keys = [base64.b64decode(key, validate=True) for key in parse_pairs(text, EXEMPT_MAP)]
    except ValueError as error:
        raise ReadBackError(f"{EXEMPT_MAP}: {error}") from error
    return frozenset(key.decode(errors="surrogateescape") for key in keys)


def write_exempt(directory: Path, clients: Iterable[str]) -> None:
    """Replace the map of exempt clients on disk; raises OSError."""
    write_atomically(directory / EXEMPT_MAP, "".join(f"{key} {one}\n" for key, one in exempt_entries(clients)))


def parse_retired(text: str) -> bool:
    """Return whether the map says that V1 is retired; raises ReadBackError where it says nothing."""
    said = parse_pairs(text, RETIRED_MAP).get(RETIRED)
    if said not in {"0", "1"}:
        raise ReadBackError(f"{RETIRED_MAP} does not say whether V1 is retired: {text!r}")
    return said == "1"


def read_retired(directory: Path) -> bool:
    """Return whether V1 is retired by the file; without one it never was. Raises as `read_files`."""
    try:
        return parse_retired((directory / RETIRED_MAP).read_text())
    except FileNotFoundError:
        return False
    except UnicodeDecodeError as error:
        raise ReadBackError(f"{RETIRED_MAP} in {directory} is no text: {error}") from error


def write_retired(directory: Path, *, retired: bool) -> None:
    """Say on disk whether V1 is retired; raises OSError."""
    write_atomically(directory / RETIRED_MAP, f"{RETIRED} {int(retired)}\n")


def read_files(directory: Path) -> Maps:
    """Return the maps on disk; raises ReadBackError where they are damaged and OSError where they can't be read."""
    try:
        ints, headers = (directory / INT_MAP).read_text(), (directory / HEADER_MAP).read_text()
    except UnicodeDecodeError as error:
        raise ReadBackError(f"a map in {directory} is no text: {error}") from error
    retired = read_retired(directory)
    return Maps(ints=parse_ints(ints, INT_MAP), headers=parse_pairs(headers, HEADER_MAP), retired=retired)


def write_files(directory: Path, maps: Maps) -> None:
    """Replace the maps on disk where they differ, the deciding one last; raises OSError. Nothing brings V1 back."""
    if maps.retired:
        write_retired(directory, retired=True)
    write_atomically(directory / HEADER_MAP, render_headers(maps.headers))
    write_atomically(directory / INT_MAP, render_ints(maps.ints))


def write_atomically(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file's content; whoever reads it, also after a crash, sees the old or the new. Raises OSError."""
    try:
        if path.read_text() == text:
            return
    except (OSError, UnicodeDecodeError):
        pass  # missing or damaged: to be written
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the rename itself
    finally:
        os.close(directory)
