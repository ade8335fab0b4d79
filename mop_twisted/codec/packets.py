"""The control packets, as plain objects that no version shows in.

What 3.1 and 3.1.1 do not have is empty here: no properties, reason code 0. Properties are a
dict from property identifier (the constants of C{codec/properties.py}) to value;
L{NO_PROPERTIES} stands for none and is never changed.

MQTT 5.0 chapter 3.
"""

from __future__ import annotations

from typing import Any, Final

Properties = dict[int, Any]
"""Property identifier → int, str, bytes; a list of (name, value) for user properties, a list
of int for subscription identifiers."""

NO_PROPERTIES: Final[Properties] = {}

# Packet types, the high nibble of the first byte [MQTT 5.0, 2.1.2].
CONNECT: Final = 1
CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBSCRIBE: Final = 8
SUBACK: Final = 9
UNSUBSCRIBE: Final = 10
UNSUBACK: Final = 11
PINGREQ: Final = 12
PINGRESP: Final = 13
DISCONNECT: Final = 14
AUTH: Final = 15

PACKET_NAMES: Final = (
    "reserved", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
    "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT",
    "AUTH",
)  # fmt: skip


class Publish:
    """A PUBLISH, and the application message as it travels through the house.

    The first seven are the packet's. The rest the broker fills in: the client identifier of who
    published it, and when it expires (monotonic seconds, 0.0: never).
    """

    __slots__ = (
        "dup",
        "expires_at",
        "packet_id",
        "payload",
        "properties",
        "publisher",
        "qos",
        "retain",
        "topic",
    )

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        packet_id: int = 0,
        properties: Properties = NO_PROPERTIES,
        dup: bool = False,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.packet_id = packet_id
        self.properties = properties
        self.dup = dup
        self.publisher = ""
        self.expires_at = 0.0


class Acks:
    """A run of PUBACK, PUBREC, PUBREL or PUBCOMP that all say success and nothing else."""

    __slots__ = ("kind", "packet_ids")

    def __init__(self, kind: int, packet_ids: list[int]) -> None:
        self.kind = kind
        self.packet_ids = packet_ids


class Ack:
    """One PUBACK, PUBREC, PUBREL or PUBCOMP that carries a reason or properties."""

    __slots__ = ("kind", "packet_id", "properties", "reason")

    def __init__(
        self, kind: int, packet_id: int, reason: int = 0, properties: Properties = NO_PROPERTIES
    ) -> None:
        self.kind = kind
        self.packet_id = packet_id
        self.reason = reason
        self.properties = properties


class WillMessage:
    """The will of a CONNECT: topic, payload and properties of the later PUBLISH, and its delay
    in seconds, which is taken out of the properties [MQTT 5.0, 3.1.3.2]."""

    __slots__ = ("delay", "payload", "properties", "qos", "retain", "topic")

    def __init__(
        self,
        topic: str,
        payload: bytes,
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
        delay: int = 0,
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        self.properties = properties
        self.delay = delay


class Connect:
    """CONNECT. C{version} is 3 (3.1), 4 (3.1.1) or 5; C{bridge} is mosquitto's bit 0x80 in the
    level, which asks to get retained flags as published and none of one's own messages back."""

    __slots__ = (
        "bridge",
        "clean_start",
        "client_id",
        "keep_alive",
        "password",
        "properties",
        "user_name",
        "version",
        "will",
    )

    def __init__(
        self,
        version: int,
        client_id: str,
        clean_start: bool = True,
        keep_alive: int = 0,
        user_name: str | None = None,
        password: bytes | None = None,
        will: WillMessage | None = None,
        properties: Properties = NO_PROPERTIES,
        bridge: bool = False,
    ) -> None:
        self.version = version
        self.client_id = client_id
        self.clean_start = clean_start
        self.keep_alive = keep_alive
        self.user_name = user_name
        self.password = password
        self.will = will
        self.properties = properties
        self.bridge = bridge


class Connack:
    """CONNACK; C{reason} is an MQTT 5.0 code, lowered by the encoder."""

    __slots__ = ("properties", "reason", "session_present")

    def __init__(
        self, reason: int, session_present: bool = False, properties: Properties = NO_PROPERTIES
    ) -> None:
        self.reason = reason
        self.session_present = session_present
        self.properties = properties


class FilterRequest:
    """One topic filter of a SUBSCRIBE with its options [MQTT 5.0, 3.8.3.1]."""

    __slots__ = ("no_local", "qos", "retain_as_published", "retain_handling", "topic_filter")

    def __init__(
        self,
        topic_filter: str,
        qos: int = 0,
        no_local: bool = False,
        retain_as_published: bool = False,
        retain_handling: int = 0,
    ) -> None:
        self.topic_filter = topic_filter
        self.qos = qos
        self.no_local = no_local
        self.retain_as_published = retain_as_published
        self.retain_handling = retain_handling


class Subscribe:
    """SUBSCRIBE."""

    __slots__ = ("packet_id", "properties", "requests")

    def __init__(
        self,
        packet_id: int,
        requests: list[FilterRequest],
        properties: Properties = NO_PROPERTIES,
    ) -> None:
        self.packet_id = packet_id
        self.requests = requests
        self.properties = properties


class Suback:
    """SUBACK: a reason a filter, in order."""

    __slots__ = ("packet_id", "properties", "reasons")

    def __init__(
        self, packet_id: int, reasons: list[int], properties: Properties = NO_PROPERTIES
    ) -> None:
        self.packet_id = packet_id
        self.reasons = reasons
        self.properties = properties


class Unsubscribe:
    """UNSUBSCRIBE."""

    __slots__ = ("packet_id", "properties", "topic_filters")

    def __init__(
        self, packet_id: int, topic_filters: list[str], properties: Properties = NO_PROPERTIES
    ) -> None:
        self.packet_id = packet_id
        self.topic_filters = topic_filters
        self.properties = properties


class Unsuback:
    """UNSUBACK: a reason a filter, in order; 3.x sends the packet identifier alone."""

    __slots__ = ("packet_id", "properties", "reasons")

    def __init__(
        self, packet_id: int, reasons: list[int], properties: Properties = NO_PROPERTIES
    ) -> None:
        self.packet_id = packet_id
        self.reasons = reasons
        self.properties = properties


class Pingreq:
    """PINGREQ."""

    __slots__ = ()


class Pingresp:
    """PINGRESP."""

    __slots__ = ()


class Disconnect:
    """DISCONNECT; 3.x clients send it without a reason, and servers of 3.x never do."""

    __slots__ = ("properties", "reason")

    def __init__(self, reason: int = 0, properties: Properties = NO_PROPERTIES) -> None:
        self.reason = reason
        self.properties = properties


class Auth:
    """AUTH, of MQTT 5.0 only."""

    __slots__ = ("properties", "reason")

    def __init__(self, reason: int = 0, properties: Properties = NO_PROPERTIES) -> None:
        self.reason = reason
        self.properties = properties


Packet = (
    list[Publish]
    | Acks
    | Ack
    | Connect
    | Connack
    | Subscribe
    | Suback
    | Unsubscribe
    | Unsuback
    | Pingreq
    | Pingresp
    | Disconnect
    | Auth
)
"""What a decoder yields. PUBLISHes that follow each other in one read come as one list, and so
do their plain acknowledgements: the hot path pays for a run, not for a packet."""
