"""The node's numbers for MQTT clients: C{$SYS/broker/…}, with mosquitto's names and meanings.

Every C{interval} seconds what has changed is published, retained, through a callable. It knows
neither sessions nor retained messages: who may read these topics is the access control's word.

The names and the arithmetic of the moving averages are those of mosquitto 2.0: a count's rate a
minute over the last interval, smoothed exponentially over 1, 5 and 15 minutes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from .. import __version__
from ..broker.counters import Counters
from .observed import Observed, maximum_resident_bytes, resident_bytes

PREFIX: Final = "$SYS/broker/"

_WINDOWS: Final = (("1min", 60.0), ("5min", 300.0), ("15min", 900.0))

_LOADS: Final[tuple[tuple[str, Callable[[Counters], int]], ...]] = (
    ("messages/received", lambda c: _packets_received(c)),
    ("messages/sent", lambda c: _packets_sent(c)),
    ("publish/dropped", lambda c: sum(c.dropped)),
    ("publish/received", lambda c: sum(c.publishes_received)),
    ("publish/sent", lambda c: sum(c.publishes_sent)),
    ("bytes/received", lambda c: c.bytes_received),
    ("bytes/sent", lambda c: c.bytes_sent),
    ("sockets", lambda c: c.connections_total),
    ("connections", lambda c: c.packets_received[1]),
)
"""What has moving averages. mosquitto's "messages" are packets of any type."""


def _packets_received(counters: Counters) -> int:
    return sum(counters.packets_received) + sum(counters.publishes_received)


def _packets_sent(counters: Counters) -> int:
    return sum(counters.packets_sent) + sum(counters.publishes_sent)


class SystemTree:
    """Publishes the tree while it is started. C{publish(topic, payload)} is to retain at QoS 0;
    an C{interval} of 0 publishes nothing."""

    def __init__(
        self,
        counters: Counters,
        observed: Observed,
        publish: Callable[[str, bytes], None],
        clock: IReactorTime,
        interval: float = 10.0,
    ) -> None:
        self._counters = counters
        self._observed = observed
        self._publish = publish
        self._clock = clock
        self._interval = interval
        self._call: IDelayedCall | None = None
        self._said: dict[str, str] = {}
        self._counted = [count(counters) for _, count in _LOADS]
        self._averages = [[0.0] * len(_WINDOWS) for _ in _LOADS]
        self._updated_at = 0.0
        self._updated = False

    def start(self) -> None:
        """Publish everything now and what changes from now on."""
        if self._call is None and self._interval > 0:
            self._tick()

    def stop(self) -> None:
        """Publish nothing more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def reload(self, interval: float) -> None:
        """Go on at another interval; 0 stops it."""
        if interval != self._interval:
            self.stop()
            self._interval = interval
            self.start()

    def _tick(self) -> None:
        self._call = self._clock.callLater(self._interval, self._tick)
        self.update()

    def update(self) -> None:
        """Publish what has changed since the last time."""
        self._observed.refresh()
        # All values first: publishing them changes the counters.
        values = self._values()
        values.update(self._loads())
        for name, value in values.items():
            if self._said.get(name) != value:
                self._said[name] = value
                self._publish(PREFIX + name, value.encode("ascii"))

    def _values(self) -> dict[str, str]:
        counters, observed = self._counters, self._observed
        connected, offline = counters.sessions_connected, counters.sessions_offline
        stored = counters.retained_messages + observed.backlog_messages()
        numbers = {
            "clients/total": connected + offline,
            "clients/inactive": offline,
            "clients/disconnected": offline,
            "clients/active": connected,
            "clients/connected": connected,
            "clients/expired": counters.sessions_expired,
            "clients/maximum": counters.connections_maximum,
            "messages/stored": stored,
            "messages/received": _packets_received(counters),
            "messages/sent": _packets_sent(counters),
            "store/messages/count": stored,
            "store/messages/bytes": counters.retained_bytes + observed.backlog_bytes(),
            "subscriptions/count": counters.subscriptions - counters.subscriptions_shared,
            "shared_subscriptions/count": counters.subscriptions_shared,
            "retained messages/count": counters.retained_messages,
            "heap/current": resident_bytes(),
            # Of two sources, which do not agree to the page.
            "heap/maximum": max(maximum_resident_bytes(), resident_bytes()),
            "publish/messages/dropped": sum(counters.dropped),
            "publish/messages/received": sum(counters.publishes_received),
            "publish/messages/sent": sum(counters.publishes_sent),
            "publish/bytes/received": counters.publish_bytes_received,
            "publish/bytes/sent": counters.publish_bytes_sent,
            "bytes/received": counters.bytes_received,
            "bytes/sent": counters.bytes_sent,
        }
        values = {
            "version": f"mop_twisted version {__version__}",
            "uptime": f"{int(observed.uptime)} seconds",
        }
        values.update((name, str(number)) for name, number in numbers.items())
        return values

    def _loads(self) -> dict[str, str]:
        """The moving averages, brought up to now."""
        now = self._clock.seconds()
        elapsed = now - self._updated_at
        if self._updated and elapsed > 0:
            for place, (_, count) in enumerate(_LOADS):
                counted = count(self._counters)
                per_minute = (counted - self._counted[place]) * 60.0 / elapsed
                self._counted[place] = counted
                averages = self._averages[place]
                for window, (_, seconds) in enumerate(_WINDOWS):
                    kept = math.exp(-elapsed / seconds)
                    averages[window] = per_minute + kept * (averages[window] - per_minute)
        self._updated = True
        self._updated_at = now
        return {
            f"load/{name}/{window}": f"{average:.2f}"
            for (name, _), averages in zip(_LOADS, self._averages, strict=True)
            for (window, _), average in zip(_WINDOWS, averages, strict=True)
        }
