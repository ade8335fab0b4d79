"""Bytes to packets: one loop over whatever a read brought.

The loop yields whole packets, PUBLISHes and plain acknowledgements in runs; a packet that is cut
off is kept as a list of chunks until it is whole, so that a trickle costs linear time. It knows
no session and no order of packets; that is C{protocol/connection.py}.

MQTT 5.0 chapters 2 and 3; MQTT 3.1.1 the same.
"""

from __future__ import annotations

from typing import Any, Final, final

from ..errors import (
    ClientIdentifierNotValid,
    MalformedPacket,
    PacketTooLarge,
    PeerError,
    ProtocolBreach,
    UnsupportedVersion,
)
from .packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    NO_PROPERTIES,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Ack,
    Acks,
    Auth,
    Connack,
    Connect,
    Disconnect,
    FilterRequest,
    Pingreq,
    Pingresp,
    Properties,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    WillMessage,
)
from .properties import (
    DISCONNECT_OF_SERVER,
    PUBLISH_OF_CLIENT,
    TOPIC_ALIAS,
    WILL,
    WILL_DELAY_INTERVAL,
    read_properties,
)
from .wire import TOPIC_NAMES, read_binary, read_packet_id, read_string

_TO_SERVER: Final = frozenset(
    (CONNECT, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, UNSUBSCRIBE, PINGREQ,
     DISCONNECT, AUTH)
)  # fmt: skip
_TO_CLIENT: Final = frozenset(
    (CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, PINGRESP,
     DISCONNECT, AUTH)
)  # fmt: skip


def _flags_of(kind: int) -> int:
    """[MQTT5-2.1.3-1] [MQTT311-2.2.2-1]"""
    return 2 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0


