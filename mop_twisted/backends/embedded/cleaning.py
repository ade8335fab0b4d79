"""What leaves the log, and how its file shrinks.

A message goes when all its cursors are beyond it and no retention keeps it. The common case is a
prefix: everything below the lowest cursor. What one slow cursor pins is swept now and then, by the
floor of each audience, so that the work stays in proportion to what was acknowledged. Deletes are
single statements in the writer's thread, just before a commit; checkpoints have a thread of their
own; pages are given back to the file system when nothing is being written.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final

import apsw

from ...errors import BackendError
from .schema import rows

if TYPE_CHECKING:
    from .log import EmbeddedLog

PREFIX: Final = 256
"""Messages below the lowest cursor that are worth a statement."""
SWEPT: Final = 20_000
"""Sequences that one commit deletes or sweeps at most."""
SWEEP_AFTER: Final = 10_000
"""Acknowledgements after which pinned rows are looked at, at the least."""
CHECKPOINT_PAGES: Final = 2000
RESTART_PAGES: Final = 40_000
"""Above, the log's file of changes is begun anew although commits wait for that."""
VACUUM_PAGES: Final = 500
"""Free pages that are worth giving back."""
VACUUM_SECONDS: Final = 0.2
"""How long that may go on at once; it also ends when somebody wants to write."""
TRIM_SECONDS: Final = 10.0
TRIMMED: Final = 2000
"""Messages of one rule that one commit takes from history at most."""

_PREFIX: Final = "DELETE FROM message WHERE sequence > ? AND sequence <= ? AND kept = 0"
_SWEEP: Final = (
    "DELETE FROM message WHERE sequence > ? AND sequence <= ? AND kept = 0 AND sequence <= "
    # Sets that are not there have no cursor that wants more. But without the last floor the table
    # was never filled: then nothing is known, and nothing goes.
    "coalesce((SELECT floor FROM temp.floors WHERE id = audience), "
    "(SELECT floor FROM temp.floors WHERE id = -1), 0)"
)

_KEPT: Final = (
    "SELECT stored, sequence, length(record) FROM message "
    # The second condition is what the index is for.
    "WHERE kept = ? AND kept > 0 ORDER BY stored, sequence LIMIT ?"
)
_OLD: Final = "WHERE kept = ? AND kept > 0 AND stored <= ? AND (stored < ? OR +sequence <= ?)"
_DELETE_KEPT: Final = f"DELETE FROM message {_OLD} AND +sequence <= ?"
_RELEASE_KEPT: Final = f"UPDATE message SET kept = 0 {_OLD}"

Statements = list[tuple[str, tuple[Any, ...]]]


