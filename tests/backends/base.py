"""What the tests of trouble have in common: a disk of their own."""

from __future__ import annotations

import os
from collections.abc import Generator
from random import Random
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase

from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.codec.packets import Publish
from mop_twisted.limits import Limits
from mop_twisted.model import Audience, Entry
from tests.contracts.log import told

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
