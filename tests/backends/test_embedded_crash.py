"""The embedded log in a process that is killed, and what the next one finds."""

from __future__ import annotations

import os

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.limits import Limits
from mop_twisted.model import Entry, Origin
from tests.contracts.follower import message, number_of
from tests.contracts.log import Yields, told

from .child import run

POINTS = ("before-commit", "after-commit", "before-feed", "after-feed")
MOST = 20
"""Times that one exchange may come to one point: more is a loop."""


class KilledTests(TestCase):
    """A retained message on its way into two seams of one file."""

    timeout = 120

    @inlineCallbacks
    def check(self, folder: str, said: list[str], where: str) -> Yields:
        """What was confirmed is there; what was not, wholly or not at all; and the client, which
        sends again what was not confirmed to it, causes no second one."""
        fed: list[Entry] = []
        log = EmbeddedLog(folder, reactor, Limits())
        yield log.start(fed.extend, lambda: None)
        records: list[tuple[str, bytes]] = []
        yield log.load("retained", records.extend)
        self.assertIn(records, ([], [("t", b"1"), ("u", b"1")]), where)
        if "put" in said:
            self.assertTrue(records, where)
        origins = yield log.origins("publisher", 1)
        if "published" in said:
            self.assertEqual(origins, [7], where)
        if origins:
            self.assertTrue(records, f"{where}: the message is there without what came before it")
        cursor = yield log.cursor("session")
        done, completed = told()
        log.publish([message(1, cursor, origin=Origin("publisher", 1, 7))], completed)
        yield done
        found: list[int] = []
        live = False
        while not live:
            batch = yield cursor.fetch(10, 1000)
            found += map(number_of, batch.entries)
            live = batch.live
        self.assertEqual(found, [1], where)
        self.assertEqual(len(fed), 0 if origins else 1, where)
        yield log.stop()

    @inlineCallbacks
    def test_killed_at_each_step(self) -> Yields:
        """Killed before or after any commit, before or after any delivery: nothing that was
        acknowledged is lost, and nothing is stored twice. [MQTT5-4.3.2-4] [MQTT5-4.3.3-10]"""
        for point in POINTS:
            for count in range(1, MOST):
                folder = os.path.abspath(self.mktemp())
                status, said = run(folder, "both", f"{point}:{count}")
                yield self.check(folder, said, f"{point}:{count} {said}")
                if status == 0:
                    break
                self.assertEqual(status, -9)
            self.assertEqual(status, 0, f"{point} was reached {MOST} times")
            self.assertGreater(count, 1, f"{point} was never reached")


class EmptiedTests(SynchronousTestCase):
    """A log that was emptied is not a new one."""

    def test_sequences_go_on_rising(self) -> None:
        """After all messages were acknowledged and deleted and the process was killed, places
        in the log go on rising, and no session skips a message."""
        folder = os.path.abspath(self.mktemp())
        status, said = run(folder, "emptied")
        self.assertEqual(status, -9)
        self.assertEqual(said[-3:], ["saved", "left", "0"])
        last = int(said[said.index("saved") - 1])
        status, said = run(folder, "one")
        self.assertEqual(status, 0, said)
        self.assertEqual(said[:2], ["fed", str(int(said[1]))])
        self.assertGreater(int(said[1]), last)
        self.assertEqual(said[2:], ["published", "fetched", said[1]])
