"""What users made of the answers, as far as programs and requests tell of it."""

from crossfade.adapters.outcomes.behaviour import PostedEvent, UserBehaviour
from crossfade.adapters.outcomes.posted import Fate, Posted, PostedOutcomes

__all__ = ["Fate", "Posted", "PostedEvent", "PostedOutcomes", "UserBehaviour"]
