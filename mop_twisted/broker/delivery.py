"""How messages reach sessions: fan-out, queues, windows, and the change from log to feed.

Two ways in. L{Delivery.pass_on} takes runs of messages that nobody keeps, straight from their
publisher. L{Delivery.feed} takes entries of the log after their commit. Both end in a
connection's output, or in a session's queue when its window or its transport is full.

It knows no authorisation (that is in the plan), no store, and no reactor beyond a clock.

MQTT 5.0 sections 3.3.4, 4.3, 4.5, 4.6 and 4.9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, final

from ..codec.encode import encode_publish, publish_parts
from ..codec.packets import Properties, Publish
from ..codec.properties import MESSAGE_EXPIRY_INTERVAL, SUBSCRIPTION_IDENTIFIER
from ..limits import Limits
from ..model import Entry, Fetched, Subscription
from ..protocol.connection import Connection
from ..protocol.flights import Flight, stable_id
from ..topics import matches
from .counters import Counters, DropReason
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
        return publish.properties
    left = publish.expires_at - now
    seconds = int(left) + (left > int(left))
    return {**publish.properties, MESSAGE_EXPIRY_INTERVAL: max(seconds, 0)}


@final
class Delivery:
    """Brings messages to the sessions of one node."""

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
        self.session_of_cursor: Callable[[str], Any] = lambda name: None
        """The session or shared group of a cursor's name; set by the broker."""

    # What nobody keeps

    def pass_on(self, plan: Plan, run: list[Publish]) -> None:
        """Deliver messages of one topic that are in no log, in order."""
        if plan.groups:
            for publish in run:
                for group in plan.groups:
                    group.offer(publish, None)
        if not plan.targets:
            return
        for publish in run:
            if publish.qos or publish.retain or publish.expires_at:
                for each in run:
                    self._fan_out(plan, each, None)
                return
        self._fan_out_plain(plan, run)

    def _fan_out_plain(self, plan: Plan, run: list[Publish]) -> None:
        """QoS 0, not retained: the run is one chunk of bytes a version, appended once a
        subscriber."""
        chunks: dict[int, bytes] = {}
        outbox = self._outbox
        limit = self._limits.output_bytes
        sent = 0
        sent_bytes = 0
        for target in plan.targets:
            connection = target.session.connection
            if connection is None:
                continue
            if not (target.plain and connection.plain):
                for publish in run:
                    self._send_unacknowledged(target, connection, publish, {})
                continue
            if connection.output_bytes > limit:
                # QoS 0 may be dropped, and is counted [MQTT 5.0, 4.3.1].
                self._counters.drop(DropReason.OUTPUT_FULL, len(run))
                continue
            version = connection.version
            chunk = chunks.get(version)
            if chunk is None:
                chunk = chunks[version] = b"".join(
                    [
                        encode_publish(publish, version, 0, False, False, 0, publish.properties)
                        for publish in run
                    ]
                )
            connection.output.append(chunk)
            connection.output_bytes += len(chunk)
            sent += 1
            sent_bytes += len(chunk)
            if not connection.dirty:
                outbox.add(connection)
        self._counters.publishes_sent[0] += sent * len(run)

    def _fan_out(self, plan: Plan, publish: Publish, entry: Entry | None) -> None:
        """One message to all targets of a plan; C{entry} when it comes from the log."""
        parts: Parts = {}
        published_qos = publish.qos
        audience = None if entry is None else entry.audience
        for target in plan.targets:
            # [MQTT5-3.8.4-8]: the lower of the two.
            qos = target.qos if target.qos < published_qos else published_qos
            session = target.session
            if qos and session.cursor is not None:
                if target.kept and audience is plan.audience and entry is not None:
                    self._follow(session, target, publish, entry, qos, publish.retain, parts)
                continue
            connection = session.connection
            if connection is None:
                continue
            if qos == 0:
                self._send_unacknowledged(target, connection, publish, parts)
                continue
            if target.no_local and publish.publisher == session.client_id:
                # [MQTT5-3.8.3-3]
                continue
            retain = publish.retain and target.retain_as_published
            flight = Flight(publish, qos, retain, target.identifiers)
            if session.queue is None and connection.window > 0 and not connection.congested:
                self.transmit(session, connection, flight, parts)
            else:
                self._wait(session, flight)
        if audience is not None and audience is not plan.audience:
            self._follow_audience(plan, publish, entry, parts)

    def _follow_audience(
        self, plan: Plan, publish: Publish, entry: Entry | None, parts: Parts
    ) -> None:
        """Subscriptions changed between append and commit: the entry's own audience counts."""
        assert entry is not None and entry.audience is not None
        for cursor in entry.audience.cursors:
            session = self.session_of_cursor(cursor.name)
            if type(session) is not Session or session.cursor is not cursor:
                continue
            target = plan.target_of(session)
            qos = 0 if target is None else min(publish.qos, target.qos)
            self._follow(session, target, publish, entry, qos, publish.retain, parts)

    def _send_unacknowledged(
        self, target: Target, connection: Connection, publish: Publish, parts: Parts
    ) -> None:
        """One QoS 0 PUBLISH to one client."""
        session = target.session
        if target.no_local and publish.publisher == session.client_id:
            return
        if not connection.established:
            return
        if connection.output_bytes > self._limits.output_bytes:
            self._counters.drop(DropReason.OUTPUT_FULL, 1)
            return
        retain = publish.retain and target.retain_as_published
        flight = Flight(publish, 0, retain, target.identifiers)
        self.transmit(session, connection, flight, parts)

    # What the log feeds

    def feed(self, entries: Sequence[Entry]) -> None:
        """Entries were committed: whoever is live gets them. The log's callback."""
        router = self._router
        for entry in entries:
            publish = entry.publish
            if publish is None:
                continue
            plan = router.match(publish.topic)
            if entry.retained_copy:
                self._feed_copy(plan, publish, entry)
                continue
            if plan.groups:
                for group in plan.groups:
                    group.offer(publish, entry)
            self._fan_out(plan, publish, entry)

    def _feed_copy(self, plan: Plan, publish: Publish, entry: Entry) -> None:
        """A copy that was appended for one session alone."""
        assert entry.audience is not None
        for cursor in entry.audience.cursors:
            session = self.session_of_cursor(cursor.name)
            if type(session) is Session and session.cursor is cursor:
                target = self._target_of(plan, session, publish.topic)
                qos = 0 if target is None else min(publish.qos, target.qos)
                self._follow(session, target, publish, entry, qos, publish.retain, {})

    @staticmethod
    def _target_of(plan: Plan, session: Session, topic: str) -> Target | None:
        """What a session gets of a topic, subscriptions that still read the past included."""
        target = plan.target_of(session)
        for subscription in session.replaying or ():
            if matches(subscription.pattern, topic):
                # The plan's target is shared with everybody: a new one, never merged into.
                if target is None or target.qos < subscription.qos:
                    target = Target(subscription)
        return target

    def _follow(
        self,
        session: Session,
        target: Target | None,
        publish: Publish,
        entry: Entry,
        qos: int,
        retain: bool,
        parts: Parts,
    ) -> None:
        """An entry of the feed that is for this session's cursor."""
        if session.mode != LIVE:
            if not session.full:
                self._check_backlog(session)
            return
        queue = session.queue
        limits = self._limits
        if queue is not None and (
            len(queue) >= limits.live_messages or session.queue_bytes >= limits.live_bytes
        ):
            # More than it shall hold in memory: it reads the rest from the log, later.
            session.cursor.pause(entry)
            session.mode = FETCHING
            return
        ordinal = session.cursor.take(entry)
        if not ordinal:
            session.mode = FETCHING
            self.pump(session)
            return
        if target is None or (target.no_local and publish.publisher == session.client_id):
            session.cursor.acknowledge([entry])
            return
        if not entry.retained_copy:
            retain = retain and target.retain_as_published
        flight = Flight(publish, qos, retain, target.identifiers, entry)
        if qos:
            flight.packet_id = stable_id(ordinal)
        connection = session.connection
        if (
            queue is None
            and connection is not None
            and connection.window > 0
            and not connection.congested
            and not (qos and connection.flights.in_use(flight.packet_id))
        ):
            self.transmit(session, connection, flight, parts)
        else:
            session.enqueue(flight)

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
        self._counters.publishes_sent[qos] += 1
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
        [MQTT5-3.3.1-8]."""
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
            self._wait(session, flight)

    def _wait(self, session: Session, flight: Flight) -> None:
        """Queue for a session that lies in memory, within its limits."""
        limits = self._limits
        queue = session.queue
        if queue is not None and (
            len(queue) >= limits.transient_messages or session.queue_bytes >= limits.transient_bytes
        ):
            session.discarded += 1
            self._counters.drop(DropReason.QUEUE_FULL, 1)
            return
        session.enqueue(flight)

    def pump(self, session: Session) -> None:
        """Send what waits, as far as window and transport allow; fetch more if there is room."""
        connection = session.connection
        if connection is None or not connection.established:
            return
        flights = connection.flights
        parts: Parts
        while session.queue is not None:
            flight = session.queue[0]
            if connection.congested or (flight.qos and connection.window <= 0):
                break
            if flight.qos and flight.packet_id and flights.in_use(flight.packet_id):
                # The identifier belongs to an older message still: order waits for it.
                break
            session.dequeue()
            publish = flight.publish
            if publish.expires_at and not flight.dup and publish.expires_at <= self._seconds():
                # [MQTT5-3.3.2-5]
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
        if session.groups is not None and connection.window > 0:
            for group in session.groups:
                group.pump()
        if connection.output and not connection.dirty:
            self._outbox.add(connection)

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
            self._check_backlog(session)
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

    def _flight_of(self, session: Session, entry: Entry) -> Flight | None:
        """What the session gets of a fetched entry, by its subscriptions of now."""
        publish = entry.publish
        if publish is None:
            return None
        plan = self._router.match(publish.topic)
        target = self._target_of(plan, session, publish.topic)
        started = entry.redelivered or entry.released
        if target is None:
            if not started:
                return None
            # Unsubscribed or no longer allowed: QoS 2 that has begun is still completed
            # [MQTT5-3.10.4-3] [MQTT311-3.10.4-2].
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
        if session.queue is not None or session.mode == FETCHING or session.groups is not None:
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
                self._check_backlog(session)

    def _check_backlog(self, session: Session) -> None:
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
        # [MQTT5-4.4.0-1] [MQTT5-4.6.0-1]: in their order, under their identifiers. Only QoS 2 of
        # shared groups is held here; the cursor brings all else.
        for flight in list(flights.sent.values()):
            flight.dup = True
            connection.window += 1
            self._transmit_alone(session, connection, flight)
        if flights.released:
            connection.release(list(flights.released.values()))
        self.pump(session)

    def detach(self, session: Session) -> None:
        """Its connection is gone. What was under way and is in the log will be fetched again;
        what came from a group goes back to it, but for QoS 2 that was sent."""
        session.mode = OFFLINE
        flights = session.flights
        waiting = list(session.queue or ())
        session.queue = None
        session.queue_bytes = 0
        back = [f for f in waiting if f.group is not None]
        kept: dict[int, Flight] = {}
        for packet_id, flight in flights.sent.items():
            if flight.group is None:
                continue
            if flight.qos == 2:
                kept[packet_id] = flight
            else:
                back.append(flight)
        flights.sent = kept
        flights.released = {i: f for i, f in flights.released.items() if f.group is not None}
        if session.cursor is not None:
            fresh = next((f.entry for f in waiting if f.group is None and not f.dup), None)
            session.cursor.pause(fresh)
            session.cursor.rewind()
        for flight in back:
            flight.group.give_back(flight)
