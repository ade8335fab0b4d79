"""What every L{mop_twisted.interfaces.IMessageLog} must do; subclasses say which one."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from mop_twisted.errors import BackendError
from mop_twisted.interfaces import ICursor, IMessageLog
from mop_twisted.model import Audience, Entry, Origin

from .follower import Follower, message, number_of

Yields = Generator[Deferred[Any], Any, None]


def turn() -> Deferred[None]:
    """Let the reactor turn once."""
    return deferLater(reactor, 0, lambda: None)


def told() -> tuple[Deferred[None], Any]:
    """A Deferred, and the C{completed} that fires it."""
    done: Deferred[None] = Deferred()

    def completed(error: BackendError | None) -> None:
        if error is None:
            done.callback(None)
        else:
            done.errback(error)

    return done, completed


class LogBase:
    """Mixed with a C{TestCase} whose C{make_log} makes logs on one place, empty at first."""

    def make_log(self, history: str | None = None) -> Any:
        """A log that was not started; C{history} is a filter of what it keeps."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> Deferred[None]:
        """Let the clock on the wall go on."""
        raise NotImplementedError

    def now(self) -> float:
        """The clock on the wall."""
        raise NotImplementedError

    @inlineCallbacks
    def opened(self, history: str | None = None) -> Generator[Deferred[Any], Any, Any]:
        """A log that was started. What it feeds is in C{fed}, and goes to C{followers}."""
        self.fed: list[Entry] = []
        self.events: list[Any] = []
        self.followers: list[Follower] = []
        log = self.make_log(history)
        yield log.start(self.feed, lambda: self.events.append("eased"))
        self.addCleanup(log.stop)
        return log

    def feed(self, entries: Sequence[Entry]) -> None:
        """The feed."""
        self.fed.extend(entries)
        self.events.extend(number_of(entry) for entry in entries)
        for follower in self.followers:
            follower.feed(entries)

    def publish(self, log: Any, *entries: Entry) -> Deferred[None]:
        """Publish, and fire when it is complete."""
        done, completed = told()
        log.publish(list(entries), completed)
        return done

    def ask(self, function: Any, *arguments: Any) -> Deferred[None]:
        """Call what wants a C{completed}."""
        done, completed = told()
        function(*arguments, completed)
        return done


