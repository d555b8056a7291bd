"""`crossfade demo`: the whole story on real processes, from outside as a user would see it."""
