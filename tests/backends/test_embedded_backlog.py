"""A large backlog of one session, and what it costs the others; how the past is cleaned away."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mop_twisted.backends.embedded.audiences import PRUNED_AT
from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.backends.embedded.retention import Retention
from mop_twisted.codec.packets import Publish
from mop_twisted.errors import BackendError
from mop_twisted.limits import Limits
from mop_twisted.model import Audience, Entry
from tests.contracts.log import Yields, told, turn

BACKLOG = int(os.environ.get("MOP_BACKLOG", "100000"))
GROUP = 500


class Base(TestCase):
    """A log whose ticks the tests make."""

    timeout = 60 + BACKLOG / 1000

    @inlineCallbacks
    def opened(self, *retention: Retention) -> Generator[Deferred[Any], Any, EmbeddedLog]:
        """A log that was started."""
        self.clock = Clock()
        self.clock.advance(1_800_000_000.0)
        if not hasattr(self, "folder"):
            self.folder = os.path.abspath(self.mktemp())
        log = EmbeddedLog(
            self.folder, reactor, Limits(), retention,
            wall=self.clock.seconds, monotonic=self.clock.seconds,
        )  # fmt: skip
        yield log.start(self.feed, lambda: None)
        self.addCleanup(log.stop)
        return log

    def feed(self, entries: Sequence[Entry]) -> None:
        """The feed; nobody listens."""

    def publish(self, log: EmbeddedLog, *entries: Entry) -> Deferred[None]:
        """Publish, and fire when it is complete."""
        done, completed = told()
        log.publish(list(entries), completed)
        return done

    @inlineCallbacks
    def idle(self, log: EmbeddedLog) -> Yields:
        """Until the log has nothing more to do."""
        while True:
            yield turn()
            if log.writer.idle:
                return

    @inlineCallbacks
    def tick(self, log: EmbeddedLog, times: int = 1) -> Yields:
        """What happens in as many seconds."""
        for _ in range(times):
            yield self.idle(log)
            self.clock.advance(1.0)
            log.cleaning.look()
            yield self.idle(log)
            while log.cleaning.checkpointing:
                yield turn()

    @inlineCallbacks
    def checkpoint(self, log: EmbeddedLog) -> Yields:
        """Have what was committed in the file itself."""
        log.cleaning.checkpoint()
        while log.cleaning.checkpointing:
            yield turn()

    def count(self, log: EmbeddedLog, table: str = "message") -> int:
        """Rows of a table."""
        reader = log.reading.reader
        assert reader is not None
        return int(reader.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0])


class BacklogTests(Base):
    """One session is offline while the others go on."""

    @inlineCallbacks
    def test_large_backlog(self) -> Yields:
        """A hundred thousand messages wait for one session that is offline: memory does not
        grow with them, others' messages leave the file all the same, they come in order, and
        the file gives its space back. [MQTT5-4.4.0-1] [MQTT5-4.6.0-1]"""
        log = yield self.opened()
        slow = yield log.cursor("slow")
        quick = yield log.cursor("quick")
        yield quick.fetch(1, 1)

        def feed(entries: Sequence[Entry]) -> None:
            quick.acknowledge([e for e in entries if e.audience is others and quick.take(e)])

        log._feed = feed
        mine, others = Audience((slow,)), Audience((quick,))
        gc.collect()
        before = sys.getallocatedblocks()
        grown = 0
        for first in range(0, BACKLOG, GROUP):
            entries = []
            for number in range(first, first + GROUP):
                entries.append(Entry(Publish("mine", b"%d" % number, 1), mine))
                entries.append(Entry(Publish("others", b"x" * 20, 1), others))
            yield self.publish(log, *entries)
            del entries
            if first % 10_000 == 0:
                self.clock.advance(1.0)
            grown = max(grown, sys.getallocatedblocks() - before)
        # A message in memory is some ten of them.
        self.assertLess(grown, 50_000)
        self.assertEqual((slow.backlog_messages, quick.backlog_messages), (BACKLOG, 0))
        yield self.tick(log, 2)
        self.assertEqual(self.count(log), BACKLOG)
        yield self.checkpoint(log)
        largest = log.cleaning.file_bytes()
        expected = 0
        live = False
        while not live:
            batch = yield slow.fetch(1000, 1 << 20)
            for entry in batch.entries:
                if entry.publish.payload != b"%d" % expected:
                    raise AssertionError(f"{entry.publish.payload!r} instead of {expected}")
                expected += 1
            slow.acknowledge(batch.entries)
            live = batch.live
        self.assertEqual(expected, BACKLOG)
        self.assertEqual((slow.backlog_messages, slow.backlog_bytes), (0, 0))
        self.assertLess(sys.getallocatedblocks() - before, 50_000)
        for _ in range(100):
            yield self.tick(log)
            yield self.checkpoint(log)
            if log.cleaning.file_bytes() < largest / 10:
                break
        self.assertEqual(self.count(log), 0)
        self.assertLess(log.cleaning.file_bytes(), largest / 10)

    @inlineCallbacks
    def test_backlog_is_counted_after_a_crash(self) -> Yields:
        """After a crash a session's backlog is counted anew, so that its limits hold."""
        log = yield self.opened()
        slow = yield log.cursor("slow")
        other = yield log.cursor("other")
        audiences = (Audience((slow,)), Audience((slow, other)), Audience((other,)))
        yield self.publish(log, *(Entry(Publish("t", b"x", 1), audiences[n % 3]) for n in range(9)))
        batch = yield slow.fetch(3, 1 << 20)
        slow.acknowledge(batch.entries[1:])
        done, completed = told()
        slow.save(completed)
        yield done
        yield self.publish(log, *(Entry(Publish("t", b"x", 1), audiences[n % 3]) for n in range(9)))
        crashed = self.copied()
        yield log.stop()
        self.folder = crashed
        log = yield self.opened()
        slow = yield log.cursor("slow")
        other = yield log.cursor("other")
        self.assertEqual((slow.backlog_messages, other.backlog_messages), (10, 12))
        self.assertGreater(slow.backlog_bytes, 10)

    def copied(self) -> str:
        """The folder as a crash would leave it."""
        crashed = os.path.abspath(self.mktemp())
        shutil.copytree(self.folder, crashed)
        os.unlink(os.path.join(crashed, "log.sqlite-shm"))
        return crashed

    @inlineCallbacks
    def test_sets_of_sessions_are_dropped(self) -> Yields:
        """Many different sets of sessions that had messages together leave nothing behind, and
        the sets that are still needed stay."""
        log = yield self.opened()
        cursors = []
        for n in range(20):
            cursor = yield log.cursor(f"c{n}")
            cursors.append(cursor)
        slow = yield log.cursor("slow")
        yield self.publish(log, Entry(Publish("t", b"slow", 1), Audience((slow, cursors[0]))))
        for n in range(20):
            for m in range(n):
                audience = Audience((cursors[n], cursors[m]))
                yield self.publish(log, Entry(Publish("t", b"x", 1), audience))
        sets = len(log.audiences.members)
        self.assertGreater(sets, 2 * PRUNED_AT)
        for cursor in cursors:
            live = False
            while not live:
                batch = yield cursor.fetch(100, 1 << 20)
                cursor.acknowledge(batch.entries)
                live = batch.live
            cursor.pause(None)
        yield self.tick(log, 2)
        self.assertEqual(len(log.audiences.members), 1)
        self.assertEqual(self.count(log, "audience"), 1)
        again = Audience((cursors[1], cursors[2]))
        yield self.publish(log, Entry(Publish("t", b"again", 1), again))
        yield log.stop()
        log = yield self.opened()
        for name, expected in (("slow", b"slow"), ("c1", b"again"), ("c2", b"again")):
            cursor = yield log.cursor(name)
            batch = yield cursor.fetch(10, 1000)
            self.assertEqual([e.publish.payload for e in batch.entries], [expected])


