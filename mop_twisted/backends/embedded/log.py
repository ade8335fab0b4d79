"""The embedded log: SQLite as IMessageLog and IStateStore.

One row a message, with the interned set of cursors that it is for; one small record a cursor. What
nobody keeps passes through without a row. The rooms beside this one: C{writer} makes groups and
commits them, C{cursor} is a place in the log, C{audiences} are sets of those, C{rows} the form of
what is stored, C{schema} the file, C{cleaning} what is deleted and when.

Design 2 and 3; decisions 1 and 2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, final

import apsw
import msgspec
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from ...errors import BackendError, StoreCorrupt, StoreUnavailable
from ...failpoints import reach
from ...interfaces import Completed, IMessageLog, IStateStore
from ...limits import Limits
from ...model import Change, Entry, History, Origin
from .audiences import Audiences
from .cleaning import Cleaning
from .cursor import Cursor
from .folder import Folder
from .loading import CLEAN, HIGH, load_high, recount
from .origins import Origins
from .reading import Reading
from .retention import Retention as Retention
from .retention import Rules
from .rows import (
    Place,
    decode_place,
    encode_entry,
    encode_place,
    size_of,
    store_changes,
)
from .schema import connect, rows
from .writer import BUSY_MILLISECONDS, Job, Writer, backend_error

SAVE_SECONDS: Final = 1.0
"""How far behind the saved place of a cursor may be."""
EASED: Final = 0.5
"""Publishers are read again when the queue is below this share of its mark."""

_INSERT: Final = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)"
_SAVE: Final = "INSERT OR REPLACE INTO cursor VALUES (?, ?, ?)"
_META: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"


@final
@implementer(IMessageLog, IStateStore)
class EmbeddedLog:
    """A log and a state store in one folder, for one process.

    C{wall} is the wall clock, for what is stored; C{monotonic} is everybody's clock. C{vfs} names
    a SQLite VFS, for tests that cut the power.
    """

    logger = Logger()

    def __init__(
        self,
        folder: str,
        reactor: Any,
        limits: Limits,
        retention: Sequence[Any] = (),
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] | None = None,
        vfs: str | None = None,
    ) -> None:
        self.folder = folder
        self._home = Folder(folder)
        self.path = self._home.database
        self._reactor = reactor
        self._limits = limits
        self.rules = Rules(Retention(rule.filter, rule.age, rule.bytes) for rule in retention)
        self._wall = wall
        self._monotonic = monotonic or reactor.seconds
        self.vfs = vfs
        self._feed: Callable[[Sequence[Entry]], None] = lambda entries: None
        self._eased: Callable[[], None] = lambda: None
        self._sequence = 0
        self.fed = 0
        """The last sequence that was fed."""
        self.cursors: dict[str, Cursor] = {}
        self._next_cursor = 1
        self._by_id: dict[int, Cursor] = {}
        self.audiences = Audiences(self._by_id)
        self._origins = Origins()
        self._undoing = False
        """A transaction failed that the file may have all the same."""
        self._making: set[Cursor] = set()
        """Cursors that are not durable yet."""
        self._marked: dict[Cursor, None] = {}
        self._saving: dict[Cursor, None] = {}
        """Those whose places are in the transaction under way."""
        self._save_at = 0.0
        self._timer: Any = None
        self._growing = 0
        """Publications under way that need room."""
        self.queue_bytes = 0
        self.congested = False
        self.reading = Reading(self, lambda: self._wall() - self._monotonic(), wall)
        self.writer = Writer(
            reactor,
            self._monotonic,
            self._connect,
            self._before_commit,
            self._settle,
            self._home.make_room,
            self.reading.close,
        )
        self.cleaning = Cleaning(self, wall)

    @property
    def settled(self) -> bool:
        """Whether all that was published was fed."""
        return self.fed == self._sequence

    # Opening

    @property
    def healthy(self) -> bool:
        """@see: L{IMessageLog.healthy}"""
        return self.writer.failure is None

    @property
    def assigned(self) -> int:
        """The last sequence that was given."""
        return self._sequence

    @property
    def failure(self) -> BackendError | None:
        """Why it is not healthy."""
        return self.writer.failure

    def _connect(self) -> apsw.Connection:
        database = connect(self.path, self.vfs)
        try:
            database.set_busy_timeout(BUSY_MILLISECONDS)
            self.cleaning.watch(database)
            if self._undoing:
                self._undo(database)
        except apsw.Error as error:
            raise backend_error(error, self.path) from None
        self._home.protect()
        return database

    def _undo(self, database: apsw.Connection) -> None:
        """What failed may be in the file all the same, when it was the sync that failed; but its
        publishers were told otherwise, and may publish it again."""
        with database:
            database.execute("DELETE FROM message WHERE sequence > ?", (self.fed,))
            self._origins.undo(database)
        self._undoing = False

    def start(
        self, feed: Callable[[Sequence[Entry]], None], eased: Callable[[], None]
    ) -> Deferred[None]:
        """@see: L{IMessageLog.start}"""
        self._feed = feed
        self._eased = eased
        try:
            self._home.take()
            self._home.make_room(False)
            self._load(self.writer.start())
            self.reading.open()
        except Exception as error:
            self._give_up()
            if isinstance(error, OSError):
                return fail(StoreUnavailable(f"{self.folder}: {error.strerror}"))
            if isinstance(error, (msgspec.MsgspecError, UnicodeError)):
                return fail(StoreCorrupt(f"{self.path}: a record cannot be read: {error}"))
            return fail(backend_error(error, self.path))
        self.cleaning.start(self._reactor)
        return succeed(None)

    def _give_up(self) -> None:
        """It cannot be opened: leave it to others, or to another try."""
        self.reading.close()
        self.writer.abandon()
        self._home.leave()

    def _load(self, database: apsw.Connection) -> None:
        self._sequence, clean = load_high(database)
        self.fed = self._sequence
        for number, name, place in rows(database, "SELECT id, name, place FROM cursor"):
            stored = decode_place(name, place)
            cursor = Cursor(self, name, number, stored, True)
            if not clean:
                cursor.doubt(self._sequence)
            self._add_cursor(cursor)
        # With the cursors there, so that each set tells its members of itself.
        self.audiences.load(database, self._sequence)
        self._next_cursor = max(self.audiences.highest_cursor, max(self._by_id, default=0)) + 1
        if not clean:
            recount(database, list(self.cursors.values()), self._sequence)
        self._origins.load(database)
        self.rules.load(database)
        self.cleaning.load(database)

    def _add_cursor(self, cursor: Cursor) -> None:
        self.cursors[cursor.name] = cursor
        self._by_id[cursor.id] = cursor

    # Publishing

    def keeps(self, topic: str) -> bool:
        """@see: L{IMessageLog.keeps}"""
        return self.rules.of(topic) > 0

    def publish(self, entries: list[Entry], completed: Completed) -> None:
        """@see: L{IMessageLog.publish}"""
        fresh: list[Entry] = []
        size = 0
        stored = False
        for entry in entries:
            origin = entry.origin
            if origin is not None:
                if not self._origins.learn(origin):
                    continue
                stored = True
            fresh.append(entry)
            publish = entry.publish
            if publish is None:
                continue
            audience = entry.audience
            if audience is not None or entry.kept:
                self._sequence += 1
                entry.sequence = entry.ordinal = self._sequence
                entry.size = size_of(publish)
                size += entry.size
                stored = True
                if audience is not None:
                    for cursor in audience.cursors:
                        cursor.backlog_messages += 1
                        cursor.backlog_bytes += entry.size
        # Behind one that may be refused for want of room nothing is taken for appended: it may be
        # the same message again.
        growing = stored or self._growing > 0
        self._growing += growing
        self.queue_bytes += size
        if self.queue_bytes > self._limits.log_bytes:
            self.congested = True

        def ended(error: BackendError | None) -> None:
            self._growing -= growing
            self._published(fresh, size, error)
            completed(error)

        self.writer.add(
            Job((lambda db: self._insert(db, fresh)) if stored else None, ended, growing)
        )

    def _insert(self, database: apsw.Connection, entries: list[Entry]) -> None:
        offset = self._wall() - self._monotonic()
        now = self._wall()
        messages = []
        for entry in entries:
            origin = entry.origin
            if origin is not None:
                self._origins.store(database, origin)
            publish = entry.publish
            if entry.sequence and publish is not None:
                audience = self.audiences.number(database, entry.audience, entry.sequence)
                record, crc = encode_entry(entry, audience, offset)
                rule = self.rules.of(publish.topic) if entry.kept else 0
                if rule:
                    self.rules.count(rule, len(record))
                messages.append((entry.sequence, audience, publish.topic, record, crc, rule, now))
        if messages:
            database.executemany(_INSERT, messages)

    def _published(self, entries: list[Entry], size: int, error: BackendError | None) -> None:
        self.queue_bytes -= size
        if error is None:
            reach("before-feed")
            for entry in entries:
                if entry.sequence:
                    self.fed = entry.sequence
            if entries:
                self._feed(entries)
            reach("after-feed")
        else:
            for entry in entries:
                origin = entry.origin
                if origin is not None:
                    self._origins.failed(origin)
                if entry.sequence and entry.audience is not None:
                    for cursor in entry.audience.cursors:
                        cursor.backlog_messages -= 1
                        cursor.backlog_bytes -= entry.size
        if self.congested and self.queue_bytes <= self._limits.log_bytes * EASED:
            self.congested = False
            self._eased()

    # Origins

    def forget(self, origins: list[Origin], completed: Completed) -> None:
        """@see: L{IMessageLog.forget}"""
        self._add(self._origins.forget(origins), completed)

    def forget_session(self, session: str, completed: Completed) -> None:
        """@see: L{IMessageLog.forget_session}"""
        self._add(self._origins.forget_session(session), completed)

    def origins(self, session: str, epoch: int) -> Deferred[list[int]]:
        """@see: L{IMessageLog.origins}"""
        return succeed(self._origins.of(session, epoch))

    def _add(
        self,
        work: Callable[[apsw.Connection], Any] | None,
        completed: Completed,
        growing: bool = False,
    ) -> None:
        self.writer.add(Job(work, completed, growing))

    # Cursors

    def cursor(self, name: str) -> Deferred[Any]:
        """@see: L{IMessageLog.cursor}"""
        cursor = self.cursors.get(name)
        if cursor is not None:
            cursor.existed = True
            if cursor not in self._making:
                return succeed(cursor)
            known: Deferred[Any] = Deferred()
            self._add(None, lambda e: _tell(known, cursor, e))
            return known
        # At the end as it is assigned: what waits to be committed was published before.
        place = Place(self._sequence, [], [], 0, 0, False)
        cursor = made = Cursor(self, name, self._next_cursor, place, False)
        self._next_cursor += 1
        self._add_cursor(cursor)
        self._making.add(made)
        done: Deferred[Any] = Deferred()

        def saved(error: BackendError | None) -> None:
            self._making.discard(made)
            if error is not None:
                self._drop_cursor(made)
            _tell(done, made, error)

        self.writer.add(Job(lambda db: self._save(db, made), saved, True))
        return done

    def _drop_cursor(self, cursor: Cursor) -> None:
        if self.cursors.get(cursor.name) is cursor:
            del self.cursors[cursor.name]
        self._by_id.pop(cursor.id, None)
        self._marked.pop(cursor, None)

    def delete_cursor(self, name: str, completed: Completed) -> None:
        """@see: L{IMessageLog.delete_cursor}"""
        cursor = self.cursors.get(name)
        if cursor is not None:
            self._drop_cursor(cursor)
            self.cleaning.acknowledged(cursor.backlog_messages)
        # By name, also when memory has none: a delete that failed may be asked for again.
        self._add(lambda db: db.execute("DELETE FROM cursor WHERE name = ?", (name,)), completed)

    def drop_audiences(self, numbers: list[int]) -> None:
        """No message needs them any more."""
        keys = [(number,) for number in numbers]
        self._add(
            lambda db: db.executemany("DELETE FROM audience WHERE id = ?", keys),
            lambda error: None,
        )

    def _save(self, database: apsw.Connection, cursor: Cursor) -> None:
        if self.cursors.get(cursor.name) is cursor:
            database.execute(
                _SAVE, (cursor.id, cursor.name, encode_place(cursor.name, cursor.place()))
            )

    def mark(self, cursor: Cursor) -> None:
        """Its place has changed: save it within a second."""
        if cursor not in self._marked:
            self._marked[cursor] = None
            if self._timer is None:
                self._timer = self._reactor.callLater(SAVE_SECONDS, self._save_marked)

    def _save_marked(self) -> None:
        self._timer = None
        if self._marked:
            self._save_at = 0.0
            self._add(None, lambda error: None)

    def save_now(self, cursor: Cursor, completed: Completed) -> None:
        """Save its place with the next group."""
        self._add(lambda db: self._save(db, cursor), completed)

    def _before_commit(self, database: apsw.Connection) -> list[tuple[str, tuple[Any, ...]]]:
        now = self._monotonic()
        if self._marked and now >= self._save_at:
            self._save_at = now + SAVE_SECONDS
            marked, self._marked = self._marked, {}
            self._saving = marked
            for cursor in marked:
                self._save(database, cursor)
        database.execute(_META, (HIGH, self._sequence))
        return self.cleaning.statements(database)

    def _settle(self, committed: bool) -> None:
        """The transaction under way has ended: what it did is so, or is taken back."""
        saving, self._saving = self._saving, {}
        self.audiences.settle(committed)
        self.cleaning.settle(committed)
        if not committed:
            self._undoing = True
            self._save_at = self._monotonic() + SAVE_SECONDS
            for cursor in saving:
                if self.cursors.get(cursor.name) is cursor:
                    self.mark(cursor)

    def later(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function in the next turn."""
        self._reactor.callLater(0, function, *arguments)

    # Reading

    def position_at(self, start: str) -> Deferred[Any]:
        """@see: L{IMessageLog.position_at}"""
        try:
            return succeed(self.reading.position_at(start))
        except (ValueError, OverflowError):
            return fail(ValueError(f"{start!r} is no start"))
        except Exception as error:
            return fail(self.reading.read_failed(error))

    def history(self, topic_filter: str, position: Any, limit: int) -> Deferred[History]:
        """@see: L{IMessageLog.history}"""
        found: Deferred[History] = Deferred()
        self.later(self.reading.history, found, topic_filter, position, limit)
        return found

    # State

    def load(self, kind: str, found: Callable[[list[tuple[str, bytes]]], None]) -> Deferred[int]:
        """@see: L{IStateStore.load}"""
        done: Deferred[int] = Deferred()
        self.reading.load(kind, found, "", 0, done)
        return done

    def put(self, changes: list[Change], completed: Completed) -> None:
        """@see: L{IStateStore.put}"""
        growing = any(change.value is not None for change in changes)
        self._add(lambda db: store_changes(db, changes), completed, growing)

    def watch(self, kind: str, changed: Callable[[list[Change]], None]) -> None:
        """@see: L{IStateStore.watch}. There are no other nodes."""

    # The end

    def stop(self) -> Deferred[None]:
        """@see: L{IMessageLog.stop}"""
        stopped: Deferred[None] = Deferred()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.cleaning.stop()
        if not self._home.taken:
            return succeed(None)
        for cursor in self.cursors.values():
            cursor.pause(None)
            self._marked[cursor] = None
        self._save_at = 0.0
        self._add(lambda db: db.execute(_META, (CLEAN, self._sequence)), lambda error: None)

        def closed() -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._home.leave()
            stopped.callback(None)

        self.writer.stop(closed)
        return stopped


def _tell(done: Deferred[Any], result: Any, error: BackendError | None) -> None:
    if error is None:
        done.callback(result)
    else:
        done.errback(error)
