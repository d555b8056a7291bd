"""The collector: HAProxy's log ring arrives over TCP, and ticks come out.

A batch of lines is cut into columns at once (`lines`), rows that differ only in time and latency share a group that
is worked out once (`groups`), and numpy counts groups (`ticks`): that keeps a million requests well below three
seconds of CPU. A line that can't be read is counted and passed over; nothing that a client sends can stop it.
"""

from crossfade.adapters.collector.groups import MAX_REGIONS
from crossfade.adapters.collector.losses import Losses
from crossfade.adapters.collector.server import Collector

__all__ = ["MAX_REGIONS", "Collector", "Losses"]
