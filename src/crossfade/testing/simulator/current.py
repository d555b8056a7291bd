"""Whose code is running: each process's tasks carry it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossfade.testing.simulator.process import Process

current: ContextVar[Process] = ContextVar("process")
