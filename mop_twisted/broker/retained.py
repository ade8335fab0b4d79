"""Retained messages: what is kept, and how a new subscription gets it.

All retained messages of a node lie in memory, in a tree by topic, and in the state store. The
tree changes when the log feeds a retained publication back, in the same turn as its live
delivery: nobody gets an older retained value after a newer live one.

A subscription's retained messages are sent a portion a turn, so that a million of them do not
stop the others.

MQTT 5.0 sections 3.3.1.3 and 3.8.3.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final, final

from ..codec.packets import Publish
from ..interfaces import IAuthorizer, IMessageLog
from ..limits import Limits
from ..model import Audience, Change, Entry, Subscription
from ..reasons import ReasonCode
from .counters import Counters
from .records import (
    RETAINED,
    RetainedRecord,
    encode_record,
    properties_of,
    retained_record,
)
from .session import Session
from .topictree import TopicTree

if TYPE_CHECKING:
    from .sending import Sending

PORTION: Final = 128
"""Retained topics that are looked at for one subscription a turn."""

HELD: Final = 64 * 1024
"""Bytes of output above which a subscription waits for its client."""


@final
class _Portions:
    """The retained messages that one subscription has still to get."""

    __slots__ = ("matching", "session", "subscription")

    def __init__(
        self,
        session: Session,
        subscription: Subscription,
        matching: Iterator[list[tuple[str, Publish]]],
    ) -> None:
        self.session = session
        self.subscription = subscription
        self.matching = matching


@final
class Retained:
    """The retained messages of one node."""

    def __init__(
        self,
        limits: Limits,
        counters: Counters,
        seconds: Callable[[], float],
        wall: Callable[[], float],
        later: Callable[[Callable[[], None]], object],
    ) -> None:
        self._limits = limits
        self._counters = counters
        self._seconds = seconds
        self._wall = wall
        self._later = later
        """Calls a function in the next turn."""
        self._tree: TopicTree[Publish] = TopicTree()
        self._portions: list[_Portions] = []
        self._scheduled = False
        self._expiring: list[tuple[float, str]] = []
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._tree)

    def has(self, topic: str) -> bool:
        """Whether a message is retained on this topic."""
        return self._tree.get(topic) is not None

    # Keeping

    def refusal(self, publish: Publish) -> ReasonCode | None:
        """Why this one cannot be retained, if so: the node's limit."""
        if not publish.payload or self._tree.get(publish.topic) is not None:
            return None
        if (
            len(self._tree) >= self._limits.retained_messages
            or self.bytes + len(publish.payload) > self._limits.retained_bytes
        ):
            return ReasonCode.QUOTA_EXCEEDED
        return None

    def change(self, publish: Publish) -> Change:
        """The record to store for a retained publication. [MQTT5-3.3.1-5] [MQTT5-3.3.1-6]"""
        # [MQTT5-3.3.1-7] [MQTT311-3.3.1-11]
        if not publish.payload:
            return Change(RETAINED, publish.topic, None)
        expires = 0.0
        if publish.expires_at:
            expires = self._wall() + publish.expires_at - self._seconds()
        record = encode_record(retained_record(publish, expires))
        return Change(RETAINED, publish.topic, record)

    def apply(self, publish: Publish) -> None:
        """A retained publication is durable: it replaces what was there.

        [MQTT311-3.3.1-5] [MQTT311-3.3.1-7] [MQTT311-3.3.1-10] [MQTT311-3.3.1-11]
        """
        topic = publish.topic
        tree = self._tree
        old = tree.get(topic)
        if old is not None:
            self.bytes -= len(old.payload)
        if publish.payload:
            tree.set(topic, publish)
            self.bytes += len(publish.payload)
            if publish.expires_at:
                heappush(self._expiring, (publish.expires_at, topic))
        elif old is not None:
            tree.discard(topic)

    def load(self, topic: str, record: RetainedRecord) -> None:
        """A record of the store, at start."""
        publish = Publish(
            topic, record.payload, record.qos, True, properties=properties_of(record.properties)
        )
        publish.publisher = record.publisher
        if record.expires:
            left = record.expires - self._wall()
            if left <= 0:
                return
            publish.expires_at = self._seconds() + left
        self.apply(publish)

    def find(self, topic_filter: str) -> Iterator[tuple[str, Publish]]:
        """Those that match and have not expired, lazily."""
        now = self._seconds()
        for topic, publish in self._tree.matching(topic_filter):
            if not publish.expires_at or publish.expires_at > now:
                yield topic, publish

    # Giving

    def give(self, sending: Sending, log: IMessageLog, authorizer: IAuthorizer) -> None:
        """Set whom portions are given by; once, when the broker is made."""
        self._sending = sending
        self._log = log
        self._authorizer = authorizer

    def reauthorize(self, authorizer: IAuthorizer) -> None:
        """Ask another authorisation function from now on."""
        self._authorizer = authorizer

    def begin(self, session: Session, subscription: Subscription) -> None:
        """Send a new subscription what is retained. [MQTT5-3.3.1-9] [MQTT311-3.3.1-6]"""
        self._portions.append(
            _Portions(session, subscription, self._tree.portions(subscription.pattern, PORTION))
        )
        if not self._scheduled:
            self._turn()

    def _turn(self) -> None:
        self._scheduled = False
        waiting = [portions for portions in self._portions if self._portion(portions)]
        self._portions = waiting
        if waiting:
            self._scheduled = True
            self._later(self._turn)

    def _portion(self, portions: _Portions) -> bool:
        """Give the next portion; False when there is no more, or nobody to give it to."""
        session = portions.session
        connection = session.connection
        subscription = portions.subscription
        if session.subscriptions.get(subscription.topic_filter) is not subscription:
            return False
        if connection is None and not (session.durable and subscription.qos):
            return False
        if self._log.congested or (
            connection is not None
            and (
                connection.output_bytes > HELD
                or connection.congested
                or (session.queue is not None and len(session.queue) > PORTION)
            )
        ):
            return True
        found = next(portions.matching, None)
        if found is None:
            return False
        asks = not self._authorizer.open
        now = self._seconds()
        copies: list[Entry] = []
        for topic, publish in found:
            if publish.expires_at and publish.expires_at <= now:
                continue
            if subscription.no_local and publish.publisher == session.client_id:
                continue
            if not asks or self._authorizer.may_receive(session.identity, topic):
                qos = min(publish.qos, subscription.qos)
                if qos and session.cursor is not None:
                    copies.append(self._copy(session, publish))
                else:
                    self._sending.offer_retained(session, subscription, publish, qos)
        if copies:
            self._log.publish(copies, self._copied)
        if connection is not None:
            self._sending.pump(session)
        return True

    def _copy(self, session: Session, publish: Publish) -> Entry:
        """For a session that outlives its connection QoS 1 and 2 are exact: by its cursor."""
        copy = Publish(
            publish.topic, publish.payload, publish.qos, True, properties=publish.properties
        )
        copy.publisher = publish.publisher
        copy.expires_at = publish.expires_at
        return Entry(copy, Audience((session.cursor,)), retained_copy=True)

    def _copied(self, error: object) -> None:
        if error is not None:
            self._counters.append_failures += 1

    def expired(self, now: float) -> list[Change]:
        """Drop what has expired by now; the records to delete."""
        gone: list[Change] = []
        expiring = self._expiring
        while expiring and expiring[0][0] <= now:
            topic = heappop(expiring)[1]
            publish = self._tree.get(topic)
            if publish is not None and publish.expires_at and publish.expires_at <= now:
                self.apply(Publish(topic, b""))
                gone.append(Change(RETAINED, topic, None))
        return gone
