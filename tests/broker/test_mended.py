"""What a sceptical reading found: each case as it was found, and what must come of it."""

from __future__ import annotations

import resource

from twisted.internet.defer import inlineCallbacks

from mop_twisted.codec.packets import (
    PUBREC,
    PUBREL,
    Ack,
    Connack,
    Connect,
    Disconnect,
    Pingreq,
    Publish,
    Subscribe,
    WillMessage,
)
from mop_twisted.codec.packets import FilterRequest as Request
from mop_twisted.codec.properties import (
    MAXIMUM_PACKET_SIZE,
    MESSAGE_EXPIRY_INTERVAL,
    RECEIVE_MAXIMUM,
    SESSION_EXPIRY_INTERVAL,
    TOPIC_ALIAS_MAXIMUM,
    USER_PROPERTY,
)
from mop_twisted.limits import Limits
from mop_twisted.model import Origin

from ..conversation import Node
from .base import KEPT, NodeTestCase, Steps
from .test_auth import METHOD, AuthTestCase, anna


class RecordTests(NodeTestCase):
    """Records are there as long as they are needed, and no longer."""

    @inlineCallbacks
    def test_discarded_will_stays_discarded(self) -> Steps:
        """A will that a clean DISCONNECT discarded does not fire after a restart either.

        [MQTT5-3.14.4-3] [MQTT311-3.14.4-3]
        """
        client = yield self.node.connected("a", will=WillMessage("will/a", b"no", 1))
        client.send(Disconnect())
        yield client.expect_closed()
        keeper = yield self.node.connected("keeper", properties=KEPT)
        yield keeper.subscribe("will/#", qos=1)
        keeper.drop()
        yield self.restart()
        self.node.advance(2)
        keeper = self.node.client("keeper")
        yield keeper.connect(False, properties=KEPT)
        yield keeper.expect_nothing()

    @inlineCallbacks
    def test_overtaken_before_it_began(self) -> Steps:
        """A CONNECT that is overtaken while its cursor is made leaves no session behind.

        [MQTT5-3.2.2-2]
        """
        first, second = self.node.client("x"), self.node.client("x")
        first.send(Connect(5, "x", True, properties=KEPT))
        second.send(Connect(5, "x", True))
        yield first.expect_closed()
        yield second.expect(Connack)
        second.drop()
        yield self.restart()
        client = self.node.client("x")
        connack = yield client.connect(False)
        self.assertFalse(connack.session_present)
        self.assertNotIn("x", self.node.log.cursors)

    @inlineCallbacks
    def test_heaps_do_not_grow(self) -> Steps:
        """Reconnects and retained messages with an expiry, again and again, leave one entry."""
        sender = yield self.node.connected("sender")
        for _ in range(50):
            client = yield self.node.connected(
                "a", clean_start=False, properties=KEPT, will=WillMessage("w", b"", delay=500)
            )
            client.drop()
            yield sender.publish("r", b"x", 1, True, {MESSAGE_EXPIRY_INTERVAL: 100})
        broker = self.node.broker
        self.assertEqual(1, len(broker.sessions._expiring))
        self.assertEqual(1, len(broker.wills._due))
        self.assertEqual(1, len(broker.retained._expiring))
        self.node.advance(101)
        self.assertEqual(0, len(broker.retained))


class ConnectingTests(AuthTestCase):
    """Before CONNACK."""

    @inlineCallbacks
    def test_connect_publish_disconnect_in_one(self) -> Steps:
        """A client that says everything at once, DISCONNECT included, is heard in order."""
        listener = yield self.node.connected("listener", user_name="anna", password=b"geheim")
        yield listener.subscribe("t")
        for version in (3, 4, 5):
            client = self.node.client("a", version)
            client.send(Connect(version, "a", user_name="anna", password=b"geheim"))
            client.send(Publish("t", b"said"))
            client.send(Disconnect())
            publish = yield listener.expect_publish()
            self.assertEqual(b"said", publish.payload)
            said = yield client.expect_closed()
            self.assertEqual(0, said.reason)

    @inlineCallbacks
    def test_time_to_connect_counts(self) -> Steps:
        """What is sent before an authentication ends is bounded, and its time too, read or not."""
        client = self.node.client("a")
        properties = {21: METHOD, 22: anna().first()}
        client.send(Connect(5, "a", properties=properties))
        yield client.expect(object)
        size = 0
        while client.connection.reading and size < 10_000_000:
            client.send(Publish("t", b"x" * 50_000))
            size += 50_000
        self.assertLess(size, 2_000_000)
        self.node.advance(16)
        yield client.expect_closed()


