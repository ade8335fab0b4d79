"""The embedded log on a file that is damaged, newer, or another process's."""

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
from twisted.internet.threads import deferToThread

from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.errors import SchemaTooNew, StoreCorrupt, StoreUnavailable
from mop_twisted.limits import Limits
from mop_twisted.model import Audience, Change
from tests.contracts.log import Yields

from .base import FILE, Base, large, number_of
from .child import CHECKOUT


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
