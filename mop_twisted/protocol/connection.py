"""One connection as a state machine without I/O.

Bytes go in by L{Connection.receive}, which returns events and never raises; commands of the
broker put frames into C{output}. Time comes in as an argument, in monotonic seconds. It knows
no broker, no transport and no clock, and asks its L{Dialect} where versions differ.

MQTT 5.0 chapters 3 and 4. It asks no client for anything beyond them [MQTT311-7.0.0-2].
"""

from __future__ import annotations

from typing import Any, Final, final

from ..codec.decode import Decoder
from ..codec.packets import (
    AUTH,
    CONNECT,
    DISCONNECT,
    NO_PROPERTIES,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    Ack,
    Acks,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Pingresp,
    Properties,
    Publish,
    Subscribe,
    Unsubscribe,
)
from ..codec.properties import (
    AUTHENTICATION_METHOD,
    SESSION_EXPIRY_INTERVAL,
    TOPIC_ALIAS,
)
from ..errors import (
    AnswersNotRead,
    KeepAliveExceeded,
    PeerError,
    ProtocolBreach,
    ReceiveMaximumExceeded,
    TopicAliasInvalid,
)
from ..limits import Limits
from ..reasons import FAILURE, ReasonCode
from .dialect import dialect_of
from .events import Failed, Received, Released, Repeated, Settled
from .flights import Flight, Flights
from .peer import Peer
from .sender import AWAITING_CONNECT, CLOSED, CONNECTING, ESTABLISHED, Sender, connack_reason
from .tally import Tally

PERMITTED: Final[dict[int, tuple[type, ...]]] = {
    AWAITING_CONNECT: (Connect,),
    CONNECTING: (Auth, Disconnect),
    ESTABLISHED: (
        list, Acks, Ack, Subscribe, Unsubscribe, Pingreq, Disconnect, Auth,
    ),
    CLOSED: (),
}  # fmt: skip
"""Which packets a phase takes. What a client sends ahead of its CONNACK, as 3.1.1 allows, is
held until the broker has decided, a DISCONNECT behind it too; all else is a protocol error."""


UNREAD: Final = 65_536
"""Packets that a client may send while it takes none of ours."""

_TYPE_OF: Final[dict[type, int]] = {
    Connect: CONNECT,
    Subscribe: SUBSCRIBE,
    Unsubscribe: UNSUBSCRIBE,
    Pingreq: PINGREQ,
    Disconnect: DISCONNECT,
    Auth: AUTH,
}
"""For the tally; runs count themselves."""


