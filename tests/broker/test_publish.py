"""PUBLISH both ways: MQTT 5.0 sections 3.3 to 3.7 and 4.3; MQTT 3.1.1 the same."""

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
    CONTENT_TYPE,
    CORRELATION_DATA,
    MESSAGE_EXPIRY_INTERVAL,
    PAYLOAD_FORMAT_INDICATOR,
    RECEIVE_MAXIMUM,
    RESPONSE_TOPIC,
    TOPIC_ALIAS,
    TOPIC_ALIAS_MAXIMUM,
    USER_PROPERTY,
)

from .base import KEPT, NodeTestCase, Steps

VERSIONS = (3, 4, 5)


class DeliveryTests(NodeTestCase):
    """A message reaches who subscribed, as the standards say."""

    @inlineCallbacks
    def test_minimum_of_both(self) -> Steps:
        """Delivery is at the lower QoS of publication and subscription, on a fresh flight.

        [MQTT5-3.8.4-8] [MQTT311-3.8.4-6] [MQTT5-3.3.4-1] [MQTT311-3.3.4-1] [MQTT5-4.3.1-1]
        [MQTT5-4.3.2-1] [MQTT5-4.3.2-2] [MQTT5-4.3.2-4] [MQTT5-4.3.3-1] [MQTT5-4.3.3-2]
        [MQTT5-4.3.3-4] [MQTT5-4.3.3-8] [MQTT5-4.3.3-11] [MQTT311-4.3.1-1] [MQTT311-4.3.2-1]
        [MQTT311-4.3.2-2] [MQTT311-4.3.3-1] [MQTT311-4.3.3-2] [MQTT5-2.2.1-2] [MQTT311-2.3.1-5]
        [MQTT5-2.2.1-5] [MQTT311-2.3.1-6] [MQTT5-3.3.1-2] [MQTT311-3.3.1-2] [MQTT5-3.3.2-3]
        [MQTT311-3.3.2-3]
        """
        for version in VERSIONS:
            sender = yield self.node.connected("sender", version)
            for granted in (0, 1, 2):
                client = yield self.node.connected("client", version)
                yield client.subscribe("t", qos=granted)
                for qos in (0, 1, 2):
                    reason = yield sender.publish("t", b"%d" % qos, qos)
                    self.assertEqual(0, reason)
                    publish = yield client.expect_publish()
                    self.assertEqual(
                        (b"%d" % qos, min(qos, granted), False),
                        (publish.payload, publish.qos, publish.dup),
                    )
                    self.assertEqual(publish.qos > 0, publish.packet_id > 0)
                yield client.expect_nothing()

    @inlineCallbacks
    def test_between_versions(self) -> Steps:
        """Every version hears every other."""
        for one in VERSIONS:
            for other in VERSIONS:
                sender = yield self.node.connected("sender", one)
                client = yield self.node.connected("client", other)
                yield client.subscribe("+/x", qos=1)
                yield sender.publish("t/x", b"hello", 1)
                publish = yield client.expect_publish()
                self.assertEqual((b"hello", {}), (publish.payload, publish.properties))

    @inlineCallbacks
    def test_properties_unaltered(self) -> Steps:
        """All properties of the message arrive as they were: binary exact, order and
        repetitions kept.

        [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18]
        [MQTT5-3.3.2-20] [MQTT5-3.1.3-10]
        """
        properties = {
            PAYLOAD_FORMAT_INDICATOR: 1,
            CONTENT_TYPE: "text/plain; ÿ",
            RESPONSE_TOPIC: "answers/here",
            CORRELATION_DATA: bytes(range(256)),
            USER_PROPERTY: [("b", "2"), ("a", "1"), ("b", "2"), ("", "")],
        }
        client = yield self.node.connected("client", properties=KEPT)
        yield client.subscribe("t", qos=1)
        clean = yield self.node.connected("clean")
        yield clean.subscribe("t", qos=0)
        sender = yield self.node.connected("sender")
        for qos in (0, 1):
            yield sender.publish("t", b"x", qos, False, properties)
            for receiver in (client, clean):
                publish = yield receiver.expect_publish()
                self.assertEqual(properties, publish.properties)
        client.drop()
        yield sender.publish("t", b"x", 1, True, properties)
        client = self.node.client("client")
        yield client.connect(False, properties=KEPT)
        publish = yield client.expect_publish()
        self.assertEqual(properties, publish.properties)
        late = yield self.node.connected("late")
        yield late.subscribe("t")
        publish = yield late.expect_publish()
        self.assertEqual(properties, publish.properties)

    @inlineCallbacks
    def test_nobody_matches(self) -> Steps:
        """PUBACK and PUBREC say 0x10 where nobody gets the message; offline sessions count.

        [MQTT5-3.4.2-1] [MQTT5-3.5.2-1]
        """
        sender = yield self.node.connected("sender")
        for qos in (1, 2):
            reason = yield sender.publish("nobody", b"", qos)
            self.assertEqual(0x10, reason)
        client = yield self.node.connected("client", properties=KEPT)
        yield client.subscribe("nobody", qos=1)
        client.drop()
        for qos in (1, 2):
            reason = yield sender.publish("nobody", b"", qos)
            self.assertEqual(0, reason)

    @inlineCallbacks
    def test_order(self) -> Steps:
        """One publisher's messages of one QoS arrive in its order, and so do its
        acknowledgements.

        [MQTT5-4.6.0-2] [MQTT5-4.6.0-3] [MQTT311-4.6.0-2] [MQTT311-4.6.0-3] [MQTT5-4.6.0-5]
        [MQTT311-4.6.0-6]
        """
        for properties in ({}, KEPT):
            client = yield self.node.connected("client", properties=properties)
            yield client.subscribe("t/#", qos=2)
            sender = yield self.node.connected("sender", properties=properties)
            for qos, kind in ((1, PUBACK), (2, PUBREC)):
                for number in range(1, 100):
                    sender.send(Publish(f"t/{number % 3}", b"%d" % number, qos, False, number))
                acks = []
                while len(acks) < 99:
                    ack = yield sender.expect(Ack)
                    acks.append(ack.packet_id)
                    self.assertEqual(kind, ack.kind)
                self.assertEqual(list(range(1, 100)), acks)
                for number in range(1, 100):
                    publish = yield client.expect_publish()
                    self.assertEqual(b"%d" % number, publish.payload)
                if qos == 2:
                    for number in range(1, 100):
                        sender.send(Ack(PUBREL, number))
                        yield sender.expect_ack(PUBCOMP, number)

    @inlineCallbacks
    def test_publishes_to_itself(self) -> Steps:
        """A client that publishes to itself, more than its window, does not lock up."""
        for properties in ({RECEIVE_MAXIMUM: 2}, {**KEPT, RECEIVE_MAXIMUM: 2}):
            client = yield self.node.connected("client", properties=properties)
            yield client.subscribe("me", qos=1)
            for number in range(1, 201):
                client.send(Publish("me", b"%d" % number, 1, False, number))
            for number in range(1, 201):
                yield client.expect_ack(PUBACK, number)
            for number in range(1, 201):
                publish = yield client.expect_publish()
                self.assertEqual(b"%d" % number, publish.payload)


