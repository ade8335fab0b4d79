"""Shared groups at their changes and at their bounds: MQTT 5.0 section 4.8.2."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.defer import inlineCallbacks

from mop_twisted.broker.counters import DropReason
from mop_twisted.broker.group import SAMPLE
from mop_twisted.broker.shared import cursor_name
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
    Unsubscribe,
)
from mop_twisted.codec.properties import (
    MAXIMUM_PACKET_SIZE,
    RECEIVE_MAXIMUM,
    SESSION_EXPIRY_INTERVAL,
)
from mop_twisted.errors import StoreUnavailable
from mop_twisted.limits import Limits
from mop_twisted.model import Change

from ..conversation import MemoryClient, Node
from .base import KEPT, NodeTestCase, Steps

SHARED = "$share/g/s/#"


def small(window: int, kept: bool = False) -> dict[int, Any]:
    """CONNECT properties of a member with a small window."""
    properties: dict[int, Any] = {RECEIVE_MAXIMUM: window}
    if kept:
        properties.update(KEPT)
    return properties


class GroupTestCase(NodeTestCase):
    """Members and a sender."""

    @inlineCallbacks
    def member(
        self, client_id: str, qos: int = 1, properties: dict[int, Any] | None = None
    ) -> Steps:
        member = yield self.node.connected(client_id, properties=properties or {})
        member.send(Subscribe(1, [FilterRequest(SHARED, qos)]))
        # Messages may come before it.
        suback = yield member._next(lambda packet: isinstance(packet, Suback), "a SUBACK")
        self.assertEqual([qos], suback.reasons)
        return member

    @inlineCallbacks
    def back(self, client_id: str, properties: dict[int, Any]) -> Steps:
        """A member that comes back to its session."""
        member = self.node.client(client_id)
        connack = yield member.connect(False, properties=properties)
        self.assertTrue(connack.session_present)
        return member

    @inlineCallbacks
    def publish(self, numbers: range, qos: int = 1) -> Steps:
        sender = yield self.node.connected("sender")
        for number in numbers:
            yield sender.publish("s/1", b"%d" % number, qos)

    @inlineCallbacks
    def settle(self) -> Steps:
        for _ in range(10):
            yield self.node.turn()

    @staticmethod
    def held(member: MemoryClient) -> list[int]:
        """Payloads that came and were not acknowledged."""
        return [int(p.payload) for p in member.packets if isinstance(p, Publish)]

    @inlineCallbacks
    def expect_numbers(self, member: MemoryClient, numbers: range) -> Steps:
        for number in numbers:
            publish = yield member.expect_publish()
            self.assertEqual(b"%d" % number, publish.payload)
        yield member.expect_nothing()


class CursorTests(GroupTestCase):
    """A group's place in the log is its own, and is there as long as the group."""

    @inlineCallbacks
    def test_client_of_the_same_name(self) -> Steps:
        """A client that is called as a group's filter has nothing to do with the group: it gets
        its own messages, and takes none with it when it ends."""
        member = yield self.member("member", properties=KEPT)
        member.drop()
        yield self.publish(range(3))
        twin = yield self.node.connected(SHARED, properties=KEPT)
        yield twin.subscribe("own", qos=1)
        sender = yield self.node.connected("other")
        yield sender.publish("own", b"7", 1)
        yield self.expect_numbers(twin, range(7, 8))
        twin.send(Disconnect(0, {SESSION_EXPIRY_INTERVAL: 0}))
        yield twin.expect_closed()
        member = yield self.back("member", KEPT)
        yield self.expect_numbers(member, range(3))

    @inlineCallbacks
    def test_published_while_the_cursor_is_made(self) -> Steps:
        """A message that is acknowledged while a group gets its place in the log reaches a
        member, once."""
        keeper = yield self.node.connected("keeper", properties=KEPT)
        yield keeper.subscribe("s/#", qos=1)
        keeper.drop()
        sender = yield self.node.connected("sender")
        member = yield self.node.connected("member", properties=KEPT)
        member.send(Subscribe(1, [FilterRequest(SHARED, 1)]))
        sender.send(Publish("s/1", b"0", 1, False, 1))
        yield sender.expect_ack(PUBACK, 1)
        yield sender.publish("s/1", b"1", 1)
        yield member._next(lambda packet: isinstance(packet, Suback), "a SUBACK")
        yield self.expect_numbers(member, range(2))

    @inlineCallbacks
    def test_backlog_is_for_whoever_is_left(self) -> Steps:
        """When the last member ends whose session would have stayed, the others get what waits
        in the log."""
        first = yield self.member("first", properties=KEPT)
        first.drop()
        yield self.publish(range(5))
        second = yield self.member("second", properties=small(1))
        first = yield self.node.connected("first")
        first.drop()
        yield self.expect_numbers(second, range(5))
        yield self.publish(range(5, 8))
        yield self.expect_numbers(second, range(5, 8))
        second.drop()
        yield self.settle()
        self.assertEqual({}, self.node.log.cursors)

    @inlineCallbacks
    def test_left_over_cursor(self) -> Steps:
        """After a crash nothing is kept for a group of which nobody is left."""
        first = yield self.member("first", properties=KEPT)
        yield self.member("second")
        first.send(Disconnect(0, {SESSION_EXPIRY_INTERVAL: 0}))
        yield first.expect_closed()
        # As a crash: nobody is told, no session ends.
        yield self.node.log.stop()
        self.node = Node(self.node.folder, wall=self.node.wall_clock())
        self.assertEqual({}, self.node.log.cursors)
        yield self.node.start()
        yield self.settle()
        self.assertEqual({}, self.node.log.cursors)

    @inlineCallbacks
    def test_subscribe_and_unsubscribe_at_once(self) -> Steps:
        """SUBSCRIBE and UNSUBSCRIBE in one breath leave no group, not in the log either; and
        with a SUBSCRIBE behind them there is one."""
        member = yield self.node.connected("member", properties=KEPT)
        member.send(Subscribe(1, [FilterRequest(SHARED, 1)]))
        member.send(Unsubscribe(2, [SHARED]))
        yield self.settle()
        self.assertEqual({"member"}, set(self.node.log.cursors))
        member.send(Subscribe(3, [FilterRequest(SHARED, 1)]))
        member.send(Unsubscribe(4, [SHARED]))
        member.send(Subscribe(5, [FilterRequest(SHARED, 1)]))
        yield self.settle()
        self.assertEqual({"member", cursor_name(SHARED)}, set(self.node.log.cursors))
        member.packets.clear()
        member.drop()
        yield self.publish(range(2))
        member = yield self.back("member", KEPT)
        yield self.expect_numbers(member, range(2))

    @inlineCallbacks
    def test_fetch_is_tried_again(self) -> Steps:
        """A log that cannot be read for a moment is asked again."""
        member = yield self.member("member", properties=KEPT)
        member.drop()
        yield self.publish(range(3))
        failed = []
        read = self.node.log.reading.read_behind

        def broken(cursor: Any, *args: Any) -> Any:
            if not failed and cursor.name == cursor_name(SHARED):
                failed.append(cursor)
                raise StoreUnavailable("for a moment")
            return read(cursor, *args)

        self.patch(self.node.log.reading, "read_behind", broken)
        member = yield self.back("member", KEPT)
        yield member.expect_nothing()
        self.assertEqual(1, len(failed))
        self.flushLoggedErrors()
        self.node.advance(1)
        yield self.expect_numbers(member, range(3))


