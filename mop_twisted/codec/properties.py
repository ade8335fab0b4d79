"""The properties of MQTT 5.0: one table, one reader, one writer.

What a property means is decided above; here is only where it may be, of what type it is and
which values are forbidden.

MQTT 5.0 section 2.2.2 and the property tables of chapter 3.
"""

from __future__ import annotations

from typing import Any, Final

from ..errors import (
    MalformedPacket,
    MisuseError,
    PacketTooLarge,
    ProtocolBreach,
    TopicAliasInvalid,
)
from .packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    NO_PROPERTIES,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Properties,
)
from .wire import encode_binary, encode_number, encode_string, encode_varint, read_varint, text_of

PAYLOAD_FORMAT_INDICATOR: Final = 1
MESSAGE_EXPIRY_INTERVAL: Final = 2
CONTENT_TYPE: Final = 3
RESPONSE_TOPIC: Final = 8
CORRELATION_DATA: Final = 9
SUBSCRIPTION_IDENTIFIER: Final = 11
SESSION_EXPIRY_INTERVAL: Final = 17
ASSIGNED_CLIENT_IDENTIFIER: Final = 18
SERVER_KEEP_ALIVE: Final = 19
AUTHENTICATION_METHOD: Final = 21
AUTHENTICATION_DATA: Final = 22
REQUEST_PROBLEM_INFORMATION: Final = 23
WILL_DELAY_INTERVAL: Final = 24
REQUEST_RESPONSE_INFORMATION: Final = 25
RESPONSE_INFORMATION: Final = 26
SERVER_REFERENCE: Final = 28
REASON_STRING: Final = 31
RECEIVE_MAXIMUM: Final = 33
TOPIC_ALIAS_MAXIMUM: Final = 34
TOPIC_ALIAS: Final = 35
MAXIMUM_QOS: Final = 36
RETAIN_AVAILABLE: Final = 37
USER_PROPERTY: Final = 38
MAXIMUM_PACKET_SIZE: Final = 39
WILDCARD_SUBSCRIPTION_AVAILABLE: Final = 40
SUBSCRIPTION_IDENTIFIER_AVAILABLE: Final = 41
SHARED_SUBSCRIPTION_AVAILABLE: Final = 42

# Where properties are: a packet type, or one of these.
WILL: Final = 0
"""The will properties of a CONNECT."""
PUBLISH_OF_CLIENT: Final = 16
"""A PUBLISH that goes to a server; L{PUBLISH} is one that goes to a client."""
DISCONNECT_OF_SERVER: Final = 17
"""A DISCONNECT that goes to a client; L{DISCONNECT} is one that goes to a server."""

# Types.
BYTE: Final = 1
TWO_BYTES: Final = 2
FOUR_BYTES: Final = 4
VARINT: Final = 5
STRING: Final = 6
BINARY: Final = 7
PAIR: Final = 8

# Which values are allowed.
ANY: Final = 0
FLAG: Final = 1
"""0 or 1."""
NOT_ZERO: Final = 2
ALIAS: Final = 3
"""Not zero, with a reason code of its own."""
TOPIC: Final = 4
"""A topic name: not empty, no wildcards."""

_MESSAGE: Final = (PUBLISH, PUBLISH_OF_CLIENT, WILL)
_PUBLISH: Final = (PUBLISH, PUBLISH_OF_CLIENT)
_SAYS_WHY: Final = (
    CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, DISCONNECT_OF_SERVER,
    AUTH,
)  # fmt: skip
_ALL: Final = (CONNECT, SUBSCRIBE, UNSUBSCRIBE, *_MESSAGE, *_SAYS_WHY)

