"""What the next start makes of numbers: of rules, of sets of cursors, of cursors; and what it
takes for sent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Sequence
from typing import Any

import apsw
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults, inlineCallbacks
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mop_twisted.backends.embedded import cleaning, reading
from mop_twisted.backends.embedded.cursor import DOUBTED
from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.backends.embedded.retention import Retention
from mop_twisted.codec.packets import Publish
from mop_twisted.errors import StoreUnavailable
from mop_twisted.limits import Limits
from mop_twisted.model import Audience, Entry
from tests.contracts.log import Yields, told, turn


class Base(TestCase):
    """One folder, opened again and again."""

    timeout = 60

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_800_000_000.0)
        self.folder = os.path.abspath(self.mktemp())

    @inlineCallbacks
    def opened(
        self, retention: Sequence[Retention] = ()
    ) -> Generator[Deferred[Any], Any, EmbeddedLog]:
        """A log that was started."""
        log = EmbeddedLog(
            self.folder, reactor, Limits(), retention,
            wall=self.clock.seconds, monotonic=self.clock.seconds,
        )  # fmt: skip
        yield log.start(lambda entries: None, lambda: None)
        self.addCleanup(log.stop)
        return log

    def publish(self, log: EmbeddedLog, *entries: Entry) -> Deferred[None]:
        """Publish, and fire when it is complete."""
        done, completed = told()
        log.publish(list(entries), completed)
        return done

    @inlineCallbacks
    def killed(self, log: EmbeddedLog) -> Yields:
        """As its files are after a kill: they were copied while it was open."""
        before, self.folder = self.folder, os.path.abspath(self.mktemp())
        shutil.copytree(before, self.folder)
        yield log.stop()

    @inlineCallbacks
    def tick(self, log: EmbeddedLog, times: int = 1) -> Yields:
        """What happens in as many seconds."""
        for _ in range(times):
            self.clock.advance(1.0)
            log.cleaning.look()
            for _ in range(3):
                yield turn()
                while not log.writer.idle:
                    yield turn()


class RulesTests(Base):
    """Retention after the configuration was changed."""

    def kept(self, topic: str, payload: bytes = b"x") -> Entry:
        """A message that history keeps."""
        return Entry(Publish(topic, payload, 1), None, kept=True)

    @inlineCallbacks
    def past(self, log: EmbeddedLog) -> Generator[Deferred[Any], Any, list[str]]:
        """The topics of what history still has."""
        found = yield log.history("#", 0, 10_000)
        return [entry.publish.topic for entry in found.entries]

    @inlineCallbacks
    def test_reordered(self) -> Yields:
        """Rules in another order keep what they kept: what was to stay for ever is not taken for
        that of the rule which has its place now."""
        short, long = Retention("short", age=60.0), Retention("long", age=86_400.0)
        log = yield self.opened([short, long])
        yield self.publish(log, self.kept("short"), self.kept("long"))
        yield log.stop()
        self.clock.advance(600.0)
        log = yield self.opened([Retention("new", bytes=1), long, short])
        yield self.tick(log, 12)
        found = yield self.past(log)
        self.assertEqual(found, ["long"])
        since = yield log.position_at("-1h")
        self.assertEqual(since, 1)

    @inlineCallbacks
    def test_removed(self) -> Yields:
        """What a rule kept that is no more goes, however much that is; a rule that comes later
        has nothing to do with it."""
        log = yield self.opened([Retention("a"), Retention("b")])
        for _ in range(5):
            yield self.publish(log, *[self.kept("a") for _ in range(1000)])
        yield self.publish(log, self.kept("b"))
        yield log.stop()
        log = yield self.opened([Retention("c"), Retention("b")])
        yield self.publish(log, self.kept("c"))
        yield self.tick(log, 20)
        found = yield self.past(log)
        self.assertEqual(found, ["b", "c"])
        yield log.stop()
        log = yield self.opened()
        position = yield log.position_at("-1h")
        self.assertEqual(position, log.fed)
        yield self.tick(log, 20)
        found = yield self.past(log)
        self.assertEqual(found, [])

    @inlineCallbacks
    def test_index(self) -> Yields:
        """Neither looking for what is too old nor for a time walks over all messages."""
        log = yield self.opened([Retention("a", age=60.0)])
        reader = log.reading.reader
        for statement in (
            cleaning._KEPT, cleaning._DELETE_KEPT, cleaning._RELEASE_KEPT, reading._SINCE
        ):  # fmt: skip
            bindings = [1] * statement.count("?")
            plan = reader.execute(f"EXPLAIN QUERY PLAN {statement}", bindings).fetchall()
            self.assertEqual(len(plan), 1, plan)
            self.assertIn("INDEX message_kept (kept=?", plan[0][3])


class NumbersTests(Base):
    """Numbers that are not given twice."""

    @inlineCallbacks
    def test_sets(self) -> Yields:
        """A message that history keeps for a session that is gone goes to nobody who comes after
        a restart, and neither does one whose set of sessions was forgotten."""
        log = yield self.opened([Retention("t")])
        first = yield log.cursor("first")
        entry = Entry(Publish("t", b"first's", 1), Audience((first,)), kept=True)
        yield self.publish(log, entry)
        batch = yield first.fetch(10, 1000)
        first.acknowledge(batch.entries)
        log.audiences._prune_at = 0
        yield self.tick(log, 3)
        self.assertEqual(log.audiences.members, {})
        done, completed = told()
        log.delete_cursor("first", completed)
        yield done
        yield log.stop()
        log = yield self.opened([Retention("t")])
        second = yield log.cursor("second")
        third = yield log.cursor("third")
        second._position = third._position = 0
        yield self.publish(log, Entry(Publish("t", b"both's", 1), Audience((second, third))))
        for cursor in (second, third):
            batch = yield cursor.fetch(10, 1000)
            self.assertEqual([e.publish.payload for e in batch.entries], [b"both's"])

    @inlineCallbacks
    def test_cursors(self) -> Yields:
        """The number of a session that is gone is not given again while it is in a set."""
        log = yield self.opened([Retention("t")])
        first = yield log.cursor("first")
        second = yield log.cursor("second")
        audience = Audience((first, second))
        yield self.publish(log, Entry(Publish("t", b"x", 1), audience, kept=True))
        done, completed = told()
        log.delete_cursor("second", completed)
        yield done
        yield log.stop()
        log = yield self.opened([Retention("t")])
        third = yield log.cursor("third")
        self.assertNotIn(third.id, (first.id, second.id))

    @inlineCallbacks
    def test_many_cursors(self) -> Yields:
        """Each of some thousand sessions finds its own sets again."""
        log = yield self.opened()
        cursors = yield gatherResults([log.cursor(f"c{n}") for n in range(2000)])
        yield self.publish(
            log, *[Entry(Publish("t", b"%d" % c.id, 1), Audience((c,))) for c in cursors]
        )
        yield self.killed(log)
        log = yield self.opened()
        self.assertTrue(all(c.backlog_messages == 1 for c in log.cursors.values()))
        for cursor in [*log.cursors.values()][::500]:
            batch = yield cursor.fetch(10, 1000)
            self.assertEqual([e.publish.payload for e in batch.entries], [b"%d" % cursor.id])


class DoubtTests(Base):
    """What may have been sent before the end."""

    @inlineCallbacks
    def test_catching_up(self) -> Yields:
        """A session that was catching up when the process was killed gets what it may have had
        marked as such, [MQTT5-3.3.1-1] [MQTT311-3.3.1-1], but no more than it can have had; and
        after an end in order nothing that was not sent."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        audience = Audience((cursor,))
        total = DOUBTED + 10
        yield self.publish(
            log, *[Entry(Publish("t", b"%d" % n, 1), audience) for n in range(total)]
        )
        batch = yield cursor.fetch(2, 1 << 20)
        self.assertFalse(batch.live)
        self.assertEqual([e.redelivered for e in batch.entries], [False, False])
        before = self.folder
        yield self.killed(log)
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.publish(log, Entry(Publish("t", b"new", 1), Audience((cursor,))))
        marks: list[bool] = []
        live = False
        while not live:
            batch = yield cursor.fetch(100, 1 << 20)
            marks += [entry.redelivered for entry in batch.entries]
            live = batch.live
        self.assertEqual(marks, [True] * DOUBTED + [False] * 11)
        yield log.stop()
        self.folder = before
        log = yield self.opened()
        cursor = yield log.cursor("a")
        marks = []
        for _ in range(2):
            batch = yield cursor.fetch(100, 1 << 20)
            marks += [entry.redelivered for entry in batch.entries]
        self.assertEqual(marks, [True] * 2 + [False] * 100)


