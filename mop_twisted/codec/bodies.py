"""Packet bodies to objects, for everything that is not on the hot path.

One function a packet: the read, the first byte, and where the body begins and ends. Lengths and
limits are the decoder's business; so are the order of packets and who may send which.

MQTT 5.0 chapter 3; MQTT 3.1.1 chapter 3; MQTT V3.1 section 3.
"""

from __future__ import annotations

from typing import Final

from ..errors import (
    ClientIdentifierNotValid,
    MalformedPacket,
    ProtocolBreach,
    UnsupportedVersion,
)
from ..reasons import ReasonCode
from .packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    NO_PROPERTIES,
    PACKET_NAMES,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Ack,
    Auth,
    Connack,
    Connect,
    Disconnect,
    FilterRequest,
    Properties,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    WillMessage,
)
from .properties import (
    AUTHENTICATION_METHOD,
    DISCONNECT_OF_SERVER,
    WILL,
    WILL_DELAY_INTERVAL,
    read_properties,
)
from .wire import TOPIC_NAMES, read_binary, read_packet_id, read_string

# Reason codes by packet [MQTT 5.0, 2.4]; where the two sides differ, by sender.
_PUBLISH_REASONS: Final = frozenset({0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99})
_RELEASE_REASONS: Final = frozenset({0x00, 0x92})
ACK_REASONS: Final = {
    PUBACK: _PUBLISH_REASONS,
    PUBREC: _PUBLISH_REASONS,
    PUBREL: _RELEASE_REASONS,
    PUBCOMP: _RELEASE_REASONS,
}
CONNACK_REASONS: Final = frozenset(
    {0x00, *range(0x80, 0x8B), 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F}
)
SUBACK_REASONS: Final = frozenset(
    {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2}
)
UNSUBACK_REASONS: Final = frozenset({0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91})
DISCONNECT_REASONS_OF_CLIENT: Final = frozenset(
    {0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, *range(0x93, 0x9A)}
)
DISCONNECT_REASONS_OF_SERVER: Final = frozenset(
    {0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, *range(0x93, 0xA3)}
)
AUTH_REASONS_OF_CLIENT: Final = frozenset({0x18, 0x19})
AUTH_REASONS_OF_SERVER: Final = frozenset({0x00, 0x18})

_CONNACK_OF_3: Final = (
    ReasonCode.SUCCESS,
    ReasonCode.UNSUPPORTED_PROTOCOL_VERSION,
    ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
    ReasonCode.SERVER_UNAVAILABLE,
    ReasonCode.BAD_USER_NAME_OR_PASSWORD,
    ReasonCode.NOT_AUTHORIZED,
)
"""CONNACK return code of 3.1 and 3.1.1 → reason code."""


def check_whole(at: int, end: int, kind: int) -> None:
    """That a body was read to its end.

    @raise MalformedPacket: something is left over.
    """
    if at != end:
        raise MalformedPacket(f"{end - at} bytes too many in {PACKET_NAMES[kind]}", "MQTT5-2.1.4")


def read_version(data: bytes, at: int, end: int) -> tuple[int, bool, int]:
    """What begins a CONNECT: version (3, 4 or 5), whether it is a bridge, offset behind it.

    A version that we do not speak is given as 0 when its name is not MQTT's; else as -5 when
    it is a later one than 5, or as -4: in that form the refusal is most likely understood.

    @raise MalformedPacket: it is cut off, or the name is no string.
    """
    name, at = read_string(data, at, end)
    if at >= end:
        raise MalformedPacket("CONNECT without a protocol version", "MQTT5-3.1.2.2")
    byte = data[at]
    at += 1
    if name == "MQTT":
        if byte == 4 or byte == 5:
            return byte, False, at
        if byte == 0x84:
            return 4, True, at
        return (-5 if 5 < byte < 0x80 else -4), False, at
    if name == "MQIsdp":
        if byte == 3 or byte == 0x83:
            return 3, byte == 0x83, at
        return -4, False, at
    return 0, False, at


def unsupported(version: int) -> UnsupportedVersion:
    """The error for what L{read_version} does not know."""
    # [MQTT5-3.1.2-1] [MQTT5-3.1.2-2] [MQTT311-3.1.2-1] [MQTT311-3.1.2-2]
    if version == 0:
        return UnsupportedVersion("CONNECT of an unknown protocol name", "MQTT5-3.1.2-1")
    return UnsupportedVersion("CONNECT of an unknown protocol version", "MQTT5-3.1.2-2")


