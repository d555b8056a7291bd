"""Which units were taken: hashes of 8 bytes, so that millions fit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 8
_RECENT = 50_000
"""Units that are kept in a set before they join the others, which take 8 bytes each."""


class Units:
    """Hashes of 8 bytes: the old ones in order, 8 bytes each, and a set of those that came since."""

    def __init__(self, kept: bytes) -> None:
        self._old: NDArray[np.uint64] = np.sort(np.frombuffer(kept, dtype="<u8").astype(np.uint64))
        self._new: set[int] = set()

    def __contains__(self, unit: object) -> bool:
        assert isinstance(unit, bytes)  # noqa: S101 - `in` takes any object
        number = int.from_bytes(unit, "little")
        if number in self._new:
            return True
        at = int(np.searchsorted(self._old, np.uint64(number)))
        return at < len(self._old) and int(self._old[at]) == number

    def add(self, units: Iterable[bytes]) -> None:
        """Take more."""
        self._new.update(int.from_bytes(unit, "little") for unit in units)
        if len(self._new) > max(_RECENT, len(self._old) // 32):
            fresh = np.fromiter(self._new, dtype=np.uint64, count=len(self._new))
            self._old, self._new = np.sort(np.concatenate([self._old, fresh])), set()
