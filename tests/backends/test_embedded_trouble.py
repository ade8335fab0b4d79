"""The embedded log on a disk that is full, read-only or failing."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.codec.packets import Publish
from mop_twisted.errors import StoreFull, StoreUnavailable
from mop_twisted.model import Audience, Change, Entry, Origin
from tests.contracts.log import Yields, turn
from tests.conversation import Node

from .base import Base, large, number_of


class FullTests(Base):
    """No room."""

    @inlineCallbacks
    def fill(self, log: EmbeddedLog, audience: Audience) -> Generator[Deferred[Any], Any, int]:
        """Publish until there is no room; how many found some."""
        self.disk.capacity = (1 << 20) + 600_000
        for number in range(1000):
            try:
                yield self.ask(log.publish, [large(number, audience)])
            except StoreFull:
                return number
        raise AssertionError("it never gets full")

    @inlineCallbacks
    def test_full_and_not_full_again(self) -> Yields:
        """A full disk refuses messages, and tells so to readiness, while sessions can still
        acknowledge, end, and forget; with room again all goes on, and nothing is lost."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield log.cursor("b")
        audience = Audience((cursor,))
        yield self.ask(log.put, [Change("retained", "t", b"x")])
        yield self.ask(log.publish, [large(5000, audience, origin=Origin("s", 1, 1))])
        count = yield self.fill(log, audience)
        self.assertGreater(count, 10)
        self.assertFalse(log.healthy)
        for n in range(3):
            yield self.assertFailure(self.ask(log.publish, [large(6000 + n, audience)]), StoreFull)
        yield self.assertFailure(self.ask(log.put, [Change("x", "y", b"x" * 9000)]), StoreFull)
        batch = yield cursor.fetch(5, 1 << 20)
        yield self.ask(cursor.release, batch.entries[:1])
        cursor.acknowledge(batch.entries[:4])
        yield self.ask(cursor.save)
        yield self.ask(log.put, [Change("retained", "t", None)])
        yield self.ask(log.forget, [Origin("s", 1, 1)])
        yield self.ask(log.delete_cursor, "b")
        self.assertFalse(log.healthy)
        self.disk.capacity = None
        self.clock.advance(1.1)
        yield self.ask(log.publish, [large(7000, audience)])
        self.assertTrue(log.healthy)
        self.assertEqual(os.path.getsize(os.path.join(self.folder, "room")), 1 << 20)
        yield log.stop()
        log = yield self.opened(plain=True)
        cursor = yield log.cursor("a")
        entries = yield self.backlog(cursor)
        expected = [5000, *range(count), 7000][4:]
        self.assertEqual([*map(number_of, entries)], expected)
        records: list[Any] = []
        yield log.load("retained", records.extend)
        self.assertEqual(records, [])

    @inlineCallbacks
    def test_a_group_with_both(self) -> Yields:
        """What frees room succeeds although it came together with what needs some, and what
        comes behind a refused message is refused."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        audience = Audience((cursor,))
        yield self.ask(log.put, [Change("x", "y", b"x")])
        yield self.fill(log, audience)
        self.clock.advance(1.1)
        fed = len(self.fed)
        refused = [
            self.ask(log.publish, [large(1, audience, origin=Origin("s", 1, 1))]),
            self.ask(log.publish, [large(2, audience, origin=Origin("s", 1, 1))]),
            self.ask(log.publish, [Entry(Publish("t", b"3:", 1))]),
        ]
        deleted = self.ask(log.put, [Change("x", "y", None)])
        for done in refused:
            yield self.assertFailure(done, StoreFull)
        yield deleted
        self.assertEqual(len(self.fed), fed)
        records: list[Any] = []
        yield log.load("x", records.extend)
        self.assertEqual(records, [])
        self.disk.capacity = None
        self.clock.advance(1.1)
        yield self.ask(log.publish, [large(4, audience, origin=Origin("s", 1, 1))])
        self.assertEqual(number_of(self.fed[-1]), 4)

    @inlineCallbacks
    def test_healthy_by_itself(self) -> Yields:
        """Readiness comes back when there is room, although nobody publishes."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.fill(log, Audience((cursor,)))
        self.assertFalse(log.healthy)
        self.disk.capacity = None
        self.clock.advance(1.1)
        yield turn()
        log.cleaning.look()
        yield self.ask(log.put, [])
        self.assertTrue(log.healthy)

    @inlineCallbacks
    def node(self) -> Generator[Deferred[Any], Any, Node]:
        """A gateway on this disk."""
        node = Node(self.folder, vfs=self.disk.name)
        yield node.start()
        return node

    @inlineCallbacks
    def talk(self, trouble: Any, reason: int) -> Yields:
        """Publishers of both versions in trouble, and what a session gets afterwards."""
        node = yield self.node()
        reader = yield node.connected("reader", properties={17: 3600})
        yield reader.subscribe("t", qos=1)
        reader.drop()
        fifth = yield node.connected("fifth")
        found = yield fifth.publish("t", b"before", qos=1)
        self.assertEqual(found, 0)
        trouble(True)
        for qos in (1, 2):
            found = yield fifth.publish("t", b"x" * 900_000, qos=qos)
            self.assertEqual(found, reason)
        for qos in (1, 2):
            old = yield node.connected("old", 4)
            old.send(Publish("t", b"x" * 900_000, qos, packet_id=1))
            yield old.expect_closed()
            self.assertEqual(old.packets, [])
        trouble(False)
        node.advance(2.0)
        found = yield fifth.publish("t", b"after", qos=1)
        self.assertEqual(found, 0)
        reader = yield node.connected("reader", clean_start=False, properties={17: 3600})
        payloads = []
        while b"after" not in payloads:
            publish = yield reader.expect_publish()
            payloads.append(publish.payload)
        self.assertEqual(payloads, [b"before", b"after"])
        yield node.stop()

    def test_publishers_of_a_full_disk(self) -> Deferred[None]:
        """With a full disk a version 5 publisher is told that the quota is exceeded, a 3.1.1
        publisher's connection is closed, since a PUBACK would promise; subscribers get what
        was acknowledged. [MQTT311-4.8.0-2] [MQTT5-4.13.2-1]"""

        def trouble(on: bool) -> None:
            self.disk.capacity = (1 << 20) + 500_000 if on else None

        return self.talk(trouble, 0x97)

    def test_publishers_of_a_read_only_disk(self) -> Deferred[None]:
        """The same with a file system that has become read-only: an implementation specific
        error. [MQTT311-4.8.0-2] [MQTT5-4.13.2-1]"""

        def trouble(on: bool) -> None:
            self.disk.read_only = on

        return self.talk(trouble, 0x83)


