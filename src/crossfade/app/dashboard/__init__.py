"""Pages to look at a rollout and to act on it, made on the server; scripts keep them fresh and send what is asked."""

from crossfade.app.dashboard.pages import add_dashboard

__all__ = ["add_dashboard"]
