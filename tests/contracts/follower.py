"""A session in little, and what it may expect of its cursor.

L{Follower} does with a cursor what the broker does, and complains at once when a message is lost,
comes twice after it was acknowledged, or comes out of order.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from mop_twisted.codec.packets import Publish
from mop_twisted.model import Audience, Entry, Fetched


def message(
    number: int, *cursors: Any, topic: str = "t", audience: Audience | None = None, **fields: Any
) -> Entry:
    """An entry whose payload is a number, for these cursors."""
    if audience is None and cursors:
        audience = Audience(cursors)
    return Entry(Publish(topic, b"%d" % number, 1), audience, **fields)


def number_of(entry: Entry) -> int:
    """What L{message} put into it."""
    assert entry.publish is not None
    return int(entry.publish.payload)


class Follower:
    """Fetches, changes over to the feed, acknowledges."""

    def __init__(self, cursor: Any, crashes: bool = False) -> None:
        self.cursor = cursor
        self.crashes = crashes
        """Whether acknowledgements and flags may have been lost."""
        self.live = False
        self.fetching = False
        self.held: list[Entry] = []
        """Given and not acknowledged, in order."""
        self.given: dict[int, int] = {}
        """Number → ordinal of what may have been sent."""
        self.done: set[int] = set()
        self.again: list[int] = []
        """What must come before anything else."""
        self.wanted: list[int] = []
        """All that was published for it."""

    def feed(self, entries: Sequence[Entry]) -> None:
        """The log's feed."""
        for entry in entries:
            audience = entry.audience
            if audience is None or self.cursor not in audience.cursors or not self.live:
                continue
            ordinal = self.cursor.take(entry)
            if ordinal:
                self._got(entry)
            else:
                self.live = False

    def fetch(self, limit: int = 100, limit_bytes: int = 1 << 20) -> Any:
        """Fetch once."""
        assert not self.live and not self.fetching
        self.fetching = True
        cursor = self.cursor

        def fetched(batch: Fetched) -> None:
            if cursor is not self.cursor:
                return
            self.fetching = False
            assert len(batch.entries) <= limit, (len(batch.entries), limit)
            for entry in batch.entries:
                self._got(entry)
            self.live = batch.live
            if batch.live:
                assert not self.again, f"live, but {self.again} were owed"

        return cursor.fetch(limit, limit_bytes).addCallback(fetched)

    def _got(self, entry: Entry) -> None:
        number = number_of(entry)
        assert self.crashes or number not in self.done, f"{number} was acknowledged"
        if self.again:
            assert number == self.again.pop(0), f"{number} comes before what is owed"
            assert entry.redelivered or entry.released, number
        elif not self.crashes:
            assert not entry.redelivered, f"{number} was never sent"
            last = max(self.given, default=-1)
            assert number > last, f"{number} after {last}"
            missing = [n for n in self.wanted if last < n < number]
            assert not missing, f"{missing} were left out before {number}"
        if number in self.given:
            assert self.given[number] == entry.ordinal, f"{number} has another ordinal"
        self.given[number] = entry.ordinal
        self.held.append(entry)

    def acknowledge(self, entries: list[Entry]) -> None:
        """These are done."""
        self.done.update(map(number_of, entries))
        gone = set(map(id, entries))
        self.held = [entry for entry in self.held if id(entry) not in gone]
        self.cursor.acknowledge(entries)

    def pause(self, random: Random) -> None:
        """Follow no more; what lies behind some entry that was not sent is given back."""
        last = max(self.done, default=-1)
        unsent = [e for e in self.held if number_of(e) > last and not e.redelivered]
        before = random.choice(unsent) if unsent and random.random() < 0.7 else None
        self.cursor.pause(before)
        self.live = False
        if before is not None:
            for entry in [e for e in self.held if number_of(e) >= number_of(before)]:
                del self.given[number_of(entry)]
                self.held.remove(entry)

    def rewind(self) -> None:
        """The session's connection was lost."""
        self.cursor.rewind()
        self.forget_flights()

    def forget_flights(self) -> None:
        """All that is held will come again."""
        self.live = False
        self.again = sorted({*self.again, *map(number_of, self.held)})
        self.held = []

    def check(self) -> None:
        """It has caught up: nothing is missing."""
        assert self.live
        assert sorted(self.given) == self.wanted, (sorted(self.given), self.wanted)
