"""CONNECT and CONNACK: MQTT 5.0 sections 3.1, 3.2; MQTT 3.1.1 the same."""

from __future__ import annotations

import os

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks

from mop_twisted.broker.authority import Authority
from mop_twisted.broker.view import View
from mop_twisted.codec.packets import (
    PUBREL,
    Ack,
    Connack,
    Connect,
    Disconnect,
    FilterRequest,
    Pingreq,
    Pingresp,
    Publish,
    Subscribe,
    Unsubscribe,
    WillMessage,
)
from mop_twisted.codec.properties import (
    ASSIGNED_CLIENT_IDENTIFIER,
    MAXIMUM_PACKET_SIZE,
    RECEIVE_MAXIMUM,
    REQUEST_PROBLEM_INFORMATION,
    REQUEST_RESPONSE_INFORMATION,
    RESPONSE_INFORMATION,
    SERVER_KEEP_ALIVE,
    SESSION_EXPIRY_INTERVAL,
    TOPIC_ALIAS_MAXIMUM,
)
from mop_twisted.limits import Limits

from ..conversation import Node
from .base import KEPT, NodeTestCase, Steps

VERSIONS = (3, 4, 5)


class ConnectTests(NodeTestCase):
    """What a client is told when it connects."""

    @inlineCallbacks
    def test_accepted(self) -> Steps:
        """A valid CONNECT is answered by one CONNACK that says success and no session.

        [MQTT5-3.1.4-5] [MQTT5-3.2.0-1] [MQTT5-3.2.0-2] [MQTT5-3.2.2-1] [MQTT5-3.2.2-2]
        [MQTT5-3.2.2-8] [MQTT311-3.1.4-4] [MQTT311-3.2.0-1] [MQTT311-3.2.2-1] [MQTT5-3.1.3-5]
        [MQTT311-3.1.3-5] [MQTT5-3.1.4-4] [MQTT311-3.1.4-3]
        """
        for version in VERSIONS:
            client = self.node.client("0123456789abcdefABCDEFZ", version)
            connack = yield client.connect()
            self.assertEqual((0, False), (connack.reason, connack.session_present))
            yield client.expect_nothing()

    @inlineCallbacks
    def test_first_packet_is_no_connect(self) -> Steps:
        """A connection that begins with anything but CONNECT is closed without a word.

        [MQTT5-3.1.0-1] [MQTT311-3.1.0-1] [MQTT5-3.14.0-1] H1
        """
        for version in VERSIONS:
            client = self.node.client("a", version)
            client.send(Pingreq())
            said = yield client.expect_closed()
            self.assertIsNone(said)

    @inlineCallbacks
    def test_second_connect(self) -> Steps:
        """A second CONNECT is a protocol error and ends the connection.

        [MQTT5-3.1.0-2] [MQTT311-3.1.0-2] [MQTT5-4.13.1-1] [MQTT311-4.8.0-1] H4
        """
        for version in VERSIONS:
            client = yield self.node.connected("a", version)
            client.send(Connect(version, "a"))
            said = yield client.expect_closed()
            if version == 5:
                self.assertEqual(0x82, said.reason)

    @inlineCallbacks
    def test_unknown_level(self) -> Steps:
        """A protocol level that nobody speaks is refused by name: return code 1, reason 0x84.

        [MQTT5-3.1.2-2] [MQTT311-3.1.2-2] [MQTT5-3.1.2-1] [MQTT311-3.1.2-1] [MQTT5-3.2.2-6]
        [MQTT5-3.2.2-7] [MQTT311-3.2.2-4] [MQTT311-3.2.2-5]
        """
        for name, level, version, code in (
            (b"MQTT", 2, 4, 0x84),
            (b"MQTT", 6, 5, 0x84),
        ):
            client = self.node.client("a", version)
            body = bytes((0, len(name))) + name + bytes((level, 2, 0, 0))
            body += b"\0\0\x01a" if version == 5 else b"\0\x01a"
            client.write(bytes((0x10, len(body))) + body)
            said = yield client.expect_closed()
            self.assertIsInstance(said, Connack)
            self.assertEqual((code, False), (said.reason, said.session_present))
        client = self.node.client("a", 4)
        client.write(b"\x10\x0d\0\x04QTTM\x04\x02\0\0\0\x01a")
        said = yield client.expect_closed()
        self.assertIsNone(said)

    @inlineCallbacks
    def test_malformed_connect(self) -> Steps:
        """A CONNECT that breaks the format is closed: 3.1.1 without a CONNACK, 5.0 with 0x81.

        [MQTT5-3.1.4-1] [MQTT311-3.1.4-1] [MQTT5-3.1.2-3] [MQTT311-3.1.2-3] [MQTT5-4.13.2-1]
        """
        for version, reason in ((4, None), (5, 0x81)):
            client = self.node.client("a", version)
            body = b"\0\x04MQTT" + bytes((version, 3, 0, 0)) + b"\0" * (version == 5) + b"\0\x01a"
            client.write(bytes((0x10, len(body))) + body)
            said = yield client.expect_closed()
            self.assertEqual(reason, said and said.reason)

    @inlineCallbacks
    def test_assigned_identifier(self) -> Steps:
        """A client without an identifier gets one: 5.0 is told it, and each gets another.

        [MQTT5-3.1.3-6] [MQTT5-3.1.3-7] [MQTT5-3.2.2-16] [MQTT311-3.1.3-6] [MQTT5-3.1.3-3]
        [MQTT311-3.1.3-3]
        """
        names = set()
        for _ in range(3):
            client = self.node.client("", 5)
            connack = yield client.connect()
            names.add(connack.properties[ASSIGNED_CLIENT_IDENTIFIER])
        self.assertEqual(3, len(names))
        old = self.node.client("", 4)
        connack = yield old.connect()
        self.assertEqual(0, connack.reason)

    @inlineCallbacks
    def test_identifier_rejected(self) -> Steps:
        """3.1.1 without identifier and with a session to keep, and 3.1 without one, get code 2.

        [MQTT311-3.1.3-8] [MQTT311-3.1.3-9] [MQTT5-3.1.3-8]
        """
        for version, clean in ((4, False), (3, True)):
            client = self.node.client("", version)
            connack = yield client.connect(clean)
            self.assertEqual(0x85, connack.reason)
            yield client.expect_closed()

    @inlineCallbacks
    def test_limits_are_told(self) -> Steps:
        """CONNACK tells a 5.0 client our limits: receive maximum, packet size, topic aliases."""
        client = self.node.client("a", 5)
        connack = yield client.connect()
        limits = self.node.limits
        self.assertEqual(limits.receive_maximum, connack.properties[RECEIVE_MAXIMUM])
        self.assertEqual(limits.maximum_packet_size, connack.properties[MAXIMUM_PACKET_SIZE])
        self.assertEqual(limits.topic_alias_maximum, connack.properties[TOPIC_ALIAS_MAXIMUM])
        self.assertNotIn(SERVER_KEEP_ALIVE, connack.properties)
        self.assertNotIn(RESPONSE_INFORMATION, connack.properties)

    @inlineCallbacks
    def test_response_information(self) -> Steps:
        """Response information is given to who asks for it, and to nobody else.

        [MQTT5-3.1.2-28]
        """
        client = self.node.client("asks", 5)
        connack = yield client.connect(properties={REQUEST_RESPONSE_INFORMATION: 1})
        self.assertEqual("mop/response/asks", connack.properties[RESPONSE_INFORMATION])
        client = self.node.client("not", 5)
        connack = yield client.connect(properties={REQUEST_RESPONSE_INFORMATION: 0})
        self.assertNotIn(RESPONSE_INFORMATION, connack.properties)

    @inlineCallbacks
    def test_sent_ahead_of_connack(self) -> Steps:
        """What a client sends right behind its CONNECT is carried out after the CONNACK."""
        for version in VERSIONS:
            client = self.node.client("a", version)
            client.send(Connect(version, "a", will=WillMessage("w", b"")))
            client.send(Pingreq())
            connack = yield client.expect(Connack)
            self.assertEqual(0, connack.reason)
            yield client.expect(Pingresp)
            yield client.expect_nothing()

    @inlineCallbacks
    def test_sent_behind_a_refused_connect(self) -> Steps:
        """What follows a CONNECT that is refused is never looked at.

        [MQTT5-3.1.4-6] [MQTT311-3.1.4-5]
        """
        listener = yield self.node.connected("listener", 5)
        yield listener.subscribe("#")
        for version in VERSIONS:
            client = self.node.client("listener", version)
            client.send(Connect(version, "x" if version == 5 else "", version == 3))
            if version == 5:
                continue
            client.send(Publish("t", b"not to be seen"))
            yield client.expect_closed()
        yield listener.expect_nothing()

    @inlineCallbacks
    def test_bridge(self) -> Steps:
        """A mosquitto bridge's level is understood: it gets retained flags as published and
        none of its own messages back."""
        for version in (3, 4):
            bridge = yield self.node.connected("bridge", version, bridge=True)
            yield bridge.subscribe("b/#", qos=1)
            yield bridge.publish("b/own", b"1", 1)
            other = yield self.node.connected("other", version)
            yield other.publish("b/r", b"2", 1, True)
            publish = yield bridge.expect_publish()
            self.assertEqual(("b/r", True), (publish.topic, publish.retain))
            yield bridge.expect_nothing()
            yield other.publish("b/r", b"", 1, True)
            yield bridge.expect_publish()


