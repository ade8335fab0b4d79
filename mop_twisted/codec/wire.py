"""The primitive types on the wire: numbers, strings, binary, and the names of topics.

Reads at an offset and never past C{end}; writes to fresh bytes. It does not know packets,
properties or versions.

MQTT 5.0 section 1.5; MQTT 3.1.1 sections 1.5 and 2.2.3.
"""

from __future__ import annotations

from typing import Final, final

from ..errors import MalformedPacket, MisuseError, ProtocolBreach, TopicNameInvalid

VARINT_MAXIMUM: Final = 268_435_455
"""The largest variable byte integer, and so the largest remaining length."""

STRING_MAXIMUM: Final = 65_535
"""The most bytes that a string or binary can hold. [MQTT5-4.7.3-3] [MQTT311-4.7.3-3]"""

# Reading


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A variable byte integer, and the offset behind it [MQTT 5.0, 1.5.5].

    @raise MalformedPacket: it is cut off, longer than four bytes or than it need be.
    """
    value = 0
    shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0 and shift:
                # [MQTT5-1.5.5-1]
                raise MalformedPacket("variable byte integer longer than need be", "MQTT5-1.5.5-1")
            return value, at
        shift += 7
        if shift == 28:
            raise MalformedPacket("variable byte integer of more than four bytes", "MQTT5-1.5.5")
    raise MalformedPacket("variable byte integer is cut off", "MQTT5-1.5.5")


def read_two(data: bytes, at: int, end: int) -> int:
    """A two byte integer.

    @raise MalformedPacket: it is cut off.
    """
    if at + 2 > end:
        raise MalformedPacket("two byte integer is cut off", "MQTT5-1.5.2")
    return data[at] << 8 | data[at + 1]


def read_packet_id(data: bytes, at: int, end: int) -> int:
    """A packet identifier.

    @raise MalformedPacket: it is cut off.
    @raise ProtocolBreach: it is 0.
    """
    packet_id = read_two(data, at, end)
    if packet_id == 0:
        # [MQTT5-2.2.1-3] [MQTT5-2.2.1-4] [MQTT311-2.3.1-1]
        raise ProtocolBreach("packet identifier 0", "MQTT5-2.2.1-3")
    return packet_id


def read_binary(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    """Binary with its length in front, and the offset behind it.

    @raise MalformedPacket: it is cut off.
    """
    if at + 2 > end:
        raise MalformedPacket("length is cut off", "MQTT5-1.5.6")
    start = at + 2
    stop = start + (data[at] << 8 | data[at + 1])
    if stop > end:
        raise MalformedPacket("field reaches over the end of its packet", "MQTT5-1.5.6")
    return data[start:stop], stop


def text_of(raw: bytes) -> str:
    """What C{raw} says in UTF-8. A byte order mark is a character like any other, and so are
    control characters and non-characters: whoever is to be refused for them is refused above.

    @raise MalformedPacket: not well-formed, a surrogate, or U+0000.
    """
    try:
        # [MQTT5-1.5.4-1] [MQTT5-1.5.4-3] [MQTT311-1.5.3-1] [MQTT311-1.5.3-3]: the strict codec
        # refuses surrogates and overlong forms and, unlike "utf-8-sig", keeps U+FEFF.
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise MalformedPacket("string is not well-formed UTF-8", "MQTT5-1.5.4-1") from None
    if "\0" in text:
        # [MQTT5-1.5.4-2] [MQTT5-4.7.3-2] [MQTT311-1.5.3-2] [MQTT311-4.7.3-2]
        raise MalformedPacket("string with U+0000", "MQTT5-1.5.4-2")
    return text


def read_string(data: bytes, at: int, end: int) -> tuple[str, int]:
    """A UTF-8 encoded string, and the offset behind it.

    @raise MalformedPacket: it is cut off, not well-formed, or has U+0000.
    """
    raw, at = read_binary(data, at, end)
    return text_of(raw), at


# Writing


def encode_varint(value: int) -> bytes:
    """A variable byte integer in as few bytes as can be. [MQTT5-1.5.5-1]

    @raise MisuseError: C{value} is negative or over L{VARINT_MAXIMUM}.
    """
    if value < 0 or value > VARINT_MAXIMUM:
        raise MisuseError(f"{value} is no variable byte integer")
    if value < 0x80:
        return bytes((value,))
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if value < 0x20_0000:
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    return bytes(
        (value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14 & 0x7F | 0x80, value >> 21)
    )


def encode_number(value: int, size: int) -> bytes:
    """A whole number in C{size} bytes.

    @raise MisuseError: it does not fit.
    """
    try:
        return value.to_bytes(size, "big")
    except OverflowError:
        raise MisuseError(f"{value} does not fit into {size} bytes") from None


def encode_binary(raw: bytes) -> bytes:
    """C{raw} with its length in front.

    @raise MisuseError: it is longer than L{STRING_MAXIMUM}.
    """
    size = len(raw)
    if size > STRING_MAXIMUM:
        raise MisuseError(f"a field of {size} bytes does not fit into MQTT")
    return size.to_bytes(2, "big") + raw


def encode_string(text: str) -> bytes:
    """C{text} in UTF-8 with its length in front.

    @raise MisuseError: it is longer than L{STRING_MAXIMUM}, or cannot be said in UTF-8.
    """
    try:
        return encode_binary(text.encode("utf-8"))
    except UnicodeEncodeError:
        raise MisuseError("a string with a lone surrogate") from None


# Topic names


def check_topic_name(topic: str) -> None:
    """That C{topic} may be published to, as far as the specification goes.

    @raise ProtocolBreach: it is empty.
    @raise TopicNameInvalid: it has a wildcard.
    """
    if not topic:
        # [MQTT5-4.7.3-1] [MQTT311-4.7.3-1]
        raise ProtocolBreach("topic name is empty", "MQTT5-4.7.3-1")
    if "#" in topic or "+" in topic:
        # [MQTT5-3.3.2-2] [MQTT5-4.7.0-1] [MQTT311-3.3.2-2] [MQTT311-4.7.1-1]
        raise TopicNameInvalid("topic name with a wildcard", "MQTT5-3.3.2-2")


@final
class TopicNames:
    """Topic names that were seen lately, checked and interned: as long as a name is here, its
    topic is one C{str} object, and both ways between bytes and C{str} are one dict lookup.

    Two generations bound it: when C{recent} is full it becomes C{older}, and what is asked
    for again moves back. A flood of new names so costs a lookup each and not the names in use.
    """

    __slots__ = ("_capacity", "_longest", "_older", "recent")

    def __init__(self, capacity: int, longest: int) -> None:
        self._capacity = capacity
        self._longest = longest
        """Longer names are not kept: C{capacity} bounds the bytes as well."""
        self.recent: dict[bytes, str] = {}
        """For the hot loop; what is missing here is asked of L{name_of}. Always this dict."""
        self._older: dict[bytes, str] = {}

    def name_of(self, raw: bytes) -> str:
        """The topic name that these bytes say, checked.

        @raise MalformedPacket: no UTF-8 encoded string.
        @raise ProtocolBreach: it is empty.
        @raise TopicNameInvalid: it has a wildcard.
        """
        topic = self.recent.get(raw)
        if topic is not None:
            return topic
        topic = self._older.get(raw)
        if topic is None:
            # [MQTT5-3.3.2-1] [MQTT311-3.3.2-1]
            topic = text_of(raw)
            check_topic_name(topic)
            if len(raw) > self._longest:
                return topic
        if len(self.recent) >= self._capacity:
            self._older = self.recent.copy()
            self.recent.clear()
        self.recent[raw] = topic
        return topic

    def __len__(self) -> int:
        return len(self.recent) + len(self._older)


TOPIC_NAMES: Final = TopicNames(capacity=16_384, longest=256)
"""The process's own: one client's topic is the same object as another's. At most about 20 MB."""
