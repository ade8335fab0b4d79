"""Tests of L{mop_twisted.net.websocket}."""

from __future__ import annotations

import ssl
from collections.abc import Generator
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Request

from mop_twisted.broker.counters import Counters
from mop_twisted.limits import Limits
from mop_twisted.net.frames import BINARY, CLOSE, PING, TEXT
from mop_twisted.net.gate import Gate
from mop_twisted.net.protocol import CLOSING_SECONDS, MqttFactory
from mop_twisted.net.tls import Credentials, Files
from mop_twisted.net.websocket import HEADER_BYTES, WebSocket, WebSocketFactory

from .doubles import CONNACK, CONNECT, Echo, Edge, in_thread, publish_bytes, read_to_end, until
from .test_frames import frame
from .test_tls import Folder

ECHO = publish_bytes("a/0", b"x")


def request(
    target: str = "/mqtt",
    method: str = "GET",
    without: tuple[str, ...] = (),
    **changed: str,
) -> bytes:
    """An opening handshake, as a browser would send it, with some headers changed."""
    headers = {
        "Host": "example.net",
        "Connection": "keep-alive, Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "mqtt",
        "Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits",
    }
    headers.update({name.replace("_", "-"): value for name, value in changed.items()})
    lines = [f"{name}: {value}" for name, value in headers.items() if name not in without]
    return "\r\n".join([f"{method} {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


class WebSocketCase(SynchronousTestCase):
    """A WebSocket on a transport in memory, and a clock that stands still."""

    origins: frozenset[str] | None = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.gate = Gate(self.clock, self.clock.seconds, Limits(), Counters())
        self.broker = Echo(self.gate.flusher.schedule)
        self.gate.open(self.broker)
        above = MqttFactory(self.gate, "ws:127.0.0.1:8083")
        self.factory = WebSocketFactory(above, self.origins)
        self.websocket = self.make()
        self.transport: Any = self.websocket.transport

    def make(self) -> WebSocket:
        """Another client's."""
        websocket = self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 5000))
        assert websocket is not None
        websocket.makeConnection(StringTransport())
        return websocket

    def send(self, data: bytes) -> bytes:
        """Bytes from the client, and what they were answered with by the end of the turn."""
        self.transport.clear()
        self.websocket.dataReceived(data)
        self.clock.advance(0)
        answered: bytes = self.transport.value()
        return answered

    def open(self) -> None:
        """A handshake that succeeds."""
        self.assertTrue(self.send(request()).startswith(b"HTTP/1.1 101 "))


