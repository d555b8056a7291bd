"""One file per outside thing, unaware of each other."""
