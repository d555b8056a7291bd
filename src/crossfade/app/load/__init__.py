"""`crossfade load`: many users at once, asking as the plan says."""