class BoundTests(GroupTestCase):
    """What waits for a group in memory is bounded, and counted."""

    def make_node(self) -> Node:
        limits = Limits()
        limits.transient_bytes = 10_000
        limits.live_bytes = 10_000
        return Node(limits=limits)

    @inlineCallbacks
    def test_bytes(self) -> Steps:
        """Large messages that no member can take are discarded above the limit; with a place in
        the log they wait there."""
        groups = self.node.broker.groups
        for kept in (False, True):
            member = yield self.member("member", properties=small(1, kept))
            sender = yield self.node.connected("sender")
            before = self.node.counters.dropped[DropReason.SHARED_QUEUE_FULL]
            for number in range(10):
                yield sender.publish("s/1", b"%04000d" % number, 1)
            self.assertLess(groups.queued_bytes, 15_000)
            self.assertGreater(groups.queued_bytes, 8_000)
            dropped = self.node.counters.dropped[DropReason.SHARED_QUEUE_FULL] - before
            self.assertEqual(0 if kept else 6, dropped)
            yield self.expect_numbers_of(member, 10 - dropped)
            self.assertEqual(0, groups.queued_bytes)
            member.send(Disconnect(0, {SESSION_EXPIRY_INTERVAL: 0} if kept else {}))
            yield member.expect_closed()

    @inlineCallbacks
    def expect_numbers_of(self, member: MemoryClient, count: int) -> Steps:
        for number in range(count):
            publish = yield member.expect_publish()
            self.assertEqual(number, int(publish.payload))
        yield member.expect_nothing()

    @inlineCallbacks
    def test_crowded(self) -> Steps:
        """When the node is at its limit, a group that has something waiting gets no more; what
        waits for a group that ends is counted as discarded."""
        yield self.member("member", properties=small(1))
        self.node.broker.sending.crowded = True
        yield self.publish(range(4))
        counters = self.node.counters
        self.assertEqual(2, counters.dropped[DropReason.NO_MEMORY])
        self.node.clients[self.node.broker.sessions.find("member").connection].drop()
        self.assertEqual(2, counters.dropped[DropReason.SESSION_ENDED])
        self.assertEqual(0, self.node.broker.groups.queued_bytes)
        self.assertEqual({}, self.node.broker.sending.waiting_groups)


