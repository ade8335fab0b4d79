"""Retention: which rule keeps a message, and how much each keeps.

A rule is known by a number that the file gave its filter, so that rules may be put in another
order, come and go with the configuration. Of a rule that went nothing is kept any more; of the
others what they keep is theirs. This room counts; it deletes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, final

import apsw

from ...topics import matches
from .schema import rows

CACHED: Final = 10_000
"""Topics whose rule is remembered."""


class Retention(NamedTuple):
    """Keep what matches C{filter} for C{age} seconds, and up to C{bytes} of it; C{None} is no
    such bound."""

    filter: str
    age: float | None = None
    bytes: int | None = None


@final
class Rules:
    """Those of the configuration, the first that matches decides; and those that went."""

    def __init__(self, retention: Iterable[Retention]) -> None:
        self._configured: dict[str, Retention] = {}
        for rule in retention:
            self._configured.setdefault(rule.filter, rule)
        self._numbers: dict[str, int] = {}
        self._by_topic: dict[str, int] = {}
        self.bounded: dict[int, Retention] = {}
        """Number → rule, of those of which something may have to go."""
        self.kept_bytes: dict[int, int] = {}
        """Number → bytes of records that it keeps."""

    @property
    def numbers(self) -> list[int]:
        """Those of the configuration."""
        return [*self._numbers.values()]

    def load(self, database: apsw.Connection) -> None:
        """Find the numbers of our filters, or give them one."""
        stored: dict[str, int] = dict(rows(database, "SELECT filter, id FROM retention"))
        query = "SELECT kept, sum(length(record)) FROM message WHERE kept > 0 GROUP BY kept"
        self.kept_bytes = dict(rows(database, query))
        # Without any stored the file may be of version 1, in which places were the numbers.
        high = max([*stored.values(), *self.kept_bytes]) if stored else 0
        for topic_filter in self._configured:
            number = stored.get(topic_filter)
            if number is None:
                high = number = high + 1
                database.execute("INSERT INTO retention VALUES (?, ?)", (number, topic_filter))
            self._numbers[topic_filter] = number
        for topic_filter, number in self._numbers.items():
            rule = self._configured[topic_filter]
            if rule.age is not None or rule.bytes is not None:
                self.bounded[number] = rule
        for number in self.kept_bytes:
            if number not in self._numbers.values():
                # It is not configured any more: all of it goes, a portion at a time.
                self.bounded[number] = Retention("", None, 0)

    def of(self, topic: str) -> int:
        """The number of the rule that keeps a topic; 0: none."""
        if not self._configured:
            return 0
        number = self._by_topic.get(topic)
        if number is None:
            found = next((f for f in self._configured if matches(f, topic)), None)
            if len(self._by_topic) >= CACHED:
                self._by_topic.clear()
            number = 0 if found is None else self._numbers[found]
            self._by_topic[topic] = number
        return number

    def count(self, number: int, size: int) -> None:
        """Of so many bytes more is kept, or (negative) less."""
        self.kept_bytes[number] = self.kept_bytes.get(number, 0) + size
