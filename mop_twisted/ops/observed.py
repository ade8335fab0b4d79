"""What is shown of a node and is no counter: values asked for when somebody looks.

The composition root sets the callables; the defaults are those of a node without a log. Each
must answer at once, from memory.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

_STATM = Path("/proc/self/statm")


class Observed:
    """Gauges by callable, and the words that name the node. Set what there is."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self.seconds = seconds
        """The monotonic clock; construction is taken for the node's start."""
        self.started = seconds()
        self.log_name = "embedded"
        self.cluster = "standalone"
        self.tenant = "public"
        self.namespace = "default"
        """The last three are MoP's, for C{/mop/stats} and the label of its metrics."""
        self.log_healthy: Callable[[], bool] = lambda: True
        self.log_congested: Callable[[], bool] = lambda: False
        self.log_queue_bytes: Callable[[], int] = lambda: 0
        """Bytes that wait to be appended."""
        self.backlog_messages: Callable[[], int] = lambda: 0
        """Messages in the log that some session or group has not acknowledged."""
        self.backlog_bytes: Callable[[], int] = lambda: 0
        self.queued_bytes: Callable[[], int] = lambda: 0
        """Bytes in memory that wait for clients: transports' output and queues."""
        self.reactor_lag: Callable[[], float] = lambda: 0.0
        self.reactor_lag_maximum: Callable[[], float] = lambda: 0.0
        self.certificates: Callable[[], Mapping[str, float]] = dict
        """Listener name → when its certificate expires, in seconds since 1970."""
        self.refresh: Callable[[], None] = lambda: None
        """Called before the counters are shown: for those that are cheaper to set now and then
        than to keep."""

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return self.seconds() - self.started


def resident_bytes() -> int:
    """Memory of this process now; where the system does not say so, its maximum."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return maximum_resident_bytes()


def maximum_resident_bytes() -> int:
    """The most memory that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
