"""Where notices go: a signed webhook, mail, or whatever the apprise library knows."""

from crossfade.adapters.notify.addresses import Allowed
from crossfade.adapters.notify.apprise import Apprise
from crossfade.adapters.notify.mail import Mail
from crossfade.adapters.notify.webhook import Webhook

__all__ = ["Allowed", "Apprise", "Mail", "Webhook"]
