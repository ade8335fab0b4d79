"""Writes a small log in which everything occurs, as SQL text.

C{python -m tests.backends.golden > tests/backends/golden_version_N.sql} was run once for each
version of the schema, with the code of then. What it wrote stays: every later release has to read
it.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
from collections.abc import Generator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.task import react

from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.backends.embedded.retention import Retention
from mop_twisted.codec.packets import Publish
from mop_twisted.errors import BackendError
from mop_twisted.limits import Limits
from mop_twisted.model import Audience, Change, Entry, Origin

WALL = 1_800_000_000.0
MONOTONIC = 1000.0


def log_on(folder: str) -> EmbeddedLog:
    """A log whose clocks stand still."""
    retention = [Retention("kept/#")]
    return EmbeddedLog(
        folder, reactor, Limits(), retention, wall=lambda: WALL, monotonic=lambda: MONOTONIC
    )


def asked(function: Any, *arguments: Any) -> Deferred[None]:
    """Call what wants a C{completed}."""
    done: Deferred[None] = Deferred()

    def completed(error: BackendError | None) -> None:
        done.callback(None) if error is None else done.errback(error)

    function(*arguments, completed)
    return done


@inlineCallbacks
def write(folder: str) -> Generator[Deferred[Any], Any, None]:
    """Everything once."""
    log = log_on(folder)
    yield log.start(lambda entries: None, lambda: None)
    first = yield log.cursor("first")
    second = yield log.cursor("second/ü")
    alone, both = Audience((first,)), Audience((first, second))
    rich = Publish(
        "a/ü", b"\0rich", 2, True, 0,
        {1: 1, 2: 60, 3: "text", 8: "reply", 9: b"\1\2", 38: [("k", "v"), ("k", "w")]},
    )  # fmt: skip
    rich.publisher = "somebody"
    rich.expires_at = MONOTONIC + 60.0
    yield asked(
        log.publish,
        [
            Entry(rich, both, Origin("publisher", 3, 77)),
            Entry(Publish("a", b"released", 2), alone),
            Entry(Publish("a", b"done", 1), alone),
            Entry(Publish("a", b"sent", 1), alone, retained_copy=True),
            Entry(Publish("a", b"waiting", 1), both),
            Entry(Publish("kept/x", b"kept", 0), None, kept=True),
            Entry(None, None, Origin("publisher", 3, 78)),
        ],
    )
    batch = yield first.fetch(4, 1 << 20)
    yield asked(first.release, batch.entries[1:2])
    first.acknowledge(batch.entries[2:3])
    yield asked(log.put, [Change("session", "first", b"\0session"), Change("retained", "a", b"x")])
    yield log.stop()


def dump(folder: str) -> list[str]:
    """The file as SQL."""
    database = sqlite3.connect(os.path.join(folder, "log.sqlite"))
    version = database.execute("PRAGMA user_version").fetchone()[0]
    vacuum = database.execute("PRAGMA auto_vacuum").fetchone()[0]
    lines = [f"PRAGMA auto_vacuum = {vacuum};", *database.iterdump()]
    database.close()
    return [*lines, f"PRAGMA user_version = {version};"]


def main(_: Any) -> Deferred[None]:
    """Write and print."""
    folder = tempfile.mkdtemp()
    return write(folder).addCallback(lambda _: sys.stdout.write("\n".join(dump(folder)) + "\n"))


if __name__ == "__main__":
    react(main)
