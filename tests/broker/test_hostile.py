"""Hostile clients: what known brokers fell over, by the numbers of their cases."""

from __future__ import annotations

import gc
import os
import tracemalloc

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks

from mop_twisted.broker.authority import Authority
from mop_twisted.broker.counters import DropReason
from mop_twisted.codec.packets import FilterRequest, Publish, Subscribe, WillMessage
from mop_twisted.codec.properties import MESSAGE_EXPIRY_INTERVAL, SESSION_EXPIRY_INTERVAL
from mop_twisted.limits import Limits

from ..conversation import Node
from ..fuzz.connection import fuzz
from ..vectors import PEER_ERRORS
from .base import KEPT, NodeTestCase, Steps


class VectorTests(NodeTestCase):
    """Every malformed row of the vectors, said to a connection."""

    @inlineCallbacks
    def test_each_error_closes(self) -> Steps:
        """A row that breaks the protocol closes the connection, with the row's reason where the
        version has one; 3.x is closed without a word."""
        for vector in PEER_ERRORS:
            if vector.role != "server" or vector.first:
                continue
            client = yield self.node.connected("a", vector.version)
            client.write(vector.raw)
            said = yield client.expect_closed()
            if vector.version == 5:
                self.assertEqual(vector.error.reason, said.reason, vector.name)
            else:
                self.assertIsNone(said, vector.name)

    @inlineCallbacks
    def test_fuzz(self) -> Steps:
        """Damaged conversations, at random, break nothing: a client is served afterwards."""
        fuzz(self.node.broker, self.node.clock.seconds(), 1.0)
        client = yield self.node.connected("sound")
        yield client.subscribe("sound", qos=1)
        yield client.publish("sound", b"x", 1)
        yield client.expect_publish()


class MemoryTests(NodeTestCase):
    """Nothing that a client does again and again makes the node grow."""

    @inlineCallbacks
    def _grown(self, once: object, times: int) -> Steps:
        """Bytes that C{times} repetitions left behind, after some to warm up."""
        for _ in range(50):
            yield once()  # type: ignore[operator]
        gc.collect()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(times):
            yield once()  # type: ignore[operator]
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return after - before

    @inlineCallbacks
    def test_malformed_in_a_loop(self) -> Steps:
        """CONNECT, SUBSCRIBE and other packets that are malformed, in loops, leave nothing. H7"""
        rows = [v for v in PEER_ERRORS if v.role == "server" and v.version == 5 and not v.first]
        numbers = iter(range(10**9))

        @inlineCallbacks
        def once() -> Steps:
            client = yield self.node.connected(f"a{next(numbers) % 3}")
            client.write(rows[next(numbers) % len(rows)].raw)
            yield client.expect_closed()

        grown = yield self._grown(once, 400)
        self.assertLess(grown, 200_000)

    @inlineCallbacks
    def test_subscribing_in_a_loop(self) -> Steps:
        """The same filters subscribed to and left, thousands of times, leave nothing. H7 H12"""
        client = yield self.node.connected("a")

        @inlineCallbacks
        def once() -> Steps:
            yield client.subscribe("a/+/c", "a/b/#", "$share/g/x/+")
            yield client.subscribe("a/+/c", "a/b/#", "$share/g/x/+", qos=1)
            yield client.unsubscribe("a/+/c", "a/b/#", "$share/g/x/+")

        grown = yield self._grown(once, 400)
        self.assertLess(grown, 100_000)

    @inlineCallbacks
    def test_wrong_aliases_in_a_loop(self) -> Steps:
        """Unknown aliases and empty topics, in loops, leave nothing. H5"""

        @inlineCallbacks
        def once() -> Steps:
            client = yield self.node.connected("a")
            client.send(Publish("", b"", properties={35: 9}))
            yield client.expect_closed()

        grown = yield self._grown(once, 400)
        self.assertLess(grown, 100_000)


