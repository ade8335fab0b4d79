"""Conversations with a gateway: a client that says exactly what a test tells it to.

L{Node} is a whole broker on a real embedded log, in this process, with a clock that stands still
until a test moves it. L{Client} speaks to it through the same bytes as over a network; over a
real socket L{SocketClient} does the same, so that one script serves both.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator
from typing import Any

from twisted.internet import reactor as default_reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock, deferLater

from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.broker.authority import Authority
from mop_twisted.broker.broker import Broker
from mop_twisted.broker.counters import Counters
from mop_twisted.codec.decode import Decoder
from mop_twisted.codec.encode import encode, encode_publish
from mop_twisted.codec.packets import (
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
    Properties,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    WillMessage,
)
from mop_twisted.limits import Limits
from mop_twisted.protocol.connection import Connection
from mop_twisted.protocol.peer import Peer

PATIENCE = 10.0
"""Seconds after which an expectation has failed: for hangs, not for timing."""


class Client:
    """One MQTT client. Packets that the gateway sends wait in C{packets} until expected."""

    def __init__(self, version: int = 5, client_id: str = "") -> None:
        self.version = version
        self.client_id = client_id
        self.closed = False
        self.packets: list[Any] = []
        self._decoder = Decoder(1 << 28, role="client", version=version)
        self._waiting: Deferred[None] | None = None
        self._packet_id = 0

    # Transport's side

    def received(self, data: bytes) -> None:
        """Bytes from the gateway."""
        for packet in self._decoder.receive(data):
            if isinstance(packet, list):
                self.packets.extend(packet)
            elif isinstance(packet, Acks):
                self.packets.extend(Ack(packet.kind, i) for i in packet.packet_ids)
            else:
                self.packets.append(packet)
        if self._decoder.error is not None:
            raise AssertionError(f"the gateway sent nonsense: {self._decoder.error}")
        self._wake()

    def lost(self) -> None:
        """The gateway closed."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def write(self, data: bytes) -> None:
        """Bytes to the gateway."""
        raise NotImplementedError("a transport says how")

    def drop(self) -> None:
        """Cut the connection without a word."""
        raise NotImplementedError("a transport says how")

    # Saying

    def send(self, packet: Any) -> None:
        """Any packet, encoded for the client's version."""
        if isinstance(packet, Publish):
            self.write(
                encode_publish(
                    packet,
                    self.version,
                    packet.qos,
                    packet.retain,
                    packet.dup,
                    packet.packet_id,
                    packet.properties,
                )
            )
        else:
            self.write(encode(packet, self.version))

    def next_id(self) -> int:
        """A packet identifier of the client's own."""
        self._packet_id += 1
        return self._packet_id

    @inlineCallbacks
    def connect(
        self,
        clean_start: bool = True,
        keep_alive: int = 0,
        user_name: str | None = None,
        password: bytes | None = None,
        will: WillMessage | None = None,
        properties: Properties = NO_PROPERTIES,
        bridge: bool = False,
    ) -> Generator[Deferred[Any], Any, Connack]:
        """CONNECT, and the CONNACK that comes back."""
        self.send(
            Connect(
                self.version,
                self.client_id,
                clean_start,
                keep_alive,
                user_name,
                password,
                will,
                properties,
                bridge,
            )
        )
        connack = yield self.expect(Connack)
        return connack

    @inlineCallbacks
    def subscribe(
        self, *filters: str | FilterRequest, qos: int = 0, properties: Properties = NO_PROPERTIES
    ) -> Generator[Deferred[Any], Any, list[int]]:
        """SUBSCRIBE; the reasons of the SUBACK."""
        requests = [FilterRequest(f, qos) if isinstance(f, str) else f for f in filters]
        packet_id = self.next_id()
        self.send(Subscribe(packet_id, requests, properties))
        suback = yield self.expect(Suback)
        assert suback.packet_id == packet_id
        return list(suback.reasons)

    @inlineCallbacks
    def unsubscribe(self, *filters: str) -> Generator[Deferred[Any], Any, list[int]]:
        """UNSUBSCRIBE; the reasons of the UNSUBACK."""
        packet_id = self.next_id()
        self.send(Unsubscribe(packet_id, list(filters)))
        unsuback = yield self.expect(Unsuback)
        assert unsuback.packet_id == packet_id
        return list(unsuback.reasons)

    @inlineCallbacks
    def publish(
        self,
        topic: str,
        payload: bytes = b"",
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NO_PROPERTIES,
    ) -> Generator[Deferred[Any], Any, int]:
        """PUBLISH and the whole exchange; the reason code of PUBACK or PUBREC."""
        packet_id = self.next_id() if qos else 0
        self.send(Publish(topic, payload, qos, retain, packet_id, properties))
        if qos == 0:
            return 0
        ack = yield self.expect_ack(PUBACK if qos == 1 else PUBREC, packet_id)
        if qos == 2 and ack.reason < 0x80:
            self.send(Ack(PUBREL, packet_id))
            yield self.expect_ack(PUBCOMP, packet_id)
        return int(ack.reason)

    # Hearing

    @inlineCallbacks
    def expect(self, kind: type) -> Generator[Deferred[Any], Any, Any]:
        """The next packet, which must be of this kind; for a Publish nothing is acknowledged."""
        packet = yield self._next(lambda p: True, kind.__name__)
        if not isinstance(packet, kind):
            raise AssertionError(f"expected {kind.__name__}, got {describe(packet)}")
        return packet

    @inlineCallbacks
    def expect_ack(self, kind: int, packet_id: int) -> Generator[Deferred[Any], Any, Ack]:
        """The acknowledgement of this identifier; PUBLISHes in between stay for later."""
        ack = yield self._next(
            lambda p: isinstance(p, Ack) and p.kind == kind and p.packet_id == packet_id,
            f"acknowledgement {kind} of {packet_id}",
        )
        return ack

    @inlineCallbacks
    def expect_publish(self) -> Generator[Deferred[Any], Any, Publish]:
        """The next PUBLISH, with its exchange completed; acknowledgements in between stay."""
        publish = yield self._next(lambda p: isinstance(p, Publish), "a PUBLISH")
        if publish.qos == 1:
            self.send(Ack(PUBACK, publish.packet_id))
        elif publish.qos == 2:
            self.send(Ack(PUBREC, publish.packet_id))
            yield self.expect_ack(PUBREL, publish.packet_id)
            self.send(Ack(PUBCOMP, publish.packet_id))
        return publish

    @inlineCallbacks
    def expect_closed(self) -> Generator[Deferred[Any], Any, Disconnect | Connack | None]:
        """The gateway closes; the last packet before, if it gave a reason."""
        while not self.closed:
            yield self._wait("the gateway to close")
        said = [p for p in self.packets if isinstance(p, (Disconnect, Connack))]
        return said[-1] if said else None

    @inlineCallbacks
    def expect_nothing(self, turns: int = 20) -> Generator[Deferred[Any], Any, None]:
        """A PINGREQ is answered, and nothing came before the answer or some turns after."""
        from mop_twisted.codec.packets import Pingreq, Pingresp

        self.send(Pingreq())
        yield self.expect(Pingresp)
        for _ in range(turns):
            yield deferLater(default_reactor, 0, lambda: None)
        if self.packets:
            raise AssertionError(f"unexpected {describe(self.packets[0])}")

    @inlineCallbacks
    def _next(self, wanted: Any, what: str) -> Generator[Deferred[Any], Any, Any]:
        while True:
            for at, packet in enumerate(self.packets):
                if wanted(packet):
                    return self.packets.pop(at)
            if self.closed:
                rest = ", ".join(describe(p) for p in self.packets)
                raise AssertionError(f"closed while waiting for {what}; before: [{rest}]")
            yield self._wait(what)

    @inlineCallbacks
    def _wait(self, what: str) -> Generator[Deferred[Any], Any, None]:
        assert self._waiting is None
        self._waiting = waiting = Deferred()
        waiting.addTimeout(PATIENCE, default_reactor)
        try:
            yield waiting
        except Exception as error:
            self._waiting = None
            rest = ", ".join(describe(p) for p in self.packets)
            raise AssertionError(f"waited in vain for {what}; there is [{rest}]") from error


