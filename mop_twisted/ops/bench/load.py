"""What a run does: one immutable description, the same for the parent and its workers.

The scenarios are such descriptions with a name; options of the command line change them.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

LEVELS: Final = {"3.1": 3, "3.1.1": 4, "5": 5}
"""Name of a protocol → its level in CONNECT."""


class Load(Struct, frozen=True, kw_only=True):
    """A load. Sizes are bytes, times seconds, rates a second."""

    host: str = "127.0.0.1"
    port: int = 1883
    tls: bool = False
    cafile: str | None = None
    certificate: str | None = None
    key: str | None = None
    insecure: bool = False
    websocket: bool = False
    path: str = "/mqtt"
    protocol: str = "3.1.1"
    user: str | None = None
    password: str | None = None

    publishers: int = 1
    subscribers: int = 1
    topics: int = 1
    """Publisher i writes to topic i modulo topics."""
    filter: str = "all"
    """all: every subscriber takes all topics; one: subscriber i takes topic i modulo topics;
    share: all topics, as one shared group."""
    topic: str = ""
    """The topics' common beginning; "": a fresh one."""
    count: int = 10_000
    """Messages a publisher."""
    duration: float = 0.0
    """When not 0, publish for so long instead of C{count} messages."""
    rate: float = 0.0
    """Messages of all publishers together; 0: as fast as it goes."""
    phase: str = "even"
    """With a rate: even spreads the publishers over the interval, together lets all publish at
    the same moment."""
    size: int = 100
    qos: int = 0
    subscribe_qos: int | None = None
    """None: as C{qos}."""
    window: int = 100
    """Unacknowledged messages a publisher."""
    retain: bool = False
    persistent: str = "none"
    """Whose sessions outlive their connections: none, subscribers, publishers, all."""
    idle: int = 0
    """Connections with one subscription each that do nothing."""
    retained: int = 0
    """Retained messages that are set first and then all delivered to a new subscription."""
    sessions: int = 0
    """Persistent sessions of ten subscriptions each, that are made and left offline."""
    keep: bool = False
    """Leave those sessions when it is over."""
    timeout: float = 60.0
    """Give up when nothing has moved for so long."""
    settle: float = 0.5
    """Pause before publishing, and before memory is read."""
    processes: int = 0
    """Worker processes; 0: as many as suit the machine."""

    @property
    def level(self) -> int:
        """The protocol level."""
        return LEVELS[self.protocol]

    @property
    def granted(self) -> int:
        """The QoS that subscribers ask for."""
        return self.qos if self.subscribe_qos is None else self.subscribe_qos

    def topic_of(self, prefix: str, number: int) -> str:
        """The topic with this number; all are equally long."""
        return f"{prefix}/t{number:0{len(str(max(0, self.topics - 1)))}}"

    def filter_of(self, prefix: str, subscriber: int) -> str:
        """The topic filter of a subscriber."""
        if self.filter == "one":
            return self.topic_of(prefix, subscriber % self.topics)
        return f"$share/bench/{prefix}/#" if self.filter == "share" else f"{prefix}/#"

    def expected(self, published: list[int]) -> int:
        """Deliveries that must come when publisher i has published C{published[i]} messages."""
        if not self.subscribers:
            return 0
        if self.filter == "share":
            return sum(published)
        if self.filter == "all":
            return sum(published) * self.subscribers
        takers = [0] * self.topics
        for subscriber in range(self.subscribers):
            takers[subscriber % self.topics] += 1
        return sum(count * takers[i % self.topics] for i, count in enumerate(published))


class Share(Struct, frozen=True, kw_only=True):
    """A worker's part of a load: the numbers of its publishers, subscribers, idle ones."""

    load: Load
    run: str
    tag: int
    prefix: str
    publishers: list[int]
    subscribers: list[int]
    idle: list[int]


