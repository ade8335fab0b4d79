"""Tests of L{mop_twisted.net.protocol}, L{mop_twisted.net.flusher}, L{mop_twisted.net.gate}."""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.broker.counters import Counters
from mop_twisted.codec.encode import encode
from mop_twisted.codec.packets import Connect
from mop_twisted.limits import Limits
from mop_twisted.net.gate import Gate
from mop_twisted.net.protocol import CHUNK_BYTES, CLOSING_SECONDS, MqttFactory, MqttProtocol

from .doubles import CONNACK, CONNECT, Echo, publish_bytes

DONE = Failure(ConnectionDone())


class GateCase(SynchronousTestCase):
    """A gate on a clock that stands still, with transports in memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.limits = Limits()
        self.gate = Gate(self.clock, self.clock.seconds, self.limits, Counters())
        self.broker = Echo(self.gate.flusher.schedule)
        self.gate.open(self.broker)
        self.factory = MqttFactory(self.gate, "tcp:127.0.0.1:1883")

    def connect(self, host: str = "192.0.2.1", send: bytes = b"") -> MqttProtocol:
        """A client's transport, over which C{send} has come."""
        protocol = self.factory.buildProtocol(IPv4Address("TCP", host, 5000))
        assert protocol is not None
        protocol.makeConnection(StringTransport())
        if send:
            protocol.dataReceived(send)
            self.turn()
        return protocol

    def turn(self) -> None:
        """Let the reactor turn once."""
        self.clock.advance(0)

    def pass_seconds(self, seconds: float) -> None:
        """Let time pass as a reactor would."""
        self.clock.pump([0.25] * int(seconds * 4))

    def lose(self, protocol: MqttProtocol) -> None:
        """The transport goes."""
        protocol.connectionLost(DONE)


class ProtocolTests(GateCase):
    """Bytes in, bytes out, at the right time."""

    def test_one_write_a_turn(self) -> None:
        """Whatever is said in one turn is answered in one write."""
        writes: list[bytes] = []
        protocol = self.connect()
        protocol.transport.write = writes.append
        protocol.dataReceived(CONNECT)
        for _ in range(10):
            protocol.dataReceived(publish_bytes("a", b"x"))
        self.assertEqual([], writes)
        self.turn()
        self.assertEqual(1, len(writes))
        self.assertEqual(CONNACK + publish_bytes("a/0", b"x") * 10, writes[0])
        counters = self.gate.counters
        self.assertEqual(len(writes[0]), counters.bytes_sent)
        self.assertEqual(len(CONNECT) + 10 * len(publish_bytes("a", b"x")), counters.bytes_received)

    def test_lost_once(self) -> None:
        """The broker hears of each end exactly once."""
        protocol = self.connect(send=CONNECT)
        self.lose(protocol)
        self.lose(protocol)
        self.assertEqual(["connected", "lost"], self.broker.names())
        self.assertEqual({}, self.gate.flusher.protocols)

    def test_nothing_after_the_end(self) -> None:
        """Output of a connection that is gone is dropped, and does no harm."""
        protocol = self.connect(send=CONNECT)
        protocol.dataReceived(publish_bytes("a", b"x"))
        self.lose(protocol)
        self.turn()
        self.assertEqual(CONNACK, protocol.transport.value())
        self.assertEqual(0, protocol.connection.output_bytes)

    def test_closing_after_output(self) -> None:
        """What waits is sent before we close."""
        protocol = self.connect(send=CONNECT)
        protocol.dataReceived(publish_bytes("a", b"x") + publish_bytes("goodbye", b""))
        self.turn()
        self.assertTrue(protocol.transport.value().endswith(publish_bytes("a/0", b"x")))
        self.assertTrue(protocol.transport.disconnecting)
        protocol.dataReceived(publish_bytes("b", b"too late"))
        self.assertEqual(2, len(self.broker.events))

    def test_failed_flush_harms_nobody_else(self) -> None:
        """An error in one transport cuts that one; the others get their output."""
        broken, fine = self.connect(), self.connect()

        def write(data: bytes) -> None:
            raise RuntimeError("expected by the test")

        broken.transport.write = write
        broken.dataReceived(CONNECT)
        fine.dataReceived(CONNECT)
        self.turn()
        self.assertEqual(CONNACK, fine.transport.value())
        self.assertTrue(broken.transport.disconnected)
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_pauses_reading_for_the_log(self) -> None:
        """A client that shall not be read is not read, and read again later."""
        protocol = self.connect(send=CONNECT)
        protocol.connection.reading = False
        protocol.dataReceived(publish_bytes("a", b"x"))
        self.assertEqual("paused", protocol.transport.producerState)
        protocol.connection.reading = True
        self.broker.outbox.add(protocol.connection)
        self.turn()
        self.assertEqual("producing", protocol.transport.producerState)


