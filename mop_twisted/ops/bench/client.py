"""One MQTT client of a load: connects, subscribes, and tells its owner what comes.

Runs of PUBLISHes of the load's own mould and of plain acknowledgements are found here, by
columns (L{frames}); every other packet is decoded by the codec.

MQTT 5.0 chapters 3 and 4.
"""

from __future__ import annotations

from typing import Final

from ...codec.decode import Decoder
from ...codec.encode import encode
from ...codec.packets import (
    NO_PROPERTIES,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Ack,
    Acks,
    Connack,
    Connect,
    Disconnect,
    FilterRequest,
    Packet,
    Pingreq,
    Pingresp,
    Publish,
    Suback,
    Subscribe,
)
from ...codec.properties import RECEIVE_MAXIMUM, SESSION_EXPIRY_INTERVAL
from ...reasons import FAILURE
from .frames import Run
from .link import Link, LinkLost
from .load import Load

_ACKS: Final = {0x40: PUBACK, 0x50: PUBREC, 0x62: PUBREL, 0x70: PUBCOMP}
_ANSWERS: Final = {PUBREC: b"\x62", PUBREL: b"\x70"}
"""Acknowledgements that are answered at once, and by what first byte."""

_LARGEST: Final = 268_435_460
_SESSION_SECONDS: Final = 3600