class ProblemInformationTests(NodeTestCase):
    """A client that wants no problem information gets none but where it may."""

    @inlineCallbacks
    def test_none(self) -> Steps:
        """With Request Problem Information 0, acknowledgements carry neither Reason String nor
        User Properties; a DISCONNECT may. [MQTT5-3.1.2-29]"""
        client = yield self.node.connected("a", properties={REQUEST_PROBLEM_INFORMATION: 0})
        for packet_id, packet in enumerate(
            (
                Subscribe(1, [FilterRequest("bad#")]),
                Unsubscribe(2, ["none"]),
                Publish("$SYS/x", b"", 1, False, 3),
                Publish("$SYS/x", b"", 2, False, 4),
                Ack(PUBREL, 5),
            ),
            1,
        ):
            client.send(packet)
            answer = yield client.expect(object)
            self.assertEqual((packet_id, {}), (answer.packet_id, answer.properties))
        client.send(Connect(5, "a"))
        said = yield client.expect_closed()
        self.assertEqual(0x82, said.reason)


class RefusalTests(NodeTestCase):
    """Who is not let in, and what is not allowed."""

    def make_node(self) -> Node:
        folder = self.mktemp()
        os.mkdir(folder)
        acl = os.path.join(folder, "acl")
        with open(acl, "w") as file:
            file.write("topic readwrite allowed/#\ntopic read shown\n")
        authority = Authority.from_files(
            None, acl, lambda listener: listener == "tcp:127.0.0.1:1883", reactor
        )
        return Node(authority=authority)

    @inlineCallbacks
    def test_not_let_in(self) -> Steps:
        """A client without a name is refused where that is not allowed, and closed.

        [MQTT5-3.1.4-2] [MQTT311-3.1.4-2] [MQTT5-3.2.2-7] [MQTT311-3.2.2-5]
        """
        for version in VERSIONS:
            client = self.node.client("a", version, listener="tcp:0.0.0.0:1883")
            connack = yield client.connect()
            self.assertEqual(0x87, connack.reason)
            yield client.expect_closed()

    @inlineCallbacks
    def test_publish_not_allowed(self) -> Steps:
        """5.0 is told 0x87; a 3.x client is acknowledged all the same, and the message goes
        nowhere. [MQTT311-3.3.5-2] H27"""
        listener = yield self.node.connected("listener")
        yield listener.subscribe("#", qos=2)
        for version in VERSIONS:
            client = yield self.node.connected("client", version)
            for topic in ("forbidden", "shown", "$SYS/broker/uptime"):
                for qos in (0, 1, 2):
                    reason = yield client.publish(topic, b"x", qos, True)
                    self.assertEqual(0x87 if version == 5 and qos else 0, reason)
        yield listener.expect_nothing()
        self.assertEqual(0, len(self.node.broker.retained))

    @inlineCallbacks
    def test_subscribe_not_allowed(self) -> Steps:
        """A filter that nothing allowed matches is refused, shared ones by what they match."""
        client = yield self.node.connected("client")
        reasons = yield client.subscribe(
            "allowed/a", "shown", "secret", "$share/g/secret", "$share/g/allowed/#", "#"
        )
        self.assertEqual([0, 0, 0x87, 0x87, 0, 0], reasons)

    @inlineCallbacks
    def test_every_way_is_guarded(self) -> Steps:
        """What a wide filter may not get comes by no way: live, retained, queue or share. H16"""
        client = yield self.node.connected("client", properties=KEPT)
        yield client.subscribe("#", "$share/g/#", qos=1)
        view = View(self.node.broker, self.node.log, self.node.log, self.node.clock.seconds)
        for retain in (False, True):
            yield view.publish("secret", b"x", 1, retain)
        yield client.expect_nothing()
        client.drop()
        yield view.publish("secret", b"x", 1, False)
        client = self.node.client("client")
        yield client.connect(False, properties=KEPT)
        yield client.subscribe("#", "secret/#", "+", qos=1)
        yield client.expect_nothing()

    @inlineCallbacks
    def test_will_not_allowed(self) -> Steps:
        """A will to a forbidden topic is refused at CONNECT: 0x87. H15"""
        for topic in ("forbidden", "$SYS/x"):
            client = self.node.client("client")
            connack = yield client.connect(will=WillMessage(topic, b""))
            self.assertEqual(0x87, connack.reason)


