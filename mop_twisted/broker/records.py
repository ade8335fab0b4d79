"""Records of the state store: sessions, subscriptions, retained messages, as bytes and back.

Times in records are wall clock, since monotonic time does not survive the process; the callers
convert. Unknown fields at the end are ignored, so that a newer release's records can be read.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ..codec.packets import NO_PROPERTIES, Properties, Publish, WillMessage
from ..model import Subscription

SESSION: Final = "session"
SUBSCRIPTION: Final = "subscription"
RETAINED: Final = "retained"
ASSIGNED: Final = "assigned"
"""QoS 2 messages of a shared group, and the session that each went to."""
GROUP: Final = "group"
"""Shared groups that have a cursor, by their filter."""


class WillRecord(msgspec.Struct, array_like=True):
    """A will as CONNECT gave it."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    delay: int
    properties: dict[int, Any]


class SessionRecord(msgspec.Struct, array_like=True):
    """A session, but for its subscriptions. C{left} is the wall clock second at which its last
    connection ended, 0.0 while it is connected."""

    user_name: str | None
    listener: str
    incarnation: int
    expiry: int
    durable: bool
    left: float
    will: WillRecord | None


class SubscriptionRecord(msgspec.Struct, array_like=True):
    """A subscription; its key is client identifier, NUL, topic filter. C{position} is where a
    subscription that began in the past has got to, C{None} once it has caught up."""

    qos: int
    no_local: bool
    retain_as_published: bool
    retain_handling: int
    identifier: int
    position: Any = None


class RetainedRecord(msgspec.Struct, array_like=True):
    """A retained message. C{expires} is a wall clock second, 0.0 for never."""

    payload: bytes
    qos: int
    publisher: str
    expires: float
    properties: dict[int, Any]


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_session: Final = msgspec.msgpack.Decoder(SessionRecord).decode
_decode_subscription: Final = msgspec.msgpack.Decoder(SubscriptionRecord).decode
_decode_retained: Final = msgspec.msgpack.Decoder(RetainedRecord).decode


def encode_record(record: msgspec.Struct) -> bytes:
    """Any of the records above as bytes."""
    return _encode(record)


def decode_session(value: bytes) -> SessionRecord:
    """@raise msgspec.DecodeError: it is none."""
    return _decode_session(value)


def decode_subscription(value: bytes) -> SubscriptionRecord:
    """@raise msgspec.DecodeError: it is none."""
    return _decode_subscription(value)


def decode_retained(value: bytes) -> RetainedRecord:
    """@raise msgspec.DecodeError: it is none."""
    return _decode_retained(value)


def properties_of(stored: dict[int, Any]) -> Properties:
    """Stored properties as a packet has them: user properties are pairs, not lists."""
    if not stored:
        return NO_PROPERTIES
    return {
        key: [tuple(pair) for pair in value]
        if isinstance(value, list) and value and isinstance(value[0], (list, tuple))
        else value
        for key, value in stored.items()
    }


def will_record(will: WillMessage | None) -> WillRecord | None:
    """A will to be stored."""
    if will is None:
        return None
    return WillRecord(
        will.topic, will.payload, will.qos, will.retain, will.delay, dict(will.properties)
    )


def will_of(record: WillRecord | None) -> WillMessage | None:
    """A stored will."""
    if record is None:
        return None
    return WillMessage(
        record.topic,
        record.payload,
        record.qos,
        record.retain,
        properties_of(record.properties),
        record.delay,
    )


def subscription_key(client_id: str, topic_filter: str) -> str:
    """Neither part can hold NUL [MQTT5-1.5.4-2]."""
    return f"{client_id}\0{topic_filter}"


def subscription_record(subscription: Subscription, position: Any = None) -> SubscriptionRecord:
    """A subscription to be stored."""
    return SubscriptionRecord(
        subscription.qos,
        subscription.no_local,
        subscription.retain_as_published,
        subscription.retain_handling,
        subscription.identifier,
        position,
    )


def retained_record(publish: Publish, expires: float) -> RetainedRecord:
    """A retained message to be stored; C{expires} on the wall clock."""
    return RetainedRecord(
        publish.payload, publish.qos, publish.publisher, expires, dict(publish.properties)
    )
