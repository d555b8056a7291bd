"""Rollouts kept in SQLite or PostgreSQL."""

from crossfade.adapters.store.sql import KEPT_DECISIONS, SqlStore, check_numbers

__all__ = ["KEPT_DECISIONS", "SqlStore", "check_numbers"]
