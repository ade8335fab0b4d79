"""What tests of the net room put in place of the broker, and a gateway's edge of it.

L{Echo} lets everybody in and sends every message back to its sender; real connections, real
frames. Clients are plain blocking sockets in threads, so that they can be as rude as they like.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Generator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from mop_twisted.broker.counters import Counters
from mop_twisted.broker.outbox import Outbox
from mop_twisted.codec.encode import encode, encode_publish
from mop_twisted.codec.packets import NO_PROPERTIES, Connack, Connect, Disconnect, Publish
from mop_twisted.limits import Limits
from mop_twisted.net.gate import Gate
from mop_twisted.net.listeners import BoundListener, parse_listener
from mop_twisted.net.protocol import MqttFactory
from mop_twisted.protocol.connection import Connection
from mop_twisted.protocol.flights import Flights


class Echo:
    """A broker that says what it was told. A message on C{flood} is answered with as many
    kilobytes as its payload says; one on C{goodbye} ends the connection."""

    def __init__(self, schedule: Callable[[], None]) -> None:
        self.outbox = Outbox(schedule)
        self.full = False
        self.calls: list[tuple[str, Connection]] = []
        self.events: list[Any] = []

    def connected(self, connection: Connection) -> bool:
        self.calls.append(("connected", connection))
        return not self.full

    def handle(self, connection: Connection, events: list[Any]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Connect):
                held = connection.accept(Connack(0), Flights(), False, event.keep_alive)
                self.handle(connection, held)
            elif isinstance(event, list):
                for publish in event:
                    self._publish(connection, publish)
        if (connection.output or connection.closing) and not connection.dirty:
            self.outbox.add(connection)

    def _publish(self, connection: Connection, publish: Publish) -> None:
        if publish.topic == "goodbye":
            connection.closing = True
            return
        count = 1
        payload = publish.payload
        if publish.topic == "flood":
            count, payload = int(publish.payload), bytes(1000)
        for number in range(count):
            echo = Publish(f"{publish.topic}/{number}", payload)
            frame = encode_publish(echo, connection.version, 0, False, False, 0, NO_PROPERTIES)
            connection.output.append(frame)
            connection.output_bytes += len(frame)

    def lost(self, connection: Connection) -> None:
        self.calls.append(("lost", connection))

    def drained(self, connection: Connection) -> None:
        self.calls.append(("drained", connection))

    def names(self) -> list[str]:
        """What it was told, without of whom."""
        return [name for name, _ in self.calls]


class Edge:
    """A gate with one listener, on the real reactor."""

    def __init__(
        self, specification: str = "tcp:127.0.0.1:0", limits: Limits | None = None, **start: Any
    ) -> None:
        self.gate = Gate(reactor, time.monotonic, limits or Limits(), Counters())
        self.broker = Echo(self.gate.flusher.schedule)
        self.gate.open(self.broker)
        self.bound = BoundListener(parse_listener(specification))
        self.bound.bind()
        self.port = self.bound.port
        self.bound.start(MqttFactory(self.gate, self.bound.specification), **start)

    @inlineCallbacks
    def stop(self) -> Generator[Deferred[Any], Any, None]:
        """Close everything; for C{addCleanup}."""
        yield self.bound.stop()
        yield self.gate.close(0.5)

    def connect(self) -> socket.socket:
        """A blocking client; for use in threads."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


CONNECT = encode(Connect(4, "client"), 4)
CONNACK = encode(Connack(0), 4)
DISCONNECT = encode(Disconnect(0), 4)


def publish_bytes(topic: str, payload: bytes) -> bytes:
    """A QoS 0 PUBLISH of a 3.1.1 client."""
    return encode_publish(Publish(topic, payload), 4, 0, False, False, 0, NO_PROPERTIES)


def read_exactly(sock: Any, size: int) -> bytes:
    """Blocking: that many bytes, or fewer if the other side closes."""
    received = b""
    while len(received) < size:
        piece = sock.recv(min(65536, size - len(received)))
        if not piece:
            break
        received += piece
    return received


def read_to_end(sock: Any) -> bytes:
    """Blocking: everything until the other side closes."""
    received = []
    try:
        while piece := sock.recv(65536):
            received.append(piece)
    except ConnectionResetError:
        pass
    return b"".join(received)


def in_thread(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Run a blocking client beside the reactor."""
    return deferToThread(function, *args)


@inlineCallbacks
def until(condition: Callable[[], object]) -> Generator[Deferred[Any], Any, None]:
    """Let the reactor turn until something holds; ten seconds are a failure, not a wait."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > 10:
            raise AssertionError("waited in vain")
        yield deferLater(reactor, 0.001, lambda: None)