class CongestedTests(Base):
    """More than can be written."""

    @inlineCallbacks
    def test_congested(self) -> Yields:
        """When more bytes wait than the limit allows, publishers are paused; they are told when
        enough was written, once."""
        log = yield self.opened()
        log._limits.log_bytes = 100_000
        eased: list[bool] = []
        log._eased = lambda: eased.append(log.congested)
        cursor = yield log.cursor("a")
        audience = Audience((cursor,))
        waiting = []
        while not log.congested:
            waiting.append(self.publish(log, Entry(Publish("t", b"x" * 999, 1), audience)))
        self.assertGreater(len(waiting), 50)
        self.assertLess(len(waiting), 120)
        yield from waiting
        self.assertEqual(eased, [False])
        self.assertEqual(log.queue_bytes, 0)


class RetentionTests(Base):
    """What the past is bounded by."""

    @inlineCallbacks
    def past(self, log: EmbeddedLog) -> Generator[Deferred[Any], Any, list[bytes]]:
        """What history still has."""
        found = yield log.history("#", 0, 1000)
        self.assertTrue(found.live)
        return [entry.publish.payload for entry in found.entries]

    def kept(self, payload: bytes, *cursors: Any) -> Entry:
        """A message that history keeps."""
        return Entry(Publish("t", payload, 1), Audience(cursors) if cursors else None, kept=True)

    @inlineCallbacks
    def test_age(self) -> Yields:
        """The past goes when it is old enough, message by message, and after a restart."""
        log = yield self.opened(Retention("t", age=60.0))
        for n in range(6):
            yield self.publish(log, self.kept(b"%d" % n))
            self.clock.advance(20.0)
        yield self.tick(log, 2)
        found = yield self.past(log)
        self.assertEqual(found, [b"4", b"5"])
        yield self.tick(log, 60)
        found = yield self.past(log)
        self.assertEqual(found, [])
        self.assertEqual(self.count(log), 0)

    @inlineCallbacks
    def test_bytes(self) -> Yields:
        """The oldest goes when there is too much of it, however often it was cleaned before."""
        log = yield self.opened(Retention("t", age=1000.0, bytes=5000))
        for n in range(30):
            yield self.publish(log, self.kept(b"%03d" % n + b"x" * 997))
            if n % 3 == 0:
                yield self.tick(log, 11)
        yield self.tick(log, 11)
        found = yield self.past(log)
        self.assertEqual([payload[:3] for payload in found], [b"026", b"027", b"028", b"029"])
        self.assertEqual(self.count(log), 4)

    @inlineCallbacks
    def test_both(self) -> Yields:
        """What went by its age makes room for what is bounded by bytes."""
        log = yield self.opened(Retention("t", age=100.0, bytes=5000))
        for _ in range(4):
            yield self.publish(log, self.kept(b"x" * 1000))
        self.clock.advance(200.0)
        yield self.tick(log, 2)
        found = yield self.past(log)
        self.assertEqual(found, [])
        for _ in range(4):
            yield self.publish(log, self.kept(b"y" * 1000))
        yield self.tick(log, 20)
        found = yield self.past(log)
        self.assertEqual(len(found), 4)

    @inlineCallbacks
    def test_with_a_session(self) -> Yields:
        """A session's message stays for it although the past is over; and the past keeps what
        all sessions have done with."""
        log = yield self.opened(Retention("t", age=60.0))
        slow = yield log.cursor("slow")
        quick = yield log.cursor("quick")
        yield self.publish(log, self.kept(b"1", slow, quick), self.kept(b"2", quick))
        batch = yield quick.fetch(10, 1000)
        quick.acknowledge(batch.entries)
        yield self.tick(log, 2)
        found = yield self.past(log)
        self.assertEqual(found, [b"1", b"2"])
        yield self.tick(log, 80)
        found = yield self.past(log)
        self.assertEqual(found, [])
        batch = yield slow.fetch(10, 1000)
        self.assertEqual([e.publish.payload for e in batch.entries], [b"1"])
        slow.acknowledge(batch.entries)
        yield self.tick(log, 3)
        self.assertEqual(self.count(log), 0)

    @inlineCallbacks
    def test_a_failure_counts_nothing(self) -> Yields:
        """Messages that could not be stored are not counted as kept."""
        log = yield self.opened(Retention("t", bytes=5000))
        cursor = yield log.cursor("a")
        yield self.publish(log, self.kept(b"x" * 1000))

        def bad(database: Any) -> None:
            raise ValueError

        errors: list[BackendError | None] = []
        log.publish([self.kept(b"x" * 1000) for _ in range(9)], errors.append)
        log._add(bad, errors.append)
        yield self.idle(log)
        self.assertEqual(len([e for e in errors if e is not None]), 2)
        self.clock.advance(2.0)
        yield self.publish(log, self.kept(b"y" * 1000))
        yield self.tick(log, 20)
        found = yield self.past(log)
        self.assertEqual(len(found), 2)
        self.assertEqual(cursor.backlog_messages, 0)
