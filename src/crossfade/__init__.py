"""Crossfade moves the clients of an HTTP API from V1 to V2 by a written plan."""
