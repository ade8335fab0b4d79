"""The dispatcher: each event of a connection goes to the one part that answers it.

Nothing here decides anything but the order of things. What a CONNECT gets is in
C{admission}, a SUBSCRIBE in C{subscriptions}, a PUBLISH in C{inbound}, a delivery in
C{delivery}; sessions, wills, retained messages and shared groups have rooms of their own.

Decision 1 draws the way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, final

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.logger import Logger

from ..codec.packets import Auth, Connect, Disconnect, Publish, Subscribe, Unsubscribe
from ..codec.properties import SESSION_EXPIRY_INTERVAL
from ..errors import BackendError
from ..interfaces import IMessageLog, IStateStore
from ..limits import Limits
from ..model import Entry, Origin
from ..protocol.connection import Connection
from ..protocol.events import Failed, Received, Released, Repeated, Settled
from ..protocol.flights import Flight
from ..reasons import ReasonCode
from .admission import Admission
from .authority import Authority
from .counters import Counters
from .delivery import Delivery
from .history import Replays
from .inbound import Inbound
from .outbox import Outbox
from .plan import Plan
from .retained import Retained
from .router import Router
from .sending import Sending
from .session import OFFLINE, PauseReason, Session
from .sessions import Sessions
from .shared import Groups
from .subscriptions import Subscriptions
from .wills import Wills

COUNTED_EACH_TICK: Final = 20_000
"""Connections up to which it is looked every second at what waits for each and why; beyond, every
ten seconds."""


@final
class Broker:
    """All connections of one node.

    C{seconds} is monotonic time, C{wall} the wall clock (for the store alone), C{later} calls a
    function in the next turn, C{schedule} has net flush the outbox at the end of this one.
    """

    logger = Logger()

    def __init__(
        self,
        log: IMessageLog,
        store: IStateStore,
        authority: Authority,
        limits: Limits,
        counters: Counters,
        seconds: Callable[[], float],
        wall: Callable[[], float],
        later: Callable[[Callable[[], None]], object],
        schedule: Callable[[], None],
    ) -> None:
        self.log = log
        self.limits = limits
        self.counters = counters
        self.authority = authority
        self.outbox = outbox = Outbox(schedule)
        self._seconds = seconds
        self._connections: dict[Connection, None] = {}
        self._ticks = 0
        self.queued_bytes = 0
        """What waited for all clients at the last look, in bytes."""
        self.draining = False
        self.router: Router[Plan] = Router(lambda topic, found: self.inbound.plan(topic, found))
        self.sending = Sending(self.router, limits, counters, outbox, seconds)
        self.delivery = Delivery(self.router, self.sending, limits, counters, outbox)
        self.retained = Retained(limits, counters, seconds, wall, later)
        self.groups = Groups(log, store, limits, counters, authority.authorizer, seconds)
        self.inbound = Inbound(
            self.router, authority, self.delivery, self.retained,
            log, store, limits, counters, outbox, seconds,
        )  # fmt: skip
        self.wills = Wills(self.inbound, seconds)
        self.sessions = Sessions(
            self.router, self.groups, self.wills, self.retained,
            log, store, counters, seconds, wall,
        )  # fmt: skip
        self.replays = Replays(self.router, authority, self.sending, log, store, limits, later)
        self.subscriptions = Subscriptions(
            self.router, self.groups, authority, self.retained, self.replays,
            store, limits, counters, outbox,
        )  # fmt: skip
        self.admission = Admission(
            self.sessions, self.wills, authority, log, store, limits, counters, outbox
        )
        self.delivery.session_of_cursor = self.sessions.find
        self.retained.give(self.sending, log, authority.authorizer)
        self.groups.sending = self.sending
        self.groups.find_session = self.sessions.find
        self.sessions.resume_history = self.replays.begin
        self.admission.leave = self._leave
        self.admission.admitted = self._admitted

    @inlineCallbacks
    def start(self) -> Generator[Deferred[Any], Any, None]:
        """Open the log and load what is remembered; connections may come afterwards.

        @raise BackendError: (in the Deferred) the log or the store cannot be read.
        """
        yield self.log.start(self._feed, self._eased)
        yield self.sessions.load()

    # Net's calls

    def connected(self, connection: Connection) -> bool:
        """A transport is there. False: no room, close it at once."""
        if self.draining or len(self._connections) >= self.limits.connections:
            return False
        self._connections[connection] = None
        self.counters.connections = len(self._connections)
        if len(self._connections) > self.counters.connections_maximum:
            self.counters.connections_maximum = len(self._connections)
        self.counters.connections_total += 1
        return True

    def handle(self, connection: Connection, events: list[Any]) -> None:
        """Carry out what a connection was told."""
        for event in events:
            kind = type(event)
            session: Session | None = connection.session
            if kind is list:
                if session is not None:
                    self.inbound.publish(session, connection, event)
            elif kind is Settled:
                if session is not None:
                    self.sending.settled(session, event.flights)
            elif session is not None:
                self._handle_rarer(session, connection, event)
            elif kind is Connect:
                self.admission.connect(connection, event)
            elif kind is Auth:
                self.admission.auth(connection, event)
            elif kind is Failed:
                self._count_failure(event)
        if (connection.output or connection.closing) and not connection.dirty:
            self.outbox.add(connection)

    def _handle_rarer(self, session: Session, connection: Connection, event: Any) -> None:
        kind = type(event)
        if kind is Received:
            self._received(session, connection, event.flights)
        elif kind is Released:
            self._released(session, connection, event.packet_ids)
        elif kind is Repeated:
            connection.acknowledge_again(event.packet_ids)
        elif kind is Subscribe:
            self.subscriptions.subscribe(session, connection, event)
        elif kind is Unsubscribe:
            self.subscriptions.unsubscribe(session, connection, event)
        elif kind is Disconnect:
            self._disconnected(session, connection, event)
        elif kind is Auth:
            self.admission.auth(connection, event)
        elif kind is Failed:
            self._count_failure(event)
            # [MQTT5-3.1.2-8]: a protocol error is no normal disconnection.
            self._leave(connection, True)

    def lost(self, connection: Connection) -> None:
        """The transport is gone, for whatever reason."""
        self._connections.pop(connection, None)
        self.counters.connections = len(self._connections)
        self.admission.forget(connection)
        self._leave(connection, True)

    def drained(self, connection: Connection) -> None:
        """The transport takes more again."""
        session: Session | None = connection.session
        if session is not None:
            self.sending.pump(session)
        self.retained.wake()

    def tick(self) -> None:
        """Once a second: what is due by time."""
        now = self._seconds()
        self.sessions.tick(now)
        self.wills.tick(now)
        self._count_now()
        self.sending.tick()
        self.retained.wake()
        self.replays.wake()

    def _count_now(self) -> None:
        """Counters that are cheaper to set now and then than to keep."""
        counters = self.counters
        counters.sessions_offline = len(self.sessions) - counters.sessions_connected
        counters.retained_messages = len(self.retained)
        counters.retained_bytes = self.retained.bytes
        paused = [0] * len(PauseReason)
        self._ticks += 1
        if len(self._connections) <= COUNTED_EACH_TICK or self._ticks % 10 == 0:
            waiting = 0
            for connection in self._connections:
                waiting += connection.output_bytes
                session: Session | None = connection.session
                if session is not None:
                    waiting += session.queue_bytes
                    paused[session.pause_reason] += 1
            waiting += self.groups.queued_bytes
            self.queued_bytes = waiting
            self.sending.crowded = waiting > self.limits.node_bytes
        paused[PauseReason.OFFLINE] = counters.sessions_offline
        counters.sessions_paused[:] = paused

    # Ends of connections

    def _count_failure(self, event: Failed) -> None:
        self.counters.protocol_errors[event.error.reason] += 1

    def _disconnected(self, session: Session, connection: Connection, packet: Disconnect) -> None:
        """[MQTT5-3.14.4-3] [MQTT311-3.14.4-3]: reason 0 discards the will; all else, 0x04 as
        well as an error, does not."""
        self.counters.disconnects_received[packet.reason] += 1
        expiry = packet.properties.get(SESSION_EXPIRY_INTERVAL)
        if expiry is not None:
            session.expiry = min(expiry, self.limits.session_expiry_maximum)
        self._leave(connection, packet.reason != ReasonCode.SUCCESS)

    def _leave(self, connection: Connection, with_will: bool) -> None:
        """A connection lets go of its session, which is not ended before. [MQTT5-4.1.0-1]
        [MQTT311-4.1.0-1] [MQTT311-4.1.0-2]"""
        session: Session | None = connection.session
        connection.session = None
        if session is None or session.connection is not connection:
            return
        if not with_will or session.mode == OFFLINE:
            # Told not to, or CONNACK was never sent.
            session.will = None
        session.connection = None
        if session.mode != OFFLINE:
            self.counters.sessions_connected -= 1
        self.sending.detach(session)
        if session.expiry == 0:
            self.sessions.end(session)
            return
        now = self._seconds()
        self.sessions.left(session, now)
        self.wills.connection_ended(session, now)
        self.sessions.store(session)

    def _admitted(self, session: Session, connection: Connection, events: list[Any]) -> None:
        self.counters.sessions_connected += 1
        self.sending.attach(session)
        if events:
            self.handle(connection, events)

    # QoS 2 of sessions on the log

    def _received(self, session: Session, connection: Connection, flights: list[Flight]) -> None:
        """PUBREC: PUBREL leaves once a restart would know it. [design 3.2]"""
        own = [f for f in flights if f.group is None]
        if own and session.cursor is not None:
            entries = [f.entry for f in own if f.entry is not None]
            session.cursor.release(entries, self._release(connection, own))
        for flight in flights:
            if flight.group is not None:
                flight.group.received([flight], self._release(connection, [flight]))

    def _release(
        self, connection: Connection, flights: list[Flight]
    ) -> Callable[[BackendError | None], None]:
        def completed(error: BackendError | None) -> None:
            if error is None:
                connection.release(flights)
            else:
                # Not answered, the client will ask again with its next connection.
                connection.disconnect(error.reason)
            self.outbox.add(connection)

        return completed

    def _released(self, session: Session, connection: Connection, packet_ids: list[int]) -> None:
        """PUBREL: PUBCOMP leaves once the identifiers are free after a restart too."""

        def completed(error: BackendError | None) -> None:
            if error is None:
                connection.complete(packet_ids)
            else:
                connection.disconnect(error.reason)
            self.outbox.add(connection)

        origins = [Origin(session.client_id, 0, packet_id) for packet_id in packet_ids]
        self.log.forget(origins, completed)

    # The log's calls

    def _feed(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            publish = entry.publish
            # [MQTT5-3.3.1-8] [MQTT311-3.3.1-12]
            if publish is not None and publish.retain and not entry.retained_copy:
                # In the same turn as the live delivery [design 3.13].
                self.retained.apply(publish)
        self.delivery.feed(entries)

    def _eased(self) -> None:
        self.retained.wake()
        self.inbound.eased(self._seconds())

    # Operation

    def publish_system(self, topic: str, payload: bytes) -> None:
        """Publish to C{$SYS}: retained in memory alone, kept by nobody."""
        publish = Publish(topic, payload, 0, True)
        self.retained.apply(publish)
        self.delivery.pass_on(self.router.match(topic), [publish])

    def reload(self, limits: Limits) -> None:
        """The authority has changed, or limits: nobody keeps a verdict of before. H18"""
        for name in Limits.__slots__:
            setattr(self.limits, name, getattr(limits, name))
        self.groups.authorizer = self.authority.authorizer
        self.retained.reauthorize(self.authority.authorizer)
        self.router.forget_all()

    def disconnect(self, client_id: str, reason: ReasonCode) -> bool:
        """Have an operator's word end a client's connection; False: it has none."""
        session = self.sessions.find(client_id)
        if session is None or session.connection is None:
            return False
        connection = session.connection
        self._leave(connection, True)
        connection.disconnect(reason)
        self.outbox.add(connection)
        return True

    def shut_down(self) -> None:
        """Tell every client that we go; wills fire, sessions stay. The log is stopped, and the
        outbox flushed, by who called this."""
        self.draining = True
        for connection in list(self._connections):
            self._leave(connection, True)
            connection.disconnect(ReasonCode.SERVER_SHUTTING_DOWN)
            self.outbox.add(connection)