def read_connect(
    data: bytes, at: int, end: int, version: int, bridge: bool, maximum_user_properties: int
) -> Connect:
    """A CONNECT behind its protocol version. [MQTT5-3.1.4-1] [MQTT311-3.1.4-1]"""
    if at + 3 > end:
        raise MalformedPacket("CONNECT is cut off", "MQTT5-3.1.2")
    flags = data[at]
    keep_alive = data[at + 1] << 8 | data[at + 2]
    at += 3
    has_will = flags & 0x04 != 0
    will_qos = flags >> 3 & 3
    if version > 3:
        # 3.1 calls bit 0 unused, and the will's QoS and retain disregarded without a will.
        if flags & 0x01:
            # [MQTT5-3.1.2-3] [MQTT311-3.1.2-3]
            raise MalformedPacket("reserved flag of CONNECT is set", "MQTT5-3.1.2-3")
        if not has_will and flags & 0x38:
            # [MQTT5-3.1.2-11] [MQTT5-3.1.2-13] [MQTT311-3.1.2-11] [MQTT311-3.1.2-13]
            # [MQTT311-3.1.2-15]
            raise MalformedPacket("will QoS or will retain without a will", "MQTT5-3.1.2-11")
    if has_will and will_qos == 3:
        # [MQTT5-3.1.2-12] [MQTT311-3.1.2-14]
        raise MalformedPacket("will QoS 3", "MQTT5-3.1.2-12")
    if version < 5 and flags & 0xC0 == 0x40:
        # [MQTT311-3.1.2-22]; MQTT 5.0 allows a password alone.
        raise MalformedPacket("password without a user name", "MQTT311-3.1.2-22")
    properties = NO_PROPERTIES
    if version == 5:
        properties, at = read_properties(data, at, end, CONNECT, maximum_user_properties)
    # [MQTT5-3.1.3-1] [MQTT5-3.1.3-3] [MQTT5-3.1.3-4] [MQTT311-3.1.3-1] [MQTT311-3.1.3-3]
    # [MQTT311-3.1.3-4]
    client_id, at = read_string(data, at, end)
    will: WillMessage | None = None
    if has_will:
        will, at = _read_will(data, at, end, flags, version, maximum_user_properties)
    user_name: str | None = None
    password: bytes | None = None
    # [MQTT5-3.1.2-16] [MQTT5-3.1.2-17] [MQTT5-3.1.2-18] [MQTT5-3.1.2-19] [MQTT311-3.1.2-18]
    # [MQTT311-3.1.2-19] [MQTT311-3.1.2-20] [MQTT311-3.1.2-21]. In 3.1 the remaining length
    # takes precedence over the flags, for the clients of its forerunner.
    if flags & 0x80 and (version > 3 or at < end):
        # [MQTT5-3.1.3-12] [MQTT311-3.1.3-11]
        user_name, at = read_string(data, at, end)
    if flags & 0x40 and (version > 3 or at < end):
        password, at = read_binary(data, at, end)
    check_whole(at, end, CONNECT)
    clean_start = flags & 0x02 != 0
    if not client_id and (version == 3 or (version == 4 and not clean_start)):
        # [MQTT311-3.1.3-7] [MQTT311-3.1.3-8]; 3.1 wants 1 to 23 characters. Longer ones are
        # taken from everyone, as all brokers do.
        raise ClientIdentifierNotValid("client identifier is empty", "MQTT311-3.1.3-8")
    return Connect(
        version,
        client_id,
        clean_start,
        keep_alive,
        user_name,
        password,
        will,
        properties,
        bridge,
    )


def _read_will(
    data: bytes, at: int, end: int, flags: int, version: int, maximum_user_properties: int
) -> tuple[WillMessage, int]:
    # [MQTT5-3.1.2-9] [MQTT311-3.1.2-9]
    properties: Properties = NO_PROPERTIES
    delay = 0
    if version == 5:
        properties, at = read_properties(data, at, end, WILL, maximum_user_properties)
        if properties:
            delay = properties.pop(WILL_DELAY_INTERVAL, 0)
            if not properties:
                properties = NO_PROPERTIES
    raw, at = read_binary(data, at, end)
    # [MQTT5-3.1.3-11] [MQTT311-3.1.3-10]
    topic = TOPIC_NAMES.name_of(raw)
    payload, at = read_binary(data, at, end)
    will = WillMessage(topic, payload, flags >> 3 & 3, flags & 0x20 != 0, properties, delay)
    return will, at


