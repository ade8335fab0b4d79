"""SUBSCRIBE, UNSUBSCRIBE and shared subscriptions: MQTT 5.0 sections 3.8 to 3.11, 4.7, 4.8."""

from __future__ import annotations

from twisted.internet.defer import inlineCallbacks

from mop_twisted.codec.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Ack,
    Disconnect,
    FilterRequest,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from mop_twisted.codec.properties import (
    RECEIVE_MAXIMUM,
    SESSION_EXPIRY_INTERVAL,
    SUBSCRIPTION_IDENTIFIER,
    USER_PROPERTY,
)
from mop_twisted.limits import Limits

from ..conversation import Node
from .base import KEPT, NodeTestCase, Steps

VERSIONS = (3, 4, 5)


class SubscribeTests(NodeTestCase):
    """Each filter gets its answer, and its messages."""

    def make_node(self) -> Node:
        limits = Limits()
        limits.subscriptions_per_session = 5
        limits.topic_levels = 10
        return Node(limits=limits)

    @inlineCallbacks
    def test_answered(self) -> Steps:
        """SUBACK has the SUBSCRIBE's identifier and a code a filter, in order.

        [MQTT5-3.8.4-1] [MQTT5-3.8.4-2] [MQTT5-3.8.4-5] [MQTT5-3.8.4-6] [MQTT5-3.8.4-7]
        [MQTT5-3.9.3-1] [MQTT5-3.9.3-2] [MQTT5-2.2.1-6] [MQTT311-3.8.4-1] [MQTT311-3.8.4-2]
        [MQTT311-3.8.4-4] [MQTT311-3.8.4-5] [MQTT311-3.9.3-1] [MQTT311-3.9.3-2]
        [MQTT311-2.3.1-7] [MQTT5-4.7.1-1] [MQTT5-4.7.1-2] [MQTT311-4.7.1-2] [MQTT311-4.7.1-3]
        """
        filters = [
            FilterRequest("a", 0),
            FilterRequest("b/+", 1),
            FilterRequest("bad/#/x", 2),
            FilterRequest("c/#", 2),
            FilterRequest("bad+", 0),
        ]
        for version, failure in ((3, 0), (4, 0x80), (5, 0x8F)):
            client = yield self.node.connected("client", version)
            client.send(Subscribe(77, filters))
            suback = yield client.expect(Suback)
            self.assertEqual(77, suback.packet_id)
            self.assertEqual([0, 1, failure, 2, failure], suback.reasons)

    @inlineCallbacks
    def test_invalid_filters(self) -> Steps:
        """A filter that is none is refused with 0x8F; the others of the packet stand.

        [MQTT5-4.8.2-1] [MQTT5-4.8.2-2] H11
        """
        client = yield self.node.connected("client")
        for bad in (
            "a#", "#/a", "a/+b", "$share", "$share/", "$share/g", "$share//f", "$share/g/",
            "$share/g+/f", "$share/#/f", "/".join("a" * 11),
        ):  # fmt: skip
            reasons = yield client.subscribe(bad, "ok")
            self.assertEqual([0x8F, 0], reasons, bad)

    @inlineCallbacks
    def test_limit(self) -> Steps:
        """One subscription too many is 0x97; the same filter again is not one more. H12"""
        client = yield self.node.connected("client")
        reasons = yield client.subscribe(*"abcdefg")
        self.assertEqual([0] * 5 + [0x97] * 2, reasons)
        reasons = yield client.subscribe("a", "b", qos=1)
        self.assertEqual([1, 1], reasons)
        yield client.unsubscribe("a")
        reasons = yield client.subscribe("f")
        self.assertEqual([0], reasons)

    @inlineCallbacks
    def test_matching(self) -> Steps:
        """Wildcards match as specified: `a/#` matches `a`, leading wildcards no `$` topics, and
        nothing is normalised.

        [MQTT5-4.7.2-1] [MQTT5-4.7.3-4] [MQTT311-4.7.2-1] [MQTT311-4.7.3-4] [MQTT5-3.3.2-3]
        """
        sender = yield self.node.connected("sender")
        for topic_filter, topic, matches in (
            ("a/#", "a", True),
            ("a/#", "a/b/c", True),
            ("a/+", "a", False),
            ("a/+", "a/", True),
            ("+", "/a", False),
            ("+/+", "/a", True),
            ("#", "$SYS/x", False),
            ("+/x", "$SYS/x", False),
            ("A", "a", False),
            ("a//b", "a/b", False),
        ):
            client = yield self.node.connected("client")
            yield client.subscribe(topic_filter, qos=1)
            if topic.startswith("$"):
                self.node.broker.publish_system(topic, b"x")
            else:
                yield sender.publish(topic, b"x", 1)
            if matches:
                yield client.expect_publish()
            yield client.expect_nothing()

    @inlineCallbacks
    def test_same_filter_replaces(self) -> Steps:
        """The same filter again replaces the subscription; no message is lost or doubled.

        [MQTT5-3.8.4-3] [MQTT5-3.8.4-4] [MQTT311-3.8.4-3]
        """
        for version in VERSIONS:
            client = yield self.node.connected("client", version)
            sender = yield self.node.connected("sender", version)
            for qos in (0, 2, 1):
                yield client.subscribe("a", qos=qos)
                yield sender.publish("a", b"x", 2)
                publish = yield client.expect_publish()
                self.assertEqual(qos, publish.qos)
                yield client.expect_nothing()

    @inlineCallbacks
    def test_overlap(self) -> Steps:
        """Overlapping filters give one copy, at the highest QoS, with all identifiers.

        [MQTT5-3.3.4-2] [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] [MQTT311-3.3.5-1]
        """
        for properties in ({}, KEPT):
            client = yield self.node.connected("client", properties=properties)
            for number, (topic_filter, qos) in enumerate((("a/#", 0), ("a/b", 2), ("+/b", 1)), 1):
                yield client.subscribe(
                    topic_filter, qos=qos, properties={SUBSCRIPTION_IDENTIFIER: [number]}
                )
            sender = yield self.node.connected("sender")
            for qos in (0, 1, 2):
                yield sender.publish("a/b", b"x", qos)
                publish = yield client.expect_publish()
                self.assertEqual(qos, publish.qos)
                identifiers = sorted(publish.properties[SUBSCRIPTION_IDENTIFIER])
                self.assertEqual([1, 2, 3], identifiers)
                yield client.expect_nothing()

    @inlineCallbacks
    def test_no_local(self) -> Steps:
        """No local keeps a client's own messages from it, live and from its queue.

        [MQTT5-3.8.3-3]
        """
        for properties in ({}, KEPT):
            client = yield self.node.connected("client", properties=properties)
            yield client.subscribe(FilterRequest("a", 2, no_local=True))
            for qos in (0, 1, 2):
                yield client.publish("a", b"own", qos)
            sender = yield self.node.connected("sender")
            yield sender.publish("a", b"other", 1)
            publish = yield client.expect_publish()
            self.assertEqual(b"other", publish.payload)
            yield client.expect_nothing()

    @inlineCallbacks
    def test_no_local_on_shared(self) -> Steps:
        """No local on a shared subscription is a protocol error. [MQTT5-3.8.3-4]"""
        client = yield self.node.connected("client")
        client.send(Subscribe(1, [FilterRequest("$share/g/a", 1, no_local=True)]))
        said = yield client.expect_closed()
        self.assertEqual(0x82, said.reason)

    @inlineCallbacks
    def test_unsubscribe(self) -> Steps:
        """UNSUBACK has the identifier and a code a filter, in order, also when there was none.

        [MQTT5-3.10.4-1] [MQTT5-3.10.4-2] [MQTT5-3.10.4-4] [MQTT5-3.10.4-5] [MQTT5-3.10.4-6]
        [MQTT5-3.11.3-1] [MQTT5-3.11.3-2] [MQTT311-3.10.4-1] [MQTT311-3.10.4-2]
        [MQTT311-3.10.4-4] [MQTT311-3.10.4-5] [MQTT311-3.10.4-6]
        """
        sender = yield self.node.connected("sender")
        for version in VERSIONS:
            for how in ({}, {"properties": KEPT} if version == 5 else {"clean_start": False}):
                client = yield self.node.connected("client", version, **how)
                yield client.subscribe("a/+", "b", qos=1)
                client.send(Unsubscribe(99, ["a/#", "a/+", "none"]))
                unsuback = yield client.expect(Unsuback)
                self.assertEqual(99, unsuback.packet_id)
                if version == 5:
                    self.assertEqual([0x11, 0, 0x11], unsuback.reasons)
                yield sender.publish("a/x", b"x", 1)
                yield client.expect_nothing()
                yield sender.publish("b", b"y", 1)
                yield client.expect_publish()

    @inlineCallbacks
    def test_started_deliveries_are_completed(self) -> Steps:
        """QoS 1 and 2 that had begun is completed after an UNSUBSCRIBE, over a reconnect too.

        [MQTT5-3.10.4-3] [MQTT311-3.10.4-3]
        """
        client = yield self.node.connected("client", properties=KEPT)
        yield client.subscribe("a", qos=2)
        sender = yield self.node.connected("sender")
        yield sender.publish("a", b"x", 2)
        first = yield client.expect(Publish)
        yield client.unsubscribe("a")
        client.drop()
        client = self.node.client("client")
        yield client.connect(False, properties=KEPT)
        again = yield client.expect_publish()
        self.assertEqual((first.packet_id, True), (again.packet_id, again.dup))
        yield client.expect_nothing()


