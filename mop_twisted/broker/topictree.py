"""A mapping of topics that answers topic filters: what retained messages lie in.

The topics lie in one sorted sequence, cut into chunks, in an order in which everything below
a level stands together: their separators are replaced by the null character, which sorts
before all others and is in no topic. A filter is answered by leaping through the sequence:
from each topic that does not match, straight to where the next one can be that does. So a walk
needs no copy of anything but the place where it stands, which is a topic and hence still means
something after any change; a node of a tree with a million children would not.

Nothing here knows what it holds, or why.

MQTT 5.0 section 4.7.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Final, Generic, TypeVar, final

Value = TypeVar("Value")

_SEPARATOR: Final = "\0"
_BEHIND: Final = "\x01"
"""Put behind a level it makes the place after all that is below that level."""

_CHUNK: Final = 512
"""Topics in a chunk at most. Half as many are moved by an insertion: 0.1 µs."""


@final
class TopicTree(Generic[Value]):
    """Topic names, each with a value. They must be valid: not empty, without null characters
    and wildcards."""

    __slots__ = ("_beginnings", "_changes", "_chunks", "_values")

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}
        """By key: the topic as it is sorted."""
        self._chunks: list[list[str]] = [[]]
        # _beginnings[n] is at most the first key of chunk n and more than the last of n - 1.
        self._beginnings = [""]
        # Counts what makes an index into the chunks invalid.
        self._changes = 0

    def __len__(self) -> int:
        return len(self._values)

    def get(self, topic: str) -> Value | None:
        """What is there under C{topic}, if anything."""
        return self._values.get(topic.replace("/", _SEPARATOR))

    def set(self, topic: str, value: Value) -> None:
        """Put C{value} under C{topic}, in the place of what may be there."""
        key = topic.replace("/", _SEPARATOR)
        values = self._values
        before = len(values)
        values[key] = value
        if len(values) == before:
            return
        place = bisect_right(self._beginnings, key) - 1
        chunk = self._chunks[place]
        insort(chunk, key)
        self._changes += 1
        if len(chunk) > _CHUNK:
            half = len(chunk) // 2
            upper = chunk[half:]
            del chunk[half:]
            self._chunks.insert(place + 1, upper)
            self._beginnings.insert(place + 1, upper[0])

    def discard(self, topic: str) -> None:
        """Forget C{topic}, if it is there."""
        key = topic.replace("/", _SEPARATOR)
        if key not in self._values:
            return
        del self._values[key]
        place = bisect_right(self._beginnings, key) - 1
        chunk = self._chunks[place]
        del chunk[bisect_left(chunk, key)]
        self._changes += 1
        if len(chunk) < _CHUNK // 4 and len(self._chunks) > 1:
            self._merge(min(place, len(self._chunks) - 2))

    def matching(self, topic_filter: str) -> Iterator[tuple[str, Value]]:
        """Each topic that the filter matches, with the value that it has at that moment.

        The tree may change meanwhile: topics that are there all the time come exactly once,
        those that come or go meanwhile at most once. Between two of them there may be any
        number of topics that do not match; L{portions} has a bound for that.
        """
        for step in self._walk(topic_filter):
            if step is not None:
                yield step

    def portions(self, topic_filter: str, steps: int) -> Iterator[list[tuple[str, Value]]]:
        """The same in portions, each the outcome of so many C{steps} at most, of some
        microseconds each; so a portion may be empty and not the last."""
        found: list[tuple[str, Value]] = []
        left = steps
        for step in self._walk(topic_filter):
            if step is not None:
                found.append(step)
            left -= 1
            if not left:
                yield found
                found = []
                left = steps
        if found:
            yield found

    def _merge(self, place: int) -> None:
        """Join a chunk with the one behind it if they fit."""
        chunk = self._chunks[place]
        behind = self._chunks[place + 1]
        if not chunk or not behind or len(chunk) + len(behind) <= _CHUNK // 4 * 3:
            chunk.extend(behind)
            del self._chunks[place + 1]
            del self._beginnings[place + 1]

    def _walk(self, topic_filter: str) -> Iterator[tuple[str, Value] | None]:
        """One topic looked at a step; C{None} where it did not match."""
        wanted = topic_filter.split("/")
        rest = wanted[-1] == "#"
        if rest:
            wanted.pop()
        depth = len(wanted)
        # Where a level is past what was wanted, the last level before it that was free is the
        # one that has to go on.
        free = [-1] * depth
        for index in range(1, depth):
            free[index] = index - 1 if wanted[index - 1] == "+" else free[index - 1]
        literal = wanted.index("+") if "+" in wanted else depth
        # A leading wildcard does not match "$…". [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]
        apart = literal == 0
        seek: str | None = _SEPARATOR.join(wanted[:literal])
        changes = -1
        place = index = 0
        key = ""
        while True:
            if seek is None and changes != self._changes:
                seek = key + _SEPARATOR  # the least that is more than this key
            if seek is not None:
                place = bisect_right(self._beginnings, seek) - 1
                index = bisect_left(self._chunks[place], seek)
                changes = self._changes
                seek = None
            else:
                index += 1
            chunk = self._chunks[place]
            while index == len(chunk):
                place += 1
                if place == len(self._chunks):
                    return
                chunk = self._chunks[place]
                index = 0
            key = chunk[index]
            if apart and key[0] == "$":
                seek = "%"  # the character after "$"
                yield None
                continue
            levels = key.split(_SEPARATOR, depth)
            count = len(levels)
            level = 0
            while level < depth and level < count:
                want = wanted[level]
                if want != "+" and want != levels[level]:
                    break
                level += 1
            if level == depth:
                if rest or count == depth:
                    yield key.replace(_SEPARATOR, "/"), self._values[key]
                    continue
                seek = _SEPARATOR.join(levels[:depth]) + _BEHIND
            elif level == count:
                want = wanted[level]
                seek = key + _SEPARATOR + ("" if want == "+" else want)
            elif levels[level] < wanted[level]:
                levels[level] = wanted[level]
                seek = _SEPARATOR.join(levels[: level + 1])
            else:
                last = free[level]
                if last < 0:
                    return
                seek = _SEPARATOR.join(levels[: last + 1]) + _BEHIND
            yield None
