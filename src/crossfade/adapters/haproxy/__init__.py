"""HAProxy as the proxy that is steered: configuration, runtime API, process, rollback switch."""

from crossfade.adapters.haproxy.proxy import HaproxyProxy
from crossfade.adapters.haproxy.render import Tuning, render
from crossfade.adapters.haproxy.rollback import HaproxyRollback
from crossfade.adapters.haproxy.stop import stop_proxy_in

__all__ = ["HaproxyProxy", "HaproxyRollback", "Tuning", "render", "stop_proxy_in"]
