"""What a connection sends: acknowledgements in their order, deliveries within the window.

The half of L{mop_twisted.protocol.connection.Connection} that turns commands of the broker into
frames. It reads nothing that the client says.

MQTT 5.0 sections 4.3, 4.4, 4.6 and 4.9.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from ..codec.bodies import CONNACK_REASONS
from ..codec.encode import encode, encode_ack, encode_acks, encode_publish
from ..codec.packets import (
    NO_PROPERTIES,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Auth,
    Connack,
    Disconnect,
    Pingresp,
    Properties,
    Publish,
    Suback,
    Unsuback,
)
from ..codec.properties import (
    AUTHENTICATION_DATA,
    AUTHENTICATION_METHOD,
    REASON_STRING,
    TOPIC_ALIAS,
)
from ..limits import Limits
from ..reasons import FAILURE, ReasonCode
from .dialect import MQTT_3_1_1, Dialect
from .flights import Flight, Flights
from .promises import Promise
from .tally import Tally

# Phases, in the order in which a connection goes through them.
AWAITING_CONNECT: Final = 0
CONNECTING: Final = 1
"""CONNECT is here; the broker has not accepted it yet. AUTH and DISCONNECT may come."""
ESTABLISHED: Final = 2
CLOSED: Final = 3

_NO_FLIGHTS: Final = Flights()


class Sender:
    """Frames for one client, in the order in which they are to leave."""

    __slots__ = (
        "_aliases_out",
        "_inbound",
        "_promises",
        "authentication_method",
        "closing",
        "congested",
        "dialect",
        "dirty",
        "flights",
        "limits",
        "maximum_packet_size",
        "output",
        "output_bytes",
        "phase",
        "plain",
        "problem_information",
        "reauthenticating",
        "tally",
        "topic_alias_maximum",
        "version",
        "window",
    )

    def __init__(self, limits: Limits, tally: Tally) -> None:
        self.limits = limits
        self.tally = tally
        self.phase = AWAITING_CONNECT
        self.dialect: Dialect = MQTT_3_1_1
        self.version = 4
        """For the codec only."""
        self.output: list[bytes] = []
        """Frames to send, in order; net takes them once a turn."""
        self.output_bytes = 0
        self.dirty = False
        """The outbox's mark."""
        self.closing = False
        """Net closes the transport once output is flushed."""
        self.congested = False
        """Net says: the transport takes no more for now."""
        self.plain = False
        """Established, and frames that are shared by many fit: no maximum packet size and no
        topic aliases of its own."""
        self.flights = _NO_FLIGHTS
        self.window = 0
        """How many more QoS 1 and 2 PUBLISHes may be sent."""
        self.maximum_packet_size = 0
        self.topic_alias_maximum = 0
        self.problem_information = True
        self.authentication_method: str | None = None
        self.reauthenticating = False
        self._inbound = 0
        self._promises: deque[Promise] | None = None
        self._aliases_out: dict[str, int] | None = None

    # Acknowledgements of the client's PUBLISHes

    def acknowledge(
        self, run: list[Publish], outcomes: dict[int, ReasonCode] | None = None
    ) -> None:
        """Acknowledge a run now, or right behind what is still promised."""
        if self._promises:
            promise = Promise(run, outcomes)
            promise.kept = True
            self._promises.append(promise)
        else:
            self._send_acks(run, outcomes)

    def promise(self, run: list[Publish], outcomes: dict[int, ReasonCode] | None) -> Promise:
        """Acknowledge a run later, by L{fulfil}."""
        promise = Promise(run, outcomes)
        if self._promises is None:
            self._promises = deque()
        self._promises.append(promise)
        return promise

    @property
    def has_promised(self) -> bool:
        """Whether acknowledgements wait for the log."""
        return bool(self._promises)

    def fulfil(self, promise: Promise) -> None:
        """What was promised is safe (or refused, as C{promise.outcomes} says now)."""
        promise.kept = True
        promises = self._promises
        while promises and promises[0].kept:
            head = promises.popleft()
            self._send_acks(head.run, head.outcomes)

    def acknowledge_again(self, packet_ids: list[int]) -> None:
        """PUBREC for QoS 2 PUBLISHes that came again, behind what is promised."""
        again = [Publish("", b"", 2, False, packet_id) for packet_id in packet_ids]
        self._inbound += len(again)
        self.acknowledge(again)

    def _send_acks(self, run: list[Publish], outcomes: dict[int, ReasonCode] | None) -> None:
        pubacks: list[int] = []
        pubrecs: list[int] = []
        received = self.flights.received
        for publish in run:
            qos = publish.qos
            if qos == 0:
                continue
            packet_id = publish.packet_id
            if outcomes is not None and packet_id in outcomes:
                reason = outcomes[packet_id]
                if qos == 2:
                    if reason >= FAILURE:
                        # [MQTT5-4.3.3-9]
                        received.pop(packet_id, None)
                    else:
                        received[packet_id] = True
                if qos == 1 or reason >= FAILURE:
                    self._inbound -= 1
                kind = PUBACK if qos == 1 else PUBREC
                if self.phase == ESTABLISHED:
                    if pubacks:
                        self._send_plain_acks(PUBACK, pubacks)
                        pubacks = []
                    if pubrecs:
                        self._send_plain_acks(PUBREC, pubrecs)
                        pubrecs = []
                    self._send_ack(kind, packet_id, reason)
            elif qos == 1:
                # [MQTT5-4.3.2-5]: nothing of it is remembered.
                pubacks.append(packet_id)
                self._inbound -= 1
            else:
                pubrecs.append(packet_id)
                received[packet_id] = True
        if self.phase != ESTABLISHED:
            return
        # [MQTT5-3.3.4-1] [MQTT311-3.3.4-1]
        if pubacks:
            # [MQTT5-4.3.2-4] [MQTT311-4.3.2-2]
            self._send_plain_acks(PUBACK, pubacks)
        if pubrecs:
            # [MQTT5-4.3.3-8] [MQTT311-4.3.3-2]
            self._send_plain_acks(PUBREC, pubrecs)

    def complete(self, packet_ids: list[int]) -> None:
        """PUBCOMP: these inbound identifiers are free again. [MQTT5-4.3.3-12]"""
        received = self.flights.received
        for packet_id in packet_ids:
            if received.pop(packet_id, None) is not None and self._inbound:
                self._inbound -= 1
        if self.phase == ESTABLISHED:
            self._send_plain_acks(PUBCOMP, packet_ids)

    # Deliveries

    def deliver(self, flight: Flight, head: bytes, tail: bytes) -> None:
        """Send a QoS 1 or 2 PUBLISH, whose frame is C{head}, packet identifier, C{tail}. The
        caller has seen that C{window} is not 0, and given the flight an identifier if it must
        have a certain one."""
        flights = self.flights
        packet_id = flight.packet_id
        if not packet_id:
            packet_id = flight.packet_id = flights.next_id()
        # [MQTT5-4.3.2-1] [MQTT5-4.3.2-2] [MQTT5-4.3.2-3] [MQTT5-4.3.3-1] [MQTT5-4.3.3-2]
        # [MQTT5-4.3.3-3] [MQTT311-4.3.2-1] [MQTT311-4.3.3-1]
        flights.sent[packet_id] = flight
        self.window -= 1
        self.output += (head, packet_id.to_bytes(2, "big"), tail)
        self.output_bytes += len(head) + 2 + len(tail)

    def deliver_frame(self, flight: Flight, frame: bytes) -> None:
        """The same for a frame that is complete, with C{flight.packet_id} in it."""
        self.flights.sent[flight.packet_id] = flight
        self.window -= 1
        self._append(frame)

    def release(self, flights: list[Flight]) -> None:
        """PUBREL for flights whose PUBREC is durable."""
        released = self.flights.released
        packet_ids = []
        for flight in flights:
            flight.safe = True
            if released.get(flight.packet_id) is flight:
                packet_ids.append(flight.packet_id)
        if packet_ids and self.phase == ESTABLISHED:
            self._send_plain_acks(PUBREL, packet_ids)

    def release_again(self, flight: Flight) -> None:
        """After a reconnect: PUBREL is owed, not PUBLISH. [MQTT5-4.4.0-1] [MQTT5-4.3.3-6]"""
        flight.safe = True
        self.flights.released[flight.packet_id] = flight
        self.window -= 1
        self._send_plain_acks(PUBREL, [flight.packet_id])

    def frame(
        self, publish: Publish, qos: int, retain: bool, dup: bool, packet_id: int, props: Properties
    ) -> bytes:
        """A PUBLISH for this client alone, with a topic alias where the client allows them."""
        topic = publish.topic
        if self.topic_alias_maximum:
            aliases = self._aliases_out
            if aliases is None:
                aliases = self._aliases_out = {}
            # [MQTT5-3.3.2-11]
            alias = aliases.get(topic)
            if alias is not None:
                props = {**props, TOPIC_ALIAS: alias}
                topic = ""
            elif len(aliases) < self.topic_alias_maximum:
                alias = len(aliases) + 1
                with_alias = {**props, TOPIC_ALIAS: alias}
                frame = encode_publish(
                    publish, self.version, qos, retain, dup, packet_id, with_alias, topic=topic
                )
                maximum = self.maximum_packet_size
                if not maximum or len(frame) <= maximum:
                    # Only what is sent can be referred to.
                    aliases[topic] = alias
                    return frame
        return encode_publish(
            publish, self.version, qos, retain, dup, packet_id, props, topic=topic
        )

    # Bytes out

    def send(self, packet: Connack | Suback | Unsuback | Pingresp | Disconnect | Auth) -> None:
        """Encode a packet for this client, within its maximum packet size."""
        if not self.problem_information and type(packet) is not Connack:
            packet = self._without_problem_information(packet)
        frame = encode(packet, self.version, self.maximum_packet_size)
        if frame and not (self.maximum_packet_size and len(frame) > self.maximum_packet_size):
            # [MQTT5-3.1.2-24]
            self.tally.sent[frame[0] >> 4] += 1
            self._append(frame)

    @staticmethod
    def _without_problem_information(packet: Any) -> Any:
        """[MQTT5-3.1.2-29]: only PUBLISH, CONNACK and DISCONNECT may say more."""
        if type(packet) in (Suback, Unsuback) and packet.properties:
            packet.properties = NO_PROPERTIES
        return packet

    def _send_plain_acks(self, kind: int, packet_ids: list[int]) -> None:
        self.tally.sent[kind] += len(packet_ids)
        self._append(encode_acks(kind, packet_ids))

    def _send_ack(self, kind: int, packet_id: int, reason: int) -> None:
        self.tally.sent[kind] += 1
        self._append(encode_ack(kind, packet_id, reason, NO_PROPERTIES, self.version))

    def _append(self, frame: bytes) -> None:
        self.output.append(frame)
        self.output_bytes += len(frame)

    def take_output(self) -> bytes:
        """All frames, joined; net's call."""
        output = b"".join(self.output)
        self.output = []
        self.output_bytes = 0
        return output

    def authenticate(self, reason: ReasonCode, data: bytes | None) -> None:
        """Send AUTH: a challenge (0x18), or the end of a re-authentication (0x00)."""
        # [MQTT5-4.12.0-2] [MQTT5-4.12.0-5]
        properties: Properties = {AUTHENTICATION_METHOD: self.authentication_method}
        if data:
            properties[AUTHENTICATION_DATA] = data
        self.send(Auth(reason, properties))
        if reason == ReasonCode.SUCCESS:
            self.reauthenticating = False

    def disconnect(self, reason: ReasonCode, why: str = "") -> None:
        """End it from our side: DISCONNECT where the version has one, and close."""
        if self.phase == ESTABLISHED:
            self._say_disconnect(reason, why)
        elif self.phase == CONNECTING and reason != ReasonCode.SESSION_TAKEN_OVER:
            # [MQTT5-3.14.0-1]: no DISCONNECT before a CONNACK. Who was overtaken by its own next
            # CONNECT needs neither.
            self.send(Connack(connack_reason(reason)))
        self.phase = CLOSED
        self.closing = True

    def _say_disconnect(self, reason: ReasonCode, why: str) -> None:
        if self.dialect.may_send_disconnect:
            properties: Properties = {REASON_STRING: why} if why else NO_PROPERTIES
            self.send(Disconnect(reason, properties))


def connack_reason(reason: ReasonCode) -> ReasonCode:
    """The nearest that CONNACK has a code for. [MQTT5-3.2.2-8]"""
    if reason in CONNACK_REASONS:
        return reason
    if reason == ReasonCode.SERVER_SHUTTING_DOWN:
        return ReasonCode.SERVER_UNAVAILABLE
    return ReasonCode.PROTOCOL_ERROR