@final
class Cleaning:
    """Decides what is deleted with each commit."""

    def __init__(self, log: EmbeddedLog, wall: Callable[[], float]) -> None:
        self._log = log
        self._wall = wall
        self._deleted = 0
        """No rows at or below, but for those that history keeps."""
        self._low = 0
        """All cursors have done with what is at or below, as of the last look."""
        self._look_at = 0
        """Where the log has grown enough for another look at all cursors."""
        self._acknowledged = 0
        self._sweep: tuple[int, int] | None = None
        """From, to: a sweep under way."""
        self._settled: tuple[int, dict[int, int]] = (0, {})
        """What was true of the last transaction that was committed."""
        self._trim = False
        self._trim_at = 0.0
        self._vacuumed = False
        self._pages = 0
        self._grew = False
        """There was a commit since the last look."""
        self._changes = False
        """The file of changes is not empty."""
        self._timer: Any = None
        self._reactor: Any = None
        self.checkpointing = False
        """Whether a thread moves what was committed into the file itself."""

    def load(self, database: apsw.Connection) -> None:
        """Where the log begins, at start; the rules know what they keep."""
        first = rows(database, "SELECT min(sequence) FROM message WHERE kept = 0")
        self._deleted = self._low = (first[0][0] or self._log.fed + 1) - 1
        self.settle(True)

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

    def settle(self, committed: bool) -> None:
        """The transaction under way has ended; its deletes were made, or were not."""
        if committed:
            self._settled = (self._deleted, dict(self._log.rules.kept_bytes))
            return
        self._deleted, kept = self._settled
        self._log.rules.kept_bytes = dict(kept)
        self._trim_at = 0.0
        if self._sweep is not None:
            # Its floors went with the connection.
            self._sweep = None
            self._acknowledged += max(SWEEP_AFTER, self._log.fed)

    def watch(self, database: apsw.Connection) -> None:
        """Notice how long the file of changes grows."""
        database.set_wal_hook(self._grown)
        database.execute("CREATE TEMP TABLE floors (id INTEGER PRIMARY KEY, floor INTEGER)")

    def _grown(self, database: apsw.Connection, name: str, pages: int) -> int:
        self._pages = pages
        self._grew = self._changes = True
        return apsw.SQLITE_OK

    # With each commit

    def statements(self, database: apsw.Connection) -> Statements:
        """What to delete now; executed in the writer's thread."""
        found: Statements = []
        if self._trim:
            self._trim = False
            found += self._trimmed(database)
        fed = self._log.fed
        if fed >= self._look_at:
            # Not with every commit: there may be a hundred thousand cursors.
            self._look_at = fed + max(PREFIX, len(self._log.cursors))
            self._low = self.lowest()
        if self._low > self._deleted:
            until = min(self._low, self._deleted + SWEPT)
            found.append((_PREFIX, (self._deleted, until)))
            self._deleted = until
        elif self._sweep is not None:
            found.append(self._sweep_on())
        elif self._sweep_due:
            self._begin_sweep(database)
        return found

    def lowest(self) -> int:
        """All cursors have done with what is at or below."""
        fed = self._log.fed
        return min((cursor.low for cursor in self._log.cursors.values()), default=fed)

    def _begin_sweep(self, database: apsw.Connection) -> None:
        self._acknowledged = 0
        end = self._log.fed
        floors = [*self._log.audiences.floors(end), (-1, end)]
        database.execute("DELETE FROM temp.floors")
        database.executemany("INSERT INTO temp.floors VALUES (?, ?)", floors)
        self._sweep = (self._deleted, end)

    def _sweep_on(self) -> tuple[str, tuple[Any, ...]]:
        assert self._sweep is not None
        start, end = self._sweep
        until = min(start + SWEPT, end)
        self._sweep = (until, end) if until < end else None
        return _SWEEP, (start, until)

    def _trimmed(self, database: apsw.Connection) -> Statements:
        """What retention keeps no longer, a portion of each rule: no more than history, it goes
        with the next prefix."""
        found: Statements = []
        lowest = self.lowest()
        rules = self._log.rules
        for number, rule in rules.bounded.items():
            oldest = -math.inf if rule.age is None else self._wall() - rule.age
            over = 0 if rule.bytes is None else rules.kept_bytes.get(number, 0) - rule.bytes
            last: tuple[float, int] | None = None
            size = count = 0
            for count, (stored, sequence, length) in enumerate(  # noqa: B007
                database.execute(_KEPT, (number, TRIMMED)), 1
            ):
                if stored >= oldest and size >= over:
                    break
                last = (stored, sequence)
                size += length
            else:
                # There may be more; the next commit sees to that.
                self._trim = self._trim or count == TRIMMED
            if last is not None:
                rules.count(number, -size)
                bounds = (number, last[0], *last)
                found.append((_DELETE_KEPT, (*bounds, lowest)))
                found.append((_RELEASE_KEPT, bounds))
        return found

    # Now and then

    def _tick(self) -> None:
        self._timer = self._reactor.callLater(1.0, self._tick)
        self.look()

    def look(self) -> None:
        """What is done once a second: all that can wait, and what nobody else asks for."""
        log = self._log
        log.writer.probe()
        gone = log.audiences.prune(log.fed)
        if gone:
            log.drop_audiences(gone)
        if self._log.rules.bounded and self._wall() >= self._trim_at:
            self._trim = True
            self._trim_at = self._wall() + TRIM_SECONDS
        idle = log.writer.idle
        quiet = idle and not self._grew
        self._grew = False
        if not self.checkpointing and (
            self._pages > CHECKPOINT_PAGES or (quiet and self._changes) or (idle and self._vacuumed)
        ):
            self.checkpoint()
        if not idle:
            return
        self._low = max(self._low, self.lowest())
        if self._acknowledged >= PREFIX:
            # Nothing else happens: there is time for what one slow cursor pins.
            self._acknowledged = max(self._acknowledged, SWEEP_AFTER, log.fed)
        if self.behind:
            self._go_on(None)
        else:
            self._give_back()

    @property
    def behind(self) -> bool:
        """Whether there is something that the next commit would delete."""
        return self._trim or self._low > self._deleted or self._sweep is not None or self._sweep_due

    @property
    def _sweep_due(self) -> bool:
        """In proportion to what it looks at."""
        return self._acknowledged >= max(SWEEP_AFTER, (self._log.fed - self._low) // 2)

    def _go_on(self, error: BackendError | None) -> None:
        """Commit for the sake of what is deleted with it, a portion at a time."""
        if error is None and self.behind:
            self._log.put([], self._go_on)

    def _give_back(self) -> None:
        """Pages that are free go back to the file system, some at a time."""
        reader = self._log.reading.reader
        if reader is None:
            return
        free = rows(reader, "PRAGMA freelist_count")[0][0]
        if free > VACUUM_PAGES:
            self._vacuumed = True
            self._log.writer.idle_work(_vacuum)

    def checkpoint(self) -> None:
        """Move what was committed into the file itself, in a thread of its own. When nothing else
        happens, or the file of changes is too long, it is begun anew after that: by the writer's
        thread, so that the reactor's need not wait for its lock."""
        self.checkpointing = True
        self._vacuumed = False
        path = self._log.path
        vfs = self._log.vfs

        def work() -> None:
            try:
                database = apsw.Connection(path, vfs=vfs)
                database.execute("PRAGMA synchronous = FULL")
                database.set_busy_timeout(1000)
                database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                database.close()
            except apsw.Error:
                # The next one tries again; what is committed is safe where it is.
                pass
            self._reactor.callFromThread(done)

        def done() -> None:
            self.checkpointing = False
            restart, self._pages = self._pages > RESTART_PAGES, 0
            self._log.writer.idle_work(self._truncate, restart)

        threading.Thread(target=work, name="checkpoint", daemon=True).start()

    def _truncate(self, database: apsw.Connection, wanted: Callable[[], bool]) -> None:
        """In the writer's thread, when the most was moved already."""
        try:
            database.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            self._changes = False
        except apsw.Error:
            # As above.
            pass

    def file_bytes(self) -> int:
        """Size of the database file."""
        return os.path.getsize(self._log.path)


def _vacuum(database: apsw.Connection, wanted: Callable[[], bool]) -> None:
    """In the writer's thread; each step gives one page back."""
    until = time.monotonic() + VACUUM_SECONDS
    for _ in database.execute("PRAGMA incremental_vacuum"):
        if wanted() or time.monotonic() > until:
            break
