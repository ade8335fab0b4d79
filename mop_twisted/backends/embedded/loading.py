"""What the file says at a start, and what a crash left open in it.

After a clean stop the rows of the cursors are right. After any other end two things in them may be
behind: how much a cursor owes, which is counted again, and what it has sent.
"""

from __future__ import annotations

from typing import Any, Final

import apsw

from .cursor import Cursor
from .rows import OVERHEAD
from .schema import rows

CLEAN: Final = "clean"
"""The sequence at which the log was closed in order."""
HIGH: Final = "high"
"""The last sequence that was given: it rises although the log may be emptied."""

_SIZE: Final = f"length(topic) + length(record) + {OVERHEAD}"
_BETWEEN: Final = (
    f"SELECT audience, count(*), sum({_SIZE}) FROM message "
    "WHERE sequence > ? AND sequence <= ? GROUP BY audience"
)
_THESE: Final = (
    f"SELECT count(*), sum({_SIZE}) FROM message WHERE sequence IN (SELECT value FROM json_each(?))"
)


def load_high(database: apsw.Connection) -> tuple[int, bool]:
    """The last sequence that was given, and whether the log was closed in order then."""
    meta: dict[str, int] = dict(rows(database, "SELECT name, value FROM meta"))
    last = rows(database, "SELECT max(sequence) FROM message")[0][0] or 0
    high = max(meta.get(HIGH, 0), last)
    return high, meta.get(CLEAN) == high or not high


def recount(database: apsw.Connection, cursors: list[Cursor], high: int) -> None:
    """Count what each cursor owes, in one pass over the log from its end."""
    totals: dict[int, tuple[int, int]] = {}
    behind = high
    for cursor in sorted(cursors, key=lambda c: c.position, reverse=True):
        position = cursor.position
        if position < behind:
            for audience, count, size in rows(database, _BETWEEN, (position, behind)):
                messages, total = totals.get(audience, (0, 0))
                totals[audience] = (messages + count, total + size)
            behind = position
        owed: list[Any] = [totals[a] for a in cursor.audiences or () if a in totals]
        if cursor.outstanding:
            text = "[" + ",".join(map(str, cursor.outstanding)) + "]"
            count, size = rows(database, _THESE, (text,))[0]
            owed.append((count, size or 0))
        cursor.backlog_messages = sum(count for count, _ in owed)
        cursor.backlog_bytes = sum(size for _, size in owed)
