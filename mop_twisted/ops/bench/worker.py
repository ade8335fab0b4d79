"""A worker process: drives its share of a load, told by lines of JSON on standard input.

    → {"do": "idle"}            ← {"done": "idle", "seconds": …}
    → {"do": "connect"}         ← {"done": "connect", "seconds": …}
    → {"do": "go", "at": …}     ← {"sent": …, "received": …, "published": …} ten times a second
    → {"do": "stop"}            ← {"done": "stop", …} what it counted
    ← {"fault": "…"}            at any time, and the end

The first line is the L{Share}. Times are nanoseconds of the monotonic clock, which all processes
of a machine share.
"""

from __future__ import annotations

import gc
import heapq
import json
import os
import selectors
import sys
from base64 import b64encode
from functools import partial
from time import monotonic_ns, sleep
from typing import Any, Final
from zlib import compress

import msgspec

from .client import Client
from .connections import Connections, Make
from .histogram import Histogram
from .link import LinkLost
from .load import Share
from .roles import Publisher, Subscriber
from .system import raise_open_files

_REPORT_EVERY: Final = 100_000_000
_BURST: Final = 8
"""Publishers that have their turn, with a rate, before what has come is looked at: what waits to
be read is latency that the server is not to blame for."""
_FEW_A_READ: Final = 8
_NAP: Final = 0.003
"""QoS 0 without a rate: when a read brings fewer messages than that, more of them are waited for,
so that we do not take the processor from a server that sends them one by one."""


