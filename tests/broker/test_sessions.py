"""Sessions: begun, resumed, taken over, expired. MQTT 5.0 sections 3.1.2.4, 4.1, 4.4."""

from __future__ import annotations

from twisted.internet.defer import inlineCallbacks

from mop_twisted.codec.packets import (
    PUBACK,
    PUBREC,
    PUBREL,
    Ack,
    Connack,
    Connect,
    Disconnect,
    Publish,
    WillMessage,
)
from mop_twisted.codec.properties import SESSION_EXPIRY_INTERVAL
from mop_twisted.limits import Limits

from ..conversation import Node
from .base import KEPT, NodeTestCase, Steps


class ResumeTests(NodeTestCase):
    """A session is there when its client comes back."""

    @inlineCallbacks
    def test_resumed(self) -> Steps:
        """What was published at QoS 1 and 2 meanwhile waits, in order, without a SUBSCRIBE.

        [MQTT5-3.1.2-5] [MQTT5-3.1.2-23] [MQTT5-3.2.2-3] [MQTT5-4.5.0-1] [MQTT5-4.1.0-1]
        [MQTT311-3.1.2-4] [MQTT311-3.1.2-5] [MQTT311-3.2.2-2] [MQTT311-4.5.0-1]
        [MQTT311-4.1.0-1] [MQTT311-4.1.0-2] [MQTT5-4.6.0-5] [MQTT5-4.6.0-6] [MQTT311-4.6.0-5]
        [MQTT311-4.6.0-6] [MQTT5-3.1.3-2] [MQTT311-3.1.3-2]
        """
        for version, how in ((3, {}), (4, {}), (5, {"properties": KEPT})):
            name = f"client{version}"
            client = yield self.node.connected(name, version, clean_start=False, **how)
            yield client.subscribe("a/#", qos=2)
            client.drop()
            other = yield self.node.connected("other")
            for number in range(40):
                yield other.publish("a/b", b"%d" % number, number % 3)
            client = self.node.client(name, version)
            connack = yield client.connect(False, **how)
            # 3.1 has no bit to tell.
            self.assertEqual((0, version != 3), (connack.reason, connack.session_present))
            for number in range(40):
                if number % 3:
                    publish = yield client.expect_publish()
                    self.assertEqual(b"%d" % number, publish.payload)
                    self.assertFalse(publish.dup)
            yield client.expect_nothing()

    @inlineCallbacks
    def test_no_session(self) -> Steps:
        """Without a session to resume a new one begins, and the client is told.

        [MQTT5-3.1.2-6] [MQTT5-3.2.2-3] [MQTT311-3.2.2-3]
        """
        for version in (4, 5):
            client = self.node.client(f"new{version}", version)
            connack = yield client.connect(False)
            self.assertFalse(connack.session_present)

    @inlineCallbacks
    def test_clean_start(self) -> Steps:
        """Clean start discards the session: subscriptions, queue and all.

        [MQTT5-3.1.2-4] [MQTT311-3.1.2-6] [MQTT5-3.2.2-2]
        """
        for version, how in ((4, {}), (5, {"properties": KEPT})):
            client = yield self.node.connected("a", version, clean_start=False, **how)
            yield client.subscribe("a/#", qos=1)
            client.drop()
            other = yield self.node.connected("other")
            yield other.publish("a/b", b"lost", 1)
            client = self.node.client("a", version)
            connack = yield client.connect(True, **how)
            self.assertFalse(connack.session_present)
            yield other.publish("a/b", b"lost too", 1)
            yield client.expect_nothing()

    @inlineCallbacks
    def test_restart(self) -> Steps:
        """A restart of the gateway changes nothing for a session.

        [MQTT5-3.1.2-23] [MQTT5-4.1.0-1]
        """
        client = yield self.node.connected("a", properties=KEPT)
        yield client.subscribe("a/#", qos=2)
        client.drop()
        other = yield self.node.connected("other")
        yield other.publish("a/b", b"1", 1)
        yield self.restart()
        other = yield self.node.connected("other")
        yield other.publish("a/b", b"2", 2)
        client = self.node.client("a")
        connack = yield client.connect(False, properties=KEPT)
        self.assertTrue(connack.session_present)
        for payload in (b"1", b"2"):
            publish = yield client.expect_publish()
            self.assertEqual(payload, publish.payload)
        yield client.expect_nothing()

    @inlineCallbacks
    def test_resent_in_order(self) -> Steps:
        """What was not acknowledged comes again with DUP, its own identifiers and in order;
        PUBREL comes again for what was received.

        [MQTT5-4.4.0-1] [MQTT5-3.3.1-1] [MQTT5-3.3.1-3] [MQTT5-4.3.3-6] [MQTT5-2.2.1-4]
        [MQTT311-4.4.0-1] [MQTT311-3.3.1-1] [MQTT311-3.3.1-3] [MQTT311-2.3.1-4]
        [MQTT311-4.3.3-1] [MQTT5-4.3.2-3] [MQTT5-4.3.3-3] [MQTT5-4.3.3-5]
        """
        for restart in (False, True):
            client = yield self.node.connected("a", properties=KEPT)
            yield client.subscribe("a/#", qos=2)
            other = yield self.node.connected("other")
            sent = []
            for number in range(6):
                yield other.publish("a/b", b"%d" % number, 1 + number % 2)
                publish = yield client.expect(Publish)
                sent.append(publish)
            client.send(Ack(PUBACK, sent[0].packet_id))
            client.send(Ack(PUBREC, sent[1].packet_id))
            yield client.expect_ack(PUBREL, sent[1].packet_id)
            client.drop()
            if restart:
                yield self.restart()
            client = self.node.client("a")
            yield client.connect(False, properties=KEPT)
            yield client.expect_ack(PUBREL, sent[1].packet_id)
            for before in sent[2:]:
                publish = yield client.expect(Publish)
                self.assertEqual(
                    (before.packet_id, before.payload, before.qos, True),
                    (publish.packet_id, publish.payload, publish.qos, publish.dup),
                )
            yield client.expect_nothing()
            client.send(Disconnect(0, {SESSION_EXPIRY_INTERVAL: 0}))
            yield client.expect_closed()

    @inlineCallbacks
    def test_refused_is_not_resent(self) -> Steps:
        """What the client refused with a reason of 0x80 or more is over.

        [MQTT5-4.4.0-2]
        """
        client = yield self.node.connected("a", properties=KEPT)
        yield client.subscribe("a/#", qos=2)
        other = yield self.node.connected("other")
        for qos, kind in ((1, PUBACK), (2, PUBREC)):
            yield other.publish("a/b", b"no", qos)
            publish = yield client.expect(Publish)
            client.send(Ack(kind, publish.packet_id, 0x83))
        yield client.expect_nothing()
        client.drop()
        client = self.node.client("a")
        yield client.connect(False, properties=KEPT)
        yield client.expect_nothing()