class ChangesTests(Base):
    """The file of changes beside the log's own."""

    def entry(self, cursor: Any, size: int = 10) -> Entry:
        """A message."""
        return Entry(Publish("t", b"x" * size, 1), Audience((cursor,)))

    @inlineCallbacks
    def moved(self, log: EmbeddedLog) -> Yields:
        """Until the checkpoint is over."""
        while log.cleaning.checkpointing or not log.writer.idle:
            yield turn()

    @inlineCallbacks
    def test_quiet(self) -> Yields:
        """When nothing happens any more the file of changes is emptied."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.publish(log, self.entry(cursor, 100_000))
        changes = f"{log.path}-wal"
        self.assertGreater(os.path.getsize(changes), 100_000)
        for _ in range(4):
            yield self.tick(log)
            yield self.moved(log)
        self.assertEqual(os.path.getsize(changes), 0)

    @inlineCallbacks
    def test_between(self) -> Yields:
        """When it is too long it is begun anew between two commits, however busy the log is."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        self.patch(cleaning, "RESTART_PAGES", 100)
        yield self.publish(log, self.entry(cursor, 1_000_000))
        log.cleaning.checkpoint()
        while log.cleaning.checkpointing:
            yield self.publish(log, self.entry(cursor))
        yield self.publish(log, self.entry(cursor))
        yield self.publish(log, self.entry(cursor))
        self.assertLess(os.path.getsize(f"{log.path}-wal"), 100_000)

    @inlineCallbacks
    def test_locked(self) -> Yields:
        """While another process has the file locked messages wait, and the rest of the broker
        does not; none fails."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        other = apsw.Connection(log.path)
        self.addCleanup(other.close, True)
        other.execute("BEGIN IMMEDIATE")
        ended: list[Any] = []
        log.publish([self.entry(cursor)], ended.append)
        for _ in range(5):
            yield turn()
        self.assertEqual(ended, [])
        self.assertTrue(log.healthy)
        other.execute("ROLLBACK")
        yield self.publish(log, self.entry(cursor))
        self.assertEqual(ended, [None])
        self.assertEqual(cursor.backlog_messages, 2)


class ClosedTests(Base):
    """After the end."""

    @inlineCallbacks
    def test_told(self) -> Yields:
        """Whoever wants something of a log that is closed is told so, and does not wait."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        stopped = log.stop()
        while not log.writer._closed:
            yield turn()
        yield self.assertFailure(self.publish(log), StoreUnavailable)
        yield stopped
        entry = Entry(Publish("t", b"x", 1), Audience((cursor,)))
        yield self.assertFailure(self.publish(log, entry), StoreUnavailable)
        yield self.assertFailure(log.cursor("b"), StoreUnavailable)
