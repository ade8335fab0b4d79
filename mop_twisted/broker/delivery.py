"""Fan-out: to whom a message goes.

Two ways in. L{Delivery.pass_on} takes runs of messages that nobody keeps, straight from their
publisher. L{Delivery.feed} takes entries of the log after their commit. Both end in
L{mop_twisted.broker.sending.Sending}, or, for plain QoS 0, in a connection's output.

It knows no authorisation (that is in the plan), no store, and no reactor.

MQTT 5.0 sections 3.3.4, 3.8.4 and 4.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from ..codec.encode import encode_publish
from ..codec.packets import Publish
from ..limits import Limits
from ..model import Entry
from ..protocol.connection import Connection
from ..protocol.flights import Flight, stable_id
from .counters import Counters, DropReason
from .outbox import Outbox
from .plan import Plan, Target
from .router import Router
from .sending import Parts, Sending
from .session import FETCHING, LIVE, Session


@final
class Delivery:
    """Brings messages to the sessions of one node."""

    def __init__(
        self,
        router: Router[Plan],
        sending: Sending,
        limits: Limits,
        counters: Counters,
        outbox: Outbox,
    ) -> None:
        self._router = router
        self._sending = sending
        self._limits = limits
        self._counters = counters
        self._outbox = outbox
        self.session_of_cursor: Callable[[str], Any] = lambda name: None
        """The session of a cursor's name; set by the broker."""

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
        limit = self._sending.output_limit()
        sent = 0
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
            if not connection.dirty:
                outbox.add(connection)
        self._counters.publishes_sent[0] += sent * len(run)
        self._counters.publish_bytes_sent += sent * sum([len(p.payload) for p in run])

    def _fan_out(self, plan: Plan, publish: Publish, entry: Entry | None) -> None:
        """One message to all targets of a plan; C{entry} when it comes from the log."""
        parts: Parts = {}
        published_qos = publish.qos
        audience = None if entry is None else entry.audience
        for target in plan.targets:
            # [MQTT5-3.8.4-8] [MQTT311-3.8.4-6]: the lower of the two.
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
            # [MQTT5-3.3.1-12] [MQTT5-3.3.1-13] [MQTT311-3.3.1-9]
            retain = publish.retain and target.retain_as_published
            flight = Flight(publish, qos, retain, target.identifiers)
            if session.queue is None and connection.window > 0 and not connection.congested:
                self._sending.transmit(session, connection, flight, parts)
            else:
                self._sending.wait(session, flight)
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
        if connection.output_bytes > self._sending.output_limit():
            self._counters.drop(DropReason.OUTPUT_FULL, 1)
            return
        retain = publish.retain and target.retain_as_published
        flight = Flight(publish, 0, retain, target.identifiers)
        self._sending.transmit(session, connection, flight, parts)

    # What the log feeds

    def feed(self, entries: Sequence[Entry]) -> None:
        """Entries were committed: whoever is live gets them, in their order. The log's callback.

        [MQTT5-4.6.0-5] [MQTT5-4.6.0-6] [MQTT311-4.6.0-5] [MQTT311-4.6.0-6]
        """
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
                known = entry.audience is plan.audience
                for group in plan.groups:
                    group.offer(publish, entry, known)
            self._fan_out(plan, publish, entry)

    def _feed_copy(self, plan: Plan, publish: Publish, entry: Entry) -> None:
        """A copy that was appended for one session alone."""
        assert entry.audience is not None
        for cursor in entry.audience.cursors:
            session = self.session_of_cursor(cursor.name)
            if type(session) is Session and session.cursor is cursor:
                target = self._sending.target_of(plan, session, publish.topic)
                qos = 0 if target is None else min(publish.qos, target.qos)
                self._follow(session, target, publish, entry, qos, publish.retain, {})

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
                self._sending.check_backlog(session)
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
            self._sending.pump(session)
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
            self._sending.transmit(session, connection, flight, parts)
        else:
            session.enqueue(flight)
