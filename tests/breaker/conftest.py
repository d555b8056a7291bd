"""Fixtures of the breaker's tests."""

from __future__ import annotations

import pytest
from tests.breaker.breaker_support import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
