"""How long things took, in buckets that can be added up across processes.

A bucket is at most 1/64 wide relative to its value, whatever the value: percentiles are right to
1.6 %, in a few hundred counters. Least, most and sum are exact. Times are integers (nanoseconds).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

_BITS: Final = 6
_WIDTH: Final = 1 << _BITS


def bucket_of(value: int) -> int:
    """The number of the bucket that holds C{value}; below 0 counts as 0."""
    if value < _WIDTH:
        return value if value > 0 else 0
    shift = value.bit_length() - _BITS - 1
    return (shift << _BITS) + (value >> shift)


def middle_of(bucket: int) -> int:
    """The value in the middle of a bucket."""
    if bucket < 2 * _WIDTH:
        return bucket
    shift = (bucket >> _BITS) - 1
    return ((_WIDTH | (bucket & (_WIDTH - 1))) << shift) + (1 << shift >> 1)


class Histogram:
    """Counted values."""

    __slots__ = ("buckets", "count", "least", "most", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.total = 0
        self.least = 0
        self.most = 0

    def add(self, value: int, times: int = 1) -> None:
        """Count C{value}, C{times} times."""
        if not self.count or value < self.least:
            self.least = value
        if value > self.most:
            self.most = value
        self.count += times
        self.total += value * times
        bucket = bucket_of(value)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + times

    def merge(self, other: Histogram) -> None:
        """Count everything that C{other} has counted."""
        if not other.count:
            return
        self.least = min(self.least, other.least) if self.count else other.least
        self.most = max(self.most, other.most)
        self.count += other.count
        self.total += other.total
        for bucket, times in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + times

    def percentile(self, share: float) -> int:
        """The value that C{share} (0 to 1) of what was counted does not exceed; 0 of nothing."""
        if not self.count:
            return 0
        if share >= 1:
            return self.most
        wanted = max(1.0, share * self.count)
        seen = 0
        for bucket in sorted(self.buckets):
            seen += self.buckets[bucket]
            if seen >= wanted:
                return min(max(middle_of(bucket), self.least), self.most)
        return self.most

    def mean(self) -> float:
        """Their mean; 0 of nothing."""
        return self.total / self.count if self.count else 0.0

    def milliseconds(self) -> dict[str, float]:
        """What is reported of nanoseconds."""
        named: Iterable[tuple[str, float]] = (
            ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0),
        )  # fmt: skip
        found = {name: round(self.percentile(share) / 1e6, 3) for name, share in named}
        return {"mean": round(self.mean() / 1e6, 3), **found}

    def dump(self) -> dict[str, Any]:
        """What L{load} takes: only what JSON has."""
        return {
            "buckets": list(self.buckets.items()),
            "count": self.count,
            "total": self.total,
            "least": self.least,
            "most": self.most,
        }

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Histogram:
        """The histogram that L{dump} described."""
        made = cls()
        made.buckets = dict(dumped["buckets"])
        made.count = dumped["count"]
        made.total = dumped["total"]
        made.least = dumped["least"]
        made.most = dumped["most"]
        return made
