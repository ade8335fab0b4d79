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

SERVED: Final = 16
"""Subscriptions that get a portion in one turn."""

HELD: Final = 64 * 1024
"""Bytes of output above which a subscription waits for its client."""


@final
class _Portions:
    """The retained messages that one subscription has still to get."""

    __slots__ = ("matching", "postponed", "session", "subscription")

    def __init__(
        self,
        session: Session,
        subscription: Subscription,
        matching: Iterator[list[tuple[str, Publish]]],
    ) -> None:
        self.session = session
        self.subscription = subscription
        self.matching = matching
        self.postponed: list[str] = []
        """Topics whose next value is in the log and has not been fed yet."""


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
        self._noted: dict[str, float] = {}
        """Topic → when its entry among the expiring is due."""
        self._unfed: dict[str, int] = {}
        self._blocked: list[_Portions] = []
        """Those whose client, or the log, takes nothing more for now."""
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._tree)

    def has(self, topic: str) -> bool:
        """Whether a message is retained on this topic."""
        return self._tree.get(topic) is not None

    # Keeping

    def refusal(self, publish: Publish) -> ReasonCode | None:
        """Why this one cannot be retained, if so: the node's limit."""
        if not publish.payload:
            return None
        old = self._tree.get(publish.topic)
        more = len(publish.payload) - (0 if old is None else len(old.payload))
        if (old is None and len(self._tree) >= self._limits.retained_messages) or (
            more > 0 and self.bytes + more > self._limits.retained_bytes
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
                self._note_expiry(publish)
        elif old is not None:
            tree.discard(topic)

    def _note_expiry(self, publish: Publish) -> None:
        # One entry a topic: an earlier one finds out when it comes up.
        noted = self._noted.get(publish.topic)
        if noted is None or publish.expires_at < noted:
            self._noted[publish.topic] = publish.expires_at
            heappush(self._expiring, (publish.expires_at, publish.topic))

    def appended(self, publish: Publish) -> None:
        """A retained publication is on its way through the log: until it L{arrived}, a copy of
        the value before it would be appended behind it. [design 3.13]"""
        self._unfed[publish.topic] = self._unfed.get(publish.topic, 0) + 1

    def arrived(self, publish: Publish) -> None:
        """It was fed, was known already, or has failed: its append is completed."""
        left = self._unfed.get(publish.topic, 0) - 1
        if left > 0:
            self._unfed[publish.topic] = left
        else:
            self._unfed.pop(publish.topic, None)

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

    def wake(self) -> None:
        """Something has become free: look again at those that waited for it."""
        if self._blocked:
            self._portions += self._blocked
            self._blocked = []
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._later(self._turn)

    def _turn(self) -> None:
        """Some portions, each subscription's in its turn."""
        self._scheduled = False
        now, self._portions = self._portions[:SERVED], self._portions[SERVED:]
        for portions in now:
            if self._is_over(portions):
                continue
            if self._is_blocked(portions):
                self._blocked.append(portions)
            elif self._portion(portions):
                self._portions.append(portions)
        if self._portions:
            self._schedule()

    @staticmethod
    def _is_over(portions: _Portions) -> bool:
        """Whether there is nobody to give it to."""
        session = portions.session
        subscription = portions.subscription
        return session.subscriptions.get(subscription.topic_filter) is not subscription or (
            session.connection is None and not (session.durable and subscription.qos > 0)
        )

    def _is_blocked(self, portions: _Portions) -> bool:
        session = portions.session
        connection = session.connection
        if self._log.congested:
            return True
        if connection is not None and (connection.congested or connection.output_bytes > HELD):
            if not connection.congested:
                # What is there leaves at the end of this turn.
                self._later(self.wake)
            return True
        if session.queue is not None and len(session.queue) > PORTION:
            if session.waiters is None:
                session.waiters = []
            session.waiters.append(self.wake)
            return True
        return False

    def _portion(self, portions: _Portions) -> bool:
        """Give the next portion; False when there is no more."""
        session = portions.session
        subscription = portions.subscription
        found = next(portions.matching, None)
        again, portions.postponed = portions.postponed, []
        if found is None and not again:
            return False
        asks = not self._authorizer.open
        now = self._seconds()
        copies: list[Entry] = []
        for topic, publish in [*self._current(again), *(found or ())]:
            if publish.expires_at and publish.expires_at <= now:
                continue
            if subscription.no_local and publish.publisher == session.client_id:
                continue
            if not asks or self._authorizer.may_receive(session.identity, topic):
                qos = min(publish.qos, subscription.qos)
                if not (qos and session.cursor is not None):
                    self._sending.offer_retained(session, subscription, publish, qos)
                elif topic in self._unfed:
                    portions.postponed.append(topic)
                else:
                    copies.append(self._copy(session, publish))
        if copies:
            self._log.publish(copies, self._copied)
        if session.connection is not None:
            self._sending.pump(session)
        if found is None and not copies:
            # Only what the log has still to feed is left: it says when.
            self._blocked.append(portions)
            return False
        return True

    def _current(self, topics: list[str]) -> list[tuple[str, Publish]]:
        values = [(topic, self._tree.get(topic)) for topic in topics]
        return [(topic, publish) for topic, publish in values if publish is not None]

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
            when, topic = heappop(expiring)
            if self._noted.get(topic) != when:
                continue
            del self._noted[topic]
            publish = self._tree.get(topic)
            if publish is None or not publish.expires_at:
                continue
            if publish.expires_at <= now:
                self.apply(Publish(topic, b""))
                gone.append(Change(RETAINED, topic, None))
            else:
                self._note_expiry(publish)
        return gone