class TakeoverTests(NodeTestCase):
    """One client identifier has one connection."""

    @inlineCallbacks
    def test_taken_over(self) -> Steps:
        """The old connection is told 0x8E and closed; the new one has the session.

        [MQTT5-3.1.4-3] [MQTT311-3.1.4-2]
        """
        for version, how in ((4, {}), (5, {"properties": KEPT})):
            old = yield self.node.connected("a", version, clean_start=False, **how)
            yield old.subscribe("a", qos=1)
            new = self.node.client("a", version)
            connack = yield new.connect(False, **how)
            self.assertTrue(connack.session_present)
            said = yield old.expect_closed()
            if version == 5:
                self.assertEqual(0x8E, said.reason)
            yield new.publish("a", b"x", 1)
            publish = yield new.expect_publish()
            self.assertEqual(b"x", publish.payload)

    @inlineCallbacks
    def test_unacknowledged_moves(self) -> Steps:
        """What the old connection had not acknowledged is sent to the new one."""
        old = yield self.node.connected("a", properties=KEPT)
        yield old.subscribe("a", qos=2)
        other = yield self.node.connected("other")
        yield other.publish("a", b"x", 2)
        first = yield old.expect(Publish)
        new = self.node.client("a")
        yield new.connect(False, properties=KEPT)
        again = yield new.expect_publish()
        self.assertEqual((first.packet_id, True), (again.packet_id, again.dup))

    @inlineCallbacks
    def test_not_by_somebody_else(self) -> Steps:
        """A session belongs to the user that made it: another one is refused with 0x87, with a
        clean start as well. H20"""
        owner = self.node.client("a", certificate_name="anna")
        yield owner.connect(properties=KEPT)
        yield owner.subscribe("a", qos=1)
        for clean in (False, True):
            thief = self.node.client("a", certificate_name="otto")
            connack = yield thief.connect(clean)
            self.assertEqual(0x87, connack.reason)
            yield thief.expect_closed()
        yield owner.expect_nothing()

    @inlineCallbacks
    def test_taken_over_while_connecting(self) -> Steps:
        """Two CONNECTs at once: one wins, the other is closed, none hangs."""
        clients = [self.node.client("a") for _ in range(4)]
        for client in clients:
            client.send(Connect(5, "a", False, properties=KEPT))
        for client in clients[:-1]:
            yield client.expect_closed()
        connack = yield clients[-1].expect(Connack)
        self.assertEqual(0, connack.reason)
        yield clients[-1].expect_nothing()