PROPERTIES: Final[dict[int, tuple[str, int, tuple[int, ...], int]]] = {
    PAYLOAD_FORMAT_INDICATOR: ("Payload Format Indicator", BYTE, _MESSAGE, FLAG),
    MESSAGE_EXPIRY_INTERVAL: ("Message Expiry Interval", FOUR_BYTES, _MESSAGE, ANY),
    CONTENT_TYPE: ("Content Type", STRING, _MESSAGE, ANY),
    RESPONSE_TOPIC: ("Response Topic", STRING, _MESSAGE, TOPIC),
    CORRELATION_DATA: ("Correlation Data", BINARY, _MESSAGE, ANY),
    # [MQTT5-3.3.4-6]: only a server's PUBLISH carries it.
    SUBSCRIPTION_IDENTIFIER: (
        "Subscription Identifier", VARINT, (PUBLISH, SUBSCRIBE), NOT_ZERO,
    ),
    # [MQTT5-3.14.2-2]: not in a server's DISCONNECT.
    SESSION_EXPIRY_INTERVAL: (
        "Session Expiry Interval", FOUR_BYTES, (CONNECT, CONNACK, DISCONNECT), ANY,
    ),
    ASSIGNED_CLIENT_IDENTIFIER: ("Assigned Client Identifier", STRING, (CONNACK,), ANY),
    SERVER_KEEP_ALIVE: ("Server Keep Alive", TWO_BYTES, (CONNACK,), ANY),
    AUTHENTICATION_METHOD: ("Authentication Method", STRING, (CONNECT, CONNACK, AUTH), ANY),
    AUTHENTICATION_DATA: ("Authentication Data", BINARY, (CONNECT, CONNACK, AUTH), ANY),
    REQUEST_PROBLEM_INFORMATION: ("Request Problem Information", BYTE, (CONNECT,), FLAG),
    WILL_DELAY_INTERVAL: ("Will Delay Interval", FOUR_BYTES, (WILL,), ANY),
    REQUEST_RESPONSE_INFORMATION: ("Request Response Information", BYTE, (CONNECT,), FLAG),
    RESPONSE_INFORMATION: ("Response Information", STRING, (CONNACK,), ANY),
    SERVER_REFERENCE: (
        "Server Reference", STRING, (CONNACK, DISCONNECT, DISCONNECT_OF_SERVER), ANY,
    ),
    REASON_STRING: ("Reason String", STRING, _SAYS_WHY, ANY),
    RECEIVE_MAXIMUM: ("Receive Maximum", TWO_BYTES, (CONNECT, CONNACK), NOT_ZERO),
    TOPIC_ALIAS_MAXIMUM: ("Topic Alias Maximum", TWO_BYTES, (CONNECT, CONNACK), ANY),
    TOPIC_ALIAS: ("Topic Alias", TWO_BYTES, _PUBLISH, ALIAS),
    MAXIMUM_QOS: ("Maximum QoS", BYTE, (CONNACK,), FLAG),
    RETAIN_AVAILABLE: ("Retain Available", BYTE, (CONNACK,), FLAG),
    USER_PROPERTY: ("User Property", PAIR, _ALL, ANY),
    MAXIMUM_PACKET_SIZE: ("Maximum Packet Size", FOUR_BYTES, (CONNECT, CONNACK), NOT_ZERO),
    WILDCARD_SUBSCRIPTION_AVAILABLE: (
        "Wildcard Subscription Available", BYTE, (CONNACK,), FLAG,
    ),
    SUBSCRIPTION_IDENTIFIER_AVAILABLE: (
        "Subscription Identifier Available", BYTE, (CONNACK,), FLAG,
    ),
    SHARED_SUBSCRIPTION_AVAILABLE: ("Shared Subscription Available", BYTE, (CONNACK,), FLAG),
}  # fmt: skip
"""Identifier → name, type, where it is allowed, which values are.

User Property may come any number of times anywhere, Subscription Identifier in a PUBLISH; all
others once."""

# The same as lists by identifier, for the reader.
_KNOWN: Final = SHARED_SUBSCRIPTION_AVAILABLE + 1
_TYPES: Final = [PROPERTIES[i][1] if i in PROPERTIES else 0 for i in range(_KNOWN)]
_PLACES: Final = [
    sum(1 << place for place in PROPERTIES[i][2]) if i in PROPERTIES else 0 for i in range(_KNOWN)
]
_VALUES: Final = [PROPERTIES[i][3] if i in PROPERTIES else 0 for i in range(_KNOWN)]


def name_of(identifier: int) -> str:
    """What the specification calls this property."""
    return PROPERTIES[identifier][0]