class BackPressureTests(GateCase):
    """A client that does not read costs what the limits say, and no more."""

    def setUp(self) -> None:
        super().setUp()
        self.protocol = self.connect(send=CONNECT)
        self.transport: Any = self.protocol.transport
        self.transport.clear()
        self.written: list[bytes] = []

    def fill(self) -> None:
        """From now on the transport takes one write, and is full then."""

        def write(data: bytes) -> None:
            self.written.append(data)
            self.transport.producer.pauseProducing()

        self.transport.write = write

    def test_output_stays_in_the_connection(self) -> None:
        """While the transport is full, output is where the broker can see and bound it; when
        it is empty again, the rest is sent and the broker is told."""
        self.fill()
        self.protocol.dataReceived(publish_bytes("flood", b"1000"))
        self.turn()
        connection = self.protocol.connection
        self.assertTrue(connection.congested)
        self.assertTrue(len(self.written[0]) <= CHUNK_BYTES)
        self.assertEqual(sum(map(len, connection.output)), connection.output_bytes)
        self.protocol.dataReceived(publish_bytes("a", b"x"))
        self.turn()
        self.assertEqual(1, len(self.written))
        for _ in range(3):
            self.protocol.resumeProducing()
        self.assertEqual(0, connection.output_bytes)
        self.assertNotIn("drained", self.broker.names())
        self.protocol.resumeProducing()
        self.assertIn("drained", self.broker.names())
        self.assertFalse(connection.congested)
        sent = b"".join(self.written)
        self.assertTrue(sent.endswith(publish_bytes("a/0", b"x")))
        self.assertEqual(1000, sent.count(b"flood/"))

    def test_large_frame_is_one_write(self) -> None:
        """A frame larger than a chunk goes whole."""
        self.fill()
        payload = b"x" * 600_000
        self.protocol.dataReceived(publish_bytes("a", payload))
        self.turn()
        self.assertEqual([publish_bytes("a/0", payload)], self.written)

    def test_closing_waits_for_a_slow_reader(self) -> None:
        """Someone who reads slowly still gets the rest before we close."""
        self.fill()
        self.protocol.dataReceived(publish_bytes("flood", b"500") + publish_bytes("goodbye", b""))
        self.turn()
        self.assertFalse(self.transport.disconnecting)
        self.protocol.resumeProducing()
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(500, b"".join(self.written).count(b"flood/"))

    def test_closing_does_not_wait_for_ever(self) -> None:
        """Someone who does not read at all is cut after a few seconds."""
        self.fill()
        self.protocol.dataReceived(publish_bytes("flood", b"500") + publish_bytes("goodbye", b""))
        self.turn()
        self.pass_seconds(CLOSING_SECONDS - 1)
        self.assertFalse(self.transport.disconnected)
        self.pass_seconds(3)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(1, self.gate.aborted_connections)


class DeadlineTests(GateCase):
    """Clients that are silent are ended."""

    def test_no_connect_in_time(self) -> None:
        """A client that says nothing is closed after the time to connect."""
        protocol = self.connect()
        self.pass_seconds(self.limits.connect_timeout - 1)
        self.assertFalse(protocol.transport.disconnecting)
        self.pass_seconds(3)
        self.assertTrue(protocol.transport.disconnecting)

    def test_trickle_does_not_count(self) -> None:
        """Nor does a CONNECT that comes a byte at a time win more time."""
        protocol = self.connect()
        for byte in CONNECT[:-1]:
            protocol.dataReceived(bytes((byte,)))
            self.pass_seconds(1.5)
        self.assertTrue(protocol.transport.disconnecting)

    def test_keep_alive(self) -> None:
        """A client is closed after one and a half times its keep alive, even if that is sooner
        than its time to connect would have been over. [MQTT5-3.1.2-22] [MQTT311-3.1.2-24]"""
        protocol = self.connect(send=encode(Connect(4, "client", keep_alive=2), 4))
        for _ in range(5):
            self.pass_seconds(2)
            protocol.dataReceived(b"\xc0\x00")
        self.assertFalse(protocol.transport.disconnecting)
        self.pass_seconds(5.25)
        self.assertTrue(protocol.transport.disconnecting)

    def test_not_read_does_not_time_out(self) -> None:
        """While we do not read a client, its silence is our doing."""
        protocol = self.connect(send=encode(Connect(4, "client", keep_alive=2), 4))
        protocol.connection.reading = False
        self.pass_seconds(20)
        self.assertFalse(protocol.transport.disconnecting)
        protocol.connection.resume_reading(self.clock.seconds())
        self.pass_seconds(2)
        self.assertFalse(protocol.transport.disconnecting)
        self.pass_seconds(4)
        self.assertTrue(protocol.transport.disconnecting)

    def test_idle_connection_leaves_no_calls(self) -> None:
        """A thousand connections share one scheduled call."""
        for number in range(1000):
            self.connect(host=f"192.0.2.{number % 200}")
        self.assertEqual(1, len(self.clock.getDelayedCalls()))