class HandshakeTests(WebSocketCase):
    """Who gets a WebSocket. H22"""

    def assert_refused(self, status: int, data: bytes) -> bytes:
        """C{data} is answered with this HTTP status, and the end."""
        self.websocket = self.make()
        self.transport = self.websocket.transport
        failed = self.gate.handshakes_failed
        answered = self.send(data)
        self.assertTrue(answered.startswith(f"HTTP/1.1 {status} ".encode()), answered)
        self.assertTrue(self.transport.disconnecting)
        self.assertEqual(failed + 1, self.gate.handshakes_failed)
        self.assertEqual(b"", self.send(frame(BINARY, CONNECT)))
        return answered

    def test_accepted(self) -> None:
        """The subprotocol mqtt is chosen, and no extension. [MQTT5-6.0.0-3] [MQTT5-6.0.0-4]
        [MQTT311-6.0.0-3] [MQTT311-6.0.0-4]"""
        answered = self.send(request())
        self.assertTrue(answered.startswith(b"HTTP/1.1 101 Switching Protocols\r\n"), answered)
        lowered = answered.lower()
        self.assertIn(b"sec-websocket-protocol: mqtt\r\n", lowered)
        self.assertIn(b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n", lowered)
        self.assertNotIn(b"extensions", lowered)

    def test_among_other_subprotocols(self) -> None:
        """mqtt may be one of several that are offered; its old name is understood too.
        [MQTT5-6.0.0-3] [MQTT311-6.0.0-3]"""
        for offered, chosen in (
            ("chat, mqtt", b": mqtt\r\n"),
            ("mqttv3.1, mqtt", b": mqtt\r\n"),
            ("mqttv3.1", b": mqttv3.1\r\n"),
        ):
            self.websocket = self.make()
            self.transport = self.websocket.transport
            answered = self.send(request(Sec_WebSocket_Protocol=offered)).lower()
            self.assertIn(b"sec-websocket-protocol" + chosen, answered)

    def test_without_the_subprotocol(self) -> None:
        """A client that does not offer mqtt is refused. [MQTT5-6.0.0-3] [MQTT311-6.0.0-3]"""
        for changed in (
            request(without=("Sec-WebSocket-Protocol",)),
            request(Sec_WebSocket_Protocol="chat"),
            request(Sec_WebSocket_Protocol=""),
            request(Sec_WebSocket_Protocol=",,,"),
            request(Sec_WebSocket_Protocol="MQTT"),
        ):
            self.assertIn(b"mqtt was not offered", self.assert_refused(400, changed))

    def test_query_is_ignored(self) -> None:
        """Clients that append something to the path get in."""
        self.assertTrue(self.send(request("/mqtt?x=1")).startswith(b"HTTP/1.1 101 "))

    def test_other_path(self) -> None:
        """There is nothing anywhere else."""
        for target in ("/", "/mqtt/", "/MQTT", "/mqttx", "*", "//mqtt"):
            self.assert_refused(404, request(target))

    def test_no_websocket(self) -> None:
        """A browser that came by accident is told what this port is."""
        answered = self.assert_refused(426, b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertIn(b"Upgrade: websocket\r\n", answered)
        self.assert_refused(426, b"nonsense\r\n\r\n")

    def test_broken_requests(self) -> None:
        """Handshakes that lack something are refused with a reason, not with an error of ours."""
        self.assert_refused(405, request(method="POST"))
        self.assert_refused(426, request(Sec_WebSocket_Version="8"))
        self.assert_refused(400, request(without=("Sec-WebSocket-Version",)))
        self.assert_refused(400, request(without=("Sec-WebSocket-Key",)))
        self.assert_refused(400, request(without=("Connection",)))
        self.assert_refused(400, request(without=("Host",)))
        self.assert_refused(400, request(Upgrade="h2c"))
        self.assert_refused(400, request(Host="xn--\xff." + "a" * 70))
        self.assert_refused(400, request("/mq\xfftt"))
        self.assert_refused(400, request().replace(b"HTTP/1.1", b"HTTP/3.7 x"))

    def test_huge_head(self) -> None:
        """More than 8 KiB of headers are refused, whole or in pieces."""
        self.assert_refused(431, request(X="a" * HEADER_BYTES))
        self.websocket = self.make()
        self.transport = self.websocket.transport
        for _ in range(9):
            answered = self.send(b"a" * 1024)
        self.assertTrue(answered.startswith(b"HTTP/1.1 431 "), answered)

    def test_trickled_head(self) -> None:
        """A handshake may come a byte at a time."""
        answered = b"".join(self.send(bytes((byte,))) for byte in request())
        self.assertTrue(answered.startswith(b"HTTP/1.1 101 "))

    def test_frames_right_behind_it(self) -> None:
        """A client that does not wait for the answer loses nothing."""
        answered = self.send(request() + frame(BINARY, CONNECT))
        self.assertTrue(answered.startswith(b"HTTP/1.1 101 "))
        self.assertTrue(answered.endswith(b"\x82\x04" + CONNACK))

    def test_no_handshake_in_time(self) -> None:
        """The handshake counts for the time to connect."""
        self.send(request()[:-2])
        self.clock.pump([0.5] * 36)
        self.assertTrue(self.transport.disconnecting)

    def test_counts_as_early(self) -> None:
        """What clients send before they are let in is bounded over all of them."""
        self.gate.early_limit = 1000
        self.send(b"a" * 900)
        self.websocket = other = self.make()
        self.transport = other.transport
        self.send(b"a" * 900)
        self.assertTrue(self.transport.disconnected)

    def test_too_many(self) -> None:
        """An address with too many connections gets no more of these either."""
        self.gate.limits.connections_per_address = 1
        self.assertIs(None, self.factory.buildProtocol(IPv4Address("TCP", "192.0.2.1", 1)))


class OriginTests(HandshakeTests):
    """The same for a listener that browsers may use from certain pages only."""

    origins = frozenset({"https://Console.example.net"})

    def test_origins(self) -> None:
        """Pages of other origins are refused; what is no browser sends none and gets in."""
        self.assert_refused(403, request(Origin="https://evil.example.net"))
        self.assert_refused(403, request(Origin="null"))
        self.websocket = self.make()
        self.transport = self.websocket.transport
        answered = self.send(request(Origin="https://console.example.net"))
        self.assertTrue(answered.startswith(b"HTTP/1.1 101 "), answered)


class ConversationTests(WebSocketCase):
    """MQTT over an open WebSocket."""

    def setUp(self) -> None:
        super().setUp()
        self.open()

    def test_one_frame_a_flush(self) -> None:
        """What is sent in one turn is one binary frame. [MQTT5-6.0.0-1] [MQTT311-6.0.0-1]"""
        answered = self.send(frame(BINARY, CONNECT) + frame(BINARY, publish_bytes("a", b"x")))
        self.assertEqual(bytes((0x82, 12)) + CONNACK + ECHO, answered)

    def test_packets_over_frames(self) -> None:
        """Packets may be split over frames, and be many in one. [MQTT5-6.0.0-2]
        [MQTT311-6.0.0-2]"""
        data = CONNECT + publish_bytes("a", b"x") * 3
        answered = b"".join(self.send(frame(BINARY, bytes((byte,)))) for byte in data)
        self.assertEqual(3, answered.count(ECHO))
        self.assertEqual(2, self.send(frame(BINARY, publish_bytes("a", b"x") * 2)).count(ECHO))

    def test_text_ends_it(self) -> None:
        """A text frame closes the connection, and the client is told why. [MQTT5-6.0.0-1]
        [MQTT311-6.0.0-1]"""
        self.assertEqual(b"\x88\x02\x03\xeb", self.send(frame(TEXT, b"hello")))
        self.assertTrue(self.transport.disconnecting)

    def test_ping(self) -> None:
        """A ping of the WebSocket is answered, and keeps no MQTT client alive."""
        self.assertEqual(b"\x8a\x02hi", self.send(frame(PING, b"hi")))
        for _ in range(36):
            self.send(frame(PING, b"hi"))
            self.clock.advance(0.5)
        self.assertTrue(self.websocket._above.closed)

    def test_ping_flood(self) -> None:
        """A client that pings and does not read piles up nothing."""
        self.websocket._above.pauseProducing()
        self.assertEqual(b"", self.send(frame(PING, b"hi") * 1000))

    def test_client_closes(self) -> None:
        """Its Close is answered, and the broker hears of the end."""
        self.send(frame(BINARY, CONNECT))
        self.assertEqual(b"\x88\x02\x03\xe8", self.send(frame(CLOSE, b"\x03\xe8")))
        self.assertTrue(self.transport.disconnecting)
        self.websocket.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(["connected", "lost"], self.broker.names())

    def test_half_a_packet_then_close(self) -> None:
        """A client that goes in the middle of a packet is simply gone."""
        self.send(frame(BINARY, CONNECT[:5]) + frame(CLOSE))
        self.websocket.connectionLost(Failure(ConnectionDone()))
        self.assertEqual(["connected", "lost"], self.broker.names())
        self.assertEqual([], self.broker.events)

    def test_we_close(self) -> None:
        """We say farewell and wait for the client's, so that a browser sees an orderly end."""
        answered = self.send(frame(BINARY, CONNECT + publish_bytes("goodbye", b"")))
        self.assertTrue(answered.endswith(b"\x88\x02\x03\xe8"), answered)
        self.assertFalse(self.transport.disconnecting)
        self.assertEqual(b"", self.send(frame(BINARY, publish_bytes("a", b"x")) + frame(PING)))
        self.assertEqual(b"", self.send(frame(CLOSE, b"\x03\xe8")))
        self.assertTrue(self.transport.disconnecting)

    def test_we_close_and_it_does_not(self) -> None:
        """A client that does not answer our farewell is cut after some seconds."""
        self.send(frame(BINARY, CONNECT + publish_bytes("goodbye", b"")))
        self.clock.pump([0.5] * int(2 * CLOSING_SECONDS + 4))
        self.assertTrue(self.transport.disconnected)

    def test_not_read(self) -> None:
        """Back-pressure reaches the transport below, both ways."""
        self.send(frame(BINARY, CONNECT))
        connection = self.websocket._above.connection
        connection.reading = False
        self.send(frame(BINARY, publish_bytes("a", b"x")))
        self.assertEqual("paused", self.transport.producerState)
        self.assertIs(self.websocket._above, self.transport.producer)

    def test_dribbling_giant(self) -> None:
        """A frame that says it is huge is judged by MQTT as it comes, not collected."""
        self.send(frame(BINARY, CONNECT))
        head = b"\x30\xff\xff\xff\x7f"
        self.send(frame(BINARY, head, length=2**40))
        self.assertTrue(self.websocket._above.closed)


class SocketTests(TestCase):
    """Over real sockets, with wsproto as the client."""

    def talk(self, sock: Any) -> list[Event]:
        """Blocking: connect, publish, close; all that came back."""
        client = WSConnection(ConnectionType.CLIENT)
        events: list[Event] = []

        def hear(kind: type[Event]) -> None:
            while not any(isinstance(event, kind) for event in events):
                client.receive_data(sock.recv(65536))
                events.extend(client.events())

        opening = Request(host="localhost", target="/mqtt", subprotocols=["mqtt"])
        sock.sendall(client.send(opening))
        hear(AcceptConnection)
        sock.sendall(client.send(BytesMessage(CONNECT + publish_bytes("a", b"x"))))
        hear(BytesMessage)
        sock.sendall(client.send(CloseConnection(code=1000)))
        hear(CloseConnection)
        assert read_to_end(sock) == b""
        return events

    def assert_heard(self, events: list[Event]) -> None:
        """The answers of L{talk}."""
        self.assertEqual(["mqtt"], [e.subprotocol for e in events if hasattr(e, "subprotocol")])
        answered = b"".join(bytes(e.data) for e in events if isinstance(e, BytesMessage))
        self.assertEqual(CONNACK + ECHO, answered)

    @inlineCallbacks
    def test_ws(self) -> Generator[Deferred[Any], Any, None]:
        """A client of another implementation talks to us. [MQTT5-6.0.0-4]"""
        edge = Edge("ws:127.0.0.1:0")
        self.addCleanup(edge.stop)

        def talk() -> list[Event]:
            with edge.connect() as sock:
                return self.talk(sock)

        self.assert_heard((yield in_thread(talk)))
        yield until(lambda: "lost" in edge.broker.names())

    @inlineCallbacks
    def test_wss(self) -> Generator[Deferred[Any], Any, None]:
        """The same over TLS, where a client CA is as binding as for MQTT without WebSocket."""
        folder = Folder(self)
        files = Files(folder.certificate, folder.key, client_ca=folder.ca)
        edge = Edge("wss:127.0.0.1:0", credentials=Credentials(files))
        self.addCleanup(edge.stop)
        context = ssl.create_default_context(cafile=folder.ca)

        def talk() -> list[Event]:
            with edge.connect() as plain:
                sock = context.wrap_socket(plain, server_hostname="localhost")
                return self.talk(sock)

        def refused() -> bool:
            try:
                talk()
            except (OSError, AssertionError):
                return True
            return False

        self.assertTrue((yield in_thread(refused)))
        self.assertEqual([], edge.broker.events)
        context.load_cert_chain(*folder.client("pump"))
        self.assert_heard((yield in_thread(talk)))
        self.assertEqual("pump", edge.broker.calls[-1][1].peer.certificate_name)
        yield until(lambda: edge.broker.names().count("lost") == 2)
