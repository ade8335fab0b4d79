"""The two parts that a client plays in a load: it publishes, or it counts what it is sent."""

from __future__ import annotations

from typing import Final

from .client import Client
from .frames import Block, Run
from .histogram import Histogram
from .link import Link
from .load import Load, Share
from .sequence import Sequence

_BLOCK_BYTES: Final = 64 * 1024
"""What one publisher sends before others have their turn."""


class Subscriber(Client):
    """Counts what comes, by publisher."""

    __slots__ = ("_tag", "last_at", "latency", "received", "sequences")

    def __init__(self, share: Share, link: Link, number: int) -> None:
        load = share.load
        super().__init__(
            load,
            link,
            f"bench-{share.run}-s{number}",
            load.filter_of(share.prefix, number),
            persistent=load.persistent in ("subscribers", "all"),
        )
        self._tag = share.tag
        self.received = 0
        """All that came of this run, duplicates included."""
        self.last_at = 0
        """When the last one came."""
        self.sequences: dict[int, Sequence] = {}
        self.latency = Histogram()

    def taken(self, run: Run, now: int) -> None:
        sequences = self.sequences
        strays = 0
        for tag, publisher, first, count in run.sequences():
            if tag != self._tag:
                strays += count
                continue
            sequence = sequences.get(publisher)
            if sequence is None:
                sequence = sequences[publisher] = Sequence()
            sequence.take(first, count)
        if strays:
            self.stray += strays
            if strays == run.count:
                return
        self.received += run.count - strays
        self.last_at = now
        for sent_at, count in run.sent_at():
            self.latency.add(now - sent_at, count)


class Publisher(Client):
    """Publishes as the load says: call L{pump} when it may have become its turn."""

    __slots__ = (
        "_block",
        "_interval",
        "_most",
        "_qos",
        "_start",
        "_stop_at",
        "_total",
        "_window",
        "acked",
        "ended_at",
        "late",
        "number",
        "sent",
    )  # fmt: skip

    def __init__(self, share: Share, link: Link, number: int) -> None:
        load = share.load
        super().__init__(
            load,
            link,
            f"bench-{share.run}-p{number}",
            persistent=load.persistent in ("publishers", "all"),
        )
        self.number = number
        self.sent = 0
        self.acked = 0
        self.ended_at = 0
        """When the last one was sent, or acknowledged where that is done."""
        self.late = Histogram()
        """How long after its time a message was sent, where there is a rate."""
        self._block = Block(
            load.topic_of(share.prefix, number % load.topics),
            load.size, load.qos, load.level, share.tag, number, load.retain,
        )  # fmt: skip
        self._qos = load.qos
        self._most = max(1, _BLOCK_BYTES // self._block.length)
        self._window = min(load.window, 65535)
        self._interval = load.publishers / load.rate * 1e9 if load.rate else 0.0
        self._total = 0
        self._start = 0
        self._stop_at = 0

    def start(self, load: Load, at: int) -> None:
        """Publish from C{at} (nanoseconds, monotonic) on."""
        self._window = min(self._window, self.receive_maximum)
        self._total = load.count
        self._start = at
        if load.duration:
            self._total = 1 << 32
            self._stop_at = at + int(load.duration * 1e9)
        if self._interval and load.phase == "even":
            self._start = at + int(self._interval * self.number / load.publishers)

    def is_sent(self, now: int) -> bool:
        """Whether everything is sent that shall be."""
        if self._stop_at and now >= self._stop_at:
            self._total = self.sent
        return self.sent >= self._total

    def is_done(self, now: int) -> bool:
        """Whether everything is sent and, above QoS 0, acknowledged."""
        if not self.is_sent(now) or self.link.clogged:
            return False
        return self._qos == 0 or self.acked >= self.sent

    def next_at(self) -> int:
        """When the next message is due, where there is a rate; else 0."""
        return self._start + int(self.sent * self._interval) if self._interval else 0

    def pump(self, now: int) -> int:
        """Send what may be sent now; returns how many messages.

        @raise LinkLost: the connection is over.
        """
        if self.link.clogged or self.is_sent(now):
            return 0
        count = min(self._total - self.sent, self._most)
        if self._qos:
            count = min(count, self._window - self.sent + self.acked)
        if self._interval:
            if now < self._start:
                return 0
            due = int((now - self._start) / self._interval) + 1 - self.sent
            count = min(count, due)
            if count > 0:
                self.late.add(now - self.next_at(), count)
        if count <= 0:
            return 0
        frames = self._block.make(self.sent, count, now)
        self.sent += count
        self.link.send(frames)
        if not self._qos:
            self.ended_at = now
        return count

    def acknowledged(self, count: int) -> None:
        self.acked += count

    def moved(self, now: int) -> None:
        self.pump(now)
