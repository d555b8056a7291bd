"""Suites that every adapter of a port passes, the shipped fake included."""