def read_connack(
    data: bytes, at: int, end: int, version: int, maximum_user_properties: int
) -> Connack:
    """A CONNACK; reasons of 3.x are lifted to those of MQTT 5.0."""
    if at + 2 > end:
        raise MalformedPacket("CONNACK is cut off", "MQTT5-3.2.2")
    flags = data[at]
    reason = data[at + 1]
    at += 2
    # 3.1 calls the first byte unused.
    if flags & 0xFE and version > 3:
        # [MQTT5-3.2.2-1]
        raise MalformedPacket("reserved flags of CONNACK are set", "MQTT5-3.2.2-1")
    if version < 5:
        check_whole(at, end, CONNACK)
        if reason >= len(_CONNACK_OF_3):
            raise ProtocolBreach(f"CONNACK with return code {reason}", "MQTT311-3.2.2.3")
        return Connack(int(_CONNACK_OF_3[reason]), _session_present(flags, reason, version))
    if reason not in CONNACK_REASONS:
        # [MQTT5-3.2.2-8]
        raise ProtocolBreach(f"CONNACK with reason {reason:#04x}", "MQTT5-3.2.2-8")
    properties, at = read_properties(data, at, end, CONNACK, maximum_user_properties)
    check_whole(at, end, CONNACK)
    return Connack(reason, _session_present(flags, reason, version), properties)


def _session_present(flags: int, reason: int, version: int) -> bool:
    if version == 3 or not flags & 1:
        return False
    if reason:
        # [MQTT5-3.2.2-6] [MQTT311-3.2.2-4]
        raise ProtocolBreach("a refusal with a session present", "MQTT5-3.2.2-6")
    return True


def read_ack(
    data: bytes, at: int, end: int, kind: int, version: int, maximum_user_properties: int
) -> Ack:
    """A PUBACK, PUBREC, PUBREL or PUBCOMP."""
    packet_id = read_packet_id(data, at, end)
    at += 2
    if at == end:
        return Ack(kind, packet_id)
    if version < 5:
        check_whole(at, end, kind)
    reason = data[at]
    at += 1
    if reason not in ACK_REASONS[kind]:
        # [MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT5-3.6.2-1] [MQTT5-3.7.2-1]
        raise ProtocolBreach(f"{PACKET_NAMES[kind]} with reason {reason:#04x}", "MQTT5-3.4.2-1")
    properties = NO_PROPERTIES
    if at < end:
        properties, at = read_properties(data, at, end, kind, maximum_user_properties)
        check_whole(at, end, kind)
    return Ack(kind, packet_id, reason, properties)


def read_subscribe(
    data: bytes, at: int, end: int, version: int, maximum_user_properties: int
) -> Subscribe:
    """A SUBSCRIBE. That its filters make sense is not looked at, but for empty ones: a bad one
    is refused alone, in the SUBACK."""
    packet_id = read_packet_id(data, at, end)
    at += 2
    properties = NO_PROPERTIES
    if version == 5:
        properties, at = read_properties(data, at, end, SUBSCRIBE, maximum_user_properties)
    requests: list[FilterRequest] = []
    while at < end:
        topic_filter, at = _read_filter(data, at, end)
        if at >= end:
            raise MalformedPacket("topic filter without options", "MQTT5-3.8.3.1")
        options = data[at]
        at += 1
        qos = options & 3
        if version < 5:
            if options > 2:
                raise MalformedPacket(f"requested QoS {options}", "MQTT311-3.8.3.1")
            requests.append(FilterRequest(topic_filter, qos))
            continue
        if options & 0xC0:
            # [MQTT5-3.8.3-5]
            raise MalformedPacket("reserved bits of subscription options", "MQTT5-3.8.3-5")
        retain_handling = options >> 4 & 3
        if qos == 3 or retain_handling == 3:
            raise ProtocolBreach("QoS or Retain Handling of 3", "MQTT5-3.8.3.1")
        no_local = options & 4 != 0
        if no_local and topic_filter.startswith("$share/"):
            # [MQTT5-3.8.3-4]
            raise ProtocolBreach("No Local on a shared subscription", "MQTT5-3.8.3-4")
        requests.append(
            FilterRequest(topic_filter, qos, no_local, options & 8 != 0, retain_handling)
        )
    if not requests:
        # [MQTT5-3.8.3-2] [MQTT311-3.8.3-3]
        raise ProtocolBreach("SUBSCRIBE without a topic filter", "MQTT5-3.8.3-2")
    return Subscribe(packet_id, requests, properties)


def _read_filter(data: bytes, at: int, end: int) -> tuple[str, int]:
    # [MQTT5-3.8.3-1] [MQTT5-3.10.3-1] [MQTT311-3.8.3-1] [MQTT311-3.10.3-1]
    topic_filter, at = read_string(data, at, end)
    if not topic_filter:
        # [MQTT5-4.7.3-1] [MQTT311-4.7.3-1]
        raise ProtocolBreach("topic filter is empty", "MQTT5-4.7.3-1")
    return topic_filter, at


