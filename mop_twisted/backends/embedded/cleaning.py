"""What leaves the log, and how its file shrinks.

A message goes when all its cursors are beyond it and no retention keeps it. The common case is a
prefix: everything below the lowest cursor. What one slow cursor pins is swept now and then, by the
floor of each audience, so that the work stays in proportion to what was acknowledged. Deletes are
single statements in the writer's thread, just before a commit; checkpoints have a thread of their
own; pages are given back to the file system when nothing is being written.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final

import apsw

from .schema import rows

if TYPE_CHECKING:
    from .log import EmbeddedLog, Retention

PREFIX: Final = 256
"""Messages below the lowest cursor that are worth a statement."""
SWEPT: Final = 20_000
"""Sequences that one commit's sweep covers."""
SWEEP_AFTER: Final = 10_000
"""Acknowledgements after which pinned rows are looked at, at the least."""
CHECKPOINT_PAGES: Final = 2000
RESTART_PAGES: Final = 40_000
"""Above, the log's file of changes is begun anew although that makes the writer wait."""
VACUUM_PAGES: Final = 500
TRIM_SECONDS: Final = 10.0

_PREFIX: Final = "DELETE FROM message WHERE sequence > ? AND sequence <= ? AND kept = 0"
_SWEEP: Final = (
    "DELETE FROM message WHERE sequence > ? AND sequence <= ? AND kept = 0 AND sequence <= "
    "coalesce((SELECT floor FROM temp.floors WHERE id = audience), ?)"
)

Statements = list[tuple[str, tuple[Any, ...]]]


