"""Shared subscriptions: a group takes each message once and gives it to one of its members.

The member with the emptiest window gets it. A group with a member whose session outlives its
connection has a cursor on the log, so that messages wait for whoever comes back first; any other
group lies in memory. QoS 2 in flight stays with its session; QoS 1 that was not acknowledged,
and what was never sent, goes to another member.

MQTT 5.0 section 4.8.2; design 3.12.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, final

from twisted.internet.defer import Deferred, inlineCallbacks

from ..codec.packets import Publish
from ..interfaces import IAuthorizer, IMessageLog, IStateStore
from ..limits import Limits
from ..model import Change, Entry, Fetched, Subscription
from ..protocol.flights import Flight, stable_id
from .counters import Counters, DropReason
from .records import ASSIGNED
from .session import FETCHING, LIVE, Session

if TYPE_CHECKING:
    from .sending import Sending

FETCH_MESSAGES = 256
FETCH_BYTES = 1024 * 1024


@final
class Waiting:
    """A message of a group that no member has."""

    __slots__ = ("entry", "ordinal", "publish")

    def __init__(self, publish: Publish, entry: Entry | None, ordinal: int) -> None:
        self.publish = publish
        self.entry = entry
        self.ordinal = ordinal


@final
class Group:
    """All subscriptions of one C{$share/name/filter}."""

    __slots__ = (
        "_fetching",
        "_groups",
        "_turn",
        "cursor",
        "members",
        "mode",
        "queue",
        "topic_filter",
    )

    def __init__(self, groups: Groups, topic_filter: str) -> None:
        self._groups = groups
        self.topic_filter = topic_filter
        self.members: dict[Session, Subscription] = {}
        self.cursor: Any = None
        self.mode = FETCHING
        self.queue: deque[Waiting] = deque()
        self._fetching = False
        self._turn = 0

    # Messages come

    def offer(self, publish: Publish, entry: Entry | None) -> None:
        """A message on a topic of the group, from its publisher or from the feed."""
        cursor = self.cursor
        if cursor is None or entry is None or entry.audience is None or publish.qos == 0:
            if cursor is None or publish.qos == 0:
                self._offer_from_memory(publish)
            return
        if cursor not in entry.audience.cursors or self.mode != LIVE:
            return
        if len(self.queue) >= self._groups.limits.live_messages:
            cursor.pause(entry)
            self.mode = FETCHING
            return
        ordinal = cursor.take(entry)
        if not ordinal:
            self.mode = FETCHING
            self.pump()
            return
        if self.queue or not self._send(publish, entry, ordinal):
            self.queue.append(Waiting(publish, entry, ordinal))

    def _offer_from_memory(self, publish: Publish) -> None:
        if (not self.queue or publish.qos == 0) and self._send(publish, None, 0):
            return
        if publish.qos == 0 or len(self.queue) >= self._groups.limits.transient_messages:
            self._groups.counters.drop(DropReason.SHARED_QUEUE_FULL, 1)
            return
        self.queue.append(Waiting(publish, None, 0))

    # Messages go

    def _choose(self, publish: Publish) -> tuple[Session, Subscription] | None:
        """The member with the emptiest window; equals take turns."""
        asks = not self._groups.authorizer.open
        best: tuple[Session, Subscription] | None = None
        fewest = 0
        members = list(self.members.items())
        self._turn = turn = (self._turn + 1) % len(members) if members else 0
        for session, subscription in members[turn:] + members[:turn]:
            connection = session.connection
            if connection is None or not connection.established or connection.congested:
                continue
            if asks and not self._groups.authorizer.may_receive(session.identity, publish.topic):
                continue
            if publish.qos and subscription.qos:
                if connection.window <= 0 or session.queue is not None:
                    continue
                load = len(session.flights.sent) + len(session.flights.released)
            else:
                load = connection.output_bytes
            if best is None or load < fewest:
                best, fewest = (session, subscription), load
        return best

    def _send(self, publish: Publish, entry: Entry | None, ordinal: int) -> bool:
        """Send to a member; False if none can take it now."""
        chosen = self._choose(publish)
        if chosen is None:
            return False
        session, subscription = chosen
        connection = session.connection
        assert connection is not None
        # [MQTT5-4.8.2-3]
        qos = min(publish.qos, subscription.qos)
        retain = publish.retain and subscription.retain_as_published
        identifiers = (subscription.identifier,) if subscription.identifier else ()
        flight = Flight(publish, qos, retain, identifiers, entry, self)
        flight.ordinal = ordinal
        if qos and entry is not None and session.durable:
            flight.packet_id = stable_id(ordinal)
            if connection.flights.in_use(flight.packet_id):
                return False
            if qos == 2:
                self._assign(session, flight, entry)
                return True
        self._groups.sending.transmit(session, connection, flight, {})
        return True

    def _assign(self, session: Session, flight: Flight, entry: Entry) -> None:
        """QoS 2 belongs to this session from here on, also after a restart: that is durable
        before it is sent. [MQTT5-4.8.2-4]"""
        connection = session.connection
        assert connection is not None
        session.flights.sent[flight.packet_id] = flight
        connection.window -= 1

        def stored(error: object) -> None:
            held = session.flights.sent.get(flight.packet_id) is flight
            if error is not None or not held or session.connection is not connection:
                return
            connection.window += 1
            self._groups.sending.transmit(session, connection, flight, {})

        change = Change(ASSIGNED, self._assigned_key(entry), session.client_id.encode())
        self._groups.store.put([change], stored)

    def _assigned_key(self, entry: Entry) -> str:
        return f"{self.topic_filter}\0{entry.sequence:020d}"

    def pump(self) -> None:
        """A member has room: send what waits, fetch more."""
        queue = self.queue
        now = self._groups.seconds()
        while queue:
            waiting = queue[0]
            publish = waiting.publish
            if publish.expires_at and publish.expires_at <= now:
                queue.popleft()
                self._groups.counters.drop(DropReason.EXPIRED, 1)
                if waiting.entry is not None and self.cursor is not None:
                    self.cursor.acknowledge([waiting.entry])
                continue
            if not self._send(publish, waiting.entry, waiting.ordinal):
                return
            queue.popleft()
        if self.cursor is not None and self.mode == FETCHING and not self._fetching:
            if not any(s.connection is not None for s in self.members):
                return
            self._fetching = True
            self.cursor.fetch(FETCH_MESSAGES, FETCH_BYTES).addCallbacks(
                self._fetched, self._fetch_failed
            )

    def _fetched(self, fetched: Fetched) -> None:
        self._fetching = False
        done: list[Entry] = []
        for entry in fetched.entries:
            publish = entry.publish
            owner = self._groups.assigned.pop(self._assigned_key(entry), None)
            if publish is None:
                done.append(entry)
            elif owner is not None:
                self._give_to_owner(owner, publish, entry, done)
            elif entry.released:
                # It had an owner, which has completed it: that is in the store before the
                # acknowledgement, which a crash may lose.
                done.append(entry)
            else:
                self.queue.append(Waiting(publish, entry, entry.ordinal))
        if done and self.cursor is not None:
            self.cursor.acknowledge(done)
        if fetched.live:
            self.mode = LIVE
        if fetched.entries:
            self.pump()

    def _fetch_failed(self, failure: Any) -> None:
        self._fetching = False
        self._groups.counters.fetch_failures += 1

    def _give_to_owner(
        self, client_id: str, publish: Publish, entry: Entry, done: list[Entry]
    ) -> None:
        """After a restart: QoS 2 that one session has begun is completed with it alone.
        [MQTT5-4.8.2-4] [MQTT5-4.8.2-5]"""
        session = self._groups.find_session(client_id)
        subscription = None if session is None else self.members.get(session)
        if session is None or subscription is None or not session.durable:
            done.append(entry)
            return
        identifiers = (subscription.identifier,) if subscription.identifier else ()
        flight = Flight(publish, 2, False, identifiers, entry, self)
        flight.packet_id = stable_id(entry.ordinal)
        flight.dup = True
        connection = session.connection
        if entry.released:
            session.flights.released[flight.packet_id] = flight
            if connection is not None and connection.established:
                connection.release_again(flight)
                self._groups.sending.flush(connection)
        else:
            session.flights.sent[flight.packet_id] = flight
            if connection is not None and connection.established:
                self._groups.sending.transmit(session, connection, flight, {})

    # What members say of them

    def settled(self, flight: Flight) -> None:
        """A member is done with it, whatever it said [MQTT5-4.8.2-6]."""
        entry = flight.entry
        if entry is None:
            return
        if self.cursor is not None:
            self.cursor.acknowledge([entry])
        if flight.qos == 2:
            self._groups.store.put(
                [Change(ASSIGNED, self._assigned_key(entry), None)], lambda error: None
            )

    def give_back(self, flight: Flight) -> None:
        """A member left before it was done: another one gets it, first of all that wait."""
        if self.cursor is None and flight.entry is not None:
            return
        self.queue.appendleft(Waiting(flight.publish, flight.entry, flight.ordinal))
        self.pump()

    def received(self, flights: list[Flight], completed: Callable[[Any], None]) -> None:
        """PUBREC: make it durable."""
        entries = [flight.entry for flight in flights if flight.entry is not None]
        if self.cursor is None:
            completed(None)
        else:
            self.cursor.release(entries, completed)


@final
class Groups:
    """All shared groups of a node, by C{$share/name/filter}."""

    def __init__(
        self,
        log: IMessageLog,
        store: IStateStore,
        limits: Limits,
        counters: Counters,
        authorizer: IAuthorizer,
        seconds: Callable[[], float],
    ) -> None:
        self._log = log
        self.store = store
        self.limits = limits
        self.counters = counters
        self.authorizer = authorizer
        self.seconds = seconds
        self.sending: Sending
        self.find_session: Callable[[str], Session | None] = lambda client_id: None
        self.assigned: dict[str, str] = {}
        """From the store: QoS 2 messages under way at a restart → client identifier."""
        self.by_filter: dict[str, Group] = {}

    def find(self, topic_filter: str) -> Group | None:
        """A group by its whole filter, which is also its cursor's name."""
        return self.by_filter.get(topic_filter)

    def join(self, session: Session, subscription: Subscription) -> Group:
        """Add a member, or replace its subscription."""
        topic_filter = subscription.topic_filter
        group = self.by_filter.get(topic_filter)
        if group is None:
            group = self.by_filter[topic_filter] = Group(self, topic_filter)
        group.members[session] = subscription
        if session.groups is None:
            session.groups = [group]
        elif group not in session.groups:
            session.groups.append(group)
        return group

    def needs_cursor(self, group: Group) -> bool:
        """Whether a member's session outlives its connection, and the group has none yet."""
        return group.cursor is None and any(s.durable for s in group.members)

    @inlineCallbacks
    def open_cursor(self, group: Group) -> Generator[Deferred[Any], Any, None]:
        """Put the group on the log.

        @raise BackendError: (in the Deferred) the log does not answer.
        """
        cursor = yield self._log.cursor(group.topic_filter)
        if group.cursor is None:
            group.cursor = cursor
            group.mode = FETCHING
        group.pump()

    @inlineCallbacks
    def open_cursors(self) -> Generator[Deferred[Any], Any, None]:
        """At start, when the members are known."""
        for group in list(self.by_filter.values()):
            if self.needs_cursor(group):
                yield self.open_cursor(group)

    def leave(self, session: Session, subscription: Subscription) -> None:
        """A member unsubscribed, or its session ended."""
        group = self.by_filter.get(subscription.topic_filter)
        if group is None or group.members.pop(session, None) is None:
            return
        if session.groups is not None:
            session.groups.remove(group)
            if not session.groups:
                session.groups = None
        if group.cursor is not None and not any(s.durable for s in group.members):
            group.cursor = None
            self._log.delete_cursor(group.topic_filter, lambda error: None)
        if not group.members:
            del self.by_filter[group.topic_filter]

    def session_ended(self, session: Session) -> None:
        """QoS 2 in flight to it goes to nobody else. [MQTT5-4.8.2-5]"""
        flights = session.flights
        for flight in [*flights.sent.values(), *flights.released.values()]:
            if flight.group is not None:
                flight.group.settled(flight)
        flights.sent = {}
        flights.released = {}

    def load_assigned(self, found: list[tuple[str, bytes]]) -> None:
        """Records of the store, at start."""
        for key, client_id in found:
            self.assigned[key] = client_id.decode()