class SharedTests(NodeTestCase):
    """`$share/group/filter`: each message goes to one member."""

    @inlineCallbacks
    def _members(self, count: int, qos: int = 1, **how: object) -> Steps:
        members = []
        for number in range(count):
            member = yield self.node.connected(f"member{number}", **how)
            reasons = yield member.subscribe("$share/g/s/#", qos=qos)
            assert reasons == [qos]
            members.append(member)
        return members

    @inlineCallbacks
    def test_each_once(self) -> Steps:
        """Each message reaches one member, at the QoS of its subscription; all get some.

        [MQTT5-4.8.2-3] [MQTT5-4.8.2-1]
        """
        for how in ({}, {"properties": KEPT}):
            members = yield self._members(3, **how)
            plain = yield self.node.connected("plain")
            yield plain.subscribe("s/#", qos=1)
            sender = yield self.node.connected("sender")
            for number in range(30):
                yield sender.publish(f"s/{number}", b"x", number % 3)
            got = [p for m in members for p in m.packets if isinstance(p, Publish)]
            self.assertEqual({f"s/{n}" for n in range(30)}, {p.topic for p in got})
            self.assertEqual(30, len(got))
            self.assertTrue(all(p.qos <= 1 for p in got))
            for member in members:
                self.assertGreater(len(member.packets), 5)
                member.drop()
            self.assertEqual(30, len(plain.packets))

    @inlineCallbacks
    def test_no_retained(self) -> Steps:
        """A shared subscription gets no retained messages."""
        sender = yield self.node.connected("sender")
        yield sender.publish("s/1", b"x", 1, True)
        (member,) = yield self._members(1)
        yield member.expect_nothing()

    @inlineCallbacks
    def test_full_window_passes_on(self) -> Steps:
        """A member whose window is full is left out; what nobody can take waits."""
        for how in ({}, KEPT):
            members = yield self._members(2, properties={**how, RECEIVE_MAXIMUM: 2})
            sender = yield self.node.connected("sender")
            for number in range(10):
                yield sender.publish("s/1", b"%d" % number, 1)
            for member in members:
                self.assertEqual(2, len(member.packets))
            got = []
            while len(got) < 10:
                for member in members:
                    for publish in list(member.packets):
                        member.packets.remove(publish)
                        got.append(publish.payload)
                        member.send(Ack(PUBACK, publish.packet_id))
                yield self.node.turn()
            self.assertEqual({b"%d" % n for n in range(10)}, set(got))
            for member in members:
                member.send(Disconnect(0, {SESSION_EXPIRY_INTERVAL: 0} if how else {}))
                yield member.expect_closed()

    @inlineCallbacks
    def test_offline_group_waits(self) -> Steps:
        """While no member is online, messages wait for whichever comes back first."""
        members = yield self._members(2, properties=KEPT)
        for member in members:
            member.drop()
        sender = yield self.node.connected("sender")
        for number in range(5):
            reason = yield sender.publish("s/1", b"%d" % number, 1)
            self.assertEqual(0, reason)
        back = self.node.client("member1")
        yield back.connect(False, properties=KEPT)
        for number in range(5):
            publish = yield back.expect_publish()
            self.assertEqual(b"%d" % number, publish.payload)
        other = self.node.client("member0")
        yield other.connect(False, properties=KEPT)
        yield other.expect_nothing()

    @inlineCallbacks
    def test_unacknowledged_qos_1_moves(self) -> Steps:
        """QoS 1 that a member did not acknowledge goes to another one when it leaves."""
        for how in ({}, {"properties": KEPT}):
            first, second = yield self._members(2, **how)
            sender = yield self.node.connected("sender")
            for number in range(4):
                yield sender.publish("s/1", b"%d" % number, 1)
            held = {p.payload for p in first.packets}
            self.assertEqual(2, len(held))
            first.drop()
            got = set()
            for _ in range(4):
                publish = yield second.expect_publish()
                got.add(publish.payload)
            self.assertEqual(4, len(got))
            second.send(Disconnect(0, {SESSION_EXPIRY_INTERVAL: 0} if how else {}))
            yield second.expect_closed()

    @inlineCallbacks
    def test_qos_2_stays(self) -> Steps:
        """QoS 2 in flight is completed with its session, over a reconnect and a restart, and
        goes to nobody else.

        [MQTT5-4.8.2-4]
        """
        for restart in (False, True):
            first, second = yield self._members(2, qos=2, properties=KEPT)
            sender = yield self.node.connected("sender")
            for number in range(2):
                yield sender.publish("s/1", b"%d" % number, 2)
            held = yield first.expect(Publish)
            yield second.expect_publish()
            first.drop()
            yield second.expect_nothing()
            if restart:
                yield self.restart()
                second = self.node.client("member1")
                yield second.connect(False, properties=KEPT)
                yield second.expect_nothing()
            first = self.node.client("member0")
            yield first.connect(False, properties=KEPT)
            again = yield first.expect_publish()
            self.assertEqual(
                (held.packet_id, held.payload, True), (again.packet_id, again.payload, again.dup)
            )
            yield first.expect_nothing()
            for member in (first, second):
                member.send(Disconnect(0, {SESSION_EXPIRY_INTERVAL: 0}))
                yield member.expect_closed()

    @inlineCallbacks
    def test_qos_2_ends_with_its_session(self) -> Steps:
        """When the session ends, its QoS 2 in flight goes to nobody else. [MQTT5-4.8.2-5]"""
        first, second = yield self._members(2, qos=2)
        sender = yield self.node.connected("sender")
        for number in range(2):
            yield sender.publish("s/1", b"%d" % number, 2)
        yield second.expect_publish()
        first.drop()
        yield second.expect_nothing()

    @inlineCallbacks
    def test_refused_is_discarded(self) -> Steps:
        """What a member refuses goes to nobody else. [MQTT5-4.8.2-6]"""
        first, second = yield self._members(2, qos=2)
        sender = yield self.node.connected("sender")
        for number in range(2):
            yield sender.publish("s/1", b"%d" % number, 2)
        for member in (first, second):
            publish = yield member.expect(Publish)
            member.send(Ack(PUBREC, publish.packet_id, 0x83))
        yield first.expect_nothing()
        yield second.expect_nothing()

    @inlineCallbacks
    def test_released_over_a_reconnect(self) -> Steps:
        """After PUBREC a member that comes back is sent PUBREL, not the message."""
        (member,) = yield self._members(1, qos=2, properties=KEPT)
        sender = yield self.node.connected("sender")
        yield sender.publish("s/1", b"x", 2)
        publish = yield member.expect(Publish)
        member.send(Ack(PUBREC, publish.packet_id))
        yield member.expect_ack(PUBREL, publish.packet_id)
        for restart in (False, True):
            member.drop()
            if restart:
                yield self.restart()
            member = self.node.client("member0")
            yield member.connect(False, properties=KEPT)
            yield member.expect_ack(PUBREL, publish.packet_id)
            yield member.expect_nothing()
        member.send(Ack(PUBCOMP, publish.packet_id))
        yield member.expect_nothing()