class Worker(Connections):
    """A share of a load, and what the parent says about it."""

    def __init__(self, share: Share, begun: bytes) -> None:
        super().__init__(share.load)
        self.share = share
        self.commands: list[dict[str, Any]] = []
        self._partial = b""
        self.idle: list[Client] = []
        self.subscribers: list[Subscriber] = []
        self.publishers: list[Publisher] = []
        os.set_blocking(0, False)
        self.selector.register(0, selectors.EVENT_READ, None)
        self.understand(begun)

    def say(self, **words: Any) -> None:
        """One line to the parent."""
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()

    def told(self) -> None:
        """What the parent has said.

        @raise SystemExit: the parent is gone.
        """
        try:
            data = os.read(0, 65536)
        except BlockingIOError:
            return
        if not data:
            raise SystemExit(0)
        self.understand(data)

    def understand(self, data: bytes) -> None:
        """What the parent has said, so far as it is whole lines."""
        *lines, self._partial = (self._partial + data).split(b"\n")
        self.commands += [json.loads(line) for line in lines]

    def command(self) -> dict[str, Any]:
        """The next command; meanwhile connections are read."""
        while not self.commands:
            self.turn(1.0)
        return self.commands.pop(0)

    def pump(self, publisher: Publisher, now: int) -> int:
        """Have one publish; its socket may have to be watched for room then."""
        sent = publisher.pump(now)
        link = publisher.link
        if link.clogged:
            self.selector.modify(link.sock, link.wants, publisher)
        return sent

    def run(self) -> None:
        """Do what the parent says until it says stop."""
        share = self.share
        while True:
            words = self.command()
            began = monotonic_ns()
            if words["do"] == "idle":
                self.idle = self.connect_all(self._idle_client(i) for i in share.idle)
            elif words["do"] == "connect":
                makes: list[Make] = []
                makes += [partial(Subscriber, share, number=i) for i in share.subscribers]
                makes += [partial(Publisher, share, number=i) for i in share.publishers]
                connected = self.connect_all(makes)
                self.subscribers = [c for c in connected if isinstance(c, Subscriber)]
                self.publishers = [c for c in connected if isinstance(c, Publisher)]
                # Nothing that is made from here on is a cycle.
                gc.collect()
                gc.freeze()
                gc.disable()
            elif words["do"] == "go":
                self.go(words["at"])
                continue
            elif words["do"] == "stop":
                self.stop()
                return
            self.say(done=words["do"], seconds=(monotonic_ns() - began) / 1e9)

    def _idle_client(self, number: int) -> Make:
        share = self.share
        return partial(
            Client,
            share.load,
            client_id=f"bench-{share.run}-i{number}",
            topic_filter=f"bench-idle/{share.run}/{number}",
        )

    def go(self, at: int) -> None:
        """Publish and take until the parent says otherwise."""
        paced = bool(self.load.rate)
        for publisher in self.publishers:
            publisher.start(self.load, at)
        due = [(p.next_at(), p.number, p) for p in self.publishers] if paced else []
        heapq.heapify(due)
        flat_out = not paced and self.load.qos == 0
        report_at = at
        finished = False
        while monotonic_ns() < at:
            self.turn(max(0.0, (at - monotonic_ns()) / 1e9))
        while not self.commands:
            now = monotonic_ns()
            wait = (report_at - now) / 1e9
            if paced:
                burst = 0
                while due and due[0][0] <= now and burst < _BURST:
                    burst += 1
                    publisher = heapq.heappop(due)[2]
                    # With its window full it publishes when acknowledgements come.
                    next_at = publisher.next_at()
                    if next_at <= now:
                        self.pump(publisher, monotonic_ns())
                        next_at = max(publisher.next_at(), now + 1_000_000)
                    if not publisher.is_sent(now):
                        heapq.heappush(due, (next_at, publisher.number, publisher))
                if due:
                    wait = min(wait, (due[0][0] - monotonic_ns()) / 1e9)
            elif not finished:
                busy = 0
                for publisher in self.publishers:
                    busy += self.pump(publisher, monotonic_ns())
                if busy:
                    wait = 0.0
            before = self.received
            ready = self.turn(max(0.0, wait))
            if flat_out and ready and self.received - before < ready * _FEW_A_READ:
                sleep(_NAP)
            now = monotonic_ns()
            if not finished:
                finished = True
                for publisher in self.publishers:
                    if not publisher.is_done(now):
                        finished = False
                    elif self.load.qos and publisher.ended_at == 0:
                        publisher.ended_at = now
            if now >= report_at:
                report_at = now + _REPORT_EVERY
                self.report(finished)

    def report(self, finished: bool) -> None:
        """How far it is."""
        self.say(
            sent=sum(p.sent for p in self.publishers),
            acked=sum(p.acked for p in self.publishers),
            received=self.received,
            published=finished,
        )

    def stop(self) -> None:
        """Count, say it, and leave; sessions that would outlive us are ended."""
        latency = Histogram()
        late = Histogram()
        for subscriber in self.subscribers:
            latency.merge(subscriber.latency)
        for publisher in self.publishers:
            late.merge(publisher.late)
        sequences = [s for c in self.subscribers for s in c.sequences.values()]
        seen: dict[int, list[str]] = {}
        if self.load.filter == "share":
            for subscriber in self.subscribers:
                for number, sequence in subscriber.sequences.items():
                    packed = b64encode(compress(bytes(sequence.seen), 1)).decode()
                    seen.setdefault(number, []).append(packed)
        result = {
            "published": {p.number: p.sent for p in self.publishers},
            "acked": sum(p.acked for p in self.publishers),
            "published_at": max((p.ended_at for p in self.publishers), default=0),
            "received": sum(c.received for c in self.subscribers),
            "unique": sum(s.unique for s in sequences),
            "duplicates": sum(s.duplicates for s in sequences),
            "disorder": sum(s.disorder for s in sequences),
            "stray": sum(c.stray for c in self.subscribers),
            "last_at": max((c.last_at for c in self.subscribers), default=0),
            "latency": latency.dump(),
            "late": late.dump(),
            "seen": seen,
        }
        clients: list[Client] = [*self.idle, *self.subscribers, *self.publishers]
        for client in clients:
            client.close()
        if self.load.persistent != "none":
            self.end_sessions()
        self.say(done="stop", **result)

    def end_sessions(self) -> None:
        """Connect once more with a clean start, and leave."""
        names = [c.client_id for c in (*self.subscribers, *self.publishers)]
        self.selector.close()
        self.selector = selectors.DefaultSelector()
        self.selector.register(0, selectors.EVENT_READ, None)
        makes = [partial(Client, self.load, client_id=name) for name in names]
        for client in self.connect_all(makes):
            client.close()


def main() -> int:
    """Read the share, and do it; returns the exit status."""
    begun = b""
    while b"\n" not in begun:
        data = os.read(0, 65536)
        if not data:
            return 1
        begun += data
    line, _, begun = begun.partition(b"\n")
    raise_open_files()
    try:
        Worker(msgspec.json.decode(line, type=Share), begun).run()
    except (LinkLost, OSError) as error:
        sys.stdout.write(json.dumps({"fault": str(error)}) + "\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
