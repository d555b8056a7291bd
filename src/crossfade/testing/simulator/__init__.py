"""The fault simulator: real controllers in a world of fakes, in which one seed draws everything that happens."""

from crossfade.testing.simulator.run import Outcome, simulate, simulate_all
from crossfade.testing.simulator.world import Cast

__all__ = ["Cast", "Outcome", "simulate", "simulate_all"]
