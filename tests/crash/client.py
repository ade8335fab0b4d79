"""Clients that keep MQTT's promises over any number of connections.

A L{Publisher} sends numbered messages, keeps what is not acknowledged, and sends it again with
DUP when it is back; subscribers are in C{subscriber.py}. They check what the gateway says as they
go and hand what is wrong to C{complain}. They live on plain sockets and one L{Loop}, beside no
reactor: a campaign shall spend its time in the gateway.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from mop_twisted.codec.decode import Decoder
from mop_twisted.codec.encode import encode, encode_acks, encode_publish
from mop_twisted.codec.packets import (
    PACKET_NAMES,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Ack,
    Acks,
    Connack,
    Connect,
    Disconnect,
    Properties,
    Publish,
    WillMessage,
)
from mop_twisted.codec.properties import RECEIVE_MAXIMUM, SESSION_EXPIRY_INTERVAL

READ = 256 * 1024
TRACE = 60
"""Packets of each client that a report shows."""
EXPIRY = 24 * 3600


class Loop:
    """Waits for sockets and calls who owns them."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def add(self, endpoint: socket.socket, ready: Callable[[int], None]) -> None:
        """Call C{ready} with the events of this socket."""
        self._selector.register(endpoint, selectors.EVENT_READ, ready)

    def writing(self, endpoint: socket.socket, ready: Callable[[int], None], wanted: bool) -> None:
        """Whether to look for room to write as well."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        self._selector.modify(endpoint, events, ready)

    def remove(self, endpoint: socket.socket) -> None:
        """Forget it."""
        self._selector.unregister(endpoint)

    def turn(self, seconds: float) -> None:
        """Once around."""
        for key, events in self._selector.select(seconds):
            # A socket that went in this same turn is not called any more.
            if key.fd in self._selector.get_map():
                key.data(events)

    def close(self) -> None:
        """Free it."""
        self._selector.close()


class Client:
    """One client identifier with its session. C{version} is 4 or 5; sessions are persistent
    unless C{persistent} says otherwise."""

    def __init__(
        self,
        loop: Loop,
        client_id: str,
        version: int,
        complain: Callable[[str], None],
        will: WillMessage | None = None,
        persistent: bool = True,
    ) -> None:
        self.loop = loop
        self.client_id = client_id
        self.version = version
        self.will = will
        self.persistent = persistent
        self.receive_maximum = 0
        self.established = False
        self.connections = 0
        self.said: Disconnect | None = None
        """The gateway's last DISCONNECT."""
        self.trace: deque[str] = deque(maxlen=TRACE)
        self._complain = complain
        self._known: bool | None = False
        """Whether the gateway has the session: None when a CONNECT was never answered."""
        self._expected: bool | None = False
        self._socket: socket.socket | None = None
        self._old: socket.socket | None = None
        self._output: list[bytes] = []
        self._unsent = b""
        self._decoder: Decoder

    def complain(self, text: str) -> None:
        """Something is wrong with what the gateway did."""
        self._complain(f"{self.client_id}: {text}; last: {', '.join(self.trace)}")

    @property
    def open(self) -> bool:
        """Whether there is a connection, answered or not."""
        return self._socket is not None

    # Connection

    def connect(self, port: int, take_over: bool = False) -> bool:
        """Connect, beside the connection there is with C{take_over}. False: nobody listens."""
        if self._socket is not None:
            if take_over and self._old is None:
                self.loop.remove(self._socket)
                self._old, self._socket = self._socket, None
                self.lost()
            else:
                self.drop()
        try:
            endpoint = socket.create_connection(("127.0.0.1", port), timeout=10)
        except OSError:
            return False
        endpoint.setblocking(False)
        endpoint.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = endpoint
        self._decoder = Decoder(1 << 28, role="client", version=self.version)
        self.said = None
        self.loop.add(endpoint, self._ready)
        properties: Properties = {}
        if self.version == 5:
            if self.persistent:
                properties[SESSION_EXPIRY_INTERVAL] = EXPIRY
            if self.receive_maximum:
                properties[RECEIVE_MAXIMUM] = self.receive_maximum
        self.trace.append("CONNECT")
        self.write(
            encode(
                Connect(
                    self.version,
                    self.client_id,
                    not self.persistent,
                    0,
                    will=self.will,
                    properties=properties,
                ),
                self.version,
            )
        )
        self._expected = self._known
        if self.persistent and not self._known:
            # It may be carried out without being answered.
            self._known = None
        self.flush()
        return True

    def drop(self, politely: bool = False) -> None:
        """Close without a word, or C{politely} with a DISCONNECT."""
        if self._socket is None:
            return
        if politely and self.established:
            self.write(encode(Disconnect(), self.version))
            self.flush()
        self._close()

    def _close(self) -> None:
        endpoint, self._socket = self._socket, None
        if endpoint is not None:
            self.loop.remove(endpoint)
            endpoint.close()
        self._forget_old()
        self.lost()

    def _forget_old(self) -> None:
        if self._old is not None:
            self._old.close()
            self._old = None

    def lost(self) -> None:
        """The connection is gone, the session is not."""
        self.established = False
        self._output = []
        self._unsent = b""
        self.trace.append("lost")

    def _ready(self, events: int) -> None:
        endpoint = self._socket
        assert endpoint is not None
        if events & selectors.EVENT_WRITE:
            self.flush()
            if self._socket is not endpoint:
                return
        if not events & selectors.EVENT_READ:
            return
        try:
            read = endpoint.recv(READ)
        except BlockingIOError:
            return
        except OSError:
            read = b""
        if not read:
            self._close()
            return
        for packet in self._decoder.receive(read):
            if self._socket is not endpoint:
                return
            self._take(packet)
        if self._decoder.error is not None:
            self.complain(f"the gateway sent nonsense: {self._decoder.error}")
            self._close()
            return
        self.flush()

    def _take(self, packet: Any) -> None:
        kind = type(packet)
        if kind is Connack:
            self._connected(packet)
        elif kind is Disconnect:
            self.said = packet
            self.trace.append(f"DISCONNECT {packet.reason:#x}")
        else:
            self.take(packet)

    def _connected(self, connack: Connack) -> None:
        self._forget_old()
        self.trace.append(f"CONNACK {connack.reason:#x} present={connack.session_present}")
        if connack.reason:
            self.complain(f"CONNACK with {connack.reason:#x}")
            return
        if self._expected is not None and connack.session_present != self._expected:
            self.complain(f"session present is {connack.session_present}")
        self._known = self.persistent
        self.connections += 1
        self.established = True
        self.resume(connack.session_present)

    def resume(self, present: bool) -> None:
        """CONNACK has come."""

    def take(self, packet: Any) -> None:
        """A packet of an established connection."""

    # Bytes

    def write(self, frame: bytes) -> None:
        """Have it sent with the next L{flush}."""
        self._output.append(frame)

    def flush(self) -> None:
        """Send what the socket takes."""
        endpoint = self._socket
        if endpoint is None or not (self._output or self._unsent):
            return
        output = self._unsent + b"".join(self._output)
        self._output = []
        try:
            sent = endpoint.send(output)
        except BlockingIOError:
            sent = 0
        except OSError:
            # What was sent to us before may still be read.
            self._unsent = b""
            with contextlib.suppress(OSError):
                self.loop.writing(endpoint, self._ready, False)
            return
        had = bool(self._unsent)
        self._unsent = output[sent:]
        if had != bool(self._unsent):
            self.loop.writing(endpoint, self._ready, bool(self._unsent))