class SlowTests(NodeTestCase):
    """A client that does not read, or does not acknowledge, harms itself alone. H9"""

    def make_node(self) -> Node:
        limits = Limits()
        limits.output_bytes = 20_000
        limits.transient_messages = 50
        limits.window_3x = 10
        return Node(limits=limits)

    @inlineCallbacks
    def test_does_not_read(self) -> Steps:
        """Its output is bounded; QoS 0 beyond is dropped and counted; others get all. H9"""
        slow = yield self.node.connected("slow")
        yield slow.subscribe("t")
        fine = yield self.node.connected("fine")
        yield fine.subscribe("t")
        slow.connection.congested = True
        del self.node.clients[slow.connection]
        sender = yield self.node.connected("sender")
        for number in range(200):
            yield sender.publish("t", b"x" * 1000)
            publish = yield fine.expect_publish()
            self.assertEqual(1000, len(publish.payload))
            self.assertLess(slow.connection.output_bytes, 25_000, number)
        yield sender.expect_nothing()
        dropped = self.node.counters.dropped[DropReason.OUTPUT_FULL]
        self.assertGreater(dropped + slow.connection.output_bytes // 1000, 150)
        self.node.broker.lost(slow.connection)

    @inlineCallbacks
    def test_does_not_acknowledge(self) -> Steps:
        """What waits for it in memory is bounded and counted; its publisher is acknowledged. H9"""
        slow = yield self.node.connected("slow", 4)
        yield slow.subscribe("t", qos=1)
        sender = yield self.node.connected("sender")
        for _ in range(100):
            reason = yield sender.publish("t", b"x", 1)
            self.assertEqual(0, reason)
        self.assertEqual(10, len(slow.packets))
        self.assertEqual(40, self.node.counters.dropped[DropReason.QUEUE_FULL])


class LevelTests(NodeTestCase):
    """Topics and filters of absurd shape. H11"""

    @inlineCallbacks
    def test_many_levels(self) -> Steps:
        """A topic of thousands of levels is refused as a name, a filter with 0x8F; nothing
        recurses. H11"""
        client = yield self.node.connected("a")
        reason = yield client.publish("/" * 60_000, b"", 1)
        self.assertEqual(0x90, reason)
        reasons = yield client.subscribe("+/" * 30_000 + "#", "/" * 60_000)
        self.assertEqual([0x8F, 0x8F], reasons)
        yield client.expect_nothing()

    @inlineCallbacks
    def test_many_subscriptions(self) -> Steps:
        """One filter over and over, and many in one packet, cost no more each time. H12"""
        client = yield self.node.connected("a")
        for round_ in range(20):
            client.send(Subscribe(1, [FilterRequest("same/+", round_ % 3)] * 1000))
            suback = yield client.expect(object)
            self.assertEqual([round_ % 3] * 1000, suback.reasons)
        self.assertEqual(1, self.node.counters.subscriptions)


class RightsTests(NodeTestCase):
    """Rights that are taken away are gone, whatever was granted before."""

    def make_node(self) -> Node:
        folder = self.mktemp()
        os.mkdir(folder)
        self.acl = os.path.join(folder, "acl")
        self.allow("topic readwrite t/#\ntopic readwrite will/#\n")
        return Node(authority=self.authority())

    def allow(self, text: str) -> None:
        """Write the access list."""
        with open(self.acl, "w") as file:
            file.write(text)

    def authority(self) -> Authority:
        """By the access list as it is now."""
        return Authority.from_files(None, self.acl, lambda listener: True, reactor)

    @inlineCallbacks
    def test_taken_away(self) -> Steps:
        """After a reload neither a connected client, nor a session that comes back, nor the
        retained message, nor the will gets around the new list. H15 H16 H18"""
        sender = yield self.node.connected("sender")
        connected = yield self.node.connected("connected")
        yield connected.subscribe("t/#", qos=1)
        away = yield self.node.connected("away", properties=KEPT)
        yield away.subscribe("t/#", "$share/g/t/#", qos=1)
        away.drop()
        willing = yield self.node.connected("willing", will=WillMessage("will/a", b"x", 1))
        yield sender.publish("t/secret", b"queued", 1, True)
        yield connected.expect_publish()
        self.allow("topic write t/#\ntopic read will/#\n")
        self.node.authority.replace(self.authority())
        self.node.broker.reload(self.node.limits)
        yield sender.publish("t/secret", b"live", 1)
        yield connected.expect_nothing()
        away = self.node.client("away")
        yield away.connect(False, properties=KEPT)
        yield away.expect_nothing()
        reasons = yield away.subscribe("t/secret", qos=1)
        self.assertEqual([0x87], reasons)
        witness = yield self.node.connected("witness")
        yield witness.subscribe("will/#")
        willing.drop()
        yield witness.expect_nothing()


class TimeTests(NodeTestCase):
    """The wall clock may jump."""

    @inlineCallbacks
    def test_wall_clock_jumps(self) -> Steps:
        """A jump of the wall clock, either way, ends no connection, session or message. H31"""
        away = yield self.node.connected("away", properties={SESSION_EXPIRY_INTERVAL: 100})
        yield away.subscribe("t", qos=1)
        away.drop()
        client = yield self.node.connected("a", keep_alive=10)
        yield client.publish("t", b"x", 1, False, {MESSAGE_EXPIRY_INTERVAL: 50})
        for jump in (10**6, -2 * 10**6):
            self.node.wall += jump
            self.node.advance(5)
            yield client.expect_nothing()
        self.node.wall += 10**6
        away = self.node.client("away")
        connack = yield away.connect(False)
        self.assertTrue(connack.session_present)
        publish = yield away.expect_publish()
        self.assertEqual(40, publish.properties[MESSAGE_EXPIRY_INTERVAL])
