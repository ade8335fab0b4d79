"""To one session: its queue, its window, its place in the log, and what it acknowledges.

Whatever a session gets goes through L{Sending.transmit} while its window and its transport have
room, else it waits; L{Sending.pump} goes on when there is room again, and fetches from the log
what came while the session was behind.

MQTT 5.0 sections 4.3, 4.4, 4.6 and 4.9; design 3.3, 3.6 and 3.7.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

from ..codec.encode import publish_parts
from ..codec.packets import Properties, Publish
from ..codec.properties import MESSAGE_EXPIRY_INTERVAL, SUBSCRIPTION_IDENTIFIER
from ..limits import Limits
from ..model import Entry, Fetched, Subscription
from ..protocol.connection import Connection
from ..protocol.flights import Flight, stable_id
from ..topics import matches
from .counters import Counters, DropReason
from .group import Group
from .outbox import Outbox
from .plan import Plan, Target
from .router import Router
from .session import FETCHING, LIVE, OFFLINE, Session

FETCH_MESSAGES: Final = 256
FETCH_BYTES: Final = 1024 * 1024
_RESUME_SHARE: Final = 0.9
"""A session that discards takes messages again below this share of its limit."""

Parts = dict[int, tuple[bytes, bytes]]
"""Frames of one message by version, QoS and retain: encoded once for all who get it."""


def remaining_properties(publish: Publish, now: float) -> Properties:
    """The properties to forward, with the expiry counted down. [MQTT5-3.3.2-6]"""
    if not publish.expires_at:
        # [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-20]
        return publish.properties
    left = publish.expires_at - now
    seconds = int(left) + (left > int(left))
    return {**publish.properties, MESSAGE_EXPIRY_INTERVAL: max(seconds, 0)}


@final
class Sending:
    """Sends to the sessions of one node, each as fast as it takes."""

    def __init__(
        self,
        router: Router[Plan],
        limits: Limits,
        counters: Counters,
        outbox: Outbox,
        seconds: Callable[[], float],
    ) -> None:
        self._router = router
        self._limits = limits
        self._counters = counters
        self._outbox = outbox
        self._seconds = seconds
        self._stalled: list[Session] = []
        self.stalled_groups: dict[Group, None] = {}
        """Where the log or the store did not answer."""
        self.waiting_groups: dict[Group, None] = {}
        """Those that have something for the first member with room, of those that are online."""
        self.crowded = False
        """All that waits for all clients is over the node's limit: whoever has something waiting
        gets no more that lies in memory alone. Looked at once a second."""

    @staticmethod
    def target_of(plan: Plan, session: Session, topic: str) -> Target | None:
        """What a session gets of a topic, subscriptions that still read the past included."""
        target = plan.target_of(session)
        for subscription in session.replaying or ():
            # The plan's target is shared with everybody: a new one, never merged into.
            if matches(subscription.pattern, topic) and (
                target is None or target.qos < subscription.qos
            ):
                target = Target(subscription)
        return target

    # To one session

    def transmit(
        self, session: Session, connection: Connection, flight: Flight, parts: Parts
    ) -> None:
        """Send one flight now; a QoS 1 or 2 flight has room in the window."""
        publish = flight.publish
        qos = flight.qos
        if connection.plain and not (flight.identifiers or flight.dup):
            version = connection.version
            key = version << 3 | qos << 1 | flight.retain
            pair = parts.get(key)
            if pair is None:
                pair = parts[key] = publish_parts(
                    publish,
                    version,
                    qos,
                    flight.retain,
                    remaining_properties(publish, self._seconds())
                    if publish.expires_at
                    else publish.properties,
                )
            head, tail = pair
            if qos:
                connection.deliver(flight, head, tail)
            else:
                connection.output += pair
                connection.output_bytes += len(head) + len(tail)
        elif not self._transmit_alone(session, connection, flight):
            return
        counters = self._counters
        counters.publishes_sent[qos] += 1
        counters.publish_bytes_sent += len(publish.payload)
        if not qos and flight.entry is not None:
            self._acknowledge(session, [flight])
        if not connection.dirty:
            self._outbox.add(connection)

    def _transmit_alone(self, session: Session, connection: Connection, flight: Flight) -> bool:
        """Send a frame that is like no other client's. False: it was too large to send."""
        publish = flight.publish
        qos = flight.qos
        properties = remaining_properties(publish, self._seconds())
        if flight.identifiers:
            # [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] [MQTT5-3.3.4-5]
            properties = {**properties, SUBSCRIPTION_IDENTIFIER: list(flight.identifiers)}
        if qos and not flight.packet_id:
            flight.packet_id = connection.flights.next_id()
        maximum = connection.maximum_packet_size
        frame = connection.frame(
            publish, qos, flight.retain, flight.dup, flight.packet_id, properties
        )
        if maximum and len(frame) > maximum:
            # [MQTT5-3.1.2-24] [MQTT5-3.1.2-25]: as if it had been sent and acknowledged.
            self._counters.drop(DropReason.TOO_LARGE, 1)
            if flight.entry is not None:
                self._acknowledge(session, [flight])
            return False
        if qos:
            connection.deliver_frame(flight, frame)
        else:
            connection.output.append(frame)
            connection.output_bytes += len(frame)
        return True

    def offer_retained(
        self, session: Session, subscription: Subscription, publish: Publish, qos: int
    ) -> None:
        """A retained message for a new subscription; RETAIN is set whatever its options say
        [MQTT311-3.3.1-8]."""
        identifiers = (subscription.identifier,) if subscription.identifier else ()
        self._offer(session, Flight(publish, qos, True, identifiers))

    def offer_copy(
        self, session: Session, subscription: Subscription, publish: Publish, qos: int
    ) -> None:
        """A message of the past for a subscription that asked for it."""
        identifiers = (subscription.identifier,) if subscription.identifier else ()
        self._offer(session, Flight(publish, qos, False, identifiers))

    def _offer(self, session: Session, flight: Flight) -> None:
        connection = session.connection
        if connection is None or not connection.established:
            return
        qos = flight.qos
        if qos == 0 or (
            session.queue is None and connection.window > 0 and not connection.congested
        ):
            self.transmit(session, connection, flight, {})
        else:
            self.wait(session, flight)

    def output_limit(self) -> int:
        """Bytes that may wait for one client's transport before QoS 0 is dropped."""
        return 0 if self.crowded else self._limits.output_bytes

    def wait(self, session: Session, flight: Flight) -> None:
        """Queue for a session that lies in memory, within its limits."""
        limits = self._limits
        queue = session.queue
        if queue is not None and (
            self.crowded
            or len(queue) >= limits.transient_messages
            or session.queue_bytes >= limits.transient_bytes
        ):
            session.discarded += 1
            reason = DropReason.NO_MEMORY if self.crowded else DropReason.QUEUE_FULL
            self._counters.drop(reason, 1)
            return
        session.enqueue(flight)

    def flush(self, connection: Connection) -> None:
        """Have what it has to say sent at the end of this turn."""
        if connection.output and not connection.dirty:
            self._outbox.add(connection)

    def pump(self, session: Session) -> None:
        """Send what waits, as far as window and transport allow; fetch more if there is room."""
        connection = session.connection
        if connection is None or not connection.established:
            return
        flights = connection.flights
        parts: Parts
        while session.queue is not None:
            flight = session.queue[0]
            # [MQTT5-3.3.4-9] [MQTT5-4.9.0-2]
            if connection.congested or (flight.qos and connection.window <= 0):
                break
            if flight.qos and flight.packet_id and flights.in_use(flight.packet_id):
                # The identifier belongs to an older message still: order waits for it.
                break
            session.dequeue()
            publish = flight.publish
            if publish.expires_at and not flight.dup and publish.expires_at <= self._seconds():
                # [MQTT5-3.3.2-5]; what was sent once does not expire [MQTT5-4.3.3-7].
                self._counters.drop(DropReason.EXPIRED, 1)
                if flight.entry is not None:
                    self._acknowledge(session, [flight])
                continue
            parts = {}
            self.transmit(session, connection, flight, parts)
        if (
            session.mode == FETCHING
            and session.queue is None
            and not session.fetching
            and connection.window > 0
            and not connection.congested
        ):
            self._fetch(session, connection)
        if session.groups is not None and self.waiting_groups:
            self._pump_groups(session, connection, session.groups)
        self.flush(connection)
        if session.waiters is not None and session.queue is None and not connection.congested:
            waiters, session.waiters = session.waiters, None
            for waiter in waiters:
                waiter()

    def _pump_groups(
        self, session: Session, connection: Connection, groups: dict[str, Group]
    ) -> None:
        """There is room: groups that wait send, and then wait behind the others."""
        waiting = self.waiting_groups
        if len(waiting) <= len(groups):
            found = [g for g in waiting if groups.get(g.topic_filter) is g]
        else:
            found = [g for g in groups.values() if g in waiting]
        for group in found:
            if connection.window <= 0 or connection.congested:
                return
            group.pump(session)
            if group in waiting and groups.pop(group.topic_filter, None) is not None:
                del waiting[group]
                waiting[group] = None
                groups[group.topic_filter] = group

    def _fetch(self, session: Session, connection: Connection) -> None:
        session.fetching = True
        wanted = min(max(connection.window, 1), FETCH_MESSAGES)
        fetching = session.cursor.fetch(wanted, FETCH_BYTES)
        fetching.addCallbacks(
            self._fetched,
            self._fetch_failed,
            callbackArgs=(session, connection),
            errbackArgs=(session, connection),
        )

    def _fetched(self, fetched: Fetched, session: Session, connection: Connection) -> None:
        session.fetching = False
        if session.connection is not connection:
            # It left meanwhile, perhaps came back: these were never sent.
            fresh = [e for e in fetched.entries if not (e.redelivered or e.released)]
            if session.cursor is not None:
                session.cursor.pause(fresh[0] if fresh else None)
                session.cursor.rewind()
                self.pump(session)
            return
        done: list[Entry] = []
        for entry in fetched.entries:
            flight = self._flight_of(session, entry)
            if flight is None:
                done.append(entry)
            elif entry.released:
                connection.release_again(flight)
            else:
                session.enqueue(flight)
        if done:
            session.cursor.acknowledge(done)
        if fetched.live:
            session.mode = LIVE
        if session.full:
            self.check_backlog(session)
        self.pump(session)

    def _fetch_failed(self, failure: Any, session: Session, connection: Connection) -> None:
        """The log does not answer: what is owed stays there, and L{tick} asks again."""
        session.fetching = False
        self._counters.fetch_failures += 1
        self._stalled.append(session)

    def tick(self) -> None:
        """Try again where the log did not answer."""
        stalled, self._stalled = self._stalled, []
        for session in stalled:
            self.pump(session)
        groups, self.stalled_groups = self.stalled_groups, {}
        for group in groups:
            group.pump()

    def _flight_of(self, session: Session, entry: Entry) -> Flight | None:
        """What the session gets of a fetched entry, by its subscriptions of now."""
        publish = entry.publish
        if publish is None:
            return None
        plan = self._router.match(publish.topic)
        target = self.target_of(plan, session, publish.topic)
        started = entry.redelivered or entry.released
        if target is None:
            if not started:
                return None
            # Unsubscribed or no longer allowed: QoS 2 that has begun is still completed
            # [MQTT5-3.10.4-3] [MQTT311-3.10.4-3].
            flight = Flight(publish, publish.qos, False, (), entry)
        else:
            if target.no_local and publish.publisher == session.client_id:
                return None
            qos = min(publish.qos, target.qos)
            retain = publish.retain and (entry.retained_copy or target.retain_as_published)
            flight = Flight(publish, qos, retain, target.identifiers, entry)
        if flight.qos:
            flight.packet_id = stable_id(entry.ordinal)
            # [MQTT5-3.3.1-1] [MQTT311-3.3.1-1]
            flight.dup = entry.redelivered
        return flight

    # Acknowledgements

    def settled(self, session: Session, flights: list[Flight]) -> None:
        """The client is done with these."""
        if flights:
            self._acknowledge(session, flights)
        if (
            session.queue is not None
            or session.mode == FETCHING
            or session.groups is not None
            or session.waiters is not None
        ):
            self.pump(session)

    def _acknowledge(self, session: Session, flights: list[Flight]) -> None:
        own: list[Entry] = []
        for flight in flights:
            if flight.group is not None:
                flight.group.settled(flight)
            elif flight.entry is not None:
                own.append(flight.entry)
        if own and session.cursor is not None:
            session.cursor.acknowledge(own)
            if session.full:
                self.check_backlog(session)

    def check_backlog(self, session: Session) -> None:
        """Over its limit a session discards for itself alone, until it has room again."""
        cursor = session.cursor
        limits = self._limits
        share = _RESUME_SHARE if session.full else 1.0
        full = (
            cursor.backlog_messages >= limits.session_messages * share
            or cursor.backlog_bytes >= limits.session_bytes * share
        )
        if full != session.full:
            session.full = full
            for subscription in session.subscriptions.values():
                self._router.touch(subscription)

    # Coming and going

    def attach(self, session: Session) -> None:
        """Its connection is established: resend what was under way, then the rest."""
        session.mode = FETCHING if session.durable else LIVE
        connection = session.connection
        assert connection is not None
        flights = session.flights
        groups = list(session.groups.values()) if session.groups is not None else ()
        for group in groups:
            group.online(session)
        # [MQTT5-4.4.0-1] [MQTT311-4.4.0-1]: in their order, under their identifiers. Only QoS 2 of
        # shared groups is held here; the cursor brings all else. They wait for a window that is
        # smaller than it was, and none holds an identifier that is not under way.
        sent = list(flights.sent.values())
        flights.sent.clear()
        connection.window += len(sent)
        for flight in sent:
            flight.dup = True
            session.enqueue(flight)
        if flights.released:
            connection.release(list(flights.released.values()))
        self.pump(session)
        for group in groups:
            group.pump()

    def detach(self, session: Session) -> None:
        """Its connection is gone. What was under way and is in the log will be fetched again;
        what came from a group goes back to it, but for QoS 2 that was sent."""
        session.mode = OFFLINE
        flights = session.flights
        waiting = list(session.queue or ())
        session.queue = None
        session.queue_bytes = 0
        back: dict[Group, list[Flight]] = {}
        kept: dict[int, Flight] = {}
        for flight in [*flights.sent.values(), *waiting]:
            group = flight.group
            if group is None:
                continue
            if group.stays(flight):
                kept[flight.packet_id] = flight
            else:
                back.setdefault(group, []).append(flight)
        flights.sent = kept
        flights.released = {i: f for i, f in flights.released.items() if f.group is not None}
        if session.cursor is not None:
            fresh = next((f.entry for f in waiting if f.group is None and not f.dup), None)
            session.cursor.pause(fresh)
            session.cursor.rewind()
        for group in list(session.groups.values()) if session.groups is not None else ():
            group.offline(session)
        for group, given in back.items():
            group.give_back(session, given)
