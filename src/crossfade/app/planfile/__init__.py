"""The plan language: a file becomes a `Plan`, or a list of mistakes with their places."""

from crossfade.app.planfile.build import digest, load_plan, salt_of, with_addresses

__all__ = ["digest", "load_plan", "salt_of", "with_addresses"]
