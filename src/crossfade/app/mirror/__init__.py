"""`crossfade mirror`: recorded questions asked again of V1, twice, and of V2, and the answers compared."""