class OrderTests(NodeTestCase):
    """What came first comes first."""

    @inlineCallbacks
    def test_older_retained_value(self) -> Steps:
        """A subscription that meets a new retained value under way does not get the old one
        after it. [design 3.13]"""
        sender = yield self.node.connected("sender")
        yield sender.publish("t", b"old", 1, True)
        client = yield self.node.connected("client", properties=KEPT)
        client.send(Subscribe(1, [Request("t", 1)]))
        sender.send(Publish("t", b"new", 1, True, 9))
        yield client.expect(object)
        yield sender.expect_ack(4, 9)
        got = []
        for _ in range(5):
            self.node.advance(1)
            yield self.node.turn()
        while client.packets:
            publish = yield client.expect_publish()
            got.append(publish.payload)
            yield self.node.turn()
        self.assertEqual(b"new", got[-1])
        self.assertEqual(sorted(got, reverse=True), got[::-1])

    @inlineCallbacks
    def test_qos_0_behind_retained(self) -> Steps:
        """QoS 0 of one publisher to one topic keeps its order, retained or not.

        [MQTT5-4.6.0-5] [MQTT311-4.6.0-6]
        """
        client = yield self.node.connected("client")
        yield client.subscribe("t")
        sender = yield self.node.connected("sender")
        for number in range(20):
            sender.send(Publish("t", b"%d" % number, 0, number % 3 == 0))
            if number % 5 == 0:
                yield self.node.turn()
        for number in range(20):
            publish = yield client.expect_publish()
            self.assertEqual(b"%d" % number, publish.payload)

    @inlineCallbacks
    def test_pubrel_waits_for_its_release(self) -> Steps:
        """PUBREC said twice does not bring PUBREL before the first is durable. [design 3.2]"""
        client = yield self.node.connected("client", properties=KEPT)
        yield client.subscribe("t", qos=2)
        sender = yield self.node.connected("sender")
        yield sender.publish("t", b"x", 2)
        publish = yield client.expect(Publish)
        client.send(Ack(PUBREC, publish.packet_id))
        client.send(Ack(PUBREC, publish.packet_id))
        self.node.flush()
        self.assertEqual([], client.packets)
        yield client.expect_ack(PUBREL, publish.packet_id)
        yield client.expect_nothing()


class AliasTests(NodeTestCase):
    """Topic aliases of ours."""

    @inlineCallbacks
    def test_dropped_frame_sets_no_alias(self) -> Steps:
        """An alias whose frame was too large to send is not used afterwards."""
        client = yield self.node.connected(
            "client", properties={MAXIMUM_PACKET_SIZE: 100, TOPIC_ALIAS_MAXIMUM: 5}
        )
        yield client.subscribe("t")
        sender = yield self.node.connected("sender")
        yield sender.publish("t", b"x" * 200)
        yield sender.publish("t", b"y")
        publish = yield client.expect_publish()
        self.assertEqual(("t", b"y"), (publish.topic, publish.payload))


