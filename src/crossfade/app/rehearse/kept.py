"""A rehearsal's folder: each part as soon as it ends, so that a later run can go on, and the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from crossfade.core.rehearsal.report import Part, PartName, Report, as_data, from_data, part_as_data, part_from_data
from crossfade.core.verdict import Verdict
from crossfade.errors import UsageError

BYTES_MAX: Final = 16 * 1024 * 1024
_BEGUN: Final = "begun.json"
_REPORT: Final = "report.json"
_PAGE: Final = "report.html"


class Kept:
    """One folder."""

    def __init__(self, folder: Path) -> None:
        """Make it where it isn't there; UsageError where that can't be."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"{folder} can't be made: {error.strerror or error}; name another with --out") from None

    def begin(self, head: Report) -> None:
        """Forget what an earlier rehearsal left, and keep what this one is of."""
        for name in (_BEGUN, _REPORT, _PAGE, *(f"{part}.json" for part in PartName)):
            (self.folder / name).unlink(missing_ok=True)
        self._write(_BEGUN, _dumped(as_data(head)))

    def resume(self, head: Report) -> Report:
        """Return what was begun here, with the parts that need not run again: those that ended and tell something.

        UsageError where nothing was begun here, or where it was of another plan, extent or version.
        """
        begun = _report(self._read(_BEGUN), self.folder / _BEGUN)
        again = "leave --resume out to begin anew, or name another folder with --out"
        if (begun.plan, begun.digest) != (head.plan, head.digest):
            raise UsageError(
                f"{self.folder} holds a rehearsal of another plan, or of one that was changed since; {again}"
            )
        if begun.quick != head.quick:
            how = "a quick" if begun.quick else "a whole"
            raise UsageError(f"{self.folder} holds {how} rehearsal; {again}")
        for version, said in head.versions.items():
            if begun.versions.get(version, said) != said:
                raise UsageError(f"{version} promises something else than when {self.folder} was begun; {again}")
        return begun

    def ended(self) -> dict[PartName, Part]:
        """Return the parts that need not run again; UsageError where one can't be read."""
        found = {}
        for name in PartName:
            path = self.folder / f"{name}.json"
            if not path.exists():
                continue
            try:
                part = part_from_data(self._read(path.name))
            except (KeyError, TypeError, ValueError, AttributeError):
                raise UsageError(f"{path} is no part of a rehearsal; leave --resume out to begin anew") from None
            if not part.partial and part.outcome is not Verdict.INCONCLUSIVE:
                found[name] = part
        return found

    def keep(self, part: Part) -> None:
        """Keep a part as far as it came."""
        self._write(f"{part.name}.json", _dumped(part_as_data(part)))

    def report(self, report: Report, page: str) -> None:
        """Keep the report, and its page for people."""
        self._write(_REPORT, _dumped(as_data(report)))
        self._write(_PAGE, page.encode())

    def _read(self, name: str) -> Mapping[str, Any]:
        path = self.folder / name
        try:
            with path.open("rb") as file:
                data = file.read(BYTES_MAX)
            found = orjson.loads(data)
        except FileNotFoundError:
            raise UsageError(f"nothing was begun in {self.folder}; leave --resume out") from None
        except (OSError, orjson.JSONDecodeError) as error:
            raise UsageError(f"{path} can't be read: {error}; leave --resume out to begin anew") from None
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, data: bytes) -> None:
        path = self.folder / name
        beside = path.with_suffix(".tmp")
        try:
            beside.write_bytes(data)
            beside.replace(path)
        except OSError as error:
            raise UsageError(f"{path} can't be written: {error.strerror or error}; name another with --out") from None


def _report(data: Mapping[str, Any], path: Path) -> Report:
    try:
        return from_data(data)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UsageError(f"{path} is no rehearsal's; leave --resume out to begin anew") from None


def _dumped(data: Mapping[str, Any]) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_INDENT_2)