class LogContract(LogBase):
    """Publishing, origins, cursors."""

    def test_interfaces(self) -> None:
        """The log and its cursors have all that the interfaces name."""
        log = self.make_log()
        verifyObject(IMessageLog, log)

    # Publishing

    @inlineCallbacks
    def test_order(self) -> Yields:
        """Messages are fed in the order in which they were published, each call's completion
        right after its own messages, whoever wants them. [MQTT5-4.6.0-1] [MQTT311-4.6.0-1]"""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        verifyObject(ICursor, cursor)
        ends = []
        for n in range(0, 60, 3):
            done, completed = told()
            log.publish([message(n, cursor), message(n + 1), message(n + 2, cursor)], completed)
            done.addCallback(lambda _, n=n: self.events.append(f"done {n}"))
            ends.append(done)
            if n % 4 == 0:
                yield turn()
        for done in ends:
            yield done
        expected = [e for n in range(0, 60, 3) for e in (n, n + 1, n + 2, f"done {n}")]
        self.assertEqual(self.events, expected)

    @inlineCallbacks
    def test_not_before_it_is_durable(self) -> Yields:
        """Nothing is fed or complete inside the call that publishes. [MQTT5-4.4.0-2]"""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        done = self.publish(log, message(1, cursor))
        self.assertEqual(self.events, [])
        yield done
        self.assertEqual(self.events, [1])

    @inlineCallbacks
    def test_sequences_rise(self) -> Yields:
        """Each stored message has a higher place than the one before, over restarts too; what
        nobody keeps has none."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.publish(log, message(1, cursor), message(2), message(3, cursor))
        places = [entry.sequence for entry in self.fed]
        self.assertEqual(places[1], 0)
        self.assertLess(places[0], places[2])
        yield log.stop()
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.publish(log, message(4, cursor))
        self.assertLess(places[2], self.fed[0].sequence)

    # Origins

    @inlineCallbacks
    def test_origin_twice(self) -> Yields:
        """A QoS 2 message that is sent again is stored and delivered once, also after a
        restart; another epoch's is another message. [MQTT5-4.3.3-10] [MQTT311-4.3.3-2]"""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        first = self.publish(log, message(1, cursor, origin=Origin("s", 1, 7)))
        yield self.publish(log, message(2, cursor, origin=Origin("s", 1, 7)))
        yield first
        yield self.publish(log, message(3, cursor, origin=Origin("s", 1, 7)))
        self.assertEqual(self.events, [1])
        yield self.publish(log, message(4, cursor, origin=Origin("s", 2, 7)))
        yield self.publish(log, message(5, cursor, origin=Origin("r", 1, 7)))
        self.assertEqual(self.events, [1, 4, 5])
        yield log.stop()
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.publish(log, message(6, cursor, origin=Origin("s", 1, 7)))
        self.assertEqual(self.events, [])
        found = yield cursor.fetch(10, 1000)
        self.assertEqual([number_of(e) for e in found.entries], [1, 4, 5])

    @inlineCallbacks
    def test_origin_of_nobodys_message(self) -> Yields:
        """An identifier is remembered although nobody keeps its message."""
        log = yield self.opened()
        yield self.publish(log, message(1, origin=Origin("s", 1, 7)))
        yield self.publish(log, message(2, origin=Origin("s", 1, 7)))
        self.assertEqual(self.events, [1])
        found = yield log.origins("s", 1)
        self.assertEqual(list(found), [7])

    @inlineCallbacks
    def test_forget(self) -> Yields:
        """After PUBREL an identifier is free for a new message. [MQTT5-4.3.3-12]"""
        log = yield self.opened()
        for packet_id in (7, 8, 9):
            yield self.publish(log, message(packet_id, origin=Origin("s", 1, packet_id)))
        yield self.ask(log.forget, [Origin("s", 1, 7), Origin("s", 1, 9)])
        found = yield log.origins("s", 1)
        self.assertEqual(list(found), [8])
        yield self.publish(log, message(10, origin=Origin("s", 1, 7)))
        yield self.publish(log, message(11, origin=Origin("s", 1, 8)))
        self.assertEqual(self.events, [7, 8, 9, 10])
        yield log.stop()
        log = yield self.opened()
        found = yield log.origins("s", 1)
        self.assertEqual(sorted(found), [7, 8])

    @inlineCallbacks
    def test_forget_session(self) -> Yields:
        """When a session ends, all its identifiers end, of every epoch, and no other's."""
        log = yield self.opened()
        for session, epoch in (("s", 1), ("s", 2), ("r", 1)):
            yield self.publish(log, message(1, origin=Origin(session, epoch, 5)))
        yield self.ask(log.forget_session, "s")
        for reopened in (False, True):
            if reopened:
                yield log.stop()
                log = yield self.opened()
            found = []
            for session, epoch in (("s", 1), ("s", 2), ("r", 1)):
                ids = yield log.origins(session, epoch)
                found.append(list(ids))
            self.assertEqual(found, [[], [], [5]])

    # Cursors

    @inlineCallbacks
    def test_cursor_begins_at_the_end(self) -> Yields:
        """A new session gets nothing of what was published before it."""
        log = yield self.opened()
        first = yield log.cursor("first")
        self.assertFalse(first.existed)
        waiting = self.publish(log, message(1, first))
        second = yield log.cursor("second")
        yield waiting
        yield self.publish(log, message(2, first, second))
        found = yield second.fetch(10, 1000)
        self.assertEqual([number_of(e) for e in found.entries], [2])
        yield log.stop()
        log = yield self.opened()
        first = yield log.cursor("first")
        self.assertTrue(first.existed)

    @inlineCallbacks
    def test_fetch_limits(self) -> Yields:
        """A fetch keeps to its limits, and brings at least one."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.publish(log, *(message(n, cursor) for n in range(100, 120)))
        found = yield cursor.fetch(5, 1 << 20)
        self.assertEqual([number_of(e) for e in found.entries], [*range(100, 105)])
        self.assertFalse(found.live)
        found = yield cursor.fetch(5, 1)
        self.assertEqual([number_of(e) for e in found.entries], [105])
        found = yield cursor.fetch(100, 1 << 20)
        self.assertEqual([number_of(e) for e in found.entries], [*range(106, 120)])

    @inlineCallbacks
    def test_message_comes_back_whole(self) -> Yields:
        """A stored message has its payload, QoS, RETAIN, properties, publisher and expiry."""
        from mop_twisted.codec.packets import Publish

        log = yield self.opened()
        cursor = yield log.cursor("a")
        properties = {1: 1, 3: "text", 8: "a/b", 9: b"\0\1", 38: [("k", "v"), ("k", "w")]}
        publish = Publish("a/ü", b"17", 2, True, 0, properties)
        publish.publisher = "who"
        publish.expires_at = reactor.seconds() + 100.0
        yield self.publish(log, Entry(publish, Audience((cursor,)), retained_copy=True))
        found = yield cursor.fetch(10, 1000)
        (entry,) = found.entries
        self.assertTrue(entry.retained_copy)
        for name in ("topic", "payload", "qos", "retain", "properties", "publisher"):
            self.assertEqual(getattr(entry.publish, name), getattr(publish, name), name)
        self.assertAlmostEqual(entry.publish.expires_at, publish.expires_at, 1)

    @inlineCallbacks
    def test_acknowledged_is_gone(self) -> Yields:
        """What a client acknowledged never comes again; what it did not comes again with the
        same ordinal and DUP, in order, over a restart. [MQTT5-4.4.0-1] [MQTT5-4.6.0-1]"""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.publish(log, *(message(n, cursor) for n in range(6)))
        found = yield cursor.fetch(5, 1000)
        ordinals = [entry.ordinal for entry in found.entries]
        cursor.acknowledge([found.entries[n] for n in (0, 2, 4)])
        cursor.rewind()
        found = yield cursor.fetch(5, 1000)
        self.assertEqual([number_of(e) for e in found.entries], [1, 3])
        self.assertEqual([e.ordinal for e in found.entries], [ordinals[1], ordinals[3]])
        self.assertTrue(all(e.redelivered for e in found.entries))
        yield log.stop()
        log = yield self.opened()
        cursor = yield log.cursor("a")
        found = yield cursor.fetch(5, 1000)
        self.assertEqual([number_of(e) for e in found.entries], [1, 3])
        self.assertEqual([e.ordinal for e in found.entries], [ordinals[1], ordinals[3]])
        self.assertTrue(all(e.redelivered for e in found.entries))
        found = yield cursor.fetch(5, 1000)
        self.assertEqual([number_of(e) for e in found.entries], [5])
        self.assertFalse(found.entries[0].redelivered)

    @inlineCallbacks
    def test_released(self) -> Yields:
        """After PUBREC it is PUBREL that is owed, not the message, over a restart, until it is
        acknowledged. [MQTT5-4.3.3-7] [MQTT5-4.4.0-1]"""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.publish(log, *(message(n, cursor) for n in range(3)))
        found = yield cursor.fetch(5, 1000)
        yield self.ask(cursor.release, found.entries[:2])
        cursor.acknowledge(found.entries[:1])
        cursor.rewind()
        for reopened in (False, True):
            if reopened:
                yield log.stop()
                log = yield self.opened()
                cursor = yield log.cursor("a")
            found = yield cursor.fetch(5, 1000)
            self.assertEqual([number_of(e) for e in found.entries], [1, 2])
            self.assertEqual([e.released for e in found.entries], [True, False])
            self.assertEqual(found.entries[1].redelivered, True)
        cursor.acknowledge(found.entries)
        yield self.ask(cursor.save)
        yield log.stop()
        log = yield self.opened()
        cursor = yield log.cursor("a")
        found = yield cursor.fetch(5, 1000)
        self.assertEqual(found.entries, [])
        self.assertTrue(found.live)

    @inlineCallbacks
    def test_change_over(self) -> Yields:
        """A cursor that has caught up goes on with the feed; paused, with the log."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        follower = Follower(cursor)
        follower.wanted = [0, 1, 2, 3]
        yield self.publish(log, message(0, cursor))
        yield follower.fetch()
        if not follower.live:
            yield follower.fetch()
        self.assertTrue(follower.live)
        self.followers.append(follower)
        yield self.publish(log, message(1, cursor))
        self.assertEqual(sorted(follower.given), [0, 1])
        cursor.pause(None)
        follower.live = False
        yield self.publish(log, message(2, cursor))
        self.assertEqual(cursor.take(self.fed[-1]), 0)
        yield self.publish(log, message(3, cursor))
        while not follower.live:
            yield follower.fetch()
        follower.check()

    @inlineCallbacks
    def test_connection_lost_while_fetching(self) -> Yields:
        """A connection that is lost while its session reads the log costs no message."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.publish(log, message(0, cursor))
        for leave in (cursor.rewind, cursor.close, lambda: cursor.pause(None)):
            fetching = cursor.fetch(10, 1000)
            leave()
            yield fetching
            yield self.publish(log, message(len(self.fed), cursor))
            cursor.rewind()
        found, seen = [], None
        while seen is None or not seen.live:
            seen = yield cursor.fetch(10, 1000)
            found += [number_of(entry) for entry in seen.entries]
        self.assertEqual(found, [0, 1, 2, 3])

    @inlineCallbacks
    def test_close_keeps_the_place(self) -> Yields:
        """A cursor that was closed goes on where it was."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.publish(log, *(message(n, cursor) for n in range(4)))
        found = yield cursor.fetch(2, 1000)
        cursor.acknowledge(found.entries[:1])
        cursor.close()
        cursor = yield log.cursor("a")
        self.assertTrue(cursor.existed)
        found = yield cursor.fetch(10, 1000)
        again = [number_of(e) for e in found.entries]
        found = yield cursor.fetch(10, 1000)
        self.assertEqual(again + [number_of(e) for e in found.entries], [1, 2, 3])

    @inlineCallbacks
    def test_delete_cursor(self) -> Yields:
        """A deleted session's messages are gone, and a new one of its name begins at the end;
        deleting twice is no error. [MQTT5-3.1.2-4]"""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        other = yield log.cursor("b")
        yield self.publish(log, message(1, cursor, other))
        yield self.ask(log.delete_cursor, "a")
        yield self.ask(log.delete_cursor, "a")
        yield log.stop()
        log = yield self.opened()
        cursor = yield log.cursor("a")
        self.assertFalse(cursor.existed)
        found = yield cursor.fetch(10, 1000)
        self.assertEqual(found.entries, [])
        other = yield log.cursor("b")
        found = yield other.fetch(10, 1000)
        self.assertEqual([number_of(e) for e in found.entries], [1])

    @inlineCallbacks
    def test_backlog(self) -> Yields:
        """A cursor knows about how much it owes, over a restart, and 0 when nothing."""
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.publish(log, *(message(n, cursor) for n in range(10)), message(10))
        self.assertEqual(cursor.backlog_messages, 10)
        self.assertGreater(cursor.backlog_bytes, 10)
        found = yield cursor.fetch(4, 1000)
        cursor.acknowledge(found.entries)
        self.assertEqual(cursor.backlog_messages, 6)
        yield log.stop()
        log = yield self.opened()
        cursor = yield log.cursor("a")
        self.assertEqual(cursor.backlog_messages, 6)
        found = yield cursor.fetch(10, 1000)
        cursor.acknowledge(found.entries)
        self.assertEqual((cursor.backlog_messages, cursor.backlog_bytes), (0, 0))
