"""Pure values and decisions: no clock, no I/O, no randomness."""