class RedeliveryTests(GroupTestCase):
    """What a member leaves behind goes on in its order."""

    @inlineCallbacks
    def test_order(self) -> Steps:
        """What several members did not acknowledge reaches the one that is left in the order in
        which it was published, before what came later."""
        for kept in (False, True):
            first = yield self.member("first", properties=small(3, kept))
            second = yield self.member("second", properties=small(3, kept))
            yield self.publish(range(10))
            self.assertEqual(list(range(6)), sorted(self.held(first) + self.held(second)))
            third = yield self.member("third", properties=small(1, kept))
            yield self.publish(range(10, 12))
            self.assertEqual([6], self.held(third))
            second.drop()
            first.drop()
            yield self.settle()
            publish = yield third.expect_publish()
            self.assertEqual(b"6", publish.payload)
            for number in [*range(6), *range(7, 12)]:
                publish = yield third.expect_publish()
                self.assertEqual((b"%d" % number, False), (publish.payload, publish.dup))
            yield third.expect_nothing()
            third.send(Disconnect(0, {SESSION_EXPIRY_INTERVAL: 0} if kept else {}))
            yield third.expect_closed()

    @inlineCallbacks
    def test_again_to_the_same_member(self) -> Steps:
        """A member that comes back to what it did not acknowledge sees by DUP that it had it;
        what it did not have comes without.

        [MQTT5-3.3.1-1]
        """
        member = yield self.member("member", properties=small(2, True))
        yield self.publish(range(4))
        self.assertEqual([0, 1], self.held(member))
        for _ in range(2):
            member.drop()
            member = yield self.back("member", small(2, True))
            yield self.settle()
            self.assertEqual([0, 1], self.held(member))
            self.assertTrue(all(p.dup for p in member.packets))
        for number in range(4):
            publish = yield member.expect_publish()
            self.assertEqual((b"%d" % number, number < 2), (publish.payload, publish.dup))
        group = self.node.broker.groups.find(SHARED)
        yield self.settle()
        self.assertEqual({}, group._tried)

    @inlineCallbacks
    def test_smaller_window(self) -> Steps:
        """QoS 2 that a member comes back to is sent again as far as its new window goes.

        [MQTT5-3.3.4-9] [MQTT5-4.4.0-1] [MQTT5-4.8.2-4]
        """
        member = yield self.member("member", 2, small(4, True))
        yield self.publish(range(4), 2)
        yield self.settle()
        self.assertEqual([0, 1, 2, 3], self.held(member))
        for _ in range(2):
            member.drop()
            member = yield self.back("member", small(2, True))
            yield self.settle()
            self.assertEqual([0, 1], self.held(member))
        yield self.expect_numbers(member, range(4))

    @inlineCallbacks
    def test_too_large_now(self) -> Steps:
        """QoS 2 that is too large for the connection that a member comes back with is done, and
        its identifier is free. [MQTT5-3.1.2-24] [MQTT5-3.1.2-25]"""
        member = yield self.member("member", 2, KEPT)
        sender = yield self.node.connected("sender")
        yield sender.publish("s/1", b"x" * 500, 2)
        yield member.expect(Publish)
        yield self.settle()
        member.drop()
        member = yield self.back("member", {**KEPT, MAXIMUM_PACKET_SIZE: 100})
        yield member.expect_nothing()
        session = self.node.broker.sessions.find("member")
        self.assertEqual({}, session.flights.sent)
        self.assertEqual(65535, member.connection.window)
        yield sender.publish("s/1", b"7", 2)
        yield self.expect_numbers(member, range(7, 8))
        yield sender.publish("s/1", b"x" * 500, 2)
        yield self.settle()
        yield member.expect_nothing()
        self.assertEqual({}, session.flights.sent)
        self.assertEqual(65535, member.connection.window)

    @inlineCallbacks
    def test_store_that_fails(self) -> Steps:
        """QoS 2 whose owner could not be stored was never sent: it is tried again, and the window
        is as large as before."""
        member = yield self.member("member", 2, small(2, True))
        store = self.node.broker.groups.store
        put = store.put
        failing = [True]

        def broken(changes: list[Change], completed: Any) -> None:
            if failing[0] and changes[0].kind == "assigned":
                completed(StoreUnavailable("for a moment"))
            else:
                put(changes, completed)

        self.patch(store, "put", broken)
        yield self.publish(range(2), 2)
        yield member.expect_nothing()
        self.assertEqual(2, member.connection.window)
        failing[0] = False
        self.node.advance(1)
        yield self.expect_numbers(member, range(2))

    @inlineCallbacks
    def test_left_before_it_was_sent(self) -> Steps:
        """QoS 2 that was on its way to the store when its member left goes to another one, over
        a restart too, and once."""
        second = yield self.member("second", 2, KEPT)
        second.drop()
        first = yield self.member("first", 2, KEPT)
        store = self.node.broker.groups.store
        put = store.put
        held = []

        def slow(changes: list[Change], completed: Any) -> None:
            if changes[0].kind == "assigned" and changes[0].value == b"first":
                put(changes, lambda error: held.append(lambda: completed(error)))
            else:
                put(changes, completed)

        self.patch(store, "put", slow)
        yield self.publish(range(1), 2)
        yield first.expect_nothing()
        first.drop()
        yield self.settle()
        held[0]()
        yield self.restart()
        second = yield self.back("second", KEPT)
        publish = yield second.expect(Publish)
        self.assertEqual(b"0", publish.payload)
        second.send(Ack(PUBREC, publish.packet_id))
        yield second.expect_ack(PUBREL, publish.packet_id)
        second.send(Ack(PUBCOMP, publish.packet_id))
        yield self.settle()
        yield self.restart()
        first = yield self.back("first", KEPT)
        second = yield self.back("second", KEPT)
        yield first.expect_nothing()
        yield second.expect_nothing()