class Publisher(Client):
    """Publishes messages 1, 2, 3 … as long as L{fill} is called, each until it is acknowledged.

    C{acknowledged} counts the messages that the gateway has answered for: by PUBACK at QoS 1, by
    PUBREC at QoS 2. They are answered for in order, so that it is the last such number as well.
    """

    def __init__(
        self,
        loop: Loop,
        client_id: str,
        version: int,
        complain: Callable[[str], None],
        qos: int,
        topic: str,
        window: int,
        retain: bool = False,
        filler: Callable[[], bytes] = lambda: b"",
    ) -> None:
        super().__init__(loop, client_id, version, complain)
        self.qos = qos
        self.topic = topic
        self.window = window
        self.retain = retain
        self.filler = filler
        self.sent = 0
        self.acknowledged = 0
        self.completed = 0
        self.repeated: set[int] = set()
        """Numbers that were sent more than once."""
        self._flights: dict[int, Publish] = {}
        self._numbers: dict[int, int] = {}
        self._released: dict[int, None] = {}
        self._last_id = 0

    @property
    def idle(self) -> bool:
        """Whether everything sent is acknowledged to the end."""
        return not (self._flights or self._released)

    def fill(self, until: int | None = None) -> None:
        """Publish as much as the window allows, up to a number."""
        if not self.established or self._unsent:
            return
        while len(self._flights) + len(self._released) < self.window and (
            until is None or self.sent < until
        ):
            self.sent += 1
            payload = b"%s %d %s" % (self.client_id.encode(), self.sent, self.filler())
            publish = Publish(self.topic, payload, self.qos, self.retain, self._free_id())
            self._flights[publish.packet_id] = publish
            self._numbers[publish.packet_id] = self.sent
            self._publish(publish)
        self.flush()

    def _free_id(self) -> int:
        while True:
            self._last_id = self._last_id % 65535 + 1
            if self._last_id not in self._flights and self._last_id not in self._released:
                return self._last_id

    def _publish(self, publish: Publish) -> None:
        self.trace.append(
            f"PUBLISH id={publish.packet_id} n={self._numbers[publish.packet_id]}"
            + " dup" * publish.dup
        )
        self.write(
            encode_publish(
                publish,
                self.version,
                publish.qos,
                publish.retain,
                publish.dup,
                publish.packet_id,
                publish.properties,
            )
        )

    def resume(self, present: bool) -> None:
        """Send again what is not acknowledged, in order. [MQTT5-4.4.0-1] [MQTT5-4.6.0-1]"""
        for packet_id in self._released:
            self.trace.append(f"PUBREL id={packet_id}")
        if self._released:
            self.write(encode_acks(PUBREL, list(self._released)))
        for publish in self._flights.values():
            publish.dup = True
            self.repeated.add(self._numbers[publish.packet_id])
            self._publish(publish)

    def take(self, packet: Any) -> None:
        """An acknowledgement."""
        if type(packet) is Acks:
            self._acknowledged(packet.kind, packet.packet_ids)
        elif type(packet) is Ack:
            if packet.reason >= 0x80 and not (packet.kind == PUBCOMP and packet.reason == 0x92):
                # PUBCOMP 0x92: it had been completed by a gateway that died before it said so.
                self.complain(f"{PACKET_NAMES[packet.kind]} with {packet.reason:#x}")
            self._acknowledged(packet.kind, [packet.packet_id])
        else:
            self.complain(f"unexpected {type(packet).__name__}")

    def _acknowledged(self, kind: int, packet_ids: list[int]) -> None:
        self.trace.append(f"{PACKET_NAMES[kind]} {packet_ids[0]}+{len(packet_ids)}")
        if kind == PUBCOMP:
            for packet_id in packet_ids:
                if packet_id in self._released:
                    del self._released[packet_id]
                    self.completed += 1
                else:
                    self.complain(f"PUBCOMP for {packet_id}, which was not released")
            return
        if kind != (PUBACK if self.qos == 1 else PUBREC):
            self.complain(f"{PACKET_NAMES[kind]} at QoS {self.qos}")
            return
        for packet_id in packet_ids:
            publish = self._flights.pop(packet_id, None)
            if publish is None:
                self.complain(f"{PACKET_NAMES[kind]} for {packet_id}, which is not in flight")
                continue
            number = self._numbers.pop(packet_id)
            if number != self.acknowledged + 1:
                self.complain(f"{number} was acknowledged behind {self.acknowledged}")
            self.acknowledged = number
            if kind == PUBREC:
                self._released[packet_id] = None
            else:
                self.completed += 1
        if kind == PUBREC:
            self.write(encode_acks(PUBREL, packet_ids))
