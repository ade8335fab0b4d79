"""What one subscriber received of one publisher: once, in order, or not.

Messages are numbered from 0. Pure counting; it knows no packets and no time.
"""

from __future__ import annotations

from collections.abc import Iterable


class Sequence:
    """Numbers of one publisher as one subscriber sees them.

    A gap is no fault by itself (a shared subscription has nothing but gaps): what is missing in
    the end, the caller counts from L{unique}. Disorder is a number, new or not, that comes
    behind a higher one; a duplicate in its place is only a duplicate.
    """

    __slots__ = ("disorder", "duplicates", "next", "seen", "unique")

    def __init__(self) -> None:
        self.next = 0
        """One more than the highest number so far."""
        self.seen = bytearray()
        """1 at each number that has come."""
        self.unique = 0
        self.duplicates = 0
        self.disorder = 0

    def take(self, first: int, count: int = 1) -> None:
        """C{count} messages have come, numbered upwards from C{first}."""
        seen = self.seen
        stop = first + count
        if first >= self.next:
            if first > len(seen):
                seen.extend(bytes(first - len(seen)))
            seen[first:stop] = b"\1" * count
            self.next = stop
            self.unique += count
            return
        for number in range(first, stop):
            if number >= self.next:
                self.take(number, stop - number)
                return
            if seen[number]:
                self.duplicates += 1
            else:
                seen[number] = 1
                self.unique += 1
                self.disorder += 1


def surplus(parts: Iterable[bytes]) -> tuple[int, int]:
    """Of what the members of a shared group have seen (L{Sequence.seen} of one publisher): how
    many different numbers, and how many came to more than one member."""
    total = 0
    union = 0
    for part in parts:
        total += part.count(1)
        # As one long integer: bytes that are 0 or 1 can be joined by "or".
        union |= int.from_bytes(part, "little")
    unique = union.bit_count()
    return unique, total - unique