class PastTests(NodeTestCase):
    """SUBSCRIBE with a start in the past."""

    def make_node(self) -> Node:
        return Node(retention=self.retention())

    @staticmethod
    def retention() -> list[object]:
        """Everything below h/ is kept."""
        from mop_twisted.backends.embedded.log import Retention

        return [Retention("h/#", None, None)]

    @inlineCallbacks
    def test_from_the_beginning(self) -> Steps:
        """`start` = earliest replays what was kept, in order, and goes on live; the same filter
        again does not replay. MoP's InitialPosition is understood."""
        sender = yield self.node.connected("sender")
        start = {USER_PROPERTY: [("start", "earliest")]}
        for room, (how, asked) in enumerate(
            (
                ({}, start),
                ({"properties": KEPT}, start),
                ({}, {USER_PROPERTY: [("InitialPosition", "1")]}),
            )
        ):
            for number in range(300):
                yield sender.publish(f"h/{room}/1", b"%d" % number, number % 3)
            yield sender.publish("other", b"not kept", 1)
            client = yield self.node.connected("client", **how)
            yield client.subscribe(f"h/{room}/#", qos=2, properties=asked)
            got: list[list[int]] = [[], [], []]
            for _ in range(300):
                publish = yield client.expect_publish()
                self.assertFalse(publish.retain)
                got[publish.qos].append(int(publish.payload))
            for qos in (0, 1, 2):
                self.assertEqual(list(range(qos, 300, 3)), got[qos])
            yield client.expect_nothing()
            yield sender.publish(f"h/{room}/2", b"live", 1)
            publish = yield client.expect_publish()
            self.assertEqual(b"live", publish.payload)
            yield client.subscribe(f"h/{room}/#", qos=2, properties=asked)
            yield client.expect_nothing()

    @inlineCallbacks
    def test_latest_and_nonsense(self) -> Steps:
        """`latest` is as if nothing was said; what means nothing is refused with 0x83."""
        sender = yield self.node.connected("sender")
        yield sender.publish("h/1", b"x", 1)
        client = yield self.node.connected("client")
        reasons = yield client.subscribe(
            "h/#", qos=1, properties={USER_PROPERTY: [("start", "latest")]}
        )
        self.assertEqual([1], reasons)
        yield client.expect_nothing()
        reasons = yield client.subscribe(
            "h/1", qos=1, properties={USER_PROPERTY: [("start", "yesterday, or so")]}
        )
        self.assertEqual([0x83], reasons)