def shares(load: Load, run: str, tag: int, workers: int) -> list[Share]:
    """Split a load so that every worker has about the same to do: the heaviest first, each to
    the worker that has least so far. Taking a message is counted as twice making one."""
    prefix = load.topic or f"bench/{run}"
    deliveries = load.expected([1] * load.publishers) / max(1, load.subscribers)
    parts: list[tuple[float, str, int]] = [
        *((2 * deliveries, "subscribers", i) for i in range(load.subscribers)),
        *((1.0, "publishers", i) for i in range(load.publishers)),
    ]
    parts.sort(key=lambda part: -part[0])
    loads = [0.0] * workers
    given: list[dict[str, list[int]]] = [
        {"publishers": [], "subscribers": [], "idle": []} for _ in range(workers)
    ]
    taking = range(workers)
    making = range(workers)
    if load.rate and workers > 1:
        taking = range((workers + 1) // 2)
        making = range((workers + 1) // 2, workers)
    for weight, what, number in parts:
        lightest = min(taking if what == "subscribers" else making, key=loads.__getitem__)
        loads[lightest] += weight + 0.01
        given[lightest][what].append(number)
    for number in range(load.idle):
        given[number % workers]["idle"].append(number)
    return [Share(load=load, run=run, tag=tag, prefix=prefix, **part) for part in given]


SCENARIOS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "qos0-fan-in": (
        "QoS 0, 4 publishers, 1 subscriber",
        {"qos": 0, "publishers": 4, "count": 50_000},
    ),
    "qos1-fan-in": (
        "QoS 1, 4 publishers, 1 subscriber, window 100",
        {"qos": 1, "publishers": 4, "count": 25_000, "window": 100},
    ),
    "qos2-fan-in": (
        "QoS 2, 4 publishers, 1 subscriber, window 50",
        {"qos": 2, "publishers": 4, "count": 5000, "window": 50},
    ),
    "fan-out": (
        "QoS 0, 1 publisher, 100 subscribers",
        {"qos": 0, "subscribers": 100, "count": 2000},
    ),
    "pairs": (
        "QoS 1, 100 pairs, 2,000 messages a second, all at the same moments",
        {"qos": 1, "publishers": 100, "subscribers": 100, "topics": 100, "filter": "one",
         "rate": 2000.0, "count": 60, "phase": "together"},
    ),
    "pairs-even": (
        "QoS 1, 100 pairs, 2,000 messages a second, spread over time",
        {"qos": 1, "publishers": 100, "subscribers": 100, "topics": 100, "filter": "one",
         "rate": 2000.0, "count": 60},
    ),
    "shared": (
        "QoS 1, 4 publishers, a shared group of 4",
        {"qos": 1, "publishers": 4, "subscribers": 4, "filter": "share", "count": 10_000},
    ),
    "idle": (
        "5,000 idle connections with a subscription each",
        {"idle": 5000, "count": 10},
    ),
    "persistent": (
        "QoS 1, 4 publishers, 1 persistent session, window 1000",
        {"qos": 1, "publishers": 4, "count": 25_000, "window": 1000,
         "persistent": "subscribers"},
    ),
    "persistent-qos2": (
        "QoS 2, 4 publishers, 1 subscriber, all with persistent sessions, window 1000",
        {"qos": 2, "publishers": 4, "count": 5000, "window": 1000, "persistent": "all"},
    ),
    "fan-out-persistent": (
        "QoS 1, 1 publisher, 1,000 subscribers with persistent sessions",
        {"qos": 1, "subscribers": 1000, "count": 200, "persistent": "subscribers"},
    ),
    "fan-out-clean": (
        "QoS 1, 1 publisher, 1,000 subscribers with clean sessions",
        {"qos": 1, "subscribers": 1000, "count": 200},
    ),
    "retained-million": (
        "a million retained messages, delivered to # while another client pings",
        {"qos": 1, "publishers": 4, "retained": 1_000_000, "window": 500, "size": 32},
    ),
    "sessions": (
        "100,000 persistent sessions of ten subscriptions, new topics, 1,000 SUBSCRIBEs a second",
        {"sessions": 100_000, "count": 50_000, "window": 100},
    ),
    "conn-1K": (
        "1,000 connections",
        {"publishers": 0, "subscribers": 0, "idle": 1000},
    ),
    "p2p-1K": (
        "QoS 1, 1,000 pairs, 1,000 messages a second",
        {"qos": 1, "publishers": 1000, "subscribers": 1000, "topics": 1000, "filter": "one",
         "rate": 1000.0, "count": 10, "size": 16},
    ),
    "fan-in-1K-5": (
        "QoS 1, 1,000 publishers, a shared group of 5, 1,000 messages a second",
        {"qos": 1, "publishers": 1000, "subscribers": 5, "topics": 1000, "filter": "share",
         "rate": 1000.0, "count": 10, "size": 16},
    ),
    "fan-out-1-1K": (
        "QoS 1, 1 publisher, 1,000 subscribers, one message a second",
        {"qos": 1, "subscribers": 1000, "rate": 1.0, "count": 10, "size": 16},
    ),
    "fan-out-5-1K": (
        "QoS 1, 5 publishers, 1,000 subscribers, 250 messages a second",
        {"qos": 1, "publishers": 5, "subscribers": 1000, "topics": 5, "rate": 250.0,
         "count": 100, "size": 16},
    ),
}  # fmt: skip
"""Name → what it is, and what it sets."""
