"""Packets to bytes.

C{version} is an argument; what a version cannot say is left out here, and nobody above needs to
ask. Both roles are here: the load generator and the tests play clients. Nothing is checked that
only a bug of ours could break, but what would not fit into the format is a L{MisuseError}.

MQTT 5.0 chapter 3; MQTT 3.1.1 chapter 3; MQTT V3.1 section 3.
"""

from __future__ import annotations

import sys
from array import array
from typing import Final

from ..errors import MisuseError
from ..reasons import connack_code, suback_code
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
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from .properties import REASON_STRING, USER_PROPERTY, WILL_DELAY_INTERVAL, encode_properties
from .wire import encode_binary, encode_number, encode_string, encode_varint

_LITTLE: Final = sys.byteorder == "little"

_FIRST: Final = {
    PUBACK: 0x40, PUBREC: 0x50, PUBREL: 0x62, PUBCOMP: 0x70, CONNACK: 0x20, SUBSCRIBE: 0x82,
    SUBACK: 0x90, UNSUBSCRIBE: 0xA2, UNSUBACK: 0xB0, DISCONNECT: 0xE0, AUTH: 0xF0,
}  # fmt: skip
"""Kind → first byte. [MQTT5-2.1.3-1] [MQTT311-2.2.2-1]"""

_ACK_HEADS: Final = {kind: bytes((_FIRST[kind], 2)) for kind in (PUBACK, PUBREC, PUBREL, PUBCOMP)}

_PUBLISH_HEADS: Final = [bytes((0x30 | i >> 7, i & 127)) for i in range(2048)]
"""Fixed headers of PUBLISHes under 128 bytes, by flags and remaining length."""

_PINGREQ: Final = bytes((PINGREQ << 4, 0))
_PINGRESP: Final = bytes((PINGRESP << 4, 0))

_topics: Final[dict[str, bytes]] = {}
"""Topic name → what it is on the wire, length in front. Emptied when it is full: an entry is
made anew in half a microsecond."""
_TOPICS_CAPACITY: Final = 16_384
_TOPICS_LONGEST: Final = 256


def _topic_bytes(topic: str) -> bytes:
    raw = encode_string(topic)
    if len(raw) <= _TOPICS_LONGEST:
        if len(_topics) >= _TOPICS_CAPACITY:
            _topics.clear()
        _topics[topic] = raw
    return raw


def _frame(first: int, parts: list[bytes]) -> bytes:
    body = b"".join(parts)
    return b"".join((bytes((first,)), encode_varint(len(body)), body))


# PUBLISH


def encode_publish(
    publish: Publish,
    version: int,
    qos: int,
    retain: bool,
    dup: bool,
    packet_id: int,
    properties: Properties,
    topic: str | None = None,
) -> bytes:
    """A PUBLISH of C{publish}'s payload, everything else as it is given here. C{properties}
    count for 5.0 only; C{topic} stands in for the publish's own ("" behind a topic alias).

    @raise MisuseError: it does not fit into the format.
    """
    if topic is None:
        topic = publish.topic
    raw = _topics.get(topic)
    if raw is None:
        raw = _topic_bytes(topic)
    payload = publish.payload
    if version < 5:
        tail = b""
    elif properties:
        tail = encode_properties(properties)
    else:
        tail = b"\0"
    length = len(raw) + len(tail) + len(payload)
    if qos:
        length += 2
        # [MQTT5-3.3.1-3] [MQTT311-3.3.1-3]
        flags = qos << 1 | retain | (8 if dup else 0)
    else:
        # [MQTT5-3.3.1-2] [MQTT5-4.3.1-1] [MQTT311-3.3.1-2] [MQTT311-4.3.1-1]
        flags = 1 if retain else 0
    if length < 128:
        head = _PUBLISH_HEADS[flags << 7 | length]
    else:
        head = bytes((0x30 | flags,)) + encode_varint(length)
    if qos:
        return b"".join((head, raw, packet_id.to_bytes(2, "big"), tail, payload))
    # [MQTT5-2.2.1-2] [MQTT311-2.3.1-5]
    return b"".join((head, raw, tail, payload))


def publish_parts(
    publish: Publish, version: int, qos: int, retain: bool, properties: Properties
) -> tuple[bytes, bytes]:
    """What comes before and what comes after the packet identifier, so that a fan-out encodes
    once: the frame is head, two bytes of packet identifier, tail; at QoS 0 head and tail.

    @raise MisuseError: it does not fit into the format.
    """
    raw = _topics.get(publish.topic)
    if raw is None:
        raw = _topic_bytes(publish.topic)
    tail = publish.payload
    if version == 5:
        tail = (encode_properties(properties) if properties else b"\0") + tail
    length = len(raw) + len(tail)
    flags = 1 if retain else 0
    if qos:
        length += 2
        flags |= qos << 1
    if length < 128:
        return _PUBLISH_HEADS[flags << 7 | length] + raw, tail
    return b"".join((bytes((0x30 | flags,)), encode_varint(length), raw)), tail