class GateTests(GateCase):
    """Who may come in."""

    def test_connections_of_an_address(self) -> None:
        """One address has a limit; others are not concerned, and who leaves makes room."""
        self.limits.connections_per_address = 2
        first = self.connect(send=CONNECT)
        self.connect(send=CONNECT)
        address = IPv4Address("TCP", "192.0.2.1", 1)
        self.assertIs(None, self.factory.buildProtocol(address))
        self.connect(host="192.0.2.2")
        self.lose(first)
        self.connect()
        self.assertEqual(1, self.gate.refused_connections)

    def test_connecting_of_an_address(self) -> None:
        """Those without a CONNECT have a smaller limit of their own."""
        self.limits.connecting_per_address = 2
        first = self.connect()
        second = self.connect()
        address = IPv4Address("TCP", "192.0.2.1", 1)
        self.assertIs(None, self.factory.buildProtocol(address))
        first.dataReceived(CONNECT)
        self.turn()
        third = self.connect()
        for protocol in (first, second, third):
            self.lose(protocol)
        self.assertEqual({}, self.gate._addresses)

    def test_node_is_full(self) -> None:
        """When the broker takes no more, the transport is cut, and the broker not told twice."""
        self.broker.full = True
        protocol = self.connect()
        self.assertTrue(protocol.transport.disconnected)
        self.lose(protocol)
        self.assertEqual(["connected"], self.broker.names())
        self.assertEqual({}, self.gate._addresses)

    def test_bytes_before_connect(self) -> None:
        """All clients that are not let in yet may together send so much; the one that goes
        over it is cut, and accepted or gone ones do not count."""
        self.gate.early_limit = 3000
        huge = b"\x10\xff\x7f\x00\x04MQTT\x04\x02\x00\x00" + bytes(1400)
        first, second, third = self.connect(), self.connect(), self.connect()
        first.dataReceived(huge)
        second.dataReceived(huge)
        third.dataReceived(huge)
        self.assertFalse(second.transport.disconnected)
        self.assertTrue(third.transport.disconnected)
        for protocol in (first, second, third):
            self.lose(protocol)
        self.assertEqual(0, self.gate.early_bytes)
        fourth = self.connect(send=CONNECT)
        self.assertEqual(0, self.gate.early_bytes)
        fourth.dataReceived(publish_bytes("a", bytes(5000)))
        self.assertFalse(fourth.transport.disconnected)

    def test_unix_clients(self) -> None:
        """Clients of a path count together, under its name."""
        protocol = MqttFactory(self.gate, "unix:/x").buildProtocol(UNIXAddress(None))
        assert protocol is not None
        self.assertEqual("unix:/x", protocol.connection.peer.address)

    def test_close(self) -> None:
        """At the end everybody gets what waits for them, and then the gate is empty."""
        first, second = self.connect(send=CONNECT), self.connect(send=CONNECT)
        first.dataReceived(publish_bytes("a", b"x"))
        closed = self.gate.close(2.0)
        self.assertTrue(first.transport.value().endswith(publish_bytes("a/0", b"x")))
        self.assertTrue(second.transport.disconnecting)
        self.lose(first)
        self.assertNoResult(closed)
        self.clock.advance(2.0)
        self.assertTrue(second.transport.disconnected)
        self.lose(second)
        self.successResultOf(closed)
        self.assertEqual([], [c for c in self.clock.getDelayedCalls() if c.active()])

    def test_close_of_nothing(self) -> None:
        """Without connections the end comes at once."""
        self.successResultOf(self.gate.close(2.0))
