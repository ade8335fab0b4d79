"""One group of a shared subscription: takes each message once, gives it to one of its members.

The member with the emptiest window gets it. A group with a member whose session outlives its
connection has a cursor on the log, so that messages wait for whoever comes back first; any other
group lies in memory. QoS 2 that was sent stays with its session; QoS 1 that was not acknowledged,
and what was never sent, goes to another member, before all that came later.

It knows neither records nor subscriptions, but for those of its members.

MQTT 5.0 section 4.8.2; design 3.12.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final

from ..codec.packets import Publish
from ..model import Change, Entry, Fetched, Subscription
from ..protocol.flights import Flight, stable_id
from .counters import DropReason
from .records import ASSIGNED
from .session import FETCHING, LIVE, OFFLINE, Session, weight

if TYPE_CHECKING:
    from .shared import Groups

FETCH_MESSAGES: Final = 256
FETCH_BYTES: Final = 1024 * 1024
SAMPLE: Final = 32
"""Members that are compared for one message, of those that are online. Up to so many, the one
with the emptiest window is certain to get it."""
_FIRST_ORDINAL: Final = -(1 << 62)
"""What lies in memory alone is counted from here: before all that has a place in the log, since
a group that has its cursor gets everything by it."""


@final
class Waiting:
    """A message of a group that no member has. C{tried} are those that had it, and left."""

    __slots__ = ("entry", "ordinal", "publish", "tried")

    def __init__(
        self,
        publish: Publish,
        entry: Entry | None,
        ordinal: int,
        tried: tuple[Session, ...] = (),
    ) -> None:
        self.publish = publish
        self.entry = entry
        self.ordinal = ordinal
        self.tried = tried


def _ordinal(each: Waiting) -> int:
    return each.ordinal


@final
class Group:
    """All subscriptions of one C{$share/name/filter}."""

    __slots__ = (
        "_durable",
        "_fetching",
        "_groups",
        "_online",
        "_ordinal",
        "_places",
        "_tried",
        "_turn",
        "_unsent",
        "cursor",
        "members",
        "mode",
        "queue",
        "queue_bytes",
        "topic_filter",
    )

    def __init__(self, groups: Groups, topic_filter: str) -> None:
        self._groups = groups
        self.topic_filter = topic_filter
        self.members: dict[Session, Subscription] = {}
        self._durable: set[Session] = set()
        self._online: list[Session] = []
        """Members that are connected, each at its place of C{_places}."""
        self._places: dict[Session, int] = {}
        self.cursor: Any = None
        self.mode = FETCHING
        self.queue: deque[Waiting] = deque()
        """In order of their ordinals."""
        self.queue_bytes = 0
        self._fetching = False
        self._turn = 0
        self._ordinal = _FIRST_ORDINAL
        self._tried: dict[int, tuple[Session, ...]] = {}
        """Of messages that are under way again, by ordinal: who had them and left."""
        self._unsent: dict[Flight, None] = {}
        """QoS 2 that is sent once its owner is in the store."""

    # Members

    @property
    def durable(self) -> bool:
        """Whether a member's session outlives its connection."""
        return bool(self._durable)

    def add(self, session: Session, subscription: Subscription) -> None:
        """A member, or its subscription that replaces the one it had."""
        self.members[session] = subscription
        if session.durable:
            self._durable.add(session)
        if session.mode != OFFLINE:
            self.online(session)

    def remove(self, session: Session) -> bool:
        """A member is none any more; False: it was none."""
        if self.members.pop(session, None) is None:
            return False
        self._durable.discard(session)
        self.offline(session)
        return True

    def online(self, session: Session) -> None:
        """A member may be sent to."""
        if session not in self._places:
            self._places[session] = len(self._online)
            self._online.append(session)
            if self.queue:
                self._groups.sending.waiting_groups[self] = None

    def offline(self, session: Session) -> None:
        """A member may not be sent to any more."""
        place = self._places.pop(session, None)
        if place is None:
            return
        last = self._online.pop()
        if last is not session:
            self._online[place] = last
            self._places[last] = place
        if not self._online:
            self._groups.sending.waiting_groups.pop(self, None)

    # Messages come

    def offer(self, publish: Publish, entry: Entry | None, known: bool = False) -> None:
        """A message on a topic of the group, from its publisher or from the feed. With C{known}
        the entry's audience is that of now, so that it need not be looked at."""
        cursor = self.cursor
        if cursor is None or entry is None or entry.audience is None or publish.qos == 0:
            self._offer_from_memory(publish)
            return
        if not known and cursor not in entry.audience.cursors:
            # Appended before there was a cursor, which will never bring it.
            self._offer_from_memory(publish)
            return
        if self.mode != LIVE:
            return
        limits = self._groups.limits
        if (
            not self._online
            or len(self.queue) >= limits.live_messages
            or self.queue_bytes >= limits.live_bytes
        ):
            cursor.pause(entry)
            self.mode = FETCHING
            return
        ordinal = cursor.take(entry)
        if not ordinal:
            self.mode = FETCHING
            self.pump()
            return
        waiting = Waiting(publish, entry, ordinal)
        if self.queue or not self._send(waiting):
            self._wait(waiting)

    def _offer_from_memory(self, publish: Publish) -> None:
        groups = self._groups
        queue = self.queue
        self._ordinal += 1
        waiting = Waiting(publish, None, self._ordinal)
        if (not queue or publish.qos == 0) and self._send(waiting):
            return
        crowded = bool(queue) and groups.sending.crowded
        if (
            publish.qos == 0
            or crowded
            or len(queue) >= groups.limits.transient_messages
            or self.queue_bytes >= groups.limits.transient_bytes
        ):
            reason = DropReason.NO_MEMORY if crowded else DropReason.SHARED_QUEUE_FULL
            groups.counters.drop(reason, 1)
            return
        self._wait(waiting)

    def _wait(self, waiting: Waiting, first: bool = False) -> None:
        if first:
            self.queue.appendleft(waiting)
        else:
            self.queue.append(waiting)
        self._count(waiting, 1)
        if self._online:
            self._groups.sending.waiting_groups[self] = None

    def _count(self, waiting: Waiting, sign: int) -> None:
        size = sign * (weight(waiting.publish) + len(waiting.publish.topic))
        self.queue_bytes += size
        self._groups.queued_bytes += size

    def discard(self) -> None:
        """It has no members any more: nobody gets what waits."""
        if self.queue:
            self._groups.counters.drop(DropReason.SESSION_ENDED, len(self.queue))
        self.queue.clear()
        self._groups.queued_bytes -= self.queue_bytes
        self.queue_bytes = 0
        self._tried.clear()
        self._groups.sending.waiting_groups.pop(self, None)

    # Messages go

    def _choose(
        self, publish: Publish, only: Session | None
    ) -> tuple[Session, Subscription] | None:
        """The member with the emptiest window of all, or of a sample; equals take turns."""
        online = self._online
        count = len(online)
        if not count:
            return None
        if only is None:
            place = self._turn = (self._turn + 1) % count
        else:
            place = self._places[only]
            count = 1
        authorizer = self._groups.authorizer
        asks = not authorizer.open
        best: tuple[Session, Subscription] | None = None
        fewest = 0
        for looked in range(count):
            if looked >= SAMPLE and best is not None:
                break
            session = online[place]
            place = place + 1 if place + 1 < count else 0
            connection = session.connection
            if connection is None or not connection.established or connection.congested:
                continue
            if asks and not authorizer.may_receive(session.identity, publish.topic):
                continue
            subscription = self.members[session]
            if publish.qos and subscription.qos:
                if connection.window <= 0 or session.queue is not None:
                    continue
                load = len(session.flights.sent) + len(session.flights.released)
            else:
                load = connection.output_bytes
            if best is None or load < fewest:
                best, fewest = (session, subscription), load
                if not load:
                    break
        return best

    def _send(self, waiting: Waiting, only: Session | None = None) -> bool:
        """Send to a member, or to C{only} that one; False if none can take it now."""
        publish = waiting.publish
        entry = waiting.entry
        chosen = self._choose(publish, only)
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
        flight.ordinal = waiting.ordinal
        if qos:
            # [MQTT5-3.3.1-1] [MQTT311-3.3.1-1]: this member had it, or before a restart some
            # member had.
            flight.dup = session in waiting.tried or (entry is not None and entry.redelivered)
            if entry is not None and session.durable:
                flight.packet_id = stable_id(waiting.ordinal)
                if connection.flights.in_use(flight.packet_id):
                    return False
        if waiting.tried:
            self._tried[waiting.ordinal] = waiting.tried
        if qos == 2 and flight.packet_id and entry is not None:
            self._assign(session, flight, entry)
            return True
        self._groups.sending.transmit(session, connection, flight, {})
        if waiting.tried and session.flights.sent.get(flight.packet_id) is not flight:
            # QoS 0, or larger than the client takes.
            self._tried.pop(waiting.ordinal, None)
        return True

    def _assign(self, session: Session, flight: Flight, entry: Entry) -> None:
        """QoS 2 belongs to this session from here on, also after a restart: that is durable
        before it is sent. [MQTT5-4.8.2-4]"""
        connection = session.connection
        assert connection is not None
        session.flights.sent[flight.packet_id] = flight
        connection.window -= 1
        self._unsent[flight] = None

        def stored(error: object) -> None:
            sent = session.flights.sent
            if self._unsent.pop(flight, 0) is not None or sent.get(flight.packet_id) is not flight:
                # It has been given back meanwhile.
                return
            # The identifier is taken again in the order of sending, or not if it is too large.
            del sent[flight.packet_id]
            if session.connection is connection:
                connection.window += 1
            if error is not None:
                # Not at once: the store is unwell.
                if self.members:
                    self._wait_again([self._unsent_again(flight)])
                    self._groups.sending.stalled_groups[self] = None
            elif session.connection is connection:
                self._groups.sending.transmit(session, connection, flight, {})
                self._groups.sending.flush(connection)

        change = Change(ASSIGNED, self._assigned_key(entry), session.client_id.encode())
        self._groups.store.put([change], stored)

    def _unsent_again(self, flight: Flight) -> Waiting:
        tried = self._tried.pop(flight.ordinal, ())
        return Waiting(flight.publish, flight.entry, flight.ordinal, tried)

    def _assigned_key(self, entry: Entry) -> str:
        return f"{self.topic_filter}\0{entry.sequence:020d}"

    def pump(self, member: Session | None = None) -> None:
        """A member has room: send what waits, fetch more.

        While something waits no other member has room, or it would have it: so in a large group
        none but C{member} is looked at.
        """
        queue = self.queue
        if len(self._online) <= SAMPLE or member not in self._places:
            member = None
        now = self._groups.seconds()
        while queue:
            # Not there while it is sent: what is given back meanwhile goes before what is left.
            waiting = queue.popleft()
            self._count(waiting, -1)
            publish = waiting.publish
            if publish.expires_at and publish.expires_at <= now:
                self._groups.counters.drop(DropReason.EXPIRED, 1)
                if waiting.entry is not None and self.cursor is not None:
                    self.cursor.acknowledge([waiting.entry])
            elif not self._send(waiting, member):
                self._wait(waiting, True)
                return
        self._groups.sending.waiting_groups.pop(self, None)
        if self.cursor is None or self.mode != FETCHING or self._fetching or not self._online:
            return
        self._fetching = True
        self.cursor.fetch(FETCH_MESSAGES, FETCH_BYTES).addCallbacks(
            self._fetched, self._fetch_failed
        )

    def _fetched(self, fetched: Fetched) -> None:
        self._fetching = False
        if self.cursor is None:
            # Its last member has left meanwhile.
            return
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
                self._wait(Waiting(publish, entry, entry.ordinal))
        if done:
            self.cursor.acknowledge(done)
        if fetched.live:
            self.mode = LIVE
        if fetched.entries:
            self.pump()

    def _fetch_failed(self, failure: Any) -> None:
        """The log does not answer: it is asked again with the next tick."""
        self._fetching = False
        self._groups.counters.fetch_failures += 1
        self._groups.sending.stalled_groups[self] = None

    def _give_to_owner(
        self, client_id: str, publish: Publish, entry: Entry, done: list[Entry]
    ) -> None:
        """After a restart: QoS 2 that one session has begun is completed with it alone, whether
        or not it is a member still. [MQTT5-4.8.2-4] [MQTT5-4.8.2-5] [MQTT5-3.10.4-3]"""
        session = self._groups.find_session(client_id)
        if session is None or not session.durable:
            done.append(entry)
            return
        subscription = self.members.get(session)
        identifier = 0 if subscription is None else subscription.identifier
        flight = Flight(publish, 2, False, (identifier,) if identifier else (), entry, self)
        flight.packet_id = stable_id(entry.ordinal)
        flight.ordinal = entry.ordinal
        flight.dup = True
        connection = session.connection
        established = connection is not None and connection.established
        if entry.released:
            session.flights.released[flight.packet_id] = flight
            if connection is not None and established:
                connection.release_again(flight)
                self._groups.sending.flush(connection)
        elif established:
            # [MQTT5-3.3.4-9]: as far as its window goes.
            session.enqueue(flight)
            self._groups.sending.pump(session)
        else:
            session.flights.sent[flight.packet_id] = flight

    # What members say of them

    def settled(self, flight: Flight) -> None:
        """A member is done with it, whatever it said [MQTT5-4.8.2-6]."""
        if self._tried:
            self._tried.pop(flight.ordinal, None)
        entry = flight.entry
        if entry is None:
            return
        if self.cursor is not None:
            self.cursor.acknowledge([entry])
        if flight.qos == 2:
            self._unassign(entry)

    def _unassign(self, entry: Entry) -> None:
        self._groups.store.put(
            [Change(ASSIGNED, self._assigned_key(entry), None)], lambda error: None
        )

    def stays(self, flight: Flight) -> bool:
        """Whether it is its session's for good: QoS 2 that was sent. [MQTT5-4.8.2-4]"""
        return flight.qos == 2 and flight not in self._unsent

    def give_back(self, session: Session, flights: list[Flight]) -> None:
        """A member left before it was done with these: others get them, in their order, before
        all that came later."""
        if not self.members:
            # What had waited for it went with the last of them.
            return
        again: list[Waiting] = []
        for flight in flights:
            waiting = self._unsent_again(flight)
            if flight in self._unsent:
                del self._unsent[flight]
                if flight.entry is not None:
                    self._unassign(flight.entry)
            elif session not in waiting.tried:
                waiting.tried += (session,)
            again.append(waiting)
        self._wait_again(again)
        self.pump()

    def _wait_again(self, again: list[Waiting]) -> None:
        """Put into the queue what was in it once: at its beginning, so that this costs no more
        than what has been given back before."""
        queue = self.queue
        again.sort(key=_ordinal)
        for waiting in again:
            self._count(waiting, 1)
        last = again[-1].ordinal
        while queue and queue[0].ordinal < last:
            again.append(queue.popleft())
        again.sort(key=_ordinal)
        queue.extendleft(reversed(again))
        if self._online:
            self._groups.sending.waiting_groups[self] = None

    def received(self, flights: list[Flight], completed: Callable[[Any], None]) -> None:
        """PUBREC: make it durable."""
        entries = [flight.entry for flight in flights if flight.entry is not None]
        if self.cursor is None:
            completed(None)
        else:
            self.cursor.release(entries, completed)