@final
class Cleaning:
    """Decides what is deleted with each commit."""

    def __init__(
        self, log: EmbeddedLog, retention: list[Retention], wall: Callable[[], float]
    ) -> None:
        self._log = log
        self._retention = retention
        self._wall = wall
        self._deleted = 0
        """No rows at or below, but for those that history keeps."""
        self._acknowledged = 0
        self._sweep: tuple[int, int] | None = None
        """From, to: a sweep under way."""
        self._kept_bytes = [0] * (len(retention) + 1)
        self._trim = False
        self._pages = 0
        self._timer: Any = None
        self._reactor: Any = None
        self._checkpointing = False

    def load(self, database: apsw.Connection) -> None:
        """What history holds, at start."""
        first = rows(database, "SELECT min(sequence) FROM message WHERE kept = 0")
        self._deleted = (first[0][0] or self._log.fed + 1) - 1
        query = "SELECT kept, sum(length(record)) FROM message WHERE kept > 0 GROUP BY kept"
        for rule, size in rows(database, query):
            if rule < len(self._kept_bytes):
                self._kept_bytes[rule] = size

    def start(self, reactor: Any) -> None:
        """Begin to look after time and space."""
        self._reactor = reactor
        self._timer = reactor.callLater(1.0, self._tick)

    def stop(self) -> None:
        """No more of it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # Told

    def acknowledged(self, count: int) -> None:
        """So many messages may have become free."""
        self._acknowledged += count

    def kept(self, rule: int, size: int) -> None:
        """A message of a retention rule is being stored."""
        self._kept_bytes[rule] += size

    def watch(self, database: apsw.Connection) -> None:
        """Notice how long the file of changes grows."""
        database.set_wal_hook(self._grown)
        database.execute("CREATE TEMP TABLE floors (id INTEGER PRIMARY KEY, floor INTEGER)")

    def _grown(self, database: apsw.Connection, name: str, pages: int) -> int:
        self._pages = pages
        return apsw.SQLITE_OK

    # With each commit

    def statements(self, database: apsw.Connection) -> Statements:
        """What to delete now; executed in the writer's thread."""
        found: Statements = []
        if self._trim:
            self._trim = False
            found += self._trimmed(database)
        lowest = min((cursor.low for cursor in self._log.cursors.values()), default=None)
        low = self._log.fed if lowest is None else lowest
        if low - self._deleted >= PREFIX:
            found.append((_PREFIX, (self._deleted, low)))
            self._deleted = low
        elif self._sweep is not None:
            found.append(self._sweep_on())
        elif self._acknowledged >= max(SWEEP_AFTER, (self._log.fed - low) // 2):
            self._begin_sweep(database, low)
        return found

    def _begin_sweep(self, database: apsw.Connection, low: int) -> None:
        self._acknowledged = 0
        lows = {cursor.id: cursor.low for cursor in self._log.cursors.values()}
        end = self._log.fed
        floors = [
            (number, min((lows.get(member, end) for member in members), default=end))
            for number, members in self._log.members.items()
        ]
        database.execute("DELETE FROM temp.floors")
        database.executemany("INSERT INTO temp.floors VALUES (?, ?)", floors)
        self._sweep = (low, end)

    def _sweep_on(self) -> tuple[str, tuple[Any, ...]]:
        assert self._sweep is not None
        start, end = self._sweep
        until = min(start + SWEPT, end)
        self._sweep = (until, end) if until < end else None
        return _SWEEP, (start, until, until)

    def _trimmed(self, database: apsw.Connection) -> Statements:
        """What retention keeps no longer: no more than history, it goes with the next prefix."""
        found: Statements = []
        for number, rule in enumerate(self._retention, 1):
            if rule.age is not None:
                found += self._release(number, "stored < ?", self._wall() - rule.age)
            if rule.bytes is not None and self._kept_bytes[number] > rule.bytes:
                over = self._kept_bytes[number] - rule.bytes
                last = 0
                for sequence, size in database.execute(
                    "SELECT sequence, length(record) FROM message WHERE kept = ? ORDER BY sequence",
                    (number,),
                ):
                    if over <= 0:
                        break
                    over -= size
                    self._kept_bytes[number] -= size
                    last = sequence
                found += self._release(number, "sequence <= ?", last)
        return found

    def _release(self, rule: int, condition: str, bound: float) -> Statements:
        lowest = min((cursor.low for cursor in self._log.cursors.values()), default=self._log.fed)
        return [
            (
                f"DELETE FROM message WHERE kept = ? AND {condition} AND sequence <= ?",
                (rule, bound, lowest),
            ),
            (f"UPDATE message SET kept = 0 WHERE kept = ? AND {condition}", (rule, bound)),
        ]

    # Now and then

    def _tick(self) -> None:
        self._timer = self._reactor.callLater(1.0, self._tick)
        log = self._log
        if self._pages > CHECKPOINT_PAGES and not self._checkpointing:
            self._checkpoint()
        if self._retention and int(self._wall()) % int(TRIM_SECONDS) == 0:
            self._trim = True
        lowest = min((cursor.low for cursor in log.cursors.values()), default=log.fed)
        if log.writer.idle and (
            self._trim or self._sweep is not None or lowest - self._deleted >= 1
        ):
            if lowest > self._deleted:
                self._acknowledged = max(self._acknowledged, 1)
            log.put([], lambda error: None)
        elif log.writer.idle:
            self._give_back()

    def _give_back(self) -> None:
        """Pages that are free go back to the file system, some at a time."""
        reader = self._log.reading.reader
        if reader is None:
            return
        free = rows(reader, "PRAGMA freelist_count")[0][0]
        if free > VACUUM_PAGES:
            self._log.writer.idle_work(f"PRAGMA incremental_vacuum({VACUUM_PAGES * 8})")

    def _checkpoint(self) -> None:
        """Move what was committed into the file itself, in a thread of its own."""
        self._checkpointing = True
        restart = self._pages > RESTART_PAGES
        path = self._log.path
        vfs = self._log.vfs

        def work() -> None:
            mode = apsw.SQLITE_CHECKPOINT_TRUNCATE if restart else apsw.SQLITE_CHECKPOINT_PASSIVE
            try:
                database = apsw.Connection(path, vfs=vfs)
                database.execute("PRAGMA synchronous = FULL")
                database.set_busy_timeout(1000)
                database.wal_checkpoint(mode=mode)
                database.close()
            except apsw.Error:
                # The next one tries again; what is committed is safe where it is.
                pass
            self._reactor.callFromThread(done)

        def done() -> None:
            self._checkpointing = False
            self._pages = 0

        threading.Thread(target=work, name="checkpoint", daemon=True).start()

    def file_bytes(self) -> int:
        """Size of the database file."""
        return os.path.getsize(self._log.path)
