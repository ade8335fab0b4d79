"""The sets of cursors that messages are for, each stored once under a number.

A set lives as long as a message that one of its cursors has not done with. What a transaction
added is taken back when the transaction is: a number that no row explains would take its messages
from everybody at the next start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, final

import apsw

from ...model import Audience
from .rows import decode_members, encode_members
from .schema import rows

if TYPE_CHECKING:
    from .cursor import Cursor

AUDIENCE: Final = "audience"
"""The name of the last number that was given: a set may be forgotten while rows of its messages
are still there, and whoever got its number next would get them, too."""
PRUNED_AT: Final = 64
"""Sets that are worth a look at which of them are still needed."""


@final
class Audiences:
    """Number ↔ set; C{by_id} are the log's cursors."""

    def __init__(self, by_id: Mapping[int, Cursor]) -> None:
        self._by_id = by_id
        self.members: dict[int, tuple[int, ...]] = {}
        """Number → ids of its cursors, those deleted since among them."""
        self._numbers: dict[tuple[int, ...], int] = {}
        self._next = 1
        self._last: dict[int, int] = {}
        """The last message of each."""
        self._fresh: list[int] = []
        """Those of the transaction under way."""
        self._prune_at = PRUNED_AT

    def load(self, database: apsw.Connection, high: int) -> None:
        """All that are stored; any message up to C{high} may be the last of each."""
        for number, members in rows(database, "SELECT id, members FROM audience"):
            self._intern(number, decode_members(number, members), high)
        meta = rows(database, "SELECT value FROM meta WHERE name = ?", (AUDIENCE,))
        self._next = max(meta[0][0] if meta else 0, max(self.members, default=0)) + 1

    def _intern(self, number: int, members: tuple[int, ...], last: int) -> None:
        self.members[number] = members
        self._numbers[members] = number
        self._last[number] = last
        for member in members:
            cursor = self._by_id.get(member)
            if cursor is not None:
                if cursor.audiences is None:
                    cursor.audiences = set()
                cursor.audiences.add(number)

    def _drop(self, number: int) -> None:
        members = self.members.pop(number)
        del self._numbers[members]
        del self._last[number]
        for member in members:
            cursor = self._by_id.get(member)
            if cursor is not None and cursor.audiences is not None:
                cursor.audiences.discard(number)

    @property
    def highest_cursor(self) -> int:
        """The highest id that is in a set; its cursor may be gone, but not what it was for."""
        return max((members[-1] for members in self.members.values() if members), default=0)

    def number(self, database: apsw.Connection, audience: Audience | None, sequence: int) -> int:
        """The number for a message of C{sequence}; 0: for no cursor."""
        if audience is None:
            return 0
        number: int | None = audience.key
        if number not in self.members:
            members = tuple(sorted({cursor.id for cursor in audience.cursors}))
            number = self._numbers.get(members)
            if number is None:
                number = self._next
                self._next += 1
                database.execute(
                    "INSERT INTO audience VALUES (?, ?)", (number, encode_members(number, members))
                )
                database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (AUDIENCE, number))
                self._intern(number, members, sequence)
                self._fresh.append(number)
            audience.key = number
        self._last[number] = sequence
        return number

    def settle(self, committed: bool) -> None:
        """The transaction under way has ended."""
        if not committed:
            for number in self._fresh:
                self._drop(number)
        self._fresh.clear()

    def floors(self, end: int) -> list[tuple[int, int]]:
        """For each set what all its cursors have done with."""
        lows = {id: cursor.low for id, cursor in self._by_id.items()}
        return [
            (number, min((lows.get(member, end) for member in members), default=end))
            for number, members in self.members.items()
        ]

    def prune(self, end: int) -> list[int]:
        """Now and then: forget the sets that no message needs, and return their numbers."""
        if len(self.members) < self._prune_at:
            return []
        gone = [number for number, floor in self.floors(end) if self._last[number] <= floor]
        for number in gone:
            self._drop(number)
        self._prune_at = max(PRUNED_AT, 2 * len(self.members))
        return gone
