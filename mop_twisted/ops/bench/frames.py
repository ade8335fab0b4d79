"""PUBLISHes by the block: made and read by columns instead of one by one.

All messages of a load have the same length, so that the n-th byte of each is one strided slice:
a loop in C where a loop in Python over messages would be the thing that is measured. What does
not fit that mould goes through the codec.

Payload: sent at (8 bytes, nanoseconds of the monotonic clock), tag of the run (2), publisher (2),
number (4), then filling.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from typing import Final

from ...codec.encode import publish_parts
from ...codec.packets import NO_PROPERTIES, Publish

HEADER: Final = 16
"""Bytes of a payload that mean something; the smallest payload."""

_LITTLE: Final = sys.byteorder == "little"
_FEW: Final = 6
"""Below so many messages a loop is quicker than columns."""


def _columns(code: str, numbers: range) -> bytes:
    packed = array(code, numbers)
    if _LITTLE:
        packed.byteswap()
    return packed.tobytes()


def packet_id_of(number: int) -> int:
    """The packet identifier that the message with this number carries."""
    return number % 65535 + 1


class Block:
    """Makes the PUBLISHes of one publisher to one topic, in protocol level C{level}."""

    __slots__ = ("_frame", "_id_at", "_payload_at", "length", "qos")

    def __init__(
        self, topic: str, size: int, qos: int, level: int, tag: int, publisher: int, retain: bool
    ) -> None:
        payload = bytes(8) + tag.to_bytes(2, "big") + publisher.to_bytes(2, "big") + bytes(4)
        publish = Publish(topic, payload.ljust(size, b"."))
        head, tail = publish_parts(publish, level, qos, retain, NO_PROPERTIES)
        self.qos = qos
        self._frame = head + bytes(2 if qos else 0) + tail
        self._id_at = len(head)
        self.length = len(self._frame)
        self._payload_at = self.length - size

    def make(self, first: int, count: int, sent_at: int) -> bytes:
        """The messages numbered from C{first} on, all sent at one time."""
        length = self.length
        at = self._payload_at
        if count < _FEW:
            stamp = sent_at.to_bytes(8, "big")
            frames = bytearray(self._frame * count)
            for number in range(first, first + count):
                base = (number - first) * length
                if self.qos:
                    where = base + self._id_at
                    frames[where : where + 2] = packet_id_of(number).to_bytes(2, "big")
                where = base + at
                frames[where : where + 8] = stamp
                frames[where + 12 : where + 16] = number.to_bytes(4, "big")
            return bytes(frames)
        frame = bytearray(self._frame)
        frame[at : at + 8] = sent_at.to_bytes(8, "big")
        frames = frame * count
        numbers = _columns("I", range(first, first + count))
        for column in range(4):
            frames[at + 12 + column :: length] = numbers[column::4]
        if self.qos:
            start = packet_id_of(first)
            most = min(count, 65536 - start)
            packet_ids = _columns("H", range(start, start + most))
            while len(packet_ids) < 2 * count:
                packet_ids += _columns("H", range(1, min(65535, count - len(packet_ids) // 2) + 1))
            frames[self._id_at :: length] = packet_ids[0::2]
            frames[self._id_at + 1 :: length] = packet_ids[1::2]
        return bytes(frames)


def _numbers(code: str, width: int, data: bytes, at: int, length: int, count: int) -> array[int]:
    """One big-endian number of C{width} bytes out of each frame; the first is C{at}."""
    raw = bytearray(width * count)
    span = (count - 1) * length + 1
    for column in range(at, at + width):
        raw[column - at :: width] = data[column : column + span : length]
    numbers = array(code, bytes(raw))
    if _LITTLE:
        numbers.byteswap()
    return numbers


class Run:
    """Messages that lie behind each other in one read, with payloads of the same length.

    C{at} is where the first payload begins, C{length} is from one to the next, C{count} how
    many.
    """

    __slots__ = ("_at", "_data", "_length", "count")

    def __init__(self, data: bytes, at: int, length: int, count: int) -> None:
        self._data = data
        self._at = at
        self._length = length
        self.count = count

    def sent_at(self) -> list[tuple[int, int]]:
        """When they were sent: (time, how many behind each other)."""
        data, at, length, count = self._data, self._at, self._length, self.count
        first = data[at : at + 8]
        last = at + (count - 1) * length
        if count < _FEW:
            return [
                (int.from_bytes(data[place : place + 8], "big"), 1)
                for place in range(at, last + 1, length)
            ]
        stop = last + 1
        if data[last : last + 8] == first and all(
            data[at + k : stop + k : length].count(first[k]) == count for k in range(3, 8)
        ):
            return [(int.from_bytes(first, "big"), count)]
        found: list[tuple[int, int]] = []
        before = -1
        times = 0
        for stamp in _numbers("Q", 8, data, at, length, count):
            if stamp == before:
                times += 1
            else:
                if times:
                    found.append((before, times))
                before = stamp
                times = 1
        found.append((before, times))
        return found

    def sequences(self) -> Iterator[tuple[int, int, int, int]]:
        """(tag, publisher, number of the first, how many) of runs that count upwards."""
        data, length, count = self._data, self._length, self.count
        at = self._at + 8
        stop = at + (count - 1) * length + 1
        if count < _FEW:
            for place in range(at, stop, length):
                who = int.from_bytes(data[place : place + 4], "big")
                number = int.from_bytes(data[place + 4 : place + 8], "big")
                yield who >> 16, who & 0xFFFF, number, 1
            return
        numbers = _numbers("I", 4, data, at + 4, length, count)
        who_columns = [data[at + k : stop + k : length] for k in range(4)]
        if all(column.count(column[0]) == count for column in who_columns):
            who = int.from_bytes(data[at : at + 4], "big")
            first = numbers[0]
            if numbers == array("I", range(first, first + count)):
                yield who >> 16, who & 0xFFFF, first, count
                return
            whos = array("I", [who]) * count
        else:
            whos = _numbers("I", 4, data, at, length, count)
        who = whos[0]
        first = numbers[0]
        wanted = first + 1
        for index in range(1, count):
            number = numbers[index]
            if number != wanted or whos[index] != who:
                yield who >> 16, who & 0xFFFF, first, wanted - first
                who = whos[index]
                first = number
            wanted = number + 1
        yield who >> 16, who & 0xFFFF, first, wanted - first
