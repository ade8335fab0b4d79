"""Retained messages: MQTT 5.0 sections 3.3.1.3 and 3.8.3.1; MQTT 3.1.1 the same."""

from __future__ import annotations

from twisted.internet.defer import inlineCallbacks

from mop_twisted.codec.packets import (
    FilterRequest,
)
from mop_twisted.codec.properties import (
    SUBSCRIPTION_IDENTIFIER,
)

from .base import KEPT, NodeTestCase, Steps

VERSIONS = (3, 4, 5)


class RetainTests(NodeTestCase):
    """Retained messages."""

    @inlineCallbacks
    def test_replaced_and_removed(self) -> Steps:
        """The last retained message is kept, an empty one removes it, one without RETAIN changes
        nothing.

        [MQTT5-3.3.1-5] [MQTT5-3.3.1-6] [MQTT5-3.3.1-7] [MQTT5-3.3.1-8] [MQTT311-3.3.1-5]
        [MQTT311-3.3.1-6] [MQTT311-3.3.1-7] [MQTT311-3.3.1-10] [MQTT311-3.3.1-11]
        [MQTT311-3.3.1-12]
        """
        for version in VERSIONS:
            for qos in (0, 1, 2):
                sender = yield self.node.connected("sender", version)
                yield sender.publish("r", b"1", qos, True)
                yield sender.publish("r", b"2", qos, True)
                yield sender.publish("r", b"3", qos)
                # QoS 0 is not acknowledged: what is stored behind it is.
                yield sender.publish("barrier", b"x", 1, True)
                client = yield self.node.connected("client", version)
                yield client.subscribe("r", qos=2)
                publish = yield client.expect_publish()
                self.assertEqual((b"2", True, qos), (publish.payload, publish.retain, publish.qos))
                yield sender.publish("r", b"", qos, True)
                publish = yield client.expect_publish()
                self.assertEqual((b"", False), (publish.payload, publish.retain))
                late = yield self.node.connected("late", version)
                yield late.subscribe("r/#", qos=2)
                yield late.expect_nothing()

    @inlineCallbacks
    def test_retain_as_published(self) -> Steps:
        """RETAIN is passed on to who asked for that, and is 0 for others; for a new
        subscription it is 1.

        [MQTT5-3.3.1-12] [MQTT5-3.3.1-13] [MQTT311-3.3.1-8] [MQTT311-3.3.1-9]
        """
        client = yield self.node.connected("client")
        yield client.subscribe(FilterRequest("r", 1, retain_as_published=True))
        other = yield self.node.connected("other", 4)
        yield other.subscribe("r", qos=1)
        sender = yield self.node.connected("sender")
        for retain in (True, False):
            yield sender.publish("r", b"x", 1, retain)
            publish = yield client.expect_publish()
            self.assertEqual(retain, publish.retain)
            publish = yield other.expect_publish()
            self.assertFalse(publish.retain)

    @inlineCallbacks
    def test_retain_handling(self) -> Steps:
        """Handling 0 sends what is retained at every SUBSCRIBE, 1 at a new one, 2 never.

        [MQTT5-3.3.1-9] [MQTT5-3.3.1-10] [MQTT5-3.3.1-11] [MQTT5-3.8.4-4]
        """
        sender = yield self.node.connected("sender")
        yield sender.publish("r", b"x", 1, True)
        for handling, first, again in ((0, 1, 1), (1, 1, 0), (2, 0, 0)):
            client = yield self.node.connected("client")
            for expected in (first, again):
                yield client.subscribe(FilterRequest("r", 1, retain_handling=handling))
                if expected:
                    publish = yield client.expect_publish()
                    self.assertTrue(publish.retain)
                yield client.expect_nothing()

    @inlineCallbacks
    def test_survives(self) -> Steps:
        """Retained messages survive a restart, QoS 0 ones too, with their identifiers."""
        sender = yield self.node.connected("sender")
        for qos in (0, 1, 2):
            yield sender.publish(f"r/{qos}", b"x", qos, True)
        yield sender.publish("r/gone", b"x", 1, True)
        yield sender.publish("r/gone", b"", 1, True)
        yield self.restart()
        for how in ({}, {"properties": KEPT}):
            client = yield self.node.connected("client", **how)
            yield client.subscribe("r/#", qos=2, properties={SUBSCRIPTION_IDENTIFIER: [9]})
            got = {}
            for _ in range(3):
                publish = yield client.expect_publish()
                got[publish.topic] = publish.qos
                self.assertEqual([9], publish.properties[SUBSCRIPTION_IDENTIFIER])
                self.assertTrue(publish.retain)
            self.assertEqual({"r/0": 0, "r/1": 1, "r/2": 2}, got)
            yield client.expect_nothing()

    @inlineCallbacks
    def test_many(self) -> Steps:
        """Thousands of retained messages arrive, all of them, while another client is served."""
        sender = yield self.node.connected("sender")
        for number in range(3000):
            yield sender.publish(f"r/{number}", b"x", 0, True)
        for properties in ({}, KEPT):
            client = yield self.node.connected("client", properties=properties)
            yield client.subscribe("r/+", qos=1)
            yield sender.expect_nothing()
            got = set()
            for _ in range(3000):
                publish = yield client.expect_publish()
                got.add(publish.topic)
            self.assertEqual(3000, len(got))
            yield client.expect_nothing()