def describe(packet: Any) -> str:
    """A packet for a test's report."""
    fields = ", ".join(f"{name}={getattr(packet, name)!r}" for name in type(packet).__slots__)
    return f"{type(packet).__name__}({fields})"


class MemoryClient(Client):
    """A client of a L{Node} in this process."""

    def __init__(self, node: Node, version: int, client_id: str, peer: Peer) -> None:
        super().__init__(version, client_id)
        self.node = node
        self.connection = Connection(node.limits, peer, node.clock.seconds())

    def write(self, data: bytes) -> None:
        if self.closed:
            return
        events = self.connection.receive(data, self.node.clock.seconds())
        self.node.broker.handle(self.connection, events)

    def drop(self) -> None:
        if not self.closed:
            self.closed = True
            self.node.clients.pop(self.connection, None)
            self.node.broker.lost(self.connection)


class Node:
    """A gateway without a network. C{folder} is its embedded log's; a second node on the same
    folder, after L{stop}, is what a restart is."""

    def __init__(
        self, folder: str | None = None, limits: Limits | None = None, **kept: Any
    ) -> None:
        self._own_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="mop-test-")
        self.limits = limits or Limits()
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.wall = kept.pop("wall", 1_800_000_000.0)
        self.authority = kept.pop("authority", None) or Authority.from_files(
            None, None, lambda listener: True, default_reactor
        )
        self.log = EmbeddedLog(
            self.folder,
            default_reactor,
            self.limits,
            kept.pop("retention", []),
            vfs=kept.pop("vfs", None),
            wall=self.wall_clock,
            monotonic=self.clock.seconds,
        )
        self.counters = Counters()
        self.clients: dict[Connection, MemoryClient] = {}
        self.broker = Broker(
            self.log,
            self.log,
            self.authority,
            self.limits,
            self.counters,
            self.clock.seconds,
            self.wall_clock,
            lambda function: default_reactor.callLater(0, function),
            lambda: default_reactor.callLater(0, self.flush),
        )

    def wall_clock(self) -> float:
        """The wall clock goes with the other one."""
        return self.wall + self.clock.seconds() - 1000.0

    def start(self) -> Deferred[None]:
        """Open the log and load."""
        return self.broker.start()

    @inlineCallbacks
    def stop(self, keep: bool = False) -> Generator[Deferred[Any], Any, None]:
        """Drain and stop, as SIGTERM does; the folder goes unless it shall be kept."""
        self.broker.shut_down()
        self.flush()
        yield self.log.stop()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def flush(self) -> None:
        """What net does at the end of a turn."""
        for connection in self.broker.outbox.take():
            client = self.clients.get(connection)
            if connection.congested:
                # As net does: it stays with the connection until the transport takes more.
                continue
            output = connection.take_output()
            # Asked before the client hears: what it says then belongs to the next turn.
            closing = connection.closing
            if client is None:
                continue
            if output:
                client.received(output)
            if closing and self.clients.pop(connection, None) is not None:
                self.broker.lost(connection)
                client.lost()

    def client(self, client_id: str = "", version: int = 5, **peer: Any) -> MemoryClient:
        """A client that has not yet said CONNECT."""
        origin = Peer(
            peer.get("listener", "tcp:127.0.0.1:1883"),
            peer.get("address", "127.0.0.1"),
            peer.get("certificate_name"),
        )
        client = MemoryClient(self, version, client_id, origin)
        assert self.broker.connected(client.connection)
        self.clients[client.connection] = client
        return client

    @inlineCallbacks
    def connected(
        self, client_id: str = "", version: int = 5, **connect: Any
    ) -> Generator[Deferred[Any], Any, MemoryClient]:
        """A client whose CONNECT was accepted."""
        client = self.client(client_id, version)
        connack = yield client.connect(**connect)
        assert connack.reason == 0, describe(connack)
        return client

    def turn(self) -> Deferred[None]:
        """Let the reactor turn once, and a little longer: the log writes in a thread."""
        return deferLater(default_reactor, 0.001, lambda: None)

    def advance(self, seconds: float) -> None:
        """Let time pass: deadlines of connections, then the broker's tick, each second."""
        while seconds > 0:
            step = min(seconds, 1.0)
            self.clock.advance(step)
            seconds -= step
            now = self.clock.seconds()
            for connection in list(self.clients):
                deadline = connection.deadline
                if deadline and deadline <= now:
                    self.broker.handle(connection, connection.expire(now))
            self.broker.tick()
            self.flush()


class SocketClient(Client, Protocol):
    """A client over a real transport: connect it with an endpoint's C{connect}."""

    def __init__(self, version: int = 5, client_id: str = "") -> None:
        Client.__init__(self, version, client_id)

    def dataReceived(self, data: bytes) -> None:
        self.received(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost()

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data)

    def drop(self) -> None:
        assert self.transport is not None
        self.transport.abortConnection()