class LimitTests(NodeTestCase):
    """What the configuration limits is told, and held to."""

    def make_node(self) -> Node:
        limits = Limits()
        limits.keep_alive_maximum = 60
        limits.session_expiry_maximum = 500
        limits.sessions = 3
        limits.connections = 4
        return Node(limits=limits)

    @inlineCallbacks
    def test_server_keep_alive(self) -> Steps:
        """A keep alive over the maximum, or none, becomes the maximum, and the client is told;
        a smaller one stays.

        [MQTT5-3.2.2-22] H10
        """
        for asked, told in ((0, 60), (100, 60), (30, None)):
            client = self.node.client("a", 5)
            connack = yield client.connect(keep_alive=asked)
            self.assertEqual(told, connack.properties.get(SERVER_KEEP_ALIVE))
        self.node.advance(44)
        self.assertFalse(client.closed)
        self.node.advance(2)
        said = yield client.expect_closed()
        self.assertEqual(0x8D, said.reason)

    @inlineCallbacks
    def test_session_expiry_maximum(self) -> Steps:
        """A session expiry over the maximum is cut, and the client is told."""
        client = self.node.client("a", 5)
        connack = yield client.connect(properties=KEPT)
        self.assertEqual(500, connack.properties[SESSION_EXPIRY_INTERVAL])
        client.drop()
        self.node.advance(501)
        client = self.node.client("a", 5)
        connack = yield client.connect(False)
        self.assertFalse(connack.session_present)

    @inlineCallbacks
    def test_sessions_are_limited(self) -> Steps:
        """One session too many is refused with 0x97; the others live on."""
        for name in "abc":
            yield self.node.connected(name)
        client = self.node.client("d")
        connack = yield client.connect()
        self.assertEqual(0x97, connack.reason)
        yield client.expect_closed()

    @inlineCallbacks
    def test_connections_are_limited(self) -> Steps:
        """Over the limit of connections none is taken."""
        for name in "abc":
            yield self.node.connected(name)
        self.node.client("d")
        with self.assertRaises(AssertionError):
            self.node.client("e")