# Acknowledgements


def encode_acks(kind: int, packet_ids: list[int]) -> bytes:
    """Acknowledgements that say success and nothing else: four bytes each, the same in all
    versions. [MQTT5-2.2.1-5] [MQTT311-2.3.1-6]

    @raise MisuseError: a packet identifier does not fit.
    """
    head = _ACK_HEADS[kind]
    count = len(packet_ids)
    try:
        if count < 8:
            frame = b""
            for packet_id in packet_ids:
                frame += head + packet_id.to_bytes(2, "big")
            return frame
        numbers = array("H", packet_ids)
    except OverflowError:
        raise MisuseError("a packet identifier over 65535") from None
    # By columns: a loop in C over each instead of one in Python over all.
    if _LITTLE:
        numbers.byteswap()
    raw = numbers.tobytes()
    frames = bytearray((head + b"\0\0") * count)
    frames[2::4] = raw[0::2]
    frames[3::4] = raw[1::2]
    return bytes(frames)


def encode_ack(
    kind: int,
    packet_id: int,
    reason: int,
    properties: Properties,
    version: int,
    maximum_packet_size: int = 0,
) -> bytes:
    """One acknowledgement. 3.x can only say that it arrived; whether that may be said where
    C{reason} is a failure, the caller knows.

    Over C{maximum_packet_size} (0: none) it says less: see L{encode}.
    """
    head = encode_number(packet_id, 2)
    if version < 5 or (reason == 0 and not properties):
        return _ACK_HEADS[kind] + head
    first = _FIRST[kind]
    if not properties:
        return bytes((first, 3)) + head + bytes((reason,))
    # [MQTT5-3.4.2-2] [MQTT5-3.4.2-3] [MQTT5-3.5.2-2] [MQTT5-3.5.2-3] [MQTT5-3.6.2-2]
    # [MQTT5-3.6.2-3] [MQTT5-3.7.2-2] [MQTT5-3.7.2-3]
    return _within(maximum_packet_size, first, head + bytes((reason,)), properties, b"")


def _within(maximum: int, first: int, head: bytes, properties: Properties, tail: bytes) -> bytes:
    """A frame of C{head}, properties and C{tail}, without its Reason String and then without
    its User Properties where it were larger than C{maximum} (0: any size)."""
    frame = _frame(first, [head, encode_properties(properties), tail])
    for identifier in (REASON_STRING, USER_PROPERTY):
        if not maximum or len(frame) <= maximum:
            break
        if identifier in properties:
            properties = {i: value for i, value in properties.items() if i != identifier}
            frame = _frame(first, [head, encode_properties(properties), tail])
    return frame


# The rest


def encode(packet: Packet, version: int, maximum_packet_size: int = 0) -> bytes:
    """Any packet (of a list, all PUBLISHes) in protocol C{version}.

    Over C{maximum_packet_size} (0: none) the packets that say why leave out their Reason String,
    then their User Properties; what is too large even so is returned as it is. C{b""} for what
    the version cannot say: AUTH, and a DISCONNECT with a reason other than 0, in 3.x.

    @raise MisuseError: it does not fit into the format.
    """
    if isinstance(packet, list):
        frames = [
            encode_publish(p, version, p.qos, p.retain, p.dup, p.packet_id, p.properties)
            for p in packet
        ]
        return b"".join(frames)
    if isinstance(packet, Acks):
        return encode_acks(packet.kind, packet.packet_ids)
    if isinstance(packet, Ack):
        return encode_ack(
            packet.kind,
            packet.packet_id,
            packet.reason,
            packet.properties,
            version,
            maximum_packet_size,
        )
    if isinstance(packet, Suback):
        return _encode_suback(packet, version, maximum_packet_size)
    if isinstance(packet, Pingresp):
        return _PINGRESP
    if isinstance(packet, Connack):
        return _encode_connack(packet, version, maximum_packet_size)
    if isinstance(packet, Unsuback):
        return _encode_unsuback(packet, version, maximum_packet_size)
    if isinstance(packet, Disconnect):
        return _encode_disconnect(packet, version, maximum_packet_size)
    if isinstance(packet, Auth):
        return _encode_auth(packet, version, maximum_packet_size)
    if isinstance(packet, Subscribe):
        return _encode_subscribe(packet, version)
    if isinstance(packet, Unsubscribe):
        return _encode_unsubscribe(packet, version)
    if isinstance(packet, Pingreq):
        return _PINGREQ
    return _encode_connect(packet)