class ExactlyOnceTests(NodeTestCase):
    """QoS 2 from a client: once, whatever is sent again."""

    @inlineCallbacks
    def test_repeated(self) -> Steps:
        """A PUBLISH that comes again before its PUBREL is acknowledged, not delivered again;
        after PUBCOMP its identifier is a new message.

        [MQTT5-4.3.3-10] [MQTT5-4.3.3-12] [MQTT5-4.3.3-11] [MQTT311-4.3.3-2] H8
        """
        client = yield self.node.connected("client")
        yield client.subscribe("t", qos=0)
        for version, how in ((4, {}), (5, {}), (5, {"properties": KEPT})):
            sender = yield self.node.connected("sender", version, **how)
            for _ in range(3):
                sender.send(Publish("t", b"once", 2, False, 7))
                yield sender.expect_ack(PUBREC, 7)
                sender.send(Publish("t", b"once", 2, False, 7, dup=True))
                yield sender.expect_ack(PUBREC, 7)
                publish = yield client.expect_publish()
                self.assertEqual(b"once", publish.payload)
                yield client.expect_nothing()
                sender.send(Ack(PUBREL, 7))
                yield sender.expect_ack(PUBCOMP, 7)

    @inlineCallbacks
    def test_over_a_reconnect_and_a_restart(self) -> Steps:
        """The identifier is remembered with the session, also by a new process.

        [MQTT5-4.3.3-10] [MQTT5-4.4.0-1]
        """
        keeper = yield self.node.connected("keeper", properties=KEPT)
        yield keeper.subscribe("t", qos=2)
        keeper.drop()
        sender = yield self.node.connected("sender", properties=KEPT)
        sender.send(Publish("t", b"once", 2, False, 7))
        yield sender.expect_ack(PUBREC, 7)
        sender.drop()
        for restart in (False, True):
            if restart:
                yield self.restart()
            sender = self.node.client("sender")
            yield sender.connect(False, properties=KEPT)
            sender.send(Publish("t", b"once", 2, False, 7, dup=True))
            yield sender.expect_ack(PUBREC, 7)
            sender.drop()
        sender = self.node.client("sender")
        yield sender.connect(False, properties=KEPT)
        sender.send(Ack(PUBREL, 7))
        yield sender.expect_ack(PUBCOMP, 7)
        keeper = self.node.client("keeper")
        yield keeper.connect(False, properties=KEPT)
        yield keeper.expect_publish()
        yield keeper.expect_nothing()

    @inlineCallbacks
    def test_unknown_identifiers(self) -> Steps:
        """PUBREL of an unknown identifier is answered by PUBCOMP 0x92, PUBREC by PUBREL 0x92;
        a PUBACK for nothing is nothing.

        [MQTT5-3.6.2-1] [MQTT5-3.7.2-1] [MQTT5-4.3.3-11] H4 H8
        """
        client = yield self.node.connected("client")
        client.send(Ack(PUBREL, 9))
        ack = yield client.expect_ack(PUBCOMP, 9)
        self.assertEqual(0x92, ack.reason)
        client.send(Ack(PUBREC, 9))
        ack = yield client.expect_ack(PUBREL, 9)
        self.assertEqual(0x92, ack.reason)
        client.send(Ack(PUBACK, 9))
        yield client.expect_nothing()
        old = yield self.node.connected("old", 4)
        old.send(Ack(PUBREL, 9))
        yield old.expect_ack(PUBCOMP, 9)

    @inlineCallbacks
    def test_refused_is_new_again(self) -> Steps:
        """After a PUBREC that refuses, the identifier is free.

        [MQTT5-4.3.3-9]
        """
        sender = yield self.node.connected("sender")
        for _ in range(2):
            sender.send(Publish("$SYS/no", b"", 2, False, 5))
            ack = yield sender.expect_ack(PUBREC, 5)
            self.assertEqual(0x87, ack.reason)
        yield sender.expect_nothing()

    @inlineCallbacks
    def test_qos_1_is_new_after_puback(self) -> Steps:
        """After PUBACK the same identifier is a new message, DUP or not. [MQTT5-4.3.2-5]"""
        client = yield self.node.connected("client")
        yield client.subscribe("t")
        sender = yield self.node.connected("sender")
        for dup in (False, True):
            sender.send(Publish("t", b"x", 1, False, 3, dup=dup))
            yield sender.expect_ack(PUBACK, 3)
            publish = yield client.expect_publish()
            # [MQTT5-3.3.1-3]: DUP is not passed on.
            self.assertFalse(publish.dup)