class WaitingTests(NodeTestCase):
    """Who waits costs nothing."""

    options = {"limits": None}  # noqa: RUF012

    def make_node(self) -> Node:
        limits = Limits()
        limits.retained_bytes = 5000
        from mop_twisted.backends.embedded.log import Retention

        return Node(limits=limits, retention=[Retention("h/#", None, None)])

    @inlineCallbacks
    def _cpu(self) -> Steps:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        for _ in range(200):
            yield self.node.turn()
        return resource.getrusage(resource.RUSAGE_SELF).ru_utime - before

    @inlineCallbacks
    def test_waiting_for_a_client_that_does_not_read(self) -> Steps:
        """Retained messages for a client that does not read are not offered over and over."""
        sender = yield self.node.connected("sender")
        for number in range(20):
            yield sender.publish(f"r/{number}", b"x", 1, True)
        client = yield self.node.connected("client")
        client.connection.congested = True
        client.send(Subscribe(1, [Request("r/#", 1)]))
        turns = []
        original = self.node.broker.retained._turn

        def counted() -> None:
            turns.append(1)
            original()

        self.node.broker.retained._turn = counted  # type: ignore[method-assign]
        for _ in range(50):
            yield self.node.turn()
        self.assertLess(len(turns), 5)
        client.connection.congested = False
        self.node.broker.drained(client.connection)
        yield client.expect(object)
        for _ in range(20):
            yield client.expect_publish()

    @inlineCallbacks
    def test_replaying_to_nobody(self) -> Steps:
        """A replay at QoS 0 for a session that is offline waits for it, and then goes on."""
        sender = yield self.node.connected("sender")
        for number in range(50):
            yield sender.publish("h/1", b"%d" % number, 1)
        client = yield self.node.connected("client", properties=KEPT)
        client.connection.congested = True
        start = {USER_PROPERTY: [("start", "earliest")]}
        client.send(Subscribe(1, [Request("h/#", 0)], start))
        yield self.node.turn()
        client.drop()
        client = self.node.client("client")
        yield client.connect(False, properties=KEPT)
        for number in range(50):
            publish = yield client.expect_publish()
            self.assertEqual(b"%d" % number, publish.payload)

    @inlineCallbacks
    def test_subscribed_again_while_replaying(self) -> Steps:
        """The same SUBSCRIBE again, as libraries send it after a reconnect, loses no history."""
        sender = yield self.node.connected("sender")
        self.node.limits.history_batch = 5
        for number in range(50):
            yield sender.publish("h/1", b"%d" % number, 1)
        start = {USER_PROPERTY: [("start", "earliest")]}
        client = yield self.node.connected("client", properties={**KEPT, RECEIVE_MAXIMUM: 3})
        for packet_id in (1, 2):
            client.send(Subscribe(packet_id, [Request("h/#", 1)], start))
        got = []
        for _ in range(50):
            publish = yield client.expect_publish()
            got.append(int(publish.payload))
        self.assertEqual(list(range(50)), got)

    @inlineCallbacks
    def test_replayed_anew(self) -> Steps:
        """A replay that was broken off by the session's end can be had again, whole."""
        sender = yield self.node.connected("sender")
        self.node.limits.history_batch = 5
        for number in range(50):
            yield sender.publish("h/1", b"%d" % number, 1)
        start = {USER_PROPERTY: [("start", "earliest")]}
        client = yield self.node.connected("client", properties=KEPT)
        client.send(Subscribe(1, [Request("h/#", 1)], start))
        yield self.node.turn()
        client.send(Disconnect(0, {SESSION_EXPIRY_INTERVAL: 0}))
        yield client.expect_closed()
        for _ in range(20):
            yield self.node.turn()
        client = yield self.node.connected("client", properties=KEPT)
        yield client.subscribe("h/#", qos=1, properties=start)
        for number in range(50):
            publish = yield client.expect_publish()
            self.assertEqual(b"%d" % number, publish.payload)

    @inlineCallbacks
    def test_retained_bytes_of_a_replacement(self) -> Steps:
        """A retained message that grows counts: over the limit it is refused with 0x97, a will
        is published without being retained."""
        sender = yield self.node.connected("sender")
        reason = yield sender.publish("r", b"x", 1, True)
        reason = yield sender.publish("r", b"x" * 6000, 1, True)
        self.assertEqual(0x97, reason)
        client = yield self.node.connected("a", will=WillMessage("w", b"x" * 6000, 1, True))
        client.drop()
        yield self.node.turn()
        self.assertEqual(1, self.node.broker.retained.bytes)

    @inlineCallbacks
    def test_asks_without_reading(self) -> Steps:
        """A client that asks on and on and reads no answer is cut."""
        client = yield self.node.connected("client")
        client.connection.congested = True
        for _ in range(70_000):
            if client.connection.closing:
                break
            client.send(Pingreq())
        self.assertTrue(client.connection.closing)
        self.assertLess(len(client.connection.output), 70_000)
        self.node.broker.lost(client.connection)


class OriginTests(NodeTestCase):
    """What the log remembers of publications."""

    @inlineCallbacks
    def test_wills_leave_none(self) -> Steps:
        """Wills that have fired leave no origin behind."""
        for number in range(5):
            client = yield self.node.connected("a", will=WillMessage("w", b"%d" % number, 1))
            client.drop()
            for _ in range(5):
                yield self.node.turn()
        origins = yield self.node.log.origins("will\0a", 0)
        self.assertEqual([], origins)
        done: list[object] = []
        self.node.log.forget([Origin("will\0a", 0, 0)], done.append)
        for _ in range(5):
            yield self.node.turn()
        self.assertEqual([None], done)