class ExpiryTests(NodeTestCase):
    """Sessions end when they are over."""

    @inlineCallbacks
    def _present(self, name: str, version: int = 5) -> Steps:
        client = self.node.client(name, version)
        connack = yield client.connect(False, properties=KEPT if version == 5 else {})
        client.drop()
        return connack.session_present

    @inlineCallbacks
    def test_expires(self) -> Steps:
        """A session ends when its expiry is over, not before. [MQTT5-4.1.0-2]"""
        for seconds, present in ((9, True), (11, False)):
            client = yield self.node.connected(
                f"a{seconds}", properties={SESSION_EXPIRY_INTERVAL: 10}
            )
            client.drop()
            self.node.advance(seconds)
            found = yield self._present(f"a{seconds}")
            self.assertEqual(present, found)

    @inlineCallbacks
    def test_absent_is_zero(self) -> Steps:
        """Without an expiry a 5.0 session ends with its connection."""
        client = yield self.node.connected("a")
        client.drop()
        found = yield self._present("a")
        self.assertFalse(found)

    @inlineCallbacks
    def test_never(self) -> Steps:
        """0xFFFFFFFF, and an unclean session of 3.1.1, never expire."""
        client = yield self.node.connected("five", properties={SESSION_EXPIRY_INTERVAL: 0xFFFFFFFF})
        client.drop()
        client = yield self.node.connected("four", 4, clean_start=False)
        client.drop()
        self.node.advance(10_000)
        for name, version in (("five", 5), ("four", 4)):
            found = yield self._present(name, version)
            self.assertTrue(found)

    @inlineCallbacks
    def test_over_a_restart(self) -> Steps:
        """Time that passes while the gateway is down counts."""
        for seconds, present in ((100, True), (1000, False)):
            client = yield self.node.connected("a", properties=KEPT)
            client.drop()
            self.node.wall += seconds
            yield self.restart()
            self.node.advance(1)
            found = yield self._present("a")
            self.assertEqual(present, found)

    @inlineCallbacks
    def test_changed_by_disconnect(self) -> Steps:
        """DISCONNECT can change the expiry, but not from 0 to something: 0x82."""
        client = yield self.node.connected("a", properties=KEPT)
        client.send(Disconnect(0, {SESSION_EXPIRY_INTERVAL: 0}))
        yield client.expect_closed()
        found = yield self._present("a")
        self.assertFalse(found)
        client = yield self.node.connected("b")
        client.send(Disconnect(0, {SESSION_EXPIRY_INTERVAL: 5}))
        said = yield client.expect_closed()
        self.assertEqual(0x82, said.reason)

    @inlineCallbacks
    def test_retained_messages_stay(self) -> Steps:
        """Retained messages are no part of a session. [MQTT311-3.1.2-7]"""
        client = yield self.node.connected("a")
        yield client.publish("r", b"stays", 1, True)
        client.drop()
        other = yield self.node.connected("b")
        yield other.subscribe("r")
        publish = yield other.expect_publish()
        self.assertEqual(b"stays", publish.payload)


