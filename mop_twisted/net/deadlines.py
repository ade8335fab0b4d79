"""One wheel for the deadlines of all connections.

A C{DelayedCall} a connection costs half a kilobyte and, moved with every packet, more time than
the packet. Here a connection lies in the bucket of the second at which it was last known to be
due. Only when that second comes is it asked again; most have spoken since and move on. A
packet costs nothing.

Knows no MQTT: what is due says so itself. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, final

from twisted.logger import Logger

SLICE: Final = 2000
"""Most that are asked in one turn: a fleet that fell silent at once must not stop the rest."""


class Timed(Protocol):
    """Something with a deadline. C{second} is the wheel's, 0 at first."""

    second: int

    @property
    def deadline(self) -> float:
        """When L{expire} is due; 0.0: never."""

    def expire(self, now: float) -> None:
        """Its time may be over; it looks for itself."""


@final
class Deadlines:
    """Calls C{expire} of what was added, within about a second after its deadline."""

    logger = Logger()

    def __init__(self, reactor: Any, seconds: Callable[[], float]) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._buckets: dict[int, set[Timed]] = {}
        self._due: list[Timed] = []
        self._call: Any = None

    def start(self) -> None:
        """Begin to look, once a second."""
        if self._call is None:
            self._call = self._reactor.callLater(1, self._tick)

    def stop(self) -> None:
        """Look no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def add(self, timed: Timed) -> None:
        """Watch C{timed}, or watch it anew because its deadline has become earlier."""
        deadline = timed.deadline
        self.forget(timed)
        if deadline:
            self._put(timed, int(deadline) + 1)

    def forget(self, timed: Timed) -> None:
        """Watch it no more. Not having watched it is no error."""
        second = timed.second
        if second:
            timed.second = 0
            bucket = self._buckets.get(second)
            if bucket is not None:
                bucket.discard(timed)
                if not bucket:
                    del self._buckets[second]

    def _put(self, timed: Timed, second: int) -> None:
        timed.second = second
        bucket = self._buckets.get(second)
        if bucket is None:
            self._buckets[second] = {timed}
        else:
            bucket.add(timed)

    def _tick(self) -> None:
        now = self._seconds()
        # Over the buckets, not over the seconds: a machine that slept has skipped many.
        for second in sorted(second for second in self._buckets if second <= now):
            self._due += self._buckets.pop(second)
        due = self._due[-SLICE:]
        del self._due[-SLICE:]
        for timed in due:
            if not timed.second:
                continue  # Forgotten since it came into this list.
            timed.second = 0
            try:
                if timed.deadline and timed.deadline <= now:
                    timed.expire(now)
            except Exception:
                self.logger.failure("a deadline failed")
            deadline = timed.deadline
            if deadline and not timed.second:
                self._put(timed, max(int(deadline), int(now)) + 1)
        # At the next full second, when its bucket is due: a second from now would, with this
        # turn's place between two of them, add up to another one.
        self._call = self._reactor.callLater(0 if self._due else int(now) + 1 - now, self._tick)
