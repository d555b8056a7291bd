"""`crossfade doctor`: finds what is wrong with an installation, and changes nothing."""