def _encode_connect(connect: Connect) -> bytes:
    version = connect.version
    level = version | 0x80 if connect.bridge else version
    flags = 2 if connect.clean_start else 0
    will = connect.will
    if will is not None:
        flags |= 4 | will.qos << 3 | (0x20 if will.retain else 0)
    if connect.user_name is not None:
        flags |= 0x80
    if connect.password is not None:
        flags |= 0x40
    parts = [
        b"\0\6MQIsdp" if version == 3 else b"\0\4MQTT",
        bytes((level, flags)),
        encode_number(connect.keep_alive, 2),
    ]
    if version == 5:
        parts.append(encode_properties(connect.properties))
    parts.append(encode_string(connect.client_id))
    if will is not None:
        if version == 5:
            properties = will.properties
            if will.delay:
                properties = {WILL_DELAY_INTERVAL: will.delay, **properties}
            parts.append(encode_properties(properties))
        parts += (encode_string(will.topic), encode_binary(will.payload))
    if connect.user_name is not None:
        parts.append(encode_string(connect.user_name))
    if connect.password is not None:
        parts.append(encode_binary(connect.password))
    return _frame(CONNECT << 4, parts)


def _encode_connack(connack: Connack, version: int, maximum: int) -> bytes:
    reason = connack.reason
    # [MQTT5-3.2.2-1] [MQTT5-3.2.2-6] [MQTT311-3.2.2-4]; in 3.1 the byte is unused.
    flags = 1 if connack.session_present and reason == 0 and version > 3 else 0
    head = bytes((flags, connack_code(version, reason)))
    if version < 5:
        return _frame(_FIRST[CONNACK], [head])
    # [MQTT5-3.2.2-19] [MQTT5-3.2.2-20]
    return _within(maximum, _FIRST[CONNACK], head, connack.properties, b"")


def _encode_subscribe(subscribe: Subscribe, version: int) -> bytes:
    parts = [encode_number(subscribe.packet_id, 2)]
    if version == 5:
        parts.append(encode_properties(subscribe.properties))
    for request in subscribe.requests:
        options = request.qos
        if version == 5:
            options |= (
                (4 if request.no_local else 0)
                | (8 if request.retain_as_published else 0)
                | request.retain_handling << 4
            )
        parts += (encode_string(request.topic_filter), bytes((options,)))
    return _frame(_FIRST[SUBSCRIBE], parts)


def _encode_suback(suback: Suback, version: int, maximum: int) -> bytes:
    # [MQTT5-2.2.1-6] [MQTT5-3.9.3-1] [MQTT311-2.3.1-7] [MQTT311-3.9.3-1] [MQTT311-3.9.3-2]
    head = encode_number(suback.packet_id, 2)
    tail = bytes([suback_code(version, reason) for reason in suback.reasons])
    if version < 5:
        return _frame(_FIRST[SUBACK], [head, tail])
    # [MQTT5-3.9.2-1] [MQTT5-3.9.2-2]
    return _within(maximum, _FIRST[SUBACK], head, suback.properties, tail)


def _encode_unsubscribe(unsubscribe: Unsubscribe, version: int) -> bytes:
    parts = [encode_number(unsubscribe.packet_id, 2)]
    if version == 5:
        parts.append(encode_properties(unsubscribe.properties))
    parts += [encode_string(topic_filter) for topic_filter in unsubscribe.topic_filters]
    return _frame(_FIRST[UNSUBSCRIBE], parts)


def _encode_unsuback(unsuback: Unsuback, version: int, maximum: int) -> bytes:
    # [MQTT5-2.2.1-6] [MQTT5-3.11.3-1] [MQTT311-2.3.1-7]
    head = encode_number(unsuback.packet_id, 2)
    if version < 5:
        return _frame(_FIRST[UNSUBACK], [head])
    # [MQTT5-3.11.2-1] [MQTT5-3.11.2-2]
    tail = bytes(unsuback.reasons)
    return _within(maximum, _FIRST[UNSUBACK], head, unsuback.properties, tail)


def _encode_disconnect(disconnect: Disconnect, version: int, maximum: int) -> bytes:
    first = _FIRST[DISCONNECT]
    reason = disconnect.reason
    properties = disconnect.properties
    if version < 5:
        return b"" if reason else bytes((first, 0))
    if properties:
        # [MQTT5-3.14.2-3] [MQTT5-3.14.2-4]
        return _within(maximum, first, bytes((reason,)), properties, b"")
    return bytes((first, 1, reason)) if reason else bytes((first, 0))


def _encode_auth(auth: Auth, version: int, maximum: int) -> bytes:
    if version < 5:
        return b""
    if auth.reason == 0 and auth.properties is NO_PROPERTIES:
        return bytes((_FIRST[AUTH], 0))
    # [MQTT5-3.15.2-2] [MQTT5-3.15.2-3]
    return _within(maximum, _FIRST[AUTH], bytes((auth.reason,)), auth.properties, b"")
