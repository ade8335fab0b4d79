"""A great many persistent sessions with ten subscriptions each, offline: what they weigh, and what
publishing to topics that were never seen before costs beside them, while subscriptions change.

One process. The filters are L{inside.filters_of}'s: five levels, 60 % without wildcards, 30 % with
C{+}, 10 % with C{#}.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Sequence
from functools import partial
from time import monotonic_ns
from typing import Any, Final

from ...codec.encode import encode, encode_publish
from ...codec.packets import NO_PROPERTIES, FilterRequest, Publish, Subscribe
from .client import Client
from .connections import Connections, Make
from .fleet import Fault, Progress, describe
from .frames import packet_id_of
from .histogram import Histogram
from .inside import filters_of
from .link import Link, LinkLost
from .load import Load
from .usage import usage

_TOGETHER: Final = 500
"""Sessions that are connected at the same time."""
_CHANGE_EVERY: Final = 1_000_000
_FEW: Final = 50
"""Publishes between two looks at what has come."""


class Device(Client):
    """A session with ten subscriptions, asked for in one SUBSCRIBE."""

    __slots__ = ("_number",)

    def __init__(self, load: Load, link: Link, run: str, number: int) -> None:
        super().__init__(load, link, f"bench-{run}-d{number}", "ten of them", persistent=True)
        self._number = number

    def subscribe(self, topic_filter: str) -> None:
        requests = [FilterRequest(each, 1) for each in filters_of(self._number)]
        self.link.send(encode(Subscribe(1, requests), self._load.level))


class Changer(Client):
    """Subscribes to one filter of a device after another, as often as it is told."""

    __slots__ = ("changes",)

    def __init__(self, load: Load, link: Link, client_id: str) -> None:
        super().__init__(load, link, client_id)
        self.changes = 0

    def change(self, chance: random.Random) -> None:
        """One SUBSCRIBE."""
        topic_filter = filters_of(chance.randrange(self._load.sessions))[self.changes % 10]
        self.changes += 1
        request = Subscribe(packet_id_of(self.changes), [FilterRequest(topic_filter, 0)])
        self.link.send(encode(request, self._load.level))


class Stranger(Client):
    """Publishes at QoS 1 to ever new topics, with a window."""

    __slots__ = ("_sent_at", "acked", "sent", "times")

    def __init__(self, load: Load, link: Link, client_id: str) -> None:
        super().__init__(load, link, client_id)
        self.sent = 0
        self.acked = 0
        self.times = Histogram()
        self._sent_at: list[int] = []

    def publish(self, topics: Sequence[str]) -> None:
        """Send to the next topics, as far as the window has room."""
        window = min(self._load.window, self.receive_maximum)
        count = min(_FEW, window - self.sent + self.acked, len(topics) - self.sent)
        if count <= 0 or self.link.clogged:
            return
        level = self._load.level
        frames = [
            encode_publish(
                Publish(topics[number], b"x"), level, 1, False, False,
                packet_id_of(number), NO_PROPERTIES,
            )
            for number in range(self.sent, self.sent + count)
        ]  # fmt: skip
        now = monotonic_ns()
        self._sent_at += [now] * count
        self.sent += count
        self.link.send(b"".join(frames))

    def acknowledged(self, count: int) -> None:
        now = monotonic_ns()
        for number in range(self.acked, self.acked + count):
            self.times.add(now - self._sent_at[number])
        self.acked += count


def measure(load: Load, pids: Sequence[int], progress: Progress) -> dict[str, Any]:
    """Run it; returns what is reported. The sessions are ended, unless the load says to keep them.

    @raise Fault: it could not be driven.
    """
    run = secrets.token_hex(4)
    result = describe(load, 1)
    result.update(publishers=1, subscribers=0, qos=1, sessions=load.sessions)
    try:
        room = Connections(load)
        before = usage(pids)
        began = time.monotonic()
        for first in range(0, load.sessions, _TOGETHER):
            progress("making sessions", first / load.sessions)
            numbers = range(first, min(first + _TOGETHER, load.sessions))
            makes: list[Make] = [partial(Device, load, run=run, number=n) for n in numbers]
            _leave(room, room.connect_all(makes))
        seconds = time.monotonic() - began
        result["sessions_per_s"] = round(load.sessions / seconds)
        time.sleep(load.settle)
        after = usage(pids)
        if pids:
            result["rss_mb"] = round(after.resident / 1e6, 1)
            result["bytes_per_session"] = (after.resident - before.resident) // load.sessions
        _publish(room, load, run, pids, progress, result)
        if not load.keep:
            for first in range(0, load.sessions, _TOGETHER):
                progress("ending sessions", first / load.sessions)
                numbers = range(first, min(first + _TOGETHER, load.sessions))
                makes = [partial(Client, load, client_id=f"bench-{run}-d{n}") for n in numbers]
                _leave(room, room.connect_all(makes))
    except LinkLost as error:
        raise Fault(str(error)) from None
    return result


def _leave(room: Connections, clients: list[Client]) -> None:
    for client in clients:
        room.forget(client)
        client.close()


def _publish(
    room: Connections,
    load: Load,
    run: str,
    pids: Sequence[int],
    progress: Progress,
    result: dict[str, Any],
) -> None:
    """Publish to new topics while subscriptions change."""
    chance = random.Random(1)
    # Third level and fifth are nobody's: each topic is matched against the whole tree, and
    # found by few.
    topics = [
        f"fleet/site{device % 500:03}/device{device:06}/x{number % 89}/y{number}"
        for number, device in enumerate(chance.choices(range(load.sessions), k=load.count))
    ]
    changer, stranger = room.connect_all(
        [
            partial(Changer, load, client_id=f"bench-{run}-c"),
            partial(Stranger, load, client_id=f"bench-{run}-p"),
        ]
    )
    assert isinstance(changer, Changer)
    assert isinstance(stranger, Stranger)
    before = usage(pids)
    began = due = moved = monotonic_ns()
    acked = 0
    while stranger.acked < len(topics):
        now = monotonic_ns()
        while now >= due:
            due += _CHANGE_EVERY
            changer.change(chance)
        stranger.publish(topics)
        room.turn(0.0005)
        if stranger.acked != acked:
            acked = stranger.acked
            moved = now
            progress("publishing", acked / len(topics))
        elif now - moved > load.timeout * 1e9:
            raise Fault(f"{acked} of {len(topics)} publishes were acknowledged, then none")
    seconds = (monotonic_ns() - began) / 1e9
    after = usage(pids)
    result.update(
        sent=stranger.sent,
        publishes_per_s=round(stranger.sent / seconds),
        changes_per_s=round(changer.changes / seconds),
        ack_ms=stranger.times.milliseconds(),
    )
    if pids:
        result["cpu_us_per_message"] = round((after.cpu - before.cpu) * 1e6 / stranger.sent, 3)
        result["rss_mib"] = round(after.resident / 1048576, 1)
    _leave(room, [changer, stranger])
