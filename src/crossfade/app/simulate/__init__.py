"""`crossfade simulate`: many seeded rollouts of a plan, before the first user is moved."""