class KeepAliveTests(NodeTestCase):
    """A client that says nothing is cut after one and a half times its keep alive."""

    @inlineCallbacks
    def test_silence(self) -> Steps:
        """After 1.5 times the keep alive without a packet the connection ends: 0x8D.

        [MQTT5-3.1.2-22] [MQTT311-3.1.2-24]
        """
        for version in VERSIONS:
            client = yield self.node.connected("a", version, keep_alive=10)
            self.node.advance(14)
            yield client.expect_nothing()
            self.node.advance(14)
            self.assertFalse(client.closed)
            self.node.advance(2)
            said = yield client.expect_closed()
            if version == 5:
                self.assertEqual(0x8D, said.reason)

    @inlineCallbacks
    def test_trickle(self) -> Steps:
        """Bytes that never become a packet do not keep a connection alive. H10"""
        client = yield self.node.connected("a", 5, keep_alive=10)
        client.write(b"\x30\x7f")
        for _ in range(15):
            client.write(b"x")
            self.node.advance(1)
        said = yield client.expect_closed()
        self.assertEqual(0x8D, said.reason)

    @inlineCallbacks
    def test_none(self) -> Steps:
        """Keep alive 0 turns it off."""
        client = yield self.node.connected("a", 5)
        self.node.advance(100_000)
        yield client.expect_nothing()

    @inlineCallbacks
    def test_time_to_connect(self) -> Steps:
        """A CONNECT that is not complete after 15 seconds is not waited for. H1"""
        client = self.node.client("a", 5)
        client.write(b"\x10\x20\0\x04MQ")
        self.node.advance(14)
        self.assertFalse(client.closed)
        self.node.advance(2)
        said = yield client.expect_closed()
        self.assertIsNone(said)


class PingTests(NodeTestCase):
    """PINGREQ and DISCONNECT."""

    @inlineCallbacks
    def test_ping(self) -> Steps:
        """PINGREQ is answered by PINGRESP. [MQTT5-3.12.4-1] [MQTT311-3.12.4-1]"""
        for version in VERSIONS:
            client = yield self.node.connected("a", version)
            yield client.expect_nothing()

    @inlineCallbacks
    def test_disconnect(self) -> Steps:
        """After DISCONNECT the connection is closed, and nothing that follows counts.

        [MQTT5-3.14.4-1] [MQTT5-3.14.4-2]
        """
        listener = yield self.node.connected("listener")
        yield listener.subscribe("#")
        for version in VERSIONS:
            client = yield self.node.connected("a", version)
            client.send(Disconnect())
            client.send(Publish("t", b"too late"))
            yield client.expect_closed()
        yield listener.expect_nothing()

    @inlineCallbacks
    def test_reserved_bits_of_disconnect(self) -> Steps:
        """DISCONNECT with reserved bits set is malformed. [MQTT5-3.14.1-1] [MQTT311-3.14.1-1]"""
        for version in VERSIONS:
            client = yield self.node.connected("a", version)
            client.write(b"\xe1\x00")
            said = yield client.expect_closed()
            if version == 5:
                self.assertEqual(0x81, said.reason)
