"""One session: what the server remembers of a client between and during its connections.

A session is a record and a queue; L{mop_twisted.broker.delivery.Delivery} moves messages
through it, L{mop_twisted.broker.sessions.Sessions} begins, resumes and ends it.

MQTT 5.0 section 4.1.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, final

from ..codec.packets import Publish, WillMessage
from ..model import Identity, Subscription
from ..protocol.connection import Connection
from ..protocol.flights import Flight, Flights

if TYPE_CHECKING:
    from .group import Group

# How a session gets its messages.
OFFLINE: Final = 0
"""No connection; what comes stays in the log."""
FETCHING: Final = 1
"""Connected and behind: only from the log."""
LIVE: Final = 2
"""Connected and caught up: only from the feed."""


OVERHEAD: Final = 256
"""Bytes that a waiting message is taken to need beside its payload."""


def weight(publish: Publish) -> int:
    """What a message that waits in memory counts for."""
    size = len(publish.payload) + OVERHEAD
    for value in publish.properties.values():
        if isinstance(value, (str, bytes)):
            size += len(value)
        elif isinstance(value, list):
            size += sum(
                len(each[0]) + len(each[1]) + OVERHEAD for each in value if type(each) is tuple
            )
    return size


class PauseReason(IntEnum):
    """Why nothing is being sent to a session right now."""

    CAUGHT_UP = 0
    WINDOW_FULL = 1
    TRANSPORT_FULL = 2
    FETCHING = 3
    OFFLINE = 4


@final
class Session:
    """The session of one client identifier.

    C{cursor} is its place in the log when it outlives its connections, else C{None}: then all
    it has lies in memory. C{expiry} counts seconds from C{left_at}, the monotonic second at
    which its last connection ended.
    """

    __slots__ = (
        "client_id",
        "connection",
        "cursor",
        "discarded",
        "expiry",
        "expiry_noted",
        "fetching",
        "flights",
        "full",
        "groups",
        "identity",
        "incarnation",
        "left_at",
        "mode",
        "publish_verdicts",
        "queue",
        "queue_bytes",
        "recorded",
        "replaying",
        "subscriptions",
        "unfed",
        "verdict_version",
        "waiters",
        "will",
        "will_at",
        "will_noted",
    )

    def __init__(self, client_id: str, identity: Identity, incarnation: int) -> None:
        self.client_id = client_id
        self.identity = identity
        self.incarnation = incarnation
        """Differs for every CONNECT: the epoch of its will."""
        self.connection: Connection | None = None
        self.cursor: Any = None
        self.expiry = 0
        self.left_at = 0.0
        self.mode = OFFLINE
        self.flights = Flights()
        self.subscriptions: dict[str, Subscription] = {}
        self.queue: deque[Flight] | None = None
        """Flights that wait for the window or the transport, in order."""
        self.queue_bytes = 0
        self.fetching = False
        """A fetch is under way."""
        self.full = False
        """Over its limit: it discards what comes, for itself alone."""
        self.discarded = 0
        self.groups: dict[str, Group] | None = None
        """By their whole filter."""
        self.replaying: list[Subscription] | None = None
        """Subscriptions that still read the past and are not in the router."""
        self.will: WillMessage | None = None
        self.will_at = 0.0
        """Monotonic second at which the will is due after its delay; 0.0: not pending."""
        self.expiry_noted = 0.0
        self.will_noted = 0.0
        """When its entries in the heaps of expiries and wills are due; 0.0: it has none."""
        self.unfed = 0
        """Batches of its own with QoS 0 in them that the log has not fed back."""
        self.waiters: list[Callable[[], None]] | None = None
        """Called once when it has nothing waiting any more."""
        self.recorded = False
        """The store has, or is being told, a record of it."""
        self.publish_verdicts: dict[str, bool] | None = None
        self.verdict_version = -1

    @property
    def durable(self) -> bool:
        """Whether it lives on the log."""
        return self.cursor is not None

    @property
    def pause_reason(self) -> PauseReason:
        """Why its queue stands."""
        connection = self.connection
        if connection is None:
            return PauseReason.OFFLINE
        if connection.congested:
            return PauseReason.TRANSPORT_FULL
        if self.queue:
            return PauseReason.WINDOW_FULL
        return PauseReason.FETCHING if self.mode == FETCHING else PauseReason.CAUGHT_UP

    def enqueue(self, flight: Flight) -> None:
        """Have a flight wait behind those that wait."""
        queue = self.queue
        if queue is None:
            queue = self.queue = deque()
        queue.append(flight)
        self.queue_bytes += weight(flight.publish)

    def dequeue(self) -> Flight:
        """The first that waits."""
        queue = self.queue
        assert queue
        flight = queue.popleft()
        self.queue_bytes -= weight(flight.publish)
        if not queue:
            self.queue = None
            self.queue_bytes = 0
        return flight
