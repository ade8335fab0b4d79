"""A process with an embedded log that does one thing after the other and says what was confirmed.

C{python -m tests.backends.child FOLDER WHAT}: each confirmation is one line on standard output. It
is what dies in the tests of crashes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor

from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.codec.packets import Publish
from mop_twisted.errors import BackendError
from mop_twisted.failpoints import VARIABLE
from mop_twisted.limits import Limits
from mop_twisted.model import Audience, Change, Entry, Origin

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(folder: str, what: str, failpoint: str = "") -> tuple[int, list[str]]:
    """Run one to its end; exit status and what it said."""
    environment = {**os.environ, "PYTHONPATH": CHECKOUT, VARIABLE: failpoint}
    child = subprocess.run(
        [sys.executable, "-m", "tests.backends.child", folder, what],
        cwd=CHECKOUT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert not child.stderr, child.stderr
    return child.returncode, child.stdout.split()


def say(word: str) -> Callable[[BackendError | None], None]:
    """A C{completed} that says a word, when all went well."""

    def completed(error: BackendError | None) -> None:
        print(word if error is None else f"{word}-failed", flush=True)

    return completed


class Child:
    """What it does."""

    def __init__(self, folder: str) -> None:
        self.log = EmbeddedLog(folder, reactor, Limits())
        self.fed = 0

    def start(self, what: str) -> None:
        """Open, and do it."""
        opened = self.log.start(self.feed, lambda: None)
        opened.addCallback(lambda _: self.log.cursor("session"))
        opened.addCallback(getattr(self, what))
        opened.addErrback(self.failed)

    def failed(self, failure: Any) -> None:
        """It could not."""
        print(f"failed:{failure.value}".replace(" ", "_"), flush=True)
        reactor.stop()  # type: ignore[attr-defined]

    def feed(self, entries: Any) -> None:
        """Fed."""
        for entry in entries:
            print("fed", entry.sequence, flush=True)

    def end(self) -> None:
        """In good order."""
        self.log.stop().addCallback(lambda _: reactor.stop())  # type: ignore[attr-defined]

    def both(self, cursor: Any) -> None:
        """A retained message: the record first, the message behind it with its origin."""
        entry = Entry(Publish("t", b"1", 2), Audience((cursor,)), Origin("publisher", 1, 7))
        put, published = say("put"), say("published")

        def stored(error: BackendError | None) -> None:
            put(error)
            self.log.publish([entry], ended)

        def ended(error: BackendError | None) -> None:
            published(error)
            self.end()

        self.log.put([Change("retained", "t", b"1"), Change("retained", "u", b"1")], stored)

    def emptied(self, cursor: Any) -> None:
        """Messages, all acknowledged and deleted from the file; then it dies."""

        def fetched(batch: Any) -> None:
            cursor.acknowledge(batch.entries)
            cursor.save(deleted)

        def deleted(error: BackendError | None) -> None:
            say("saved")(error)
            reactor.callLater(0, clean)  # type: ignore[attr-defined]

        def clean() -> None:
            self.log.cleaning.look()
            self.log.put([], lambda e: self.log.put([], count))

        def count(error: BackendError | None) -> None:
            reader = self.log.reading.reader
            assert reader is not None
            print("left", reader.execute("SELECT count(*) FROM message").fetchall()[0][0])
            sys.stdout.flush()
            os.kill(os.getpid(), 9)

        entries = [Entry(Publish("t", b"%d" % n, 1), Audience((cursor,))) for n in range(10)]
        self.log.publish(entries, lambda e: cursor.fetch(100, 1 << 20).addCallback(fetched))

    def one(self, cursor: Any) -> None:
        """One more message, that is fetched and kept."""

        def ended(error: BackendError | None) -> None:
            say("published")(error)
            cursor.fetch(100, 1 << 20).addCallback(fetched)

        def fetched(batch: Any) -> None:
            print("fetched", *(entry.sequence for entry in batch.entries), flush=True)
            self.end()

        self.log.publish([Entry(Publish("t", b"x", 1), Audience((cursor,)))], ended)

    def stay(self, cursor: Any) -> None:
        """Open, say so, and end when standard input does."""
        print("open", flush=True)
        reactor.callInThread(self.wait)  # type: ignore[attr-defined]

    def wait(self) -> None:
        """In a thread."""
        sys.stdin.read()
        reactor.callFromThread(self.end)  # type: ignore[attr-defined]


def main() -> None:
    """Run."""
    sys.setswitchinterval(0.0005)
    folder, what = sys.argv[1:]
    child = Child(folder)
    reactor.callWhenRunning(child.start, what)  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