@final
class Connection(Sender):
    """The server's side of one network connection."""

    __slots__ = (
        "_aliases_in",
        "_decoder",
        "_early",
        "_held",
        "_unread",
        "bridge",
        "client_id",
        "durable",
        "keep_alive",
        "last_received",
        "opened",
        "peer",
        "reading",
        "session",
        "session_expiry",
    )

    def __init__(self, limits: Limits, peer: Peer, now: float, tally: Tally | None = None) -> None:
        super().__init__(limits, tally or Tally())
        self.peer = peer
        self.reading = True
        """False: net does not read, for the log's sake."""
        self.session: Any = None
        """The broker's, never looked into here."""
        self.client_id = ""
        self.bridge = False
        """A bridge in the sense of mosquitto: its subscriptions are no local and retain as
        published although its version has no such options."""
        self.durable = False
        """The session outlives the connection: what gates an acknowledgement is in the log."""
        self.keep_alive = 0
        self.session_expiry = 0
        self.last_received = now
        self.opened = now
        self._decoder = Decoder(
            limits.maximum_packet_size_before_connect,
            limits.user_properties,
            maximum_packet_size_after_connect=limits.maximum_packet_size,
        )
        self._held: list[Any] | None = None
        self._aliases_in: dict[int, str] | None = None
        self._early = 0
        """Bytes that came before the broker had decided."""
        self._unread = 0
        """Packets that came while the transport took nothing."""

    # Bytes in

    @property
    def established(self) -> bool:
        """Whether CONNACK with success was sent and nothing has ended it since."""
        return self.phase == ESTABLISHED

    def receive(self, data: bytes, now: float) -> list[Any]:
        """What the client said with these bytes, as events in their order. Never raises: an
        error of the client ends the connection and is the last event, L{Failed}."""
        if self.phase == CLOSED:
            return []
        packets = self._decoder.receive(data)
        if packets:
            # Complete packets only: a trickle does not keep a connection alive.
            self.last_received = now
        events: list[Any] = []
        try:
            for packet in packets:
                kind = type(packet)
                if self.phase == ESTABLISHED and kind is list:
                    self._take_publishes(packet, events)  # type: ignore[arg-type]
                elif self.phase == ESTABLISHED and kind is Acks:
                    self._take_acks(packet.kind, packet.packet_ids, events)  # type: ignore[union-attr]
                else:
                    self._take(packet, events)
            if self._decoder.error is not None and self._held is None:
                raise self._decoder.error
        except PeerError as error:
            self._fail(error, events)
        if self.phase == CONNECTING:
            self._early += len(data)
            if self._early > self.limits.maximum_packet_size:
                self.reading = False
        elif self.congested and self.phase == ESTABLISHED:
            # Answers to a client that does not read them are held, but not without end.
            self._unread += len(packets)
            if self._unread > UNREAD:
                self._fail(AnswersNotRead("too many packets without reading answers"), events)
        else:
            self._unread = 0
        return events

    def _take(self, packet: Any, events: list[Any]) -> None:
        """One packet that is not on the hot path."""
        phase = self.phase
        if phase == CLOSED:
            return
        kind = type(packet)
        if kind not in PERMITTED[phase] or (
            # It gives up an exchange of AUTH packets, but does not overtake what was sent before.
            kind is Disconnect and phase == CONNECTING and self.authentication_method is None
        ):
            if phase == CONNECTING and kind is not Connect:
                # [MQTT5-3.1.4-6] decides later whether this is ever looked at.
                if self._held is None:
                    self._held = []
                self._held.append(packet)
                return
            # [MQTT5-3.1.0-1] [MQTT5-3.1.0-2] [MQTT311-3.1.0-1] [MQTT311-3.1.0-2]
            raise ProtocolBreach(f"{kind.__name__} at the wrong time", "MQTT5-3.1.0-2")
        self.tally.received[_TYPE_OF.get(kind, 0)] += 1
        if kind is Ack:
            self._take_ack(packet, events)
        elif kind is list:
            self._take_publishes(packet, events)
        elif kind is Acks:
            self._take_acks(packet.kind, packet.packet_ids, events)
        elif kind is Pingreq:
            # [MQTT5-3.12.4-1] [MQTT311-3.12.4-1] [MQTT5-3.3.4-10] [MQTT5-4.9.0-3]: whatever the
            # windows are.
            self.send(Pingresp())
        elif kind is Connect:
            self._take_connect(packet, events)
        elif kind is Disconnect:
            self._take_disconnect(packet, events)
        elif kind is Auth:
            self._take_auth(packet, events)
        else:
            events.append(packet)

    def _take_connect(self, connect: Connect, events: list[Any]) -> None:
        self.phase = CONNECTING
        self.dialect = dialect = dialect_of(connect.version)
        self.version = dialect.version
        self.client_id = connect.client_id
        self.bridge = connect.bridge
        self.keep_alive = connect.keep_alive
        self.session_expiry = dialect.session_expiry(connect)
        self.maximum_packet_size = dialect.maximum_packet_size(connect)
        self.window = dialect.receive_maximum(connect, self.limits)
        self.topic_alias_maximum = min(
            # [MQTT5-3.1.2-26] [MQTT5-3.1.2-27]
            dialect.topic_alias_maximum(connect),
            self.limits.topic_alias_maximum,
        )
        self.problem_information = dialect.wants_problem_information(connect)
        self.authentication_method = connect.properties.get(AUTHENTICATION_METHOD)
        events.append(connect)

    def _take_publishes(self, run: list[Publish], events: list[Any]) -> None:
        """Resolve aliases, count against the receive maximum, sort out QoS 2 repetitions."""
        start = 0
        received = self.flights.received
        for at, publish in enumerate(run):
            if publish.properties:
                self._resolve(publish)
            qos = publish.qos
            if qos == 0:
                continue
            if qos == 2:
                packet_id = publish.packet_id
                if packet_id in received:
                    # [MQTT5-4.3.3-10] [MQTT311-4.3.3-2]: acknowledged again, not passed on again.
                    if start < at:
                        events.append(run[start:at])
                    start = at + 1
                    if received[packet_id]:
                        events.append(Repeated([packet_id]))
                    continue
                received[packet_id] = False
            # [MQTT5-3.3.4-7]
            self._inbound += 1
            if self._inbound > self.limits.receive_maximum and self.dialect.has_properties:
                if start < at:
                    events.append(run[start:at])
                received.pop(publish.packet_id, None)
                raise ReceiveMaximumExceeded(
                    f"more than {self.limits.receive_maximum} PUBLISHes in flight", "MQTT5-3.3.4-7"
                )
        if start == 0:
            events.append(run)
        elif start < len(run):
            events.append(run[start:])

    def _resolve(self, publish: Publish) -> None:
        """Put the topic name in place of its alias [MQTT 5.0, 3.3.2.3.4]."""
        properties = publish.properties
        alias = properties.pop(TOPIC_ALIAS, 0)
        if not alias:
            return
        if alias > self.limits.topic_alias_maximum:
            # [MQTT5-3.3.2-8] [MQTT5-3.3.2-9]
            raise TopicAliasInvalid(f"topic alias {alias} is over the maximum", "MQTT5-3.3.2-9")
        # [MQTT5-3.3.2-12]
        aliases = self._aliases_in
        if aliases is None:
            # [MQTT5-3.3.2-7]: of this connection only.
            aliases = self._aliases_in = {}
        if publish.topic:
            aliases[alias] = publish.topic
        elif alias in aliases:
            publish.topic = aliases[alias]
        else:
            raise ProtocolBreach(f"topic alias {alias} was never set", "MQTT5-3.3.2-8")

    def _take_acks(self, kind: int, packet_ids: list[int], events: list[Any]) -> None:
        """A run of acknowledgements that all say success."""
        flights = self.flights
        self.tally.received[kind] += len(packet_ids)
        if kind == PUBACK:
            settled = []
            for packet_id in packet_ids:
                flight = flights.sent.pop(packet_id, None)
                if flight is not None:
                    if flight.qos != 1:
                        flights.sent[packet_id] = flight
                        raise ProtocolBreach("PUBACK for a QoS 2 PUBLISH")
                    settled.append(flight)
            self.window += len(settled)
            events.append(Settled(settled))
        elif kind == PUBREC:
            self._take_pubrecs(packet_ids, events)
        elif kind == PUBREL:
            self._take_pubrels(packet_ids, events)
        else:
            settled = []
            for packet_id in packet_ids:
                flight = flights.released.pop(packet_id, None)
                if flight is not None:
                    settled.append(flight)
            self.window += len(settled)
            events.append(Settled(settled))

    def _take_pubrecs(self, packet_ids: list[int], events: list[Any]) -> None:
        flights = self.flights
        ready: list[int] = []
        durable: list[Flight] = []
        for packet_id in packet_ids:
            flight = flights.sent.pop(packet_id, None)
            if flight is not None:
                if flight.qos != 2:
                    raise ProtocolBreach("PUBREC for a QoS 1 PUBLISH")
                # [MQTT5-4.3.3-5]
                flights.released[packet_id] = flight
                if flight.entry is None:
                    flight.safe = True
                    ready.append(packet_id)
                else:
                    durable.append(flight)
            elif packet_id in flights.released:
                # Said twice: PUBREL still waits for the first to be durable.
                if flights.released[packet_id].safe:
                    ready.append(packet_id)
            else:
                self._send_ack(PUBREL, packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
        if ready:
            # [MQTT5-4.3.3-4] [MQTT311-4.3.3-1]
            self._send_plain_acks(PUBREL, ready)
        if durable:
            events.append(Received(durable))

    def _take_pubrels(self, packet_ids: list[int], events: list[Any]) -> None:
        # [MQTT5-4.3.3-13]: the message may have expired, the exchange has not.
        received = self.flights.received
        known: list[int] = []
        for packet_id in packet_ids:
            safe = received.get(packet_id)
            if safe:
                known.append(packet_id)
            elif safe is None:
                # [MQTT5-4.3.3-11]: a PUBREL is always answered.
                self._send_ack(PUBCOMP, packet_id, ReasonCode.PACKET_IDENTIFIER_NOT_FOUND)
            else:
                raise ProtocolBreach("PUBREL before PUBREC")
        if not known:
            return
        if self.durable:
            events.append(Released(known))
        else:
            self.complete(known)

    def _take_ack(self, ack: Ack, events: list[Any]) -> None:
        """An acknowledgement that carries a reason or properties."""
        if ack.reason >= FAILURE:
            self.tally.received[ack.kind] += 1
        if ack.kind == PUBREC and ack.reason >= FAILURE:
            # [MQTT5-4.4.0-2]: over, and not sent again.
            flight = self.flights.sent.pop(ack.packet_id, None)
            if flight is not None:
                self.window += 1
                events.append(Settled([flight]))
        elif ack.kind == PUBREL and ack.reason >= FAILURE:
            # 0x92: the client has no such PUBLISH any more; nothing is left of the exchange.
            self._take_pubrels([ack.packet_id], events)
        else:
            self._take_acks(ack.kind, [ack.packet_id], events)

    def _take_disconnect(self, disconnect: Disconnect, events: list[Any]) -> None:
        expiry = disconnect.properties.get(SESSION_EXPIRY_INTERVAL)
        if expiry and not self.session_expiry:
            # MQTT 5.0, 3.14.2.2.2: 0 in CONNECT cannot become more.
            raise ProtocolBreach("a session expiry of 0 was raised in DISCONNECT")
        # [MQTT5-3.14.4-1] [MQTT5-3.14.4-2]
        self.phase = CLOSED
        self.closing = True
        events.append(disconnect)

    def _take_auth(self, auth: Auth, events: list[Any]) -> None:
        method = auth.properties.get(AUTHENTICATION_METHOD)
        if self.authentication_method is None or method != self.authentication_method:
            # [MQTT5-4.12.0-7] [MQTT5-4.12.0-5] [MQTT5-4.12.1-1]
            raise ProtocolBreach("AUTH with another method than CONNECT's")
        continuing = self.phase == CONNECTING or self.reauthenticating
        expected = ReasonCode.CONTINUE_AUTHENTICATION if continuing else ReasonCode.RE_AUTHENTICATE
        if auth.reason != expected:
            # [MQTT5-4.12.0-3]
            raise ProtocolBreach(f"AUTH with reason {auth.reason:#04x}")
        if self.phase == ESTABLISHED:
            self.reauthenticating = True
        events.append(auth)

    def _fail(self, error: PeerError, events: list[Any]) -> None:
        """[MQTT5-4.13.1-1] [MQTT311-4.8.0-1]: say why where the version can, then close."""
        if self.phase == ESTABLISHED:
            self._say_disconnect(error.reason, str(error))
        elif (
            self._decoder.version or self.phase == CONNECTING
        ) and error.reason != ReasonCode.KEEP_ALIVE_TIMEOUT:
            # A CONNECT that was one, but wrong. Anything else gets no answer at all.
            dialect = dialect_of(self._decoder.version)
            self.dialect = dialect
            self.version = dialect.version
            # [MQTT5-3.1.3-8] [MQTT311-3.1.3-9] [MQTT311-3.1.2-2]
            if dialect.has_properties or error.reason in (
                ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
                ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
            ):
                self.send(Connack(connack_reason(error.reason)))
        self.phase = CLOSED
        self.closing = True
        events.append(Failed(error))

    # Time

    @property
    def deadline(self) -> float:
        """When L{expire} is due; 0.0 if never."""
        if self.phase < ESTABLISHED:
            return self.opened + self.limits.connect_timeout
        if self.keep_alive and self.phase == ESTABLISHED:
            # [MQTT5-3.1.2-22] [MQTT311-3.1.2-24]
            return self.last_received + 1.5 * self.keep_alive
        return 0.0

    def expire(self, now: float) -> list[Any]:
        """End the connection if its time is over."""
        deadline = self.deadline
        events: list[Any] = []
        # Time in which we do not read does not count, but for the time to connect.
        if deadline and now >= deadline and (self.reading or self.phase < ESTABLISHED):
            self._fail(KeepAliveExceeded("no packet in time", "MQTT5-3.1.2-22"), events)
        return events

    def resume_reading(self, now: float) -> None:
        """Be read again; the pause does not count against the keep alive."""
        if not self.reading:
            self.reading = True
            self.last_received = now

    # The broker's answers to CONNECT and AUTH

    def accept(
        self, connack: Connack, flights: Flights, durable: bool, keep_alive: int
    ) -> list[Any]:
        """Send C{connack}, whose reason is success, and go on with what the client sent since
        its CONNECT: those events are returned.

        [MQTT5-3.1.4-5] [MQTT5-3.2.0-1] [MQTT5-3.2.0-2] [MQTT311-3.1.4-4] [MQTT311-3.2.0-1]
        """
        self.flights = flights
        self.durable = durable
        self.window -= len(flights.sent) + len(flights.released)
        self.keep_alive = keep_alive
        self.send(connack)
        self.phase = ESTABLISHED
        self.plain = not (self.maximum_packet_size or self.topic_alias_maximum)
        self.reading = True
        held, self._held = self._held, None
        events: list[Any] = []
        if held is not None:
            try:
                for packet in held:
                    self._take(packet, events)
                if self._decoder.error is not None:
                    raise self._decoder.error
            except PeerError as error:
                self._fail(error, events)
        return events

    def refuse(self, reason: ReasonCode, properties: Properties = NO_PROPERTIES) -> None:
        """Send CONNACK with a failure, and close.

        [MQTT5-3.2.2-6] [MQTT5-3.2.2-7] [MQTT5-4.13.2-1] [MQTT311-3.2.2-4] [MQTT311-3.2.2-5]
        """
        self.send(Connack(reason, False, properties))
        self.phase = CLOSED
        self.closing = True
        # [MQTT5-3.1.4-6] [MQTT311-3.1.4-5]
        self._held = None