def read_suback(
    data: bytes, at: int, end: int, version: int, maximum_user_properties: int
) -> Suback:
    """A SUBACK; 0x80 of 3.1.1 is MQTT 5.0's as well."""
    packet_id = read_packet_id(data, at, end)
    at += 2
    properties = NO_PROPERTIES
    if version == 5:
        properties, at = read_properties(data, at, end, SUBACK, maximum_user_properties)
    reasons = list(data[at:end])
    if not reasons:
        raise ProtocolBreach("SUBACK without a reason code", "MQTT5-3.9.3")
    for reason in reasons:
        if version == 5:
            if reason not in SUBACK_REASONS:
                # [MQTT5-3.9.3-2]
                raise ProtocolBreach(f"SUBACK with reason {reason:#04x}", "MQTT5-3.9.3-2")
        elif reason > 2 and (reason != 0x80 or version == 3):
            # [MQTT311-3.9.3-2]
            raise ProtocolBreach(f"SUBACK with return code {reason:#04x}", "MQTT311-3.9.3-2")
    return Suback(packet_id, reasons, properties)


def read_unsubscribe(
    data: bytes, at: int, end: int, version: int, maximum_user_properties: int
) -> Unsubscribe:
    """An UNSUBSCRIBE."""
    packet_id = read_packet_id(data, at, end)
    at += 2
    properties = NO_PROPERTIES
    if version == 5:
        properties, at = read_properties(data, at, end, UNSUBSCRIBE, maximum_user_properties)
    topic_filters: list[str] = []
    while at < end:
        topic_filter, at = _read_filter(data, at, end)
        topic_filters.append(topic_filter)
    if not topic_filters:
        # [MQTT5-3.10.3-2] [MQTT311-3.10.3-2]
        raise ProtocolBreach("UNSUBSCRIBE without a topic filter", "MQTT5-3.10.3-2")
    return Unsubscribe(packet_id, topic_filters, properties)


def read_unsuback(
    data: bytes, at: int, end: int, version: int, maximum_user_properties: int
) -> Unsuback:
    """An UNSUBACK; 3.x has no reasons in it."""
    packet_id = read_packet_id(data, at, end)
    at += 2
    if version < 5:
        check_whole(at, end, UNSUBACK)
        return Unsuback(packet_id, [])
    properties, at = read_properties(data, at, end, UNSUBACK, maximum_user_properties)
    reasons = list(data[at:end])
    if not reasons:
        raise ProtocolBreach("UNSUBACK without a reason code", "MQTT5-3.11.3")
    for reason in reasons:
        if reason not in UNSUBACK_REASONS:
            # [MQTT5-3.11.3-2]
            raise ProtocolBreach(f"UNSUBACK with reason {reason:#04x}", "MQTT5-3.11.3-2")
    return Unsuback(packet_id, reasons, properties)


def read_disconnect(
    data: bytes, at: int, end: int, version: int, server: bool, maximum_user_properties: int
) -> Disconnect:
    """A DISCONNECT to a server, or to a client. Session Expiry Interval in it is judged above."""
    if version < 5:
        check_whole(at, end, DISCONNECT)
    if at == end:
        return Disconnect()
    reason = data[at]
    at += 1
    if reason not in (DISCONNECT_REASONS_OF_CLIENT if server else DISCONNECT_REASONS_OF_SERVER):
        # [MQTT5-3.14.2-1]
        raise ProtocolBreach(f"DISCONNECT with reason {reason:#04x}", "MQTT5-3.14.2-1")
    properties = NO_PROPERTIES
    if at < end:
        place = DISCONNECT if server else DISCONNECT_OF_SERVER
        properties, at = read_properties(data, at, end, place, maximum_user_properties)
        check_whole(at, end, DISCONNECT)
    return Disconnect(reason, properties)


def read_auth(data: bytes, at: int, end: int, server: bool, maximum_user_properties: int) -> Auth:
    """An AUTH to a server, or to a client, of MQTT 5.0."""
    reason = 0
    properties = NO_PROPERTIES
    empty = at == end
    if not empty:
        reason = data[at]
        at += 1
    if reason not in (AUTH_REASONS_OF_CLIENT if server else AUTH_REASONS_OF_SERVER):
        # [MQTT5-3.15.2-1]
        raise ProtocolBreach(f"AUTH with reason {reason:#04x}", "MQTT5-3.15.2-1")
    if at < end:
        properties, at = read_properties(data, at, end, AUTH, maximum_user_properties)
        check_whole(at, end, AUTH)
    if not empty and AUTHENTICATION_METHOD not in properties:
        raise ProtocolBreach("AUTH without an Authentication Method", "MQTT5-3.15.2.2.2")
    return Auth(reason, properties)