class Client:
    """A connection with its MQTT session, from CONNECT on.

    C{taken}, C{acknowledged} and C{moved} are for others to override: here nobody is interested.
    """

    __slots__ = (
        "_clean", "_decoder", "_filter", "_guess", "_head", "_id_at", "_length", "_load",
        "_partial", "_persistent", "client_id", "link", "pinged", "ready", "receive_maximum",
        "session_present", "stray",
    )  # fmt: skip

    def __init__(
        self,
        load: Load,
        link: Link,
        client_id: str,
        topic_filter: str = "",
        persistent: bool = False,
        clean: bool = True,
    ) -> None:
        self.client_id = client_id
        self.link = link
        self.ready = False
        """CONNACK and, with a topic filter, SUBACK have come."""
        self.receive_maximum = 65535
        self.session_present = False
        self.pinged = 0
        """PINGRESPs that have come."""
        self.stray = 0
        """PUBLISHes that are not of the load's mould, or of another run."""
        self._load = load
        self._filter = topic_filter
        self._persistent = persistent
        self._clean = clean
        self._decoder = Decoder(_LARGEST, role="client", version=load.level)
        self._partial = b""
        # The mould of a PUBLISH: its fixed header, its length, where its packet identifier is.
        self._head = b""
        self._length = 0
        self._id_at = 0
        self._guess = 8

    def connect(self) -> None:
        """The link is open: say CONNECT."""
        load = self._load
        properties = NO_PROPERTIES
        if self._persistent:
            properties = {SESSION_EXPIRY_INTERVAL: _SESSION_SECONDS}
        password = load.password.encode() if load.password is not None else None
        connect = Connect(
            load.level,
            self.client_id,
            clean_start=self._clean and not self._persistent,
            user_name=load.user,
            password=password,
            properties=properties,
        )
        self.link.send(encode(connect, load.level))

    def subscribe(self, topic_filter: str) -> None:
        """Ask for a filter; C{ready} is true again when it is granted."""
        self.ready = False
        request = FilterRequest(topic_filter, self._load.granted)
        self.link.send(encode(Subscribe(1, [request]), self._load.level))

    def ping(self) -> None:
        """Say PINGREQ."""
        self.link.send(encode(Pingreq(), self._load.level))

    def close(self) -> None:
        """Say DISCONNECT and close."""
        try:
            self.link.send(encode(Disconnect(), self._load.level))
        except LinkLost:
            pass
        finally:
            self.link.close()

    def taken(self, run: Run, now: int) -> None:
        """PUBLISHes of the load's mould have come, at C{now}."""

    def acknowledged(self, count: int) -> None:
        """So many of our own PUBLISHes are done with."""

    def moved(self, now: int) -> None:
        """The connection was ready: there may be room to send now."""

    def receive(self, now: int) -> int:
        """Read what is there; returns how many PUBLISHes it were.

        @raise LinkLost: the connection is over, or the server refused something.
        """
        data = self.link.receive()
        if not data:
            return 0
        if self._partial:
            data = self._partial + data
            self._partial = b""
        answers: list[bytes] = []
        at, came = self._parse(data, now, answers)
        if at < len(data):
            self._partial = data[at:]
        if answers:
            self.link.send(b"".join(answers))
        return came

    def _parse(self, data: bytes, now: int, answers: list[bytes]) -> tuple[int, int]:
        at = 0
        came = 0
        stop = len(data)
        while at + 2 <= stop:
            first = data[at]
            head = self._head
            if first & 0xF0 == 0x30 and head and data.startswith(head, at):
                length = self._length
                count = self._count(data, at, length, head)
                if not count:
                    break
                end = at + count * length
                payload_at = at + length - self._load.size
                self.taken(Run(data, payload_at, length, count), now)
                qos = first >> 1 & 3
                if qos:
                    acks = bytearray((b"\x40\2\0\0" if qos == 1 else b"\x50\2\0\0") * count)
                    place = at + self._id_at
                    acks[2::4] = data[place:end:length]
                    acks[3::4] = data[place + 1 : end : length]
                    answers.append(bytes(acks))
                came += count
                at = end
                continue
            kind = _ACKS.get(first, 0)
            if kind and data[at + 1] == 2:
                count = self._count(data, at, 4, data[at : at + 2])
                if not count:
                    break
                end = at + 4 * count
                answer = _ANSWERS.get(kind)
                if answer is not None:
                    acks = bytearray(data[at:end])
                    acks[0::4] = answer * count
                    answers.append(bytes(acks))
                else:
                    self.acknowledged(count)
                at = end
                continue
            end = _end_of_packet(data, at)
            if not end:
                break
            for packet in self._decoder.receive(data[at:end]):
                came += self._other(packet, data, at, end, now, answers)
            if self._decoder.error is not None:
                raise LinkLost(f"the server sent nonsense: {self._decoder.error}")
            at = end
        return at, came

    def _count(self, data: bytes, at: int, length: int, head: bytes) -> int:
        """How many whole frames of C{length} with this head lie behind each other."""
        most = (len(data) - at) // length
        found = 0
        guess = self._guess
        while found < most:
            window = min(guess, most - found)
            begin = at + found * length
            end = begin + window * length
            here = window
            for place in range(len(head)):
                column = data[begin + place : end : length]
                # What is left when the wanted byte is stripped begins at the first other one.
                here = min(here, window - len(column.lstrip(head[place : place + 1])))
            found += here
            if here < window:
                self._guess = max(4, here)
                return found
            guess *= 4
        self._guess = max(4, min(found, 1024))
        return found

    def _other(
        self, packet: Packet, data: bytes, at: int, end: int, now: int, answers: list[bytes]
    ) -> int:
        """What is no run; returns how many PUBLISHes it were."""
        load = self._load
        if isinstance(packet, list):
            publish = packet[0]
            if publish.qos:
                kind = PUBACK if publish.qos == 1 else PUBREC
                answers.append(encode(Acks(kind, [publish.packet_id]), load.level))
            if len(publish.payload) == load.size:
                self.taken(Run(data, end - load.size, load.size, 1), now)
                self._learn(publish, data, at, end)
            else:
                self.stray += 1
            return 1
        if isinstance(packet, Ack):
            if packet.reason >= FAILURE:
                raise LinkLost(f"the server answered a PUBLISH with {packet.reason:#04x}")
            answer = _ANSWERS.get(packet.kind)
            if answer is not None:
                answers.append(answer + b"\2" + packet.packet_id.to_bytes(2, "big"))
            else:
                self.acknowledged(1)
        elif isinstance(packet, Acks):
            # The long form of 5.0, which says success at length.
            for packet_id in packet.packet_ids:
                self._other(Ack(packet.kind, packet_id), data, at, end, now, answers)
        elif isinstance(packet, Connack):
            if packet.reason:
                raise LinkLost(f"CONNECT was refused with {packet.reason:#04x}")
            self.session_present = packet.session_present
            self.receive_maximum = packet.properties.get(RECEIVE_MAXIMUM, 65535)
            if self._filter:
                self.subscribe(self._filter)
            else:
                self.ready = True
        elif isinstance(packet, Suback):
            if max(packet.reasons) >= FAILURE:
                raise LinkLost(f"SUBSCRIBE was refused with {max(packet.reasons):#04x}")
            self.ready = True
        elif isinstance(packet, Pingresp):
            self.pinged += 1
        elif isinstance(packet, Disconnect):
            raise LinkLost(f"the server sent DISCONNECT {packet.reason:#04x}")
        return 0

    def _learn(self, publish: Publish, data: bytes, at: int, end: int) -> None:
        """What the next PUBLISHes will look like."""
        body = at + 2
        while data[body - 1] > 127:
            body += 1
        self._head = data[at:body]
        self._length = end - at
        self._id_at = body - at + 2 + (data[body] << 8 | data[body + 1])


def _end_of_packet(data: bytes, at: int) -> int:
    """Where the packet that begins at C{at} ends; 0 when it is not whole."""
    stop = len(data)
    length = shift = 0
    place = at + 1
    while place < stop:
        byte = data[place]
        place += 1
        length |= (byte & 127) << shift
        if byte < 128:
            return place + length if place + length <= stop else 0
        shift += 7
        if shift == 28:
            return stop
    return 0
