"""The embedded log on a disk that is full, read-only, failing or damaged."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from random import Random
from typing import Any

import apsw
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.codec.packets import Publish
from mop_twisted.errors import SchemaTooNew, StoreCorrupt, StoreFull, StoreUnavailable
from mop_twisted.limits import Limits
from mop_twisted.model import Audience, Change, Entry, Origin
from tests.contracts.log import Yields, told, turn
from tests.conversation import Node

from .child import CHECKOUT
from .power import Disk

FILE = "log.sqlite"


def large(number: int, audience: Audience, size: int = 4000, **fields: Any) -> Entry:
    """A message that needs room."""
    payload = b"%d:" % number + Random(number).randbytes(size)
    return Entry(Publish("t", payload, 1), audience, **fields)


def number_of(entry: Entry) -> int:
    """Of a L{large} message, which must be whole."""
    assert entry.publish is not None
    number, _, rest = entry.publish.payload.partition(b":")
    assert rest == Random(int(number)).randbytes(len(rest))
    return int(number)


class Base(TestCase):
    """A folder on a disk of our own, and a clock that stands still."""

    timeout = 60

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        self.disk = Disk()
        self.addCleanup(self.disk.unregister)
        self.clock = Clock()
        self.fed: list[Entry] = []

    @inlineCallbacks
    def opened(self, plain: bool = False) -> Generator[Deferred[Any], Any, EmbeddedLog]:
        """A log that was started."""
        self.fed = []
        log = EmbeddedLog(
            self.folder,
            reactor,
            Limits(),
            monotonic=self.clock.seconds,
            vfs=None if plain else self.disk.name,
        )
        yield log.start(self.fed.extend, lambda: None)
        self.addCleanup(log.stop)
        return log

    def ask(self, function: Any, *arguments: Any) -> Deferred[None]:
        """Call what wants a C{completed}."""
        done, completed = told()
        function(*arguments, completed)
        return done

    @inlineCallbacks
    def backlog(self, cursor: Any) -> Generator[Deferred[Any], Any, list[Entry]]:
        """All that a cursor gets."""
        entries: list[Entry] = []
        live = False
        while not live:
            batch = yield cursor.fetch(100, 1 << 20)
            entries += batch.entries
            live = batch.live
        return entries


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
        self.disk.bad_syncs = 1
        done = self.ask(log.publish, [large(1, audience, origin=origin)])
        yield self.assertFailure(done, StoreUnavailable)
        # Nobody else has the file open: who opens it next reads what the failed one wrote.
        log.reading.close()
        self.clock.advance(1.1)
        yield self.ask(log.publish, [large(2, audience, origin=origin)])
        entries = yield self.backlog(cursor)
        self.assertEqual([*map(number_of, entries)], [2])
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


class DamagedTests(Base):
    """What was read is not what was written."""

    @inlineCallbacks
    def written(self) -> Generator[Deferred[Any], Any, str]:
        """A file with messages, closed in order; its path."""
        log = yield self.opened(plain=True)
        cursor = yield log.cursor("a")
        other = yield log.cursor("b")
        audiences = [Audience((cursor, other)), Audience((cursor,)), Audience((other,))]
        for n in range(0, 60, 3):
            entries = [large(n + m, audiences[m], 100 + 40 * n) for m in range(3)]
            yield self.ask(log.publish, entries)
        yield self.ask(log.put, [Change("x", f"{n}", b"%d" % n * 50) for n in range(20)])
        yield log.stop()
        path = os.path.join(self.folder, FILE)
        self.assertFalse(os.path.exists(f"{path}-wal"))
        return path

    @inlineCallbacks
    def test_no_database(self) -> Yields:
        """A file that is no database is refused by name and left as it is; when the right one
        is put there, the same process can start."""
        path = yield self.written()
        with open(path, "rb") as file:
            whole = file.read()
        garbage = b"garbage" * 1000
        with open(path, "wb") as file:
            file.write(garbage)
        log = EmbeddedLog(self.folder, reactor, Limits())
        error = yield self.assertFailure(log.start(self.fed.extend, lambda: None), StoreCorrupt)
        self.assertIn(path, str(error))
        with open(path, "rb") as file:
            self.assertEqual(file.read(), garbage)
        with open(path, "wb") as file:
            file.write(whole)
        yield log.start(self.fed.extend, lambda: None)
        cursor = yield log.cursor("a")
        entries = yield self.backlog(cursor)
        self.assertEqual(len(entries), 40)
        yield log.stop()

    @inlineCallbacks
    def examine(self, where: str) -> Generator[Deferred[Any], Any, str]:
        """Start on a damaged file: it refuses, or what it delivers is right."""
        log = EmbeddedLog(self.folder, reactor, Limits())
        try:
            yield log.start(self.fed.extend, lambda: None)
        except StoreCorrupt as error:
            self.assertIn(os.path.join(self.folder, FILE), str(error), where)
            return "refused"
        found: list[int] = []
        records: list[tuple[str, bytes]] = []
        outcome = ""
        self.addCleanup(log.stop)
        try:
            cursor = yield log.cursor("a")
            entries = yield self.backlog(cursor)
            found = [*map(number_of, entries)]
            yield log.load("x", records.extend)
        except StoreCorrupt as error:
            self.assertIn(FILE, str(error), where)
            outcome = "failed"
        self.assertTrue(all(value == key.encode() * 50 for key, value in records), where)
        self.assertEqual(found, sorted(set(found)), where)
        self.assertTrue(all(n % 3 < 2 for n in found), f"{where}: somebody else's")
        if not outcome:
            missing = 40 - len(found)
            outcome = "counted" if log.reading.corrupt_records else "unhurt"
            # Damage to whose it is leaves nobody to read it.
            self.assertLessEqual(missing - log.reading.corrupt_records, 1, where)
        yield log.stop()
        return outcome

    @inlineCallbacks
    def test_flipped_bits(self) -> Yields:
        """Whatever byte of the file changes: it is refused by name, or the damaged message is
        left out and all others come; nothing wrong is delivered, nor to anybody else."""
        path = yield self.written()
        with open(path, "rb") as file:
            whole = file.read()
        outcomes: dict[str, int] = {}
        for seed in range(150):
            random = Random(seed)
            damaged = bytearray(whole)
            at = random.randrange(100, len(damaged))
            damaged[at] ^= 1 << random.randrange(8)
            with open(path, "wb") as file:
                file.write(damaged)
            outcome = yield self.examine(f"byte {at} of {len(damaged)}")
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
        self.assertGreater(outcomes.get("counted", 0), 10, outcomes)

    @inlineCallbacks
    def test_truncated(self) -> Yields:
        """A file that was cut off is refused, or read as far as it goes."""
        path = yield self.written()
        with open(path, "rb") as file:
            whole = file.read()
        for length in (1, 50, 100, 512, 4096, 5000, 8192, len(whole) // 2, len(whole) - 4096):
            with open(path, "wb") as file:
                file.write(whole[:length])
            outcome = yield self.examine(f"cut at {length}")
            self.assertIn(outcome, ("refused", "failed"), f"cut at {length}")

    @inlineCallbacks
    def test_newer_schema(self) -> Yields:
        """A file of a newer release is not touched."""
        path = yield self.written()
        database = apsw.Connection(path)
        database.execute("PRAGMA user_version = 99")
        database.close()
        with open(path, "rb") as file:
            whole = file.read()
        log = EmbeddedLog(self.folder, reactor, Limits())
        error = yield self.assertFailure(log.start(self.fed.extend, lambda: None), SchemaTooNew)
        self.assertIn(path, str(error))
        self.assertIn("99", str(error))
        with open(path, "rb") as file:
            self.assertEqual(file.read(), whole)


class FolderTests(Base):
    """Whose folder it is."""

    @inlineCallbacks
    def test_second_process(self) -> Yields:
        """While one process has the log open another one is refused, and the first goes on; and
        when the first has ended, the second may."""
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.backends.child", self.folder, "stay"],
            cwd=CHECKOUT,
            env={**os.environ, "PYTHONPATH": CHECKOUT},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        assert child.stdin is not None and child.stdout is not None
        self.addCleanup(child.stdout.close)
        said = yield deferToThread(child.stdout.readline)
        self.assertEqual(said, b"open\n")
        log = EmbeddedLog(self.folder, reactor, Limits())
        error = yield self.assertFailure(log.start(self.fed.extend, lambda: None), StoreUnavailable)
        self.assertIn("another process", str(error))
        self.assertIn(self.folder, str(error))
        child.stdin.close()
        status = yield deferToThread(child.wait)
        self.assertEqual(status, 0)
        yield log.start(self.fed.extend, lambda: None)
        cursor = yield log.cursor("session")
        self.assertTrue(cursor.existed)
        yield log.stop()

    @inlineCallbacks
    def test_rights(self) -> Yields:
        """The folder and its files are for their owner alone, whatever they were. H32"""
        os.makedirs(self.folder, 0o755)
        mask = os.umask(0)
        self.addCleanup(os.umask, mask)
        log = yield self.opened()
        cursor = yield log.cursor("a")
        yield self.ask(log.publish, [large(1, Audience((cursor,)))])
        self.assertEqual(os.stat(self.folder).st_mode & 0o777, 0o700)
        names = sorted(os.listdir(self.folder))
        self.assertEqual(names, ["lock", FILE, f"{FILE}-shm", f"{FILE}-wal", "room"])
        for name in names:
            mode = os.stat(os.path.join(self.folder, name)).st_mode & 0o777
            self.assertEqual(mode, 0o600, name)

    @inlineCallbacks
    def test_no_folder(self) -> Yields:
        """A folder that cannot be made is told by name."""
        with open(self.folder, "w"):
            pass
        log = EmbeddedLog(os.path.join(self.folder, "log"), reactor, Limits())
        error = yield self.assertFailure(log.start(self.fed.extend, lambda: None), StoreUnavailable)
        self.assertIn(self.folder, str(error))
