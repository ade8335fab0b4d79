"""Retained messages in great number: set, then all delivered to one new subscription, while
another client's PINGREQs show whether the server still answers.

One process: what is looked at is the server's worst moment, not its speed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from functools import partial
from time import monotonic_ns
from typing import Any, Final

from ...codec.encode import encode_publish
from ...codec.packets import NO_PROPERTIES, Publish
from .client import Client
from .connections import Connections, Make
from .fleet import Fault, Progress, describe
from .frames import Run, packet_id_of
from .histogram import Histogram
from .link import Link, LinkLost
from .load import Load
from .usage import usage

_PING_EVERY: Final = 5_000_000
_CHUNK: Final = 200


class Setter(Client):
    """Sets retained messages of its part, or takes them back with empty payloads."""

    __slots__ = ("acked", "sent", "topics", "value")

    def __init__(self, load: Load, link: Link, client_id: str, topics: Sequence[str]) -> None:
        super().__init__(load, link, client_id)
        self.topics = topics
        self.value = b""
        self.sent = 0
        self.acked = 0

    def acknowledged(self, count: int) -> None:
        self.acked += count

    def pump(self) -> None:
        """Send what the window has room for."""
        window = min(self._load.window, self.receive_maximum)
        count = min(window - self.sent + self.acked, len(self.topics) - self.sent, _CHUNK)
        if count <= 0 or self.link.clogged:
            return
        level = self._load.level
        frames = []
        for number in range(self.sent, self.sent + count):
            publish = Publish(self.topics[number], self.value)
            frames.append(
                encode_publish(publish, level, 1, True, False, packet_id_of(number), NO_PROPERTIES)
            )
        self.sent += count
        self.link.send(b"".join(frames))


class Collector(Client):
    """Counts what a subscription to everything is sent."""

    __slots__ = ("last_at", "received")

    def __init__(self, load: Load, link: Link, client_id: str) -> None:
        super().__init__(load, link, client_id)
        self.received = 0
        self.last_at = 0

    def taken(self, run: Run, now: int) -> None:
        self.received += run.count
        self.last_at = now


class Room(Connections):
    """The connections of this measurement, in the parent's own process."""

    def pump_all(self, setters: Sequence[Setter], progress: Progress, what: str) -> float:
        """Have all of them set all of theirs; returns how many seconds it took.

        @raise Fault: nothing moves any more.
        """
        whole = max(1, sum(len(setter.topics) for setter in setters))
        began = moved = time.monotonic()
        before = -1
        while True:
            for setter in setters:
                setter.pump()
                if setter.link.clogged:
                    self.selector.modify(setter.link.sock, setter.link.wants, setter)
            self.turn(0.05)
            done = sum(setter.acked for setter in setters)
            now = time.monotonic()
            if done != before:
                before = done
                moved = now
                progress(what, done / whole)
            if done >= whole:
                return now - began
            if now - moved > self.load.timeout:
                raise Fault(f"{done} of {whole} retained messages were acknowledged, then none")

    def collect(
        self, collector: Collector, pinger: Client, prefix: str, wanted: int, progress: Progress
    ) -> tuple[Histogram, int]:
        """Take what comes until it is all there, pinging; returns the times of the answers and
        when the subscription was made."""
        pings = Histogram()
        collector.subscribe(f"{prefix}/#")
        began = moved = monotonic_ns()
        answered = pinger.pinged
        asked_at = 0
        next_at = began
        while collector.received < wanted:
            now = monotonic_ns()
            if not asked_at and now >= next_at:
                pinger.ping()
                asked_at = now
            before = collector.received
            self.turn(0.001)
            now = monotonic_ns()
            if pinger.pinged > answered:
                answered = pinger.pinged
                pings.add(now - asked_at)
                next_at = asked_at + _PING_EVERY
                asked_at = 0
            if collector.received != before:
                moved = now
                progress("delivering", collector.received / wanted)
            elif now - moved > self.load.timeout * 1e9:
                break
        if asked_at:
            # The last one counts too, however long it takes.
            while pinger.pinged == answered and monotonic_ns() - asked_at < 60e9:
                self.turn(0.1)
            pings.add(monotonic_ns() - asked_at)
        return pings, began


def measure(load: Load, pids: Sequence[int], progress: Progress) -> dict[str, Any]:
    """Run it; returns what L{report} prints. The messages are taken back in the end.

    @raise Fault: it could not be driven.
    """
    run = secrets.token_hex(4)
    prefix = load.topic or f"bench/{run}"
    topics = [f"{prefix}/d{number % 1000:03}/t{number:07}" for number in range(load.retained)]
    result = describe(load, 1)
    result.update(publishers=load.publishers, subscribers=1, qos=1)
    result["retained"] = load.retained
    try:
        room = Room(load)
        makes: list[Make] = [
            partial(
                Setter,
                load,
                client_id=f"bench-{run}-r{number}",
                topics=topics[number :: load.publishers],
            )
            for number in range(load.publishers)
        ]
        makes.append(partial(Collector, load, client_id=f"bench-{run}-c"))
        makes.append(partial(Client, load, client_id=f"bench-{run}-g"))
        clients = room.connect_all(makes)
        setters = [client for client in clients if isinstance(client, Setter)]
        collector, pinger = clients[-2:]
        assert isinstance(collector, Collector)
        before = usage(pids)
        for setter in setters:
            setter.value = bytes(load.size)
        seconds = room.pump_all(setters, progress, "setting")
        result["publishes_per_s"] = round(load.retained / seconds)
        time.sleep(load.settle)
        if pids:
            held = usage(pids).resident - before.resident
            result["bytes_per_message"] = held // load.retained
        pings, began = room.collect(collector, pinger, prefix, load.retained, progress)
        seconds = (collector.last_at - began) / 1e9
        result.update(
            delivered=collector.received,
            lost=load.retained - collector.received,
            duplicates=0,
            disorder=0,
            seconds=round(seconds, 3),
            deliveries_per_s=round(collector.received / seconds) if seconds > 0 else 0,
            pings=pings.count,
            ping_ms=pings.milliseconds(),
        )
        collector.close()
        room.forget(collector)
        for setter in setters:
            setter.value = b""
            setter.sent = setter.acked = 0
        room.pump_all(setters, progress, "taking back")
        for setter in setters:
            setter.close()
        pinger.close()
    except LinkLost as error:
        raise Fault(str(error)) from None
    return result
