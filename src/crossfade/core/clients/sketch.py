"""How many different clients there were, in bounded memory: exactly up to a thousand, then by HyperLogLog.

Flajolet et al. 2007, "HyperLogLog"; the estimate is Ertl's (2017, "New cardinality estimation algorithms for
HyperLogLog sketches", algorithm 6), which needs no correction for small or large counts.
"""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Iterable
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

EXACT = 1024
"""Different clients that are counted exactly."""
STANDARD_ERROR = 1.04 / 64
"""Of a count beyond that, relative: 1.04 / sqrt(4096), 1.6 %."""

_INDEX_BITS = 12
_REGISTERS = 1 << _INDEX_BITS
_REST_BITS = 64 - _INDEX_BITS

_Hashes = NDArray[np.uint64]


def hashes(names: Iterable[bytes], *, after: bytes = b"") -> _Hashes:
    """Return a 64-bit hash (k,) of each name, the same everywhere: its CRC-32, spread by SplitMix64's finalizer.

    after: what stands before each name.
    Two of a million names share one with probability 1e-4: far below the sketch's own error.
    """
    mixed = np.fromiter(map(zlib.crc32, names, repeat(zlib.crc32(after))), dtype=np.uint64) + np.uint64(
        0x9E3779B97F4A7C15
    )
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


class Sketch:
    """A set of hashes of which only the size is wanted."""

    def __init__(self) -> None:
        self._known: set[int] | None = set()
        """None once there were too many."""
        self._registers: NDArray[np.uint8] = np.zeros(0, dtype=np.uint8)

    def add(self, found: _Hashes) -> None:
        """Add hashes, (k,)."""
        if self._known is not None:
            self._known.update(found.tolist())
            if len(self._known) <= EXACT:
                return
            found = np.fromiter(self._known, dtype=np.uint64)
            self._known, self._registers = None, np.zeros(_REGISTERS, dtype=np.uint8)
        index = (found >> np.uint64(_REST_BITS)).astype(np.int64)
        rest = found & np.uint64((1 << _REST_BITS) - 1)  # exact as a float
        rank = (_REST_BITS + 1 - np.frexp(rest.astype(np.float64))[1]).astype(np.uint8)
        np.maximum.at(self._registers, index, rank)

    def merge(self, other: Sketch) -> None:
        """Add what another one has."""
        if other._known is not None:
            self.add(np.fromiter(other._known, dtype=np.uint64))
            return
        if self._known is not None:
            mine, self._known = self._known, None
            self._registers = np.zeros(_REGISTERS, dtype=np.uint8)
            self.add(np.fromiter(mine, dtype=np.uint64))
        self._registers = np.maximum(self._registers, other._registers)

    @property
    def is_exact(self) -> bool:
        """Tell whether the count is no estimate."""
        return self._known is not None

    def count(self) -> int:
        """Return how many different hashes were added."""
        return len(self._known) if self._known is not None else round(_estimate(self._registers))

    def data(self) -> list[int] | str:
        """Return it as what JSON can hold."""
        return sorted(self._known) if self._known is not None else base64.b85encode(self._registers.tobytes()).decode()

    @classmethod
    def of(cls, data: list[int] | str) -> Sketch:
        """Return the sketch whose `data` this is; ValueError where it is none."""
        sketch = cls()
        if isinstance(data, str):
            sketch._known = None
            sketch._registers = np.frombuffer(base64.b85decode(data), dtype=np.uint8).copy()
            if len(sketch._registers) != _REGISTERS:
                raise ValueError(f"a sketch has {_REGISTERS} registers, not {len(sketch._registers)}")
        else:
            sketch._known = set(data)
        return sketch


def _estimate(registers: NDArray[np.uint8]) -> float:
    ranks = np.bincount(registers, minlength=_REST_BITS + 2).tolist()
    total = _REGISTERS * _tau(1 - ranks[_REST_BITS + 1] / _REGISTERS)
    for count in reversed(ranks[1 : _REST_BITS + 1]):
        total = (total + count) / 2
    total += _REGISTERS * _sigma(ranks[0] / _REGISTERS)
    return _REGISTERS * _REGISTERS / (2 * math.log(2) * total)


def _sigma(x: float) -> float:
    weight, total, last = 1.0, x, -1.0
    while total != last:
        x, last = x * x, total
        total += x * weight
        weight *= 2
    return total


def _tau(x: float) -> float:
    if x in (0.0, 1.0):
        return 0.0
    weight, total, last = 1.0, 1 - x, -1.0
    while total != last:
        x, last, weight = math.sqrt(x), total, weight / 2
        total -= (1 - x) ** 2 * weight
    return total / 3
