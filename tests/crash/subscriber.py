"""Subscribers that do the receiver's side of QoS 2 exactly, over any number of connections.

They keep account of each publisher's numbers as these come: a gap, a wrong order, or a repetition
that MQTT does not allow is handed to C{complain} at once.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from mop_twisted.codec.encode import encode, encode_acks
from mop_twisted.codec.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Ack,
    Acks,
    FilterRequest,
    Publish,
    Suback,
    Subscribe,
)

from .client import Client, Loop, Publisher


class Stream:
    """What a subscriber has seen of one publisher."""

    __slots__ = ("before", "last", "number", "qos")

    def __init__(self, qos: int) -> None:
        self.qos = qos
        self.number = 0
        """The highest number so far: all below have come as well."""
        self.before = 0
        """The highest number before the gateway was last started."""
        self.last = 0
        """The number that came last on this connection; 0 at its beginning."""


class Subscriber(Client):
    """Subscribes once and keeps account of every publisher's numbers.

    C{laziness} is the share of turns in which it does not answer, so that a kill finds exchanges
    in every state.
    """

    def __init__(
        self,
        loop: Loop,
        client_id: str,
        version: int,
        complain: Callable[[str], None],
        filters: list[str],
        publishers: dict[str, Publisher],
        random_source: random.Random,
        laziness: float = 0.5,
    ) -> None:
        super().__init__(loop, client_id, version, complain)
        self.filters = filters
        self.publishers = publishers
        self.subscribed = False
        self.laziness = laziness
        self.streams: dict[str, Stream] = {}
        self.others: dict[bytes, int] = {}
        """Payloads of what is nobody's numbered message (wills), and how often they came."""
        self.received = 0
        self.repetitions = 0
        self._random = random_source
        self._held: dict[int, bytes] = {}
        """QoS 2: packet identifiers between PUBLISH and PUBREL, over all connections."""
        self._fresh: set[int] = set()
        """Those whose PUBLISH came on this connection."""
        self._owed: list[tuple[int, int]] = []
        self._in_flight: set[int] = set()

    def restarted(self) -> None:
        """The gateway was killed and begins anew."""
        for stream in self.streams.values():
            stream.before = stream.number

    def resume(self, present: bool) -> None:
        """Subscribe, if the gateway has not yet said that it knows."""
        self._fresh.clear()
        self._in_flight.clear()
        for stream in self.streams.values():
            stream.last = 0
        if not self.subscribed:
            requests = [FilterRequest(topic_filter, 2) for topic_filter in self.filters]
            self.write(encode(Subscribe(1, requests), self.version))

    def lost(self) -> None:
        """What was owed is not any more: the gateway will ask again."""
        super().lost()
        self._owed = []

    @property
    def holds(self) -> bool:
        """Whether an exchange at QoS 2 waits for its PUBREL."""
        return bool(self._held)

    @property
    def owes(self) -> bool:
        """Whether something waits to be acknowledged."""
        return bool(self._owed)

    def take(self, packet: Any) -> None:
        """PUBLISH, PUBREL or SUBACK."""
        kind = type(packet)
        if kind is list:
            for publish in packet:
                self._published(publish)
        elif kind is Acks and packet.kind == PUBREL:
            self._release(packet.packet_ids)
        elif kind is Ack and packet.kind == PUBREL:
            self._release([packet.packet_id])
        elif kind is Suback:
            if any(reason != 2 for reason in packet.reasons):
                self.complain(f"SUBACK with {packet.reasons}")
            self.subscribed = True
        else:
            self.complain(f"unexpected {kind.__name__}")

    def _release(self, packet_ids: list[int]) -> None:
        self.trace.append(f"PUBREL {packet_ids[0]}+{len(packet_ids)}")
        for packet_id in packet_ids:
            self._held.pop(packet_id, None)
            self._fresh.discard(packet_id)
            self._owed.append((PUBCOMP, packet_id))

    def _published(self, publish: Publish) -> None:
        packet_id = publish.packet_id
        payload = publish.payload
        self.trace.append(
            f"PUBLISH id={packet_id} {payload[:20].decode('latin-1')}" + " dup" * publish.dup
        )
        if publish.qos:
            self._in_flight.add(packet_id)
            if self.receive_maximum and len(self._in_flight) > self.receive_maximum:
                self.complain(f"more than {self.receive_maximum} in flight")
        if publish.qos == 2:
            self._owed.append((PUBREC, packet_id))
            held = self._held.get(packet_id)
            if held is not None:
                if held != payload:
                    self.complain(
                        f"packet identifier {packet_id} holds {held[:20]!r} and came with "
                        f"{payload[:20]!r}"
                    )
                if packet_id in self._fresh:
                    self.complain(f"packet identifier {packet_id} came twice on one connection")
                self._fresh.add(packet_id)
                return
            self._held[packet_id] = payload
            self._fresh.add(packet_id)
        elif publish.qos == 1:
            self._owed.append((PUBACK, packet_id))
        self.received += 1
        self._deliver(publish)

    def _deliver(self, publish: Publish) -> None:
        name, _, rest = publish.payload.partition(b" ")
        publisher = self.publishers.get(name.decode())
        if publisher is None:
            self.others[publish.payload] = self.others.get(publish.payload, 0) + 1
            return
        number = int(rest.partition(b" ")[0])
        stream = self.streams.get(publisher.client_id)
        if stream is None:
            stream = self.streams[publisher.client_id] = Stream(publisher.qos)
        if publish.qos != stream.qos:
            self.complain(f"{name!r} {number} came at QoS {publish.qos}")
        if number == stream.number + 1:
            stream.number = number
        elif number > stream.number:
            self.complain(f"{name!r} {number} came behind {stream.number}: lost or out of order")
            stream.number = number
        elif stream.qos == 2:
            self.complain(f"{name!r} {number} came again at QoS 2, behind {stream.number}")
        else:
            self.repetitions += 1
            if not publish.dup and number > stream.before and number not in publisher.repeated:
                self.complain(f"{name!r} {number} came again without DUP, and nobody was killed")
        if stream.last and number > stream.last + 1:
            self.complain(f"{name!r} {number} came behind {stream.last} on one connection")
        stream.last = number

    def answer(self, at_once: bool = False) -> None:
        """Acknowledge what is owed, now or in a later turn."""
        owed = self._owed
        if not owed or not self.established:
            return
        if not at_once and self._random.random() < self.laziness:
            return
        # Sometimes a part: the rest of a window stays open.
        count = len(owed) if at_once else self._random.randint(1, len(owed))
        run: list[int] = []
        kind = owed[0][0]
        for each, packet_id in owed[:count]:
            if each != kind:
                self.write(encode_acks(kind, run))
                run = []
                kind = each
            run.append(packet_id)
            if each != PUBREC:
                self._in_flight.discard(packet_id)
        self.write(encode_acks(kind, run))
        del owed[:count]
        self.flush()