class WillTests(NodeTestCase):
    """A will fires when the specification says so, and at no other time."""

    @inlineCallbacks
    def setUp(self) -> Steps:
        yield super().setUp()
        self.witness = yield self.node.connected("witness")
        yield self.witness.subscribe("will/#", qos=2)

    @inlineCallbacks
    def _connect(self, delay: int = 0, version: int = 5, **how: object) -> Steps:
        will = WillMessage("will/a", b"gone", 1, False, {}, delay)
        client = yield self.node.connected("a", version, will=will, **how)
        return client

    @inlineCallbacks
    def _fired(self) -> Steps:
        publish = yield self.witness.expect_publish()
        self.assertEqual(("will/a", b"gone"), (publish.topic, publish.payload))
        yield self.witness.expect_nothing()

    @inlineCallbacks
    def test_connection_lost(self) -> Steps:
        """A connection that breaks fires the will, once.

        [MQTT5-3.1.2-7] [MQTT5-3.1.2-8] [MQTT5-3.1.2-10] [MQTT311-3.1.2-8] [MQTT311-3.1.2-10]
        [MQTT5-3.1.2-14] [MQTT311-3.1.2-16] [MQTT311-3.1.2-9]
        """
        for version in (3, 4, 5):
            client = yield self._connect(version=version)
            client.drop()
            yield self._fired()

    @inlineCallbacks
    def test_clean_disconnect(self) -> Steps:
        """DISCONNECT with reason 0 discards the will.

        [MQTT5-3.14.4-3] [MQTT311-3.14.4-3] [MQTT5-3.1.2-10]
        """
        for version in (3, 4, 5):
            client = yield self._connect(version=version)
            client.send(Disconnect())
            yield client.expect_closed()
            yield self.witness.expect_nothing()

    @inlineCallbacks
    def test_disconnect_with_will(self) -> Steps:
        """DISCONNECT with 0x04, or with an error, fires it."""
        for reason in (0x04, 0x81):
            client = yield self._connect()
            client.send(Disconnect(reason))
            yield client.expect_closed()
            yield self._fired()

    @inlineCallbacks
    def test_protocol_error(self) -> Steps:
        """A client that breaks the protocol has its will fired."""
        client = yield self._connect()
        client.write(b"\x00\x00")
        yield client.expect_closed()
        yield self._fired()

    @inlineCallbacks
    def test_keep_alive(self) -> Steps:
        """So does one that falls silent."""
        client = yield self._connect(keep_alive=2)
        self.node.advance(4)
        yield client.expect_closed()
        yield self._fired()

    @inlineCallbacks
    def test_delay(self) -> Steps:
        """The will waits for its delay. [MQTT5-3.1.2-8]"""
        client = yield self._connect(5, properties=KEPT)
        client.drop()
        self.node.advance(4)
        yield self.witness.expect_nothing()
        self.node.advance(2)
        yield self._fired()

    @inlineCallbacks
    def test_resumed_in_time(self) -> Steps:
        """A client that comes back before the delay is over has no will fired.

        [MQTT5-3.1.3-9]
        """
        client = yield self._connect(5, properties=KEPT)
        client.drop()
        self.node.advance(3)
        client = self.node.client("a")
        yield client.connect(False, properties=KEPT)
        self.node.advance(10)
        yield self.witness.expect_nothing()

    @inlineCallbacks
    def test_taken_over_within_the_delay(self) -> Steps:
        """A takeover that resumes the session is such a return; one with a clean start ends the
        session, and the will fires."""
        yield self._connect(5, properties=KEPT)
        yield self._connect(5, properties=KEPT, clean_start=False)
        self.node.advance(10)
        yield self.witness.expect_nothing()
        client = yield self.node.connected("a", clean_start=True)
        yield self._fired()
        client.drop()

    @inlineCallbacks
    def test_session_ends_first(self) -> Steps:
        """When the session ends during the delay the will fires at once. [MQTT5-3.1.2-8]"""
        client = yield self._connect(100, properties={SESSION_EXPIRY_INTERVAL: 3})
        client.drop()
        self.node.advance(2)
        yield self.witness.expect_nothing()
        self.node.advance(2)
        yield self._fired()

    @inlineCallbacks
    def test_no_session_no_delay(self) -> Steps:
        """A session that ends with its connection does not wait for the delay."""
        client = yield self._connect(100)
        client.drop()
        yield self._fired()

    @inlineCallbacks
    def test_retained(self) -> Steps:
        """A will with RETAIN is retained. [MQTT5-3.1.2-15] [MQTT311-3.1.2-17]"""
        will = WillMessage("will/r", b"kept", 1, True)
        client = yield self.node.connected("a", will=will)
        client.drop()
        yield self.witness.expect_publish()
        late = yield self.node.connected("late")
        yield late.subscribe("will/r")
        publish = yield late.expect_publish()
        self.assertEqual((b"kept", True), (publish.payload, publish.retain))

    @inlineCallbacks
    def test_no_will(self) -> Steps:
        """Without a will nothing is published at the end. [MQTT311-3.1.2-12]"""
        client = yield self.node.connected("a")
        client.drop()
        yield self.witness.expect_nothing()

    @inlineCallbacks
    def test_shutdown(self) -> Steps:
        """Our own shutdown is no DISCONNECT of the client's: the will fires. [design 3.11]"""
        keeper = yield self.node.connected("keeper", properties=KEPT)
        yield keeper.subscribe("will/#", qos=1)
        keeper.drop()
        yield self._connect()
        yield self.restart()
        keeper = self.node.client("keeper")
        yield keeper.connect(False, properties=KEPT)
        publish = yield keeper.expect_publish()
        self.assertEqual(b"gone", publish.payload)

    @inlineCallbacks
    def test_delayed_over_a_restart(self) -> Steps:
        """A delayed will survives a restart."""
        keeper = yield self.node.connected("keeper", properties=KEPT)
        yield keeper.subscribe("will/#", qos=1)
        keeper.drop()
        client = yield self._connect(50, properties=KEPT)
        client.drop()
        yield self.restart()
        keeper = self.node.client("keeper")
        yield keeper.connect(False, properties=KEPT)
        yield keeper.expect_nothing()
        self.node.advance(60)
        publish = yield keeper.expect_publish()
        self.assertEqual(b"gone", publish.payload)