@final
class Decoder:
    """The packets of one connection, as they become whole."""

    __slots__ = (
        "_at_client", "_chunks", "_held", "_kinds", "_maximum_user_properties", "_wanted",
        "error", "maximum_packet_size", "version",
    )  # fmt: skip

    def __init__(
        self,
        maximum_packet_size: int,
        maximum_user_properties: int = 4096,
        role: str = "server",
        version: int = 0,
    ) -> None:
        self.maximum_packet_size = maximum_packet_size
        self.version = version
        self.error: PeerError | None = None
        self._maximum_user_properties = maximum_user_properties
        self._at_client = role == "client"
        self._kinds = _TO_CLIENT if self._at_client else _TO_SERVER
        self._chunks: list[bytes] | None = None
        self._held = 0
        self._wanted = 0

    @property
    def buffered(self) -> int:
        """Bytes held of a packet that is not whole."""
        return self._held

    def receive(self, data: bytes) -> list[Any]:
        """The packets that are whole now."""
        if self.error is not None:
            return []
        chunks = self._chunks
        if chunks is not None:
            chunks.append(data)
            self._held += len(data)
            if self._held < self._wanted:
                return []
            data = b"".join(chunks)
            self._chunks = None
            self._held = 0
        packets: list[Any] = []
        try:
            rest = self._read(data, packets)
        except PeerError as error:
            self.error = error
            return packets
        if rest < len(data):
            self._chunks = [data[rest:]]
            self._held = len(data) - rest
        return packets

    def _read(self, data: bytes, packets: list[Any]) -> int:
        """Append the packets in C{data}; the offset of what is not whole."""
        size = len(data)
        at = 0
        names = TOPIC_NAMES.recent
        run: list[Publish] | None = None
        acks: Acks | None = None
        while at + 2 <= size:
            first = data[at]
            length = data[at + 1]
            start = at + 2
            if length >= 0x80:
                length &= 0x7F
                shift = 7
                while True:
                    if start >= size:
                        self._wanted = size - at + 1
                        if size - at >= 5:
                            raise MalformedPacket("remaining length of more than four bytes")
                        return at
                    byte = data[start]
                    start += 1
                    length |= (byte & 0x7F) << shift
                    if byte < 0x80:
                        if byte == 0:
                            raise MalformedPacket("remaining length longer than need be")
                        break
                    shift += 7
                    if shift == 28:
                        raise MalformedPacket("remaining length of more than four bytes")
            end = start + length
            if end - at > self.maximum_packet_size:
                raise PacketTooLarge(f"packet of {end - at} bytes")
            if end > size:
                self._wanted = end - at
                return at
            kind = first >> 4
            version = self.version
            if kind == PUBLISH and version:
                qos = first >> 1 & 3
                body = start + 2
                if body > end:
                    raise MalformedPacket("PUBLISH is cut off")
                stop = body + (data[start] << 8 | data[start + 1])
                if stop > end:
                    raise MalformedPacket("topic name reaches over the end of its packet")
                raw = data[body:stop]
                topic = names.get(raw)
                if topic is None:
                    topic = "" if not raw and version == 5 else TOPIC_NAMES.name_of(raw)
                packet_id = 0
                if qos:
                    if qos == 3:
                        raise MalformedPacket("PUBLISH with QoS 3", "MQTT5-3.3.1-4")
                    packet_id = read_packet_id(data, stop, end)
                    stop += 2
                elif first & 8:
                    raise ProtocolBreach("DUP with QoS 0", "MQTT5-3.3.1-2")
                properties = NO_PROPERTIES
                if version == 5:
                    if stop < end and data[stop] == 0:
                        stop += 1
                    else:
                        place = PUBLISH if self._at_client else PUBLISH_OF_CLIENT
                        properties, stop = read_properties(
                            data, stop, end, place, self._maximum_user_properties
                        )
                    if not topic and TOPIC_ALIAS not in properties:
                        raise ProtocolBreach("PUBLISH without topic name and alias")
                publish = Publish(
                    topic, data[stop:end], qos, first & 1 == 1, packet_id, properties,
                    first & 8 == 8,
                )  # fmt: skip
                if run is None:
                    run = [publish]
                    packets.append(run)
                    acks = None
                else:
                    run.append(publish)
            elif length == 2 and PUBACK <= kind <= PUBCOMP and version:
                if first & 15 != (2 if kind == PUBREL else 0):
                    raise MalformedPacket("reserved flags")
                packet_id = data[start] << 8 | data[start + 1]
                if not packet_id:
                    raise ProtocolBreach("packet identifier 0")
                if acks is None or acks.kind != kind:
                    acks = Acks(kind, [packet_id])
                    packets.append(acks)
                    run = None
                else:
                    acks.packet_ids.append(packet_id)
            else:
                run = None
                acks = None
                packets.append(self._decode(first, kind, data, start, end))
            at = end
        if at < size:
            self._wanted = 2
        return at

    def _decode(self, first: int, kind: int, data: bytes, at: int, end: int) -> Any:
        if kind not in self._kinds or (kind == AUTH and self.version != 5):
            if kind == 0 or kind == AUTH:
                raise MalformedPacket(f"packet type {kind}")
            raise ProtocolBreach(f"packet type {kind} in this direction")
        if kind != PUBLISH and first & 15 != _flags_of(kind):
            raise MalformedPacket("reserved flags")
        if kind == CONNECT:
            return self._connect(data, at, end)
        if not self.version:
            raise ProtocolBreach("the first packet is no CONNECT")
        if kind in (PINGREQ, PINGRESP):
            if at != end:
                raise MalformedPacket("PINGREQ with a body")
            return Pingreq() if kind == PINGREQ else Pingresp()
        if PUBACK <= kind <= PUBCOMP:
            return self._ack(kind, data, at, end)
        if kind in (DISCONNECT, AUTH):
            return self._reasoned(kind, data, at, end)
        if kind == CONNACK:
            return self._connack(data, at, end)
        packet_id = read_packet_id(data, at, end)
        at += 2
        properties = NO_PROPERTIES
        if self.version == 5:
            properties, at = read_properties(data, at, end, kind, self._maximum_user_properties)
        if kind == SUBSCRIBE:
            return self._subscribe(packet_id, properties, data, at, end)
        if kind == UNSUBSCRIBE:
            filters = []
            while at < end:
                text, at = read_string(data, at, end)
                filters.append(text)
            if not filters:
                raise ProtocolBreach("UNSUBSCRIBE without a filter")
            return Unsubscribe(packet_id, filters, properties)
        reasons = list(data[at:end])
        if kind == SUBACK:
            return Suback(packet_id, reasons, properties)
        return Unsuback(packet_id, reasons, properties)

    def _subscribe(
        self, packet_id: int, properties: Properties, data: bytes, at: int, end: int
    ) -> Subscribe:
        requests = []
        while at < end:
            text, at = read_string(data, at, end)
            if at >= end:
                raise MalformedPacket("SUBSCRIBE without options")
            options = data[at]
            at += 1
            allowed = 0x3F if self.version == 5 else 3
            if options & ~allowed or options & 3 == 3:
                raise MalformedPacket("reserved bits in subscription options")
            handling = options >> 4
            if handling == 3:
                raise ProtocolBreach("retain handling 3")
            no_local = options & 4 == 4
            if no_local and text.startswith("$share/"):
                raise ProtocolBreach("no local on a shared subscription", "MQTT5-3.8.3-4")
            requests.append(
                FilterRequest(text, options & 3, no_local, options & 8 == 8, handling)
            )
        if not requests:
            raise ProtocolBreach("SUBSCRIBE without a filter")
        return Subscribe(packet_id, requests, properties)

    def _ack(self, kind: int, data: bytes, at: int, end: int) -> Any:
        packet_id = read_packet_id(data, at, end)
        at += 2
        if self.version != 5:
            raise MalformedPacket("acknowledgement of a wrong length")
        reason = data[at]
        at += 1
        properties = NO_PROPERTIES
        if at < end:
            properties, at = read_properties(data, at, end, kind, self._maximum_user_properties)
        if at != end:
            raise MalformedPacket("bytes behind the packet")
        if not reason and not properties:
            return Acks(kind, [packet_id])
        return Ack(kind, packet_id, reason, properties)

    def _reasoned(self, kind: int, data: bytes, at: int, end: int) -> Any:
        reason = 0
        properties = NO_PROPERTIES
        if at < end:
            if self.version != 5:
                raise MalformedPacket("DISCONNECT with a body")
            reason = data[at]
            at += 1
            if at < end:
                place = DISCONNECT_OF_SERVER if self._at_client and kind == DISCONNECT else kind
                properties, at = read_properties(
                    data, at, end, place, self._maximum_user_properties
                )
        if at != end:
            raise MalformedPacket("bytes behind the packet")
        return Disconnect(reason, properties) if kind == DISCONNECT else Auth(reason, properties)

    def _connack(self, data: bytes, at: int, end: int) -> Connack:
        present, reason = data[at] == 1, data[at + 1]
        properties = NO_PROPERTIES
        if self.version == 5:
            properties, at = read_properties(
                data, at + 2, end, CONNACK, self._maximum_user_properties
            )
        return Connack(reason, present, properties)

    def _connect(self, data: bytes, at: int, end: int) -> Connect:
        name, at = read_string(data, at, end)
        if at + 4 > end:
            raise MalformedPacket("CONNECT is cut off")
        level = data[at]
        flags = data[at + 1]
        keep_alive = data[at + 2] << 8 | data[at + 3]
        at += 4
        bridge = level in (0x83, 0x84)
        version = level & 0x7F if bridge else level
        if (name, version) not in (("MQIsdp", 3), ("MQTT", 4), ("MQTT", 5)):
            self.version = version if name == "MQTT" else 4
            raise UnsupportedVersion(f"protocol {name!r} level {level}")
        self.version = version
        if flags & 1:
            raise MalformedPacket("reserved flag of CONNECT", "MQTT5-3.1.2-3")
        properties = NO_PROPERTIES
        if version == 5:
            properties, at = read_properties(
                data, at, end, CONNECT, self._maximum_user_properties
            )
        client_id, at = read_string(data, at, end)
        will = None
        will_qos = flags >> 3 & 3
        if flags & 4:
            if will_qos == 3:
                raise MalformedPacket("will QoS 3", "MQTT5-3.1.2-12")
            will_properties = NO_PROPERTIES
            if version == 5:
                will_properties, at = read_properties(
                    data, at, end, WILL, self._maximum_user_properties
                )
            raw, at = read_binary(data, at, end)
            topic = TOPIC_NAMES.name_of(raw)
            payload, at = read_binary(data, at, end)
            delay = 0
            if will_properties:
                delay = will_properties.pop(WILL_DELAY_INTERVAL, 0)
            will = WillMessage(topic, payload, will_qos, flags & 32 == 32, will_properties, delay)
        elif flags & 0x38:
            raise MalformedPacket("will flags without a will", "MQTT5-3.1.2-11")
        user_name = None
        password = None
        if flags & 128:
            user_name, at = read_string(data, at, end)
        if flags & 64:
            if version != 5 and not flags & 128:
                raise MalformedPacket("password without user name", "MQTT311-3.1.2-22")
            password, at = read_binary(data, at, end)
        if at != end:
            raise MalformedPacket("bytes behind the packet")
        if not client_id and (version == 3 or (version == 4 and not flags & 2)):
            raise ClientIdentifierNotValid("empty client identifier", "MQTT311-3.1.3-8")
        return Connect(
            version, client_id, flags & 2 == 2, keep_alive, user_name, password, will,
            properties, bridge,
        )  # fmt: skip
