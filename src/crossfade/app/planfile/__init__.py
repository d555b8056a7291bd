"""The plan language: a file becomes a `Plan`, or a list of mistakes with their places."""

from crossfade.app.planfile.build import digest, load_plan, rehearsal_digest, salt_of, with_addresses
from crossfade.app.planfile.lint import Finding, lint
from crossfade.app.planfile.schema import json_schema
from crossfade.app.planfile.summary import summarise

__all__ = [
    "Finding",
    "digest",
    "json_schema",
    "lint",
    "load_plan",
    "rehearsal_digest",
    "salt_of",
    "summarise",
    "with_addresses",
]
