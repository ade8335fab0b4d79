"""Tests of L{mop_twisted.net.transport}, over real sockets."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Generator
from typing import Any

from twisted.internet import reactor
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.trial.unittest import TestCase

from mop_twisted.net.transport import Stream

from .doubles import (
    CONNACK,
    CONNECT,
    Edge,
    in_thread,
    publish_bytes,
    read_exactly,
    read_to_end,
    until,
)


class StreamTests(TestCase):
    """The transport sends at once, and loses nothing when it cannot."""

    def setUp(self) -> None:
        self.edge = Edge()
        self.addCleanup(self.edge.stop)

    def protocols(self) -> list[Any]:
        """The connections that the edge has."""
        return list(self.edge.gate.flusher.protocols.values())

    @inlineCallbacks
    def test_conversation(self) -> Generator[Deferred[Any], Any, None]:
        """A client connects, publishes, gets its message, and goes."""

        def talk() -> bytes:
            with self.edge.connect() as sock:
                sock.sendall(CONNECT + publish_bytes("a", b"x"))
                return read_exactly(sock, 4 + 8)

        self.assertEqual(CONNACK + publish_bytes("a/0", b"x"), (yield in_thread(talk)))
        yield until(lambda: "lost" in self.edge.broker.names())

    @inlineCallbacks
    def test_sends_at_once(self) -> Generator[Deferred[Any], Any, None]:
        """A small answer leaves without the reactor having to watch for room."""
        sock = yield in_thread(self.edge.connect)
        self.addCleanup(sock.close)
        yield in_thread(sock.sendall, CONNECT)
        self.assertEqual(CONNACK, (yield in_thread(read_exactly, sock, 4)))
        transport = self.protocols()[0].transport
        transport.write(publish_bytes("b", b"now"))
        self.assertEqual(0, transport.waiting_bytes)
        self.assertNotIn(transport, reactor.getWriters())
        self.assertEqual(8, len((yield in_thread(read_exactly, sock, 8))))

    @inlineCallbacks
    def test_slow_reader_gets_everything(self) -> Generator[Deferred[Any], Any, None]:
        """Twenty megabytes to a client that reads late arrive whole and in order, and while it
        does not read the transport holds little of them."""
        sock = yield in_thread(self.edge.connect)
        self.addCleanup(sock.close)
        yield in_thread(sock.sendall, CONNECT + publish_bytes("flood", b"20000"))
        yield until(lambda: any(p.connection.congested for p in self.protocols()))
        protocol = self.protocols()[0]
        self.assertTrue(protocol.connection.output_bytes > 1_000_000)
        self.assertTrue(protocol.transport.waiting_bytes < 600_000)
        expected = CONNACK + b"".join(
            publish_bytes(f"flood/{i}", bytes(1000)) for i in range(20000)
        )
        received = yield in_thread(read_exactly, sock, len(expected))
        self.assertTrue(expected == received)
        yield until(lambda: "drained" in self.edge.broker.names())
        self.assertEqual(0, protocol.connection.output_bytes)

    @inlineCallbacks
    def test_rest_is_sent_before_closing(self) -> Generator[Deferred[Any], Any, None]:
        """What waits for a slow reader when we close still arrives."""
        sock = yield in_thread(self.edge.connect)
        self.addCleanup(sock.close)
        flood = publish_bytes("flood", b"9000") + publish_bytes("goodbye", b"")
        yield in_thread(sock.sendall, CONNECT + flood)
        yield until(lambda: any(p.connection.congested for p in self.protocols()))
        received = yield in_thread(read_to_end, sock)
        self.assertEqual(9000, received.count(b"flood/"))

    @inlineCallbacks
    def test_reset_by_peer(self) -> Generator[Deferred[Any], Any, None]:
        """A client that resets its connection is lost once, whatever waits for it."""
        sock = yield in_thread(self.edge.connect)
        yield in_thread(sock.sendall, CONNECT + publish_bytes("flood", b"20000"))
        yield until(lambda: any(p.connection.congested for p in self.protocols()))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        yield until(lambda: not self.protocols())
        self.assertEqual(["connected", "lost"], self.edge.broker.names())

    @inlineCallbacks
    def test_write_to_a_dead_peer(self) -> Generator[Deferred[Any], Any, None]:
        """Writing to a peer that is gone raises nothing and ends the connection."""
        sock = yield in_thread(self.edge.connect)
        yield in_thread(sock.sendall, CONNECT)
        yield in_thread(read_exactly, sock, 4)
        protocol = self.protocols()[0]
        # Not seen by reading, so that it must be seen by writing.
        protocol.transport.pauseProducing()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
        protocol.transport.write(b"hello")
        protocol.transport.write(b"hello")
        yield until(lambda: not self.protocols())
        protocol.transport.write(b"after the end")
        self.assertEqual(["connected", "lost"], self.edge.broker.names())

    @inlineCallbacks
    def test_socket_options(self) -> Generator[Deferred[Any], Any, None]:
        """Accepted connections do not delay small packets, and notice dead peers."""
        sock = yield in_thread(self.edge.connect)
        self.addCleanup(sock.close)
        yield until(self.protocols)
        transport = self.protocols()[0].transport
        self.assertIsInstance(transport, Stream)
        self.assertTrue(transport.getTcpNoDelay())
        self.assertTrue(transport.getTcpKeepAlive())
        self.assertEqual(IPv4Address("TCP", *sock.getsockname()), transport.getPeer())
        self.assertEqual(IPv4Address("TCP", *sock.getpeername()), transport.getHost())
        self.assertEqual("127.0.0.1", self.protocols()[0].connection.peer.address)


class UnixTests(TestCase):
    """The same over a path."""

    @inlineCallbacks
    def test_conversation(self) -> Generator[Deferred[Any], Any, None]:
        """A local client connects over a UNIX domain socket."""
        folder = tempfile.mkdtemp()
        self.addCleanup(os.rmdir, folder)
        path = os.path.join(folder, "mqtt")
        edge = Edge(f"unix:{path}")
        self.addCleanup(edge.stop)
        self.assertEqual(0o660, os.stat(path).st_mode & 0o777)
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(10)
        sock.connect(path)
        self.addCleanup(sock.close)
        sock.sendall(CONNECT + publish_bytes("a", b"x"))
        received = yield in_thread(read_exactly, sock, 12)
        self.assertEqual(CONNACK + publish_bytes("a/0", b"x"), received)
        protocol = next(iter(edge.gate.flusher.protocols.values()))
        self.assertEqual(f"unix:{path}", protocol.connection.peer.address)
        self.assertEqual(UNIXAddress(None), protocol.transport.getPeer())
        self.assertEqual(UNIXAddress(path), protocol.transport.getHost())


class ComparisonTests(TestCase):
    """Twisted's own transport and ours are interchangeable for a protocol."""

    def test_same_attributes(self) -> None:
        """What Twisted's transport sets on itself, ours has too."""
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        from twisted.internet import tcp

        class Port:
            _realPortNumber = 1

        factory = Factory.forProtocol(Protocol)
        made = [
            kind(sock, factory.buildProtocol(None), ("192.0.2.1", 1), Port(), 0, reactor)
            for kind, sock in ((tcp.Server, ours), (Stream, theirs))
        ]
        for transport in made:
            transport.stopReading()
        self.assertEqual(
            [], [n for n in vars(made[0]) if not hasattr(made[1], n) and n != "client"]
        )