class AliasTests(NodeTestCase):
    """Topic aliases, both ways."""

    @inlineCallbacks
    def test_inbound(self) -> Steps:
        """Every alias up to the maximum that we told is taken. [MQTT5-3.3.2-12]"""
        client = yield self.node.connected("client")
        yield client.subscribe("t/#")
        sender = yield self.node.connected("sender")
        for alias in (1, self.node.limits.topic_alias_maximum):
            yield sender.publish(f"t/{alias}", b"1", properties={TOPIC_ALIAS: alias})
            yield sender.publish("", b"2", properties={TOPIC_ALIAS: alias})
            for payload in (b"1", b"2"):
                publish = yield client.expect_publish()
                self.assertEqual((f"t/{alias}", payload), (publish.topic, publish.payload))
                self.assertEqual({}, publish.properties)

    @inlineCallbacks
    def test_wrong(self) -> Steps:
        """Alias 0 or over the maximum is 0x94, an unknown one 0x82, neither topic nor alias 0x82.

        [MQTT5-3.3.2-8] [MQTT5-3.3.2-9] H5
        """
        over = self.node.limits.topic_alias_maximum + 1
        for topic, properties, reason in (
            ("t", {TOPIC_ALIAS: 0}, 0x94),
            ("t", {TOPIC_ALIAS: over}, 0x94),
            ("", {TOPIC_ALIAS: 3}, 0x82),
            ("", {}, 0x82),
        ):
            sender = yield self.node.connected("sender")
            sender.send(Publish(topic, b"", properties=properties))
            said = yield sender.expect_closed()
            self.assertEqual(reason, said.reason)

    @inlineCallbacks
    def test_not_carried_over(self) -> Steps:
        """An alias is the connection's, not the session's. [MQTT5-3.3.2-7] H5"""
        sender = yield self.node.connected("sender", properties=KEPT)
        yield sender.publish("t", b"", properties={TOPIC_ALIAS: 1})
        sender.drop()
        sender = self.node.client("sender")
        yield sender.connect(False, properties=KEPT)
        sender.send(Publish("", b"", properties={TOPIC_ALIAS: 1}))
        said = yield sender.expect_closed()
        self.assertEqual(0x82, said.reason)

    @inlineCallbacks
    def test_outbound(self) -> Steps:
        """Aliases are used as far as the client allows them, and not beyond.

        [MQTT5-3.1.2-26] [MQTT5-3.1.2-27] [MQTT5-3.3.2-11]
        """
        client = yield self.node.connected("client", properties={TOPIC_ALIAS_MAXIMUM: 1})
        yield client.subscribe("t/#", qos=1)
        none = yield self.node.connected("none")
        yield none.subscribe("t/#", qos=1)
        sender = yield self.node.connected("sender")
        expected = [
            ("t/1", "t/1", {TOPIC_ALIAS: 1}),
            ("t/1", "", {TOPIC_ALIAS: 1}),
            ("t/2", "t/2", {}),
        ]
        for qos in (0, 1):
            for topic, sent, properties in expected:
                yield sender.publish(topic, b"x", qos)
                publish = yield client.expect_publish()
                if qos:
                    sent, properties = ("", expected[0][2]) if topic == "t/1" else (sent, {})
                self.assertEqual((sent, properties), (publish.topic, publish.properties))
                publish = yield none.expect_publish()
                self.assertEqual((topic, {}), (publish.topic, publish.properties))


