"""A message as a row, and back: a record of bytes and its CRC.

SQLite keeps no checksums: each record carries a CRC of its own and is checked whenever it is
read. The CRC is of the record's key as well, so that no damage shows one record as another, or to
another. Expiry is wall clock in the row and monotonic in the process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from zlib import crc32

import apsw
import msgspec

from ...codec.packets import NO_PROPERTIES, Properties, Publish
from ...errors import StoreCorrupt
from ...model import Change, Entry

OVERHEAD: Final = 64
"""Bytes that a message counts for beside its topic and payload."""

_PUT: Final = "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)"
_DELETE: Final = "DELETE FROM state WHERE kind = ? AND key = ?"

_QOS: Final = 3
_RETAIN: Final = 4
_COPY: Final = 8

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(
    tuple[int, bytes, str, float, dict[int, Any] | None]
).decode


def size_of(publish: Publish) -> int:
    """What a message counts for in limits."""
    return len(publish.topic) + len(publish.payload) + OVERHEAD


def encode_entry(entry: Entry, audience: int, offset: float) -> tuple[bytes, int]:
    """Record and CRC of an entry with a message for the audience of this number; C{offset} is
    wall clock minus monotonic."""
    publish = entry.publish
    assert publish is not None
    flags = publish.qos
    if publish.retain:
        flags |= _RETAIN
    if entry.retained_copy:
        flags |= _COPY
    record = _encode(
        (
            flags,
            publish.payload,
            publish.publisher,
            publish.expires_at + offset if publish.expires_at else 0.0,
            publish.properties or None,
        )
    )
    return record, _crc(entry.sequence, audience, publish.topic, record)


def _crc(sequence: int, audience: int, topic: str, record: bytes) -> int:
    return crc32(record, crc32(topic.encode(), (sequence ^ audience << 20) & 0xFFFFFFFF))


def decode_entry(
    sequence: int, audience: int, topic: str, record: bytes, crc: int, offset: float
) -> Entry:
    """@raise StoreCorrupt: what is there is not what was written."""
    if _crc(sequence, audience, topic, record) != crc:
        raise StoreCorrupt(f"message {sequence} is damaged")
    flags, payload, publisher, expires, properties = _decode(record)
    publish = Publish(
        topic, payload, flags & _QOS, bool(flags & _RETAIN), 0, stored_properties(properties)
    )
    publish.publisher = publisher
    if expires:
        # Long gone is expired as well; 0.0 would be never.
        publish.expires_at = max(expires - offset, 0.001)
    entry = Entry(publish, retained_copy=bool(flags & _COPY))
    entry.sequence = entry.ordinal = sequence
    entry.size = size_of(publish)
    return entry


def stored_properties(stored: dict[int, Any] | None) -> Properties:
    """Properties as a packet has them: user properties are pairs, not lists."""
    if not stored:
        return NO_PROPERTIES
    return {
        key: [tuple(pair) if isinstance(pair, list) else pair for pair in value]
        if isinstance(value, list)
        else value
        for key, value in stored.items()
    }


class Place(msgspec.Struct, array_like=True):
    """A cursor's row: all at and below C{position} is done, but for C{outstanding}."""

    position: int
    outstanding: list[int]
    released: list[int]
    messages: int
    bytes: int
    dirty: bool
    """It was following when this was written: more may have been sent since."""


_encode_any: Final[Callable[[Any], bytes]] = msgspec.msgpack.Encoder().encode
_decode_place: Final = msgspec.msgpack.Decoder(Place).decode
_decode_members: Final = msgspec.msgpack.Decoder(tuple[int, ...]).decode


def _seal(key: str, record: bytes) -> bytes:
    return crc32(record, crc32(key.encode())).to_bytes(4, "big") + record


def _unseal(key: str, sealed: bytes) -> bytes:
    record = sealed[4:]
    if _seal(key, record) != sealed:
        raise StoreCorrupt(f"record {key!r} is damaged")
    return record


def encode_place(name: str, place: Place) -> bytes:
    """The row of the cursor of this name."""
    return _seal(f"cursor {name}", _encode_any(place))


def decode_place(name: str, sealed: bytes) -> Place:
    """@raise StoreCorrupt: what is there is not what was written."""
    return _decode_place(_unseal(f"cursor {name}", sealed))


def encode_members(number: int, members: tuple[int, ...]) -> bytes:
    """The row of the audience of this number."""
    return _seal(f"audience {number}", _encode_any(members))


def decode_members(number: int, sealed: bytes) -> tuple[int, ...]:
    """@raise StoreCorrupt: what is there is not what was written."""
    return _decode_members(_unseal(f"audience {number}", sealed))


def state_crc(kind: str, key: str, value: bytes) -> int:
    """Of a record of the state store."""
    return crc32(value, crc32(f"{kind} {key}".encode()))


def store_changes(database: apsw.Connection, changes: list[Change]) -> None:
    """Records of the state store, each with its CRC."""
    for change in changes:
        if change.value is None:
            database.execute(_DELETE, (change.kind, change.key))
        else:
            database.execute(
                _PUT,
                (
                    change.kind,
                    change.key,
                    change.value,
                    state_crc(change.kind, change.key, change.value),
                ),
            )
