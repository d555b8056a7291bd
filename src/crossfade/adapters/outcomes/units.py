"""Which units were taken: hashes of 8 bytes, so that millions fit."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

HASH_BYTES = 8
_RECENT = 50_000
"""Units that are kept in sets before they join the others, which take 8 bytes each."""
_PART_BITS = 6
_PARTS = 1 << _PART_BITS
"""Each is copied by itself when its units join, so that all are never there twice."""


class Units:
    """Hashes of 8 bytes: the old ones in order, 8 bytes each, and sets of those that came since."""

    def __init__(self, kept: NDArray[np.uint64] | None = None) -> None:
        """Begin with those that were kept, (k,); the array is put in order."""
        held = np.zeros(0, dtype=np.uint64) if kept is None else kept
        held.sort()
        bounds = np.arange(1, _PARTS, dtype=np.uint64) << np.uint64(64 - _PART_BITS)
        self._old = [part.copy() for part in np.split(held, np.searchsorted(held, bounds))]
        self._new: list[set[int]] = [set() for _ in range(_PARTS)]

    def __contains__(self, unit: object) -> bool:
        assert isinstance(unit, bytes)  # noqa: S101 - `in` takes any object
        number = int.from_bytes(unit, "little")
        part = number >> (64 - _PART_BITS)
        if number in self._new[part]:
            return True
        old = self._old[part]
        at = int(np.searchsorted(old, np.uint64(number)))
        return at < len(old) and int(old[at]) == number

    def add(self, units: Iterable[bytes]) -> None:
        """Take more."""
        for unit in units:
            number = int.from_bytes(unit, "little")
            self._new[number >> (64 - _PART_BITS)].add(number)
        for part, new in enumerate(self._new):
            if len(new) > max(_RECENT // _PARTS, len(self._old[part]) // 32):
                fresh = np.fromiter(new, dtype=np.uint64, count=len(new))
                self._old[part], self._new[part] = np.sort(np.concatenate([self._old[part], fresh])), set()
