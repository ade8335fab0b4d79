"""A cursor of the embedded log: a mark, and what before it is not done.

Everything at and below C{position} is done but for C{outstanding}; while the cursor follows the
feed its position is the log's own. That is one small record a session, whatever it has received.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from twisted.internet.defer import Deferred
from zope.interface import implementer

from ...interfaces import Completed, ICursor
from ...model import Entry, Fetched
from .rows import Place

if TYPE_CHECKING:
    from .log import EmbeddedLog

DOUBTED: Final = 1024
"""After a crash so many messages of a cursor are taken for sent: what one may get in the second
after which its place is saved."""


@final
@implementer(ICursor)
class Cursor:
    """One session's, or one shared group's, place in the log."""

    __slots__ = (
        "_doubts",
        "_fetching",
        "_following",
        "_log",
        "_owed",
        "_position",
        "_uncertain",
        "audiences",
        "backlog_bytes",
        "backlog_messages",
        "existed",
        "id",
        "name",
        "outstanding",
        "reading",
        "released",
    )

    def __init__(self, log: EmbeddedLog, name: str, id: int, place: Place, existed: bool) -> None:
        self._log = log
        self.name = name
        self.id = id
        self.existed = existed
        self._position = place.position
        self._following = False
        self._fetching = 0
        """Counts what ends a fetch that is under way: its session has left, so what it would
        bring goes to nobody."""
        self.outstanding: dict[int, None] = dict.fromkeys(place.outstanding)
        """Sequences that were fetched or taken and are not acknowledged, in order."""
        self.released: set[int] = set(place.released)
        self._owed: list[int] | None = list(place.outstanding) or None
        """What a fetch gives again before anything else."""
        self._uncertain = 0
        """Fetched up to here, a message may have been sent before a crash."""
        self._doubts = 0
        """How many more."""
        self.audiences: set[int] | None = None
        """The audiences that it is in, by number."""
        self.backlog_messages = place.messages
        self.backlog_bytes = place.bytes
        self.reading = False

    @property
    def position(self) -> int:
        """All at and below is done, but for what is outstanding."""
        return self._log.fed if self._following else self._position

    @property
    def low(self) -> int:
        """All at and below is done."""
        first = next(iter(self.outstanding), None)
        return self.position if first is None else min(first - 1, self.position)

    @property
    def following(self) -> bool:
        """Whether the feed is its source."""
        return self._following

    def place(self) -> Place:
        """Its row."""
        return Place(
            self.position,
            list(self.outstanding),
            list(self.released),
            max(self.backlog_messages, 0),
            max(self.backlog_bytes, 0),
            self._following,
        )

    def doubt(self, sequence: int) -> None:
        """After a crash: up to here it may have sent more than its row says, whether that says
        that it followed the feed, or caught up, or that nobody was there."""
        self._uncertain = sequence
        self._doubts = DOUBTED

    # ICursor

    def fetch(self, limit: int, limit_bytes: int) -> Deferred[Fetched]:
        """@see: L{ICursor.fetch}"""
        if self._following:
            self.pause(None)
        fetched: Deferred[Fetched] = Deferred()
        # In a turn of its own: never inside the feed, where the end of the log is not settled.
        self._log.later(self._fetch, self._fetching, fetched, limit, limit_bytes)
        return fetched

    def _fetch(
        self, fetching: int, fetched: Deferred[Fetched], limit: int, limit_bytes: int
    ) -> None:
        log = self._log
        entries: list[Entry] = []
        if fetching != self._fetching:
            # It would follow the feed with nobody there to take what comes.
            fetched.callback(Fetched([], False))
            return
        try:
            if self._owed:
                again, self._owed = self._owed[:limit], self._owed[limit:] or None
                entries = log.reading.read_these([s for s in again if s in self.outstanding])
                found = {entry.sequence for entry in entries}
                for sequence in again:
                    if sequence not in found:
                        self.outstanding.pop(sequence, None)
                        self.released.discard(sequence)
                for entry in entries:
                    entry.released = entry.sequence in self.released
                    entry.redelivered = not entry.released
                if entries:
                    fetched.callback(Fetched(entries, False))
                    return
                if self._owed:
                    log.later(self._fetch, fetching, fetched, limit, limit_bytes)
                    return
            entries, reached = log.reading.read_behind(self, self._position, limit, limit_bytes)
        except Exception as error:
            fetched.errback(log.reading.read_failed(error))
            return
        for entry in entries:
            self.outstanding[entry.sequence] = None
            if entry.sequence <= self._uncertain:
                # [MQTT5-3.3.1-1] [MQTT311-3.3.1-1]
                entry.redelivered = True
                self._doubts -= 1
                if not self._doubts:
                    self._uncertain = entry.sequence
        self._position = reached
        live = reached >= log.fed
        if not entries and not live:
            # Others' messages only, so far: go on in the next turn.
            log.later(self._fetch, fetching, fetched, limit, limit_bytes)
            return
        self._following = live
        self._count()
        log.mark(self)
        fetched.callback(Fetched(entries, live))

    def take(self, entry: Entry) -> int:
        """@see: L{ICursor.take}"""
        if not self._following:
            return 0
        self.outstanding[entry.sequence] = None
        self._log.mark(self)
        return entry.sequence

    def pause(self, before: Entry | None) -> None:
        """@see: L{ICursor.pause}"""
        position = self.position
        self._following = False
        self._fetching += 1
        if before is not None and before.sequence:
            position = min(position, before.sequence - 1)
            for sequence in [s for s in self.outstanding if s > position]:
                del self.outstanding[sequence]
                self.released.discard(sequence)
        self._position = position
        self._log.mark(self)

    def rewind(self) -> None:
        """@see: L{ICursor.rewind}"""
        self.pause(None)
        self._owed = list(self.outstanding) or None

    def acknowledge(self, entries: list[Entry]) -> None:
        """@see: L{ICursor.acknowledge}"""
        outstanding = self.outstanding
        before = self.backlog_messages
        for entry in entries:
            sequence = entry.sequence
            if outstanding.pop(sequence, 0) is None:
                self.backlog_messages -= 1
                self.backlog_bytes -= entry.size
                if self.released:
                    self.released.discard(sequence)
        self._log.cleaning.acknowledged(before - self.backlog_messages)
        self._count()
        self._log.mark(self)

    def _count(self) -> None:
        """Where it is certain that nothing is owed, the counters say so."""
        if not self.outstanding and self._following and self._log.settled:
            self.backlog_messages = self.backlog_bytes = 0

    def release(self, entries: list[Entry], completed: Completed) -> None:
        """@see: L{ICursor.release}"""
        self.released.update([e.sequence for e in entries if e.sequence in self.outstanding])
        self._log.save_now(self, completed)

    def save(self, completed: Completed) -> None:
        """@see: L{ICursor.save}"""
        self._log.save_now(self, completed)

    def close(self) -> None:
        """@see: L{ICursor.close}. The place is kept in memory as well: it is small."""
        self.rewind()
