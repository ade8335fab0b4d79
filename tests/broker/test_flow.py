"""Receive maximum and maximum packet size, both ways: MQTT 5.0 sections 3.1.2, 3.3.4 and 4.9."""

from __future__ import annotations

from twisted.internet.defer import inlineCallbacks

from mop_twisted.codec.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Ack,
    Publish,
)
from mop_twisted.codec.properties import (
    MAXIMUM_PACKET_SIZE,
    RECEIVE_MAXIMUM,
)
from mop_twisted.limits import Limits

from ..conversation import Node
from .base import KEPT, NodeTestCase, Steps


class FlowTests(NodeTestCase):
    """Receive maximum and maximum packet size, both ways."""

    def make_node(self) -> Node:
        limits = Limits()
        limits.receive_maximum = 10
        limits.window_3x = 4
        limits.maximum_packet_size = 1000
        limits.live_messages = 5
        return Node(limits=limits)

    @inlineCallbacks
    def test_respected(self) -> Steps:
        """No more than the client's receive maximum is in flight; all else goes on.

        [MQTT5-3.3.4-9] [MQTT5-4.9.0-1] [MQTT5-4.9.0-2] [MQTT5-4.9.0-3] [MQTT5-3.3.4-10]
        """
        for version, how, window in (
            (5, {"properties": {RECEIVE_MAXIMUM: 3}}, 3),
            (5, {"properties": {**KEPT, RECEIVE_MAXIMUM: 3}}, 3),
            (4, {}, 4),
            (4, {"clean_start": False}, 4),
        ):
            client = yield self.node.connected(f"client{version}", version, **how)
            yield client.subscribe("t", qos=2)
            sender = yield self.node.connected("sender")
            for number in range(20):
                yield sender.publish("t", b"%d" % number, 1 + number % 2)
            waiting = []
            for _ in range(window):
                publish = yield client.expect(Publish)
                waiting.append(publish)
            yield client.expect_nothing()
            yield sender.publish("t", b"QoS 0 passes", 0)
            publish = yield client.expect_publish()
            self.assertEqual(0, publish.qos)
            for number in range(20):
                publish = waiting.pop(0)
                self.assertEqual(b"%d" % number, publish.payload)
                if publish.qos == 1:
                    client.send(Ack(PUBACK, publish.packet_id))
                else:
                    client.send(Ack(PUBREC, publish.packet_id))
                    yield client.expect_ack(PUBREL, publish.packet_id)
                    client.send(Ack(PUBCOMP, publish.packet_id))
                if number < 20 - window:
                    publish = yield client._next(lambda p: isinstance(p, Publish), "the next")
                    waiting.append(publish)
            yield client.expect_nothing()
            yield client.unsubscribe("t")

    @inlineCallbacks
    def test_enforced(self) -> Steps:
        """A client that exceeds our receive maximum is cut with 0x93. [MQTT5-3.3.4-7] H8"""
        sender = yield self.node.connected("sender")
        for packet_id in range(1, 12):
            sender.send(Publish("t", b"", 2, False, packet_id))
        said = yield sender.expect_closed()
        self.assertEqual(0x93, said.reason)

    @inlineCallbacks
    def test_too_large_for_us(self) -> Steps:
        """A packet over our maximum is 0x95, and is not waited for. [MQTT5-3.2.2-15]"""
        sender = yield self.node.connected("sender")
        sender.write(b"\x30\xff\xff\x7f")
        said = yield sender.expect_closed()
        self.assertEqual(0x95, said.reason)

    @inlineCallbacks
    def test_too_large_for_the_client(self) -> Steps:
        """A message over the client's maximum is discarded as if it had been delivered, and
        counted. [MQTT5-3.1.2-24] [MQTT5-3.1.2-25]"""
        for properties in ({MAXIMUM_PACKET_SIZE: 60}, {**KEPT, MAXIMUM_PACKET_SIZE: 60}):
            client = yield self.node.connected("client", properties=properties)
            yield client.subscribe("t", qos=2)
            sender = yield self.node.connected("sender")
            for qos in (0, 1, 2):
                yield sender.publish("t", b"x" * 100, qos)
                yield sender.publish("t", b"fits", qos)
                publish = yield client.expect_publish()
                self.assertEqual(b"fits", publish.payload)
            yield client.expect_nothing()
        from mop_twisted.broker.counters import DropReason

        self.assertEqual(6, self.node.counters.dropped[DropReason.TOO_LARGE])