class Shares:
    """What the members of a shared group have got between them."""

    def __init__(self, publishers: dict[str, Publisher]) -> None:
        self.distinct = dict.fromkeys(publishers, 0)
        self.repetitions = 0
        self._publishers = publishers
        self._seen = {name: bytearray(1) for name in publishers}

    def deliver(self, member: GroupMember, publish: Publish) -> None:
        """A member has got one for the first time."""
        name, _, rest = publish.payload.partition(b" ")
        publisher = self._publishers[name.decode()]
        number = int(rest.partition(b" ")[0])
        seen = self._seen[publisher.client_id]
        if number >= len(seen):
            seen.extend(bytes(number + 1000 - len(seen)))
        if not seen[number]:
            seen[number] = 1
            self.distinct[publisher.client_id] += 1
        elif publisher.qos == 2:
            member.complain(f"{name!r} {number} came to the group twice at QoS 2")
        else:
            self.repetitions += 1

    def missing(self) -> list[str]:
        """What nobody has got, in general terms."""
        return [
            f"the group misses {publisher.acknowledged - self.distinct[name]} of {name}, the first "
            f"{self._seen[name].find(0, 1)}"
            for name, publisher in self._publishers.items()
            if self.distinct[name] < publisher.acknowledged
        ]


class GroupMember(Subscriber):
    """One of those who share a subscription; C{shares} is what they have together."""

    shares: Shares

    def _deliver(self, publish: Publish) -> None:
        self.shares.deliver(self, publish)