class FailingTests(Base):
    """Writes and syncs that fail."""

    @inlineCallbacks
    def test_failed_sync(self) -> Yields:
        """When a sync fails, nothing of that group is acknowledged or delivered, and it is not
        tried again on the same connection; after a second the log is opened anew and goes on.
        What was acknowledged before is there, and QoS 2 stays exact. [MQTT5-4.3.3-10]"""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        audience = Audience((cursor,))
        yield self.ask(log.publish, [large(1, audience)])
        before = log.writer._database
        self.disk.bad_syncs = 1
        origin = Origin("s", 1, 1)
        first = self.ask(log.publish, [large(2, audience, origin=origin)])
        put = self.ask(log.put, [Change("x", "y", b"z")])
        second = self.ask(log.publish, [large(3, audience)])
        for done in (first, put, second):
            yield self.assertFailure(done, StoreUnavailable)
        self.assertEqual(self.disk.bad_syncs, 0)
        self.assertFalse(log.healthy)
        yield self.assertFailure(self.ask(log.publish, [large(4, audience)]), StoreUnavailable)
        self.assertEqual([*map(number_of, self.fed)], [1])
        self.clock.advance(1.1)
        yield self.ask(log.publish, [large(5, audience, origin=origin)])
        self.assertTrue(log.healthy)
        self.assertIsNot(log.writer._database, before)
        for reopened in (False, True):
            if reopened:
                yield log.stop()
                log = yield self.opened(plain=True)
                cursor = yield log.cursor("a")
            cursor.rewind()
            entries = yield self.backlog(cursor)
            self.assertEqual([*map(number_of, entries)], [1, 5])

    @inlineCallbacks
    def test_what_a_failed_sync_left_behind(self) -> Yields:
        """A message whose sync failed may be in the file all the same: it is taken out, so that
        the publisher who sends it again does not double it."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        audience = Audience((cursor,))
        origin = Origin("s", 1, 1)
        yield log.position_at("-1h")
        self.disk.bad_syncs = 1
        done = self.ask(log.publish, [large(1, audience, origin=origin)])
        yield self.assertFailure(done, StoreUnavailable)
        # Nobody else has the file open: who opens it next reads what the failed one wrote.
        log.reading.close()
        self.clock.advance(1.1)
        yield self.ask(log.publish, [large(2, audience, origin=origin)])
        cursor.rewind()
        cursor.pause(self.fed[0])
        entries = yield self.backlog(cursor)
        self.assertEqual([*map(number_of, entries)], [2])
        stored = log.reading.reader.execute("SELECT sequence FROM message").fetchall()
        self.assertEqual(stored, [(self.fed[0].sequence,)])
        found = yield log.origins("s", 1)
        self.assertEqual(found, [1])

    @inlineCallbacks
    def test_sets_of_a_failed_group(self) -> Yields:
        """Messages of a topic whose first group failed reach their session after a restart."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        audience = Audience((cursor,))
        self.disk.read_only = True
        yield self.assertFailure(self.ask(log.publish, [large(1, audience)]), StoreUnavailable)
        self.disk.read_only = False
        self.clock.advance(1.1)
        yield self.ask(log.publish, [large(2, audience)])
        yield log.stop()
        log = yield self.opened(plain=True)
        cursor = yield log.cursor("a")
        entries = yield self.backlog(cursor)
        self.assertEqual([*map(number_of, entries)], [2])

    @inlineCallbacks
    def test_sweep_over_a_failure(self) -> Yields:
        """A failure in the middle of a sweep costs the slow session nothing."""
        log = yield self.opened()
        slow = yield log.cursor("slow")
        quick = yield log.cursor("quick")
        audiences = (Audience((slow,)), Audience((quick,)))
        for n in range(0, 60, 20):
            entries = [large(m, audiences[m % 2], 10) for m in range(n, n + 20)]
            yield self.ask(log.publish, entries)
        entries = yield self.backlog(quick)
        quick.acknowledge(entries)
        self.patch(sys.modules[log.cleaning.__module__], "SWEPT", 10)
        log.cleaning.acknowledged(1_000_000)
        for _ in range(2):
            yield self.ask(log.put, [])
        self.assertTrue(log.cleaning.behind)
        self.disk.read_only = True
        yield self.assertFailure(self.ask(log.put, [Change("x", "y", b"")]), StoreUnavailable)
        self.disk.read_only = False
        self.clock.advance(1.1)
        for _ in range(20):
            yield self.ask(log.put, [])
        left = log.reading.reader.execute("SELECT count(*) FROM message").fetchall()
        self.assertEqual(left, [(30,)])
        entries = yield self.backlog(slow)
        self.assertEqual([*map(number_of, entries)], [*range(0, 60, 2)])

    @inlineCallbacks
    def test_stop_while_it_fails(self) -> Yields:
        """A log whose disk does not work can be stopped."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        self.disk.off = True
        failed = self.assertFailure(
            self.ask(log.publish, [large(1, Audience((cursor,)))]), StoreUnavailable
        )
        yield log.stop()
        yield failed
