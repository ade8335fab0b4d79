"""How late the reactor is: the one number that says whether this node keeps up.

A call is due every C{interval} seconds; by how much it comes late, everything else came late as
well. It knows nothing but a clock.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

WINDOW: Final = 60
"""Probes that L{LagProbe.maximum} looks back over."""


class LagProbe:
    """Measures lateness on C{clock}, in seconds."""

    def __init__(self, clock: IReactorTime, interval: float = 1.0) -> None:
        self._clock = clock
        self._interval = interval
        self._due = 0.0
        self._call: IDelayedCall | None = None
        self._recent: deque[float] = deque(maxlen=WINDOW)

    def start(self) -> None:
        """Begin. A started one goes on as it does."""
        if self._call is None:
            self._schedule()

    def stop(self) -> None:
        """Leave nothing scheduled; what was measured stays."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    @property
    def latest(self) -> float:
        """Lateness of the last probe."""
        return self._recent[-1] if self._recent else 0.0

    @property
    def maximum(self) -> float:
        """The largest of the last L{WINDOW} probes: what a scrape every 15 seconds would miss."""
        return max(self._recent, default=0.0)

    def _schedule(self) -> None:
        # From now on, not from when it was due: a reactor that stood still for ten seconds was
        # late once, not ten times.
        self._due = self._clock.seconds() + self._interval
        self._call = self._clock.callLater(self._interval, self._probe)

    def _probe(self) -> None:
        self._recent.append(max(0.0, self._clock.seconds() - self._due))
        self._schedule()