class CostTests(GroupTestCase):
    """Many groups, and many members, cost no more than few."""

    @inlineCallbacks
    def test_many_groups_of_one_client(self) -> Steps:
        """A client in thousands of groups makes no new topic slow, nor does it wait for one of
        them when its window is small: all have their turn."""
        member = yield self.node.connected("member", properties=small(1))
        count = 5000
        for at in range(0, count, 500):
            yield member.subscribe(*[f"$share/g{n}/m/#" for n in range(at, at + 500)], qos=1)
        sender = yield self.node.connected("sender")
        began = time.process_time()
        for number in range(3):
            yield sender.publish(f"m/{number}", b"x", 0)
        self.assertLess(time.process_time() - began, 1.0)
        yield self.settle()
        self.assertEqual(3 * count, len(member.packets))
        member.packets.clear()
        yield sender.publish("m/1", b"y", 1)
        self.assertEqual(count - 1, len(self.node.broker.sending.waiting_groups))
        for _ in range(50):
            yield member.expect_publish()
        yield self.settle()
        self.assertEqual(count - 51, len(self.node.broker.sending.waiting_groups))
        member.drop()
        self.assertEqual({}, self.node.broker.sending.waiting_groups)
        self.assertEqual({}, self.node.broker.groups.by_filter)

    @inlineCallbacks
    def test_many_members(self) -> Steps:
        """In a group of more members than are compared for one message all get some, one that
        has room is found, and what waits goes to whom there is room with."""
        count = 5 * SAMPLE
        members = []
        for number in range(count):
            member = yield self.member(f"member{number}", properties=small(1))
            members.append(member)
        sender = yield self.node.connected("sender")
        for number in range(count + 10):
            yield sender.publish("s/1", b"%d" % number, 1)
        self.assertEqual([1] * count, [len(member.packets) for member in members])
        # What this one had is given back, and waits before all.
        members.pop(5).drop()
        for member in members[20:31]:
            (had,) = member.packets
            member.packets.clear()
            member.send(Ack(PUBACK, had.packet_id))
            yield self.settle()
        self.assertEqual([1] * (count - 1), [len(member.packets) for member in members])
        got = [self.held(member)[0] for member in members[20:31]]
        self.assertEqual(list(range(count, count + 10)), got[1:])
        self.assertLess(got[0], count)
        for member in members:
            member.drop()
