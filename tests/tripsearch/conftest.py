from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.tripsearch.running import Starter, starter


@pytest.fixture(scope="session")
def trip_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tripdata")


@pytest.fixture
def start(tmp_path: Path, trip_data_dir: Path) -> Iterator[Starter]:
    with starter(tmp_path, trip_data_dir) as made:
        yield made


@pytest.fixture(scope="module")
def start_once(tmp_path_factory: pytest.TempPathFactory, trip_data_dir: Path) -> Iterator[Starter]:
    with starter(tmp_path_factory.mktemp("module"), trip_data_dir) as made:
        yield made