class BacklogTests(NodeTestCase):
    """A session over its limit discards for itself alone."""

    def make_node(self) -> Node:
        limits = Limits()
        limits.session_messages = 10
        return Node(limits=limits)

    @inlineCallbacks
    def test_discards_for_itself(self) -> Steps:
        """Over the limit the newest are discarded and counted; other sessions get all."""
        full = yield self.node.connected("full", properties=KEPT)
        yield full.subscribe("a", qos=1)
        full.drop()
        fine = yield self.node.connected("fine", properties=KEPT)
        yield fine.subscribe("a", qos=1)
        other = yield self.node.connected("other")
        for number in range(30):
            reason = yield other.publish("a", b"%d" % number, 1)
            self.assertEqual(0, reason)
            publish = yield fine.expect_publish()
            self.assertEqual(b"%d" % number, publish.payload)
        full = self.node.client("full")
        yield full.connect(False, properties=KEPT)
        kept = []
        while len(kept) < 10:
            publish = yield full.expect_publish()
            kept.append(publish.payload)
        self.assertEqual([b"%d" % number for number in range(10)], kept)
        session = self.node.broker.sessions.find("full")
        self.assertGreaterEqual(session.discarded, 15)
        yield other.publish("a", b"again", 1)
        publish = yield full.expect_publish()
        self.assertEqual(b"again", publish.payload)
