"""Shipped doubles and conformance suites."""
