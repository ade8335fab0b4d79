"""Reading the embedded log: backlogs, history, records of state.

Reads are made on the reactor's thread, on a connection of their own, a bounded portion a turn: in a
thread each row would wait for the interpreter (decision 2), and an open read would keep the file of
changes from being begun anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, final

import apsw
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ...errors import BackendError, StoreCorrupt, StoreUnavailable
from ...model import Entry, History
from ...topics import matches
from .rows import decode_entry, state_crc
from .schema import connect_reader, rows
from .writer import backend_error

if TYPE_CHECKING:
    from .cursor import Cursor
    from .log import EmbeddedLog

SCANNED: Final = 20_000
"""Sequences that one turn of a fetch looks at: others' messages between them cost it little, but
not nothing."""
LOADED: Final = 2000
"""Records of the state store that are read in one turn."""

_BEHIND: Final = (
    "SELECT sequence, audience, topic, record, crc FROM message "
    "WHERE sequence > ? AND sequence <= ? AND audience IN "
    "(SELECT value FROM json_each(?)) ORDER BY sequence LIMIT ?"
)
_THESE: Final = (
    "SELECT sequence, audience, topic, record, crc FROM message WHERE sequence IN "
    "(SELECT value FROM json_each(?)) ORDER BY sequence"
)
_HISTORY: Final = (
    "SELECT sequence, audience, topic, record, crc FROM message WHERE kept > 0 AND sequence > ? "
    "AND sequence <= ? ORDER BY sequence LIMIT ?"
)
_SINCE: Final = (
    "SELECT sequence FROM message WHERE kept = ? AND kept > 0 AND stored >= ? "
    "ORDER BY stored, sequence LIMIT 1"
)
_AGE: Final = re.compile(r"-([0-9]+)(s|m|h|d)")
_AGE_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@final
class Reading:
    """All reads of one log."""

    logger = Logger()

    def __init__(self, log: EmbeddedLog, offset: Callable[[], float], wall: Callable[[], float]):
        self._log = log
        self._offset = offset
        self._wall = wall
        self.reader: apsw.Connection | None = None
        self.corrupt_records = 0
        """Messages that could not be read since their CRC was wrong; they stay in the file."""

    def open(self) -> None:
        """@raise apsw.Error: it cannot be opened."""
        self.reader = connect_reader(self._log.path, self._log.vfs)

    def close(self) -> None:
        """No reads from here on."""
        reader, self.reader = self.reader, None
        if reader is not None:
            # A disk that fails may fail here, too; a stop is not to wait for it.
            with suppress(apsw.Error):
                reader.close(True)

    def _open_reader(self) -> apsw.Connection:
        if self.reader is None:
            if not self._log.writer.running:
                raise StoreUnavailable("the log is closed")
            self.open()
            assert self.reader is not None
        return self.reader

    def _entries(self, rows: list[Any]) -> list[Entry]:
        offset = self._offset()
        entries = []
        for sequence, audience, topic, record, crc in rows:
            try:
                entries.append(decode_entry(sequence, audience, topic, record, crc, offset))
            except Exception as error:
                # One damaged message must not stop those behind it; it stays where it is.
                self.corrupt_records += 1
                self.logger.error(
                    "message {sequence} is left out: {error}",
                    event="message_damaged",
                    sequence=sequence,
                    error=str(error),
                )
        return entries

    def read_these(self, sequences: list[int]) -> list[Entry]:
        """The entries of these sequences that there are, in order."""
        text = "[" + ",".join(map(str, sequences)) + "]"
        return self._entries(rows(self._open_reader(), _THESE, (text,)))

    def read_behind(
        self, cursor: Cursor, position: int, limit: int, limit_bytes: int
    ) -> tuple[list[Entry], int]:
        """The next entries for a cursor behind C{position}, and how far that reaches."""
        reader = self._open_reader()
        end = self._log.fed
        until = min(end, position + SCANNED)
        audiences = cursor.audiences
        if not audiences:
            return [], end
        text = "[" + ",".join(map(str, audiences)) + "]"
        found = rows(reader, _BEHIND, (position, until, text, limit))
        total = 0
        for count, row in enumerate(found, 1):
            total += len(row[3])
            if total > limit_bytes and count < len(found):
                return self._entries(found[:count]), found[count - 1][0]
        reached = found[-1][0] if len(found) == limit else until
        return self._entries(found), reached

    def read_failed(self, error: Exception) -> BackendError:
        """What a failed read is to those above; the reader is opened anew."""
        found = backend_error(error, self._log.path)
        self.logger.error("the log cannot be read: {error}", event="read_failed", error=str(error))
        if isinstance(error, apsw.Error):
            self.close()
            with suppress(apsw.Error):
                self.reader = connect_reader(self._log.path, self._log.vfs)
        return found

    def position_at(self, start: str) -> int:
        """The position of a start in words.

        @raise ValueError: it means nothing.
        """
        if start == "earliest":
            return 0
        if start == "latest":
            return self._log.fed
        if start.isascii() and start.isdigit():
            return min(int(start), self._log.fed)
        age = _AGE.fullmatch(start)
        if age is not None:
            moment = self._wall() - float(age[1]) * _AGE_SECONDS[age[2]]
        else:
            parsed = datetime.fromisoformat(start)
            moment = (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
        first = self._log.fed + 1
        for number in self._log.rules.numbers:
            for (sequence,) in rows(self._open_reader(), _SINCE, (number, moment)):
                first = min(first, sequence)
        return first - 1

    def history(
        self, found: Deferred[History], topic_filter: str, position: int, limit: int
    ) -> None:
        """At most C{limit} kept entries behind C{position} that match."""
        end = self._log.fed
        try:
            read = rows(self._open_reader(), _HISTORY, (position, end, limit))
        except Exception as error:
            found.errback(self.read_failed(error))
            return
        entries = self._entries([row for row in read if matches(topic_filter, row[2])])
        live = len(read) < limit
        found.callback(History(entries, end if live else read[-1][0], live, self._log.assigned))

    def load(
        self,
        kind: str,
        found: Callable[[list[tuple[str, bytes]]], None],
        behind: str,
        count: int,
        done: Deferred[int],
    ) -> None:
        """The records of a kind whose keys are behind C{behind}, and so on to the last."""
        try:
            query = (
                "SELECT key, value, crc FROM state WHERE kind = ? AND key > ? ORDER BY key LIMIT ?"
            )
            read = rows(self._open_reader(), query, (kind, behind, LOADED))
            records = []
            for key, value, crc in read:
                if state_crc(kind, key, value) != crc:
                    raise StoreCorrupt(f"{self._log.path}: record {kind} {key!r} is damaged")
                records.append((key, value))
            if records:
                found(records)
        except Exception as error:
            done.errback(
                error if isinstance(error, BackendError) else backend_error(error, self._log.path)
            )
            return
        count += len(read)
        if len(read) < LOADED:
            done.callback(count)
        else:
            self._log.later(self.load, kind, found, read[-1][0], count, done)
