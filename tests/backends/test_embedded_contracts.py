"""The embedded log keeps the contracts: a real file, a real reactor."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.trial.unittest import TestCase

from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.backends.embedded.retention import Retention
from mop_twisted.limits import Limits
from tests.contracts.history import HistoryContract
from tests.contracts.interleaving import InterleavingContract
from tests.contracts.log import LogContract
from tests.contracts.state import StateContract


class Place:
    """A folder, and a clock on the wall that a test moves."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        self._now = 1_800_000_000.0

    def now(self) -> float:
        """The clock on the wall."""
        return self._now

    def pass_time(self, seconds: float) -> Deferred[None]:
        """Let it go on."""
        self._now += seconds
        return succeed(None)

    def make_log(self, history: str | None = None) -> EmbeddedLog:
        """A log on the folder."""
        retention = [Retention(history)] if history is not None else []
        return EmbeddedLog(self.folder, reactor, Limits(), retention, wall=self.now)


class EmbeddedLogTests(Place, LogContract, InterleavingContract, HistoryContract, TestCase):
    """L{EmbeddedLog} as a message log."""

    timeout = 60


class EmbeddedStateTests(Place, StateContract, TestCase):
    """L{EmbeddedLog} as a state store."""

    timeout = 60

    @inlineCallbacks
    def opened_store(self) -> Generator[Deferred[Any], Any, EmbeddedLog]:
        """A log, started."""
        log = self.make_log()
        yield log.start(lambda entries: None, lambda: None)
        self.addCleanup(log.stop)
        return log

    def closed_store(self, store: EmbeddedLog) -> Deferred[None]:
        """Stop it."""
        return store.stop()
