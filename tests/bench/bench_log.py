"""How much of SQLite's own speed the embedded log leaves.

C{python -m tests.bench.bench_log [ENTRIES]}: messages of 100 bytes go through publish, commit,
feed, take and acknowledge, at most 4,000 under way, in runs of 100 as from a busy connection.
The yardstick, in the same run, is a bare loop over apsw that writes the same rows in groups of the
same size, each in a transaction, and deletes them again. The bars are a share of 0.4 and 40,000
entries a second.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor

from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.backends.embedded.schema import connect
from mop_twisted.codec.packets import Publish
from mop_twisted.errors import BackendError
from mop_twisted.limits import Limits
from mop_twisted.model import Audience, Entry

PAYLOAD = b"x" * 100
WINDOW = 4000
RUN = 100


class Through:
    """All the way through one log, by one cursor."""

    def __init__(self, folder: str, entries: int) -> None:
        self.log = EmbeddedLog(folder, reactor, Limits())
        self.left = entries
        self.under_way = 0
        self.groups: list[int] = []
        self.seconds = 0.0

    def start(self) -> None:
        """Open, and begin."""
        self.log.writer.committed = lambda jobs, seconds: self.groups.append(jobs * RUN)
        opened = self.log.start(self.feed, lambda: None)
        opened.addCallback(lambda _: self.log.cursor("bench"))
        opened.addCallback(self.follow)

    def follow(self, cursor: Any) -> None:
        """Follow the feed."""
        self.cursor = cursor
        self.audience = Audience((cursor,))
        cursor.fetch(1, 1).addCallback(lambda _: self.begin())

    def begin(self) -> None:
        """The clock runs."""
        self.groups.clear()
        self.began = time.perf_counter()
        self.fill()

    def fill(self) -> None:
        """As much as the window allows."""
        while self.left and self.under_way + RUN <= WINDOW:
            entries = [Entry(Publish("bench/topic", PAYLOAD, 1), self.audience) for _ in range(RUN)]
            self.left -= RUN
            self.under_way += RUN
            self.log.publish(entries, self.completed)

    def feed(self, entries: Sequence[Entry]) -> None:
        """Take and acknowledge."""
        take = self.cursor.take
        for entry in entries:
            assert take(entry)
        self.cursor.acknowledge(list(entries))

    def completed(self, error: BackendError | None) -> None:
        """One run is through."""
        assert error is None, error
        self.under_way -= RUN
        if self.left:
            self.fill()
        elif not self.under_way:
            self.seconds = time.perf_counter() - self.began
            self.log.stop().addCallback(lambda _: reactor.stop())  # type: ignore[attr-defined]


def bare(folder: str, entries: int, group: int) -> float:
    """The yardstick: seconds for the same rows in groups of the same size."""
    database = connect(f"{folder}/bare.sqlite")
    began = time.perf_counter()
    for first in range(1, entries + 1, group):
        database.execute("BEGIN IMMEDIATE")
        database.executemany(
            "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (n, 1, "bench/topic", b"12345678" + PAYLOAD, 12345678, 0, 1.5)
                for n in range(first, min(first + group, entries + 1))
            ],
        )
        database.execute("DELETE FROM message WHERE sequence <= ?", (first - group,))
        database.execute("COMMIT")
    seconds = time.perf_counter() - began
    database.close()
    return seconds


def main() -> None:
    """Measure and print."""
    entries = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    sys.setswitchinterval(0.0005)
    with tempfile.TemporaryDirectory() as folder:
        through = Through(f"{folder}/log", entries)
        reactor.callWhenRunning(through.start)  # type: ignore[attr-defined]
        reactor.run()  # type: ignore[attr-defined]
        group = sum(through.groups) // len(through.groups)
        yardstick = bare(folder, entries, group)
    log, sqlite = entries / through.seconds, entries / yardstick
    print(f"{entries} entries, {group} in a group")
    print(f"log    {log:10.0f} entries/s")
    print(f"sqlite {sqlite:10.0f} rows/s")
    print(f"share  {log / sqlite:10.2f}")


if __name__ == "__main__":
    main()