class ExpiryTests(NodeTestCase):
    """Message expiry counts down while a message waits."""

    @inlineCallbacks
    def test_counted_down(self) -> Steps:
        """What is left of the expiry is what the client gets. [MQTT5-3.3.2-6]"""
        client = yield self.node.connected("client", properties=KEPT)
        yield client.subscribe("t", qos=1)
        sender = yield self.node.connected("sender")
        yield sender.publish("t", b"", 1, False, {MESSAGE_EXPIRY_INTERVAL: 100})
        publish = yield client.expect_publish()
        self.assertEqual(100, publish.properties[MESSAGE_EXPIRY_INTERVAL])
        client.drop()
        yield sender.publish("t", b"x", 1, True, {MESSAGE_EXPIRY_INTERVAL: 100})
        self.node.advance(30)
        yield self.restart()
        self.node.advance(10)
        client = self.node.client("client")
        yield client.connect(False, properties=KEPT)
        publish = yield client.expect_publish()
        self.assertEqual(60, publish.properties[MESSAGE_EXPIRY_INTERVAL])
        late = yield self.node.connected("late")
        yield late.subscribe("t")
        publish = yield late.expect_publish()
        self.assertEqual(60, publish.properties[MESSAGE_EXPIRY_INTERVAL])

    @inlineCallbacks
    def test_over(self) -> Steps:
        """What expired is not delivered any more, retained or queued. [MQTT5-3.3.2-5]"""
        client = yield self.node.connected("client", properties=KEPT)
        yield client.subscribe("t", qos=1)
        client.drop()
        sender = yield self.node.connected("sender")
        yield sender.publish("t", b"old", 1, True, {MESSAGE_EXPIRY_INTERVAL: 5})
        yield sender.publish("t/2", b"old", 1)
        yield sender.publish("t", b"new", 1)
        self.node.advance(6)
        client = self.node.client("client")
        yield client.connect(False, properties=KEPT)
        publish = yield client.expect_publish()
        self.assertEqual(b"new", publish.payload)
        late = yield self.node.connected("late")
        yield late.subscribe("t")
        yield late.expect_nothing()

    @inlineCallbacks
    def test_not_for_what_was_sent(self) -> Steps:
        """A QoS 2 exchange that has begun is completed though its message expires.

        [MQTT5-4.3.3-7] [MQTT5-4.3.3-13]
        """
        client = yield self.node.connected("client", properties=KEPT)
        yield client.subscribe("t", qos=2)
        sender = yield self.node.connected("sender")
        sender.send(Publish("t", b"", 2, False, 1, {MESSAGE_EXPIRY_INTERVAL: 5}))
        yield sender.expect_ack(PUBREC, 1)
        first = yield client.expect(Publish)
        client.drop()
        self.node.advance(60)
        sender.send(Ack(PUBREL, 1))
        yield sender.expect_ack(PUBCOMP, 1)
        client = self.node.client("client")
        yield client.connect(False, properties=KEPT)
        again = yield client.expect_publish()
        self.assertEqual((first.packet_id, True), (again.packet_id, again.dup))
