"""A whole migration on free ports: V1, V2, weather, HAProxy and `crossfade serve`, each a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.site import Services, Site
from tests.tripsearch.running import starter


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """The reference service's processes, started by the first test that wants them."""
    with starter(tmp_path_factory.mktemp("e2e"), tmp_path_factory.mktemp("e2e-tripdata")) as made:
        yield Services(made)


@pytest.fixture
def site(tmp_path: Path, services: Services) -> Iterator[Site]:
    """A site that serves nothing yet; whatever a test starts is ended."""
    made = Site(tmp_path, services)
    try:
        yield made
    finally:
        made.end()
