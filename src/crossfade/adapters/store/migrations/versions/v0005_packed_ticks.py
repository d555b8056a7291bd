"""Ticks are compressed from here on: a third of the size."""

from __future__ import annotations

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Change no row, for both forms are read; the number keeps away versions that would call the new one damaged."""
