"""Files that earlier releases wrote."""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import TestCase

from mop_twisted.backends.embedded.schema import MIGRATIONS, connect
from mop_twisted.errors import StoreCorrupt
from mop_twisted.model import Entry
from tests.contracts.follower import message
from tests.contracts.log import Yields

from .golden import MONOTONIC, asked, log_on

GOLDEN = {
    int(re.findall(r"\d+", path.name)[0]): path
    for path in Path(__file__).parent.glob("golden_version_*.sql")
}


class GoldenTests(TestCase):
    """Every version of the file, written by the code of then."""

    def restored(self, version: int) -> str:
        """A folder with the file of that version."""
        folder = os.path.abspath(self.mktemp())
        os.makedirs(folder)
        database = sqlite3.connect(os.path.join(folder, "log.sqlite"))
        database.executescript(GOLDEN[version].read_text())
        database.close()
        return folder

    @inlineCallbacks
    def read(self, version: int) -> Yields:
        """All that it says is understood."""
        log = log_on(self.restored(version))
        yield log.start(lambda entries: None, lambda: None)
        self.addCleanup(log.stop)
        first = yield log.cursor("first")
        second = yield log.cursor("second/ü")
        self.assertTrue(first.existed and second.existed)
        self.assertEqual((first.backlog_messages, second.backlog_messages), (4, 2))
        batch = yield first.fetch(10, 1 << 20)
        found = [(e.publish.payload, e.released, e.redelivered) for e in batch.entries]
        self.assertEqual(
            found,
            [(b"\0rich", False, True), (b"released", True, False), (b"sent", False, True)],
        )
        rich = batch.entries[0].publish
        self.assertEqual((rich.topic, rich.qos, rich.retain), ("a/ü", 2, True))
        self.assertEqual((rich.publisher, rich.expires_at), ("somebody", MONOTONIC + 60.0))
        self.assertEqual(
            rich.properties,
            {1: 1, 2: 60, 3: "text", 8: "reply", 9: b"\1\2", 38: [("k", "v"), ("k", "w")]},
        )
        self.assertTrue(batch.entries[2].retained_copy)
        batch = yield first.fetch(10, 1 << 20)
        self.assertEqual([e.publish.payload for e in batch.entries], [b"waiting"])
        batch = yield second.fetch(10, 1 << 20)
        self.assertEqual([e.publish.payload for e in batch.entries], [b"\0rich", b"waiting"])
        history = yield log.history("#", 0, 10)
        self.assertEqual([e.publish.payload for e in history.entries], [b"kept"])
        origins = yield log.origins("publisher", 3)
        self.assertEqual(origins, [77, 78])
        records: list[tuple[str, bytes]] = []
        for kind in ("session", "retained"):
            yield log.load(kind, records.extend)
        self.assertEqual(records, [("first", b"\0session"), ("a", b"x")])
        entry: Entry = message(1, second)
        yield asked(log.publish, [entry])
        self.assertEqual(entry.sequence, 7)

    @inlineCallbacks
    def test_golden_files(self) -> Yields:
        """What any release wrote is read by this one, message by message and session by
        session."""
        self.assertEqual(sorted(GOLDEN), [*range(1, len(MIGRATIONS) + 1)])
        for version in GOLDEN:
            yield self.read(version)

    def test_migrated_is_as_new(self) -> None:
        """A file that was brought to our version has the tables of a new one."""
        folder = os.path.abspath(self.mktemp())
        os.makedirs(folder)
        paths = [os.path.join(self.restored(version), "log.sqlite") for version in GOLDEN]
        schemas = []
        for path in [os.path.join(folder, "log.sqlite"), *paths]:
            database = connect(path)
            found = database.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name")
            schemas.append([(t, n, " ".join((s or "").split())) for t, n, s in found])
            vacuum = database.execute("PRAGMA auto_vacuum").fetchall()
            self.assertEqual(vacuum, [(2,)], path)
            database.close()
        for schema in schemas:
            self.assertEqual(schema, schemas[0])

    def test_cut_off(self) -> None:
        """A few bytes are no empty log."""
        path = self.mktemp()
        Path(path).write_bytes(b"SQLite")
        error = self.assertRaises(StoreCorrupt, connect, path)
        self.assertIn(path, str(error))
