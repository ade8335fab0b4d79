"""Which publications are known, so that the same one is stored once.

Memory has them all; the file has them from the transaction on that stores their message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import apsw

from ...model import Origin
from .schema import rows

Key = tuple[str, int, int]

_LEARN: Final = "INSERT OR IGNORE INTO origin VALUES (?, ?, ?)"
_FORGET: Final = "DELETE FROM origin WHERE session = ? AND epoch = ? AND packet_id = ?"
_FORGET_SESSION: Final = "DELETE FROM origin WHERE session = ?"


@final
class Origins:
    """Session, epoch and packet identifier of what is not forgotten."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int], set[int]] = {}
        self._doubtful: list[Key] = []
        """Of publications that failed: the file may have them although it could not say so."""

    def load(self, database: apsw.Connection) -> None:
        """All that are stored."""
        for session, epoch, packet_id in rows(database, "SELECT * FROM origin"):
            self._known.setdefault((session, epoch), set()).add(packet_id)

    def of(self, session: str, epoch: int) -> list[int]:
        """The packet identifiers of a session."""
        return sorted(self._known.get((session, epoch), ()))

    def learn(self, origin: Origin) -> bool:
        """Remember one; whether it is new."""
        known = self._known.setdefault((origin.session, origin.epoch), set())
        if origin.packet_id in known:
            return False
        known.add(origin.packet_id)
        return True

    def store(self, database: apsw.Connection, origin: Origin) -> None:
        """In the transaction that stores its message."""
        database.execute(_LEARN, (origin.session, origin.epoch, origin.packet_id))

    def failed(self, origin: Origin) -> None:
        """That transaction failed: it is new again."""
        key = (origin.session, origin.epoch, origin.packet_id)
        self._unlearn(key)
        self._doubtful.append(key)

    def undo(self, database: apsw.Connection) -> None:
        """In a transaction of its own, before any other: make the failure true in the file."""
        gone = [key for key in self._doubtful if key[2] not in self._known.get(key[:2], ())]
        database.executemany(_FORGET, gone)
        self._doubtful.clear()

    def _unlearn(self, key: Key) -> None:
        known = self._known.get(key[:2])
        if known is not None:
            known.discard(key[2])
            if not known:
                del self._known[key[:2]]

    def forget(self, origins: list[Origin]) -> Callable[[apsw.Connection], Any]:
        """They are new from here on; what makes that durable."""
        keys = [(o.session, o.epoch, o.packet_id) for o in origins]
        for key in keys:
            self._unlearn(key)
        return lambda database: database.executemany(_FORGET, keys)

    def forget_session(self, session: str) -> Callable[[apsw.Connection], Any]:
        """All of a session, of every epoch."""
        for key in [key for key in self._known if key[0] == session]:
            del self._known[key]
        return lambda database: database.execute(_FORGET_SESSION, (session,))