def read_properties(
    data: bytes, at: int, end: int, place: int, maximum_user_properties: int
) -> tuple[Properties, int]:
    """A property length and its properties, and the offset behind them. Linear in their bytes.

    C{place} is a packet type, L{WILL}, L{PUBLISH_OF_CLIENT} or L{DISCONNECT_OF_SERVER}.

    @raise MalformedPacket: unknown, cut off, or not of its type.
    @raise ProtocolBreach: misplaced, repeated, or of a forbidden value.
    @raise TopicAliasInvalid: topic alias 0.
    @raise PacketTooLarge: more than C{maximum_user_properties}.
    """
    length, at = read_varint(data, at, end)
    if length == 0:
        # [MQTT5-2.2.2-1]
        return NO_PROPERTIES, at
    stop = at + length
    if stop > end:
        raise MalformedPacket("property length reaches over the end of its packet", "MQTT5-2.2.2")
    bit = 1 << place
    properties: Properties = {}
    pairs: list[tuple[str, str]] | None = None
    while at < stop:
        # An identifier is a variable byte integer, but all that exist fit into one byte.
        identifier = data[at]
        at += 1
        kind = _TYPES[identifier] if identifier < _KNOWN else 0
        if kind == 0:
            raise MalformedPacket(f"unknown property {identifier}", "MQTT5-2.2.2.2")
        if not _PLACES[identifier] & bit:
            raise ProtocolBreach(f"{name_of(identifier)} in the wrong packet", "MQTT5-2.2.2.2")
        if kind == PAIR:
            name, at = _read_text(data, at, stop)
            value, at = _read_text(data, at, stop)
            if pairs is None:
                pairs = []
                properties[USER_PROPERTY] = pairs
            if len(pairs) >= maximum_user_properties:
                raise PacketTooLarge(f"more than {maximum_user_properties} user properties")
            # [MQTT5-1.5.7-1] [MQTT5-3.1.3-10] [MQTT5-3.3.2-18]
            pairs.append((name, value))
            continue
        if kind == VARINT:
            number, at = read_varint(data, at, stop)
            if number == 0:
                raise ProtocolBreach("Subscription Identifier of 0", "MQTT5-3.8.2.1.2")
            if identifier not in properties:
                properties[identifier] = [number]
            elif place == PUBLISH:
                properties[identifier].append(number)
            else:
                raise ProtocolBreach("Subscription Identifier twice", "MQTT5-3.8.2.1.2")
            continue
        if identifier in properties:
            raise ProtocolBreach(f"{name_of(identifier)} twice", "MQTT5-4.13")
        if kind == STRING:
            text, at = _read_text(data, at, stop)
            if _VALUES[identifier] == TOPIC and (not text or "#" in text or "+" in text):
                # [MQTT5-3.3.2-14] [MQTT5-4.7.3-1]
                raise ProtocolBreach("Response Topic is no topic name", "MQTT5-3.3.2-14")
            properties[identifier] = text
        elif kind == BINARY:
            start = at + 2
            at = start + (data[at] << 8 | data[at + 1]) if start <= stop else stop + 1
            if at > stop:
                raise MalformedPacket("property is cut off", "MQTT5-1.5.6")
            properties[identifier] = data[start:at]
        else:
            # The type is its size.
            start = at
            at += kind
            if at > stop:
                raise MalformedPacket("property is cut off", "MQTT5-2.2.2")
            number = int.from_bytes(data[start:at], "big")
            values = _VALUES[identifier]
            if values != ANY:
                _check_number(identifier, values, number)
            properties[identifier] = number
    if AUTHENTICATION_DATA in properties and AUTHENTICATION_METHOD not in properties:
        raise ProtocolBreach("Authentication Data without a method", "MQTT5-3.1.2.11.10")
    return properties, stop


def _check_number(identifier: int, values: int, number: int) -> None:
    if values == FLAG:
        if number > 1:
            raise ProtocolBreach(f"{name_of(identifier)} is neither 0 nor 1", "MQTT5-4.13")
    elif number == 0:
        if values == ALIAS:
            # [MQTT5-3.3.2-8]
            raise TopicAliasInvalid("Topic Alias of 0", "MQTT5-3.3.2-8")
        raise ProtocolBreach(f"{name_of(identifier)} of 0", "MQTT5-4.13")


def _read_text(data: bytes, at: int, stop: int) -> tuple[str, int]:
    start = at + 2
    if start > stop:
        raise MalformedPacket("property is cut off", "MQTT5-1.5.4")
    at = start + (data[at] << 8 | data[at + 1])
    if at > stop:
        raise MalformedPacket("property is cut off", "MQTT5-1.5.4")
    # [MQTT5-3.3.2-13] [MQTT5-3.3.2-19]
    return text_of(data[start:at]), at


def encode_properties(properties: Properties) -> bytes:
    """Property length and properties, in the order of the dict; repeated ones in theirs.

    @raise MisuseError: an unknown property, or a value that does not fit it.
    """
    if not properties:
        # [MQTT5-2.2.2-1]
        return b"\0"
    parts: list[bytes] = []
    for identifier, value in properties.items():
        row = PROPERTIES.get(identifier)
        if row is None:
            raise MisuseError(f"{identifier} is no property")
        _append_property(parts, identifier, row[1], value)
    body = b"".join(parts)
    return encode_varint(len(body)) + body


def _append_property(parts: list[bytes], identifier: int, kind: int, value: Any) -> None:
    mark = bytes((identifier,))
    if kind == PAIR:
        for name, text in value:
            # [MQTT5-3.3.2-17] [MQTT5-3.3.2-18]
            parts += (mark, encode_string(name), encode_string(text))
    elif kind == VARINT:
        for number in value:
            parts += (mark, encode_varint(number))
    elif kind == STRING:
        parts += (mark, encode_string(value))
    elif kind == BINARY:
        parts += (mark, encode_binary(value))
    else:
        parts += (mark, encode_number(value, kind))
