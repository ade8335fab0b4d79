"""What a node counts: plain integers, kept where the change happens.

One L{Counters} object a node. The hot path says C{counters.x += n} for a run, never a call a
message; nothing here takes a lock, reads a clock or knows who will show the numbers (that is
C{ops/metrics.py}, C{ops/systree.py} and C{ops/admin.py}). Nothing is counted by client or
topic: everything has a fixed size, but for the authentication back ends, which are named by the
configuration.

"Received" is from clients, "sent" is to clients. Totals only rise while the process lives.
"""

from __future__ import annotations

from bisect import bisect_left
from enum import IntEnum
from typing import Final, final

from ..codec.packets import PUBLISH
from ..protocol.tally import Tally


class DropReason(IntEnum):
    """Why a message did not reach a client that it was for, or was not taken at all."""

    OUTPUT_FULL = 0
    """QoS 0 to a client whose transport does not keep up."""
    QUEUE_FULL = 1
    """A session over its limits discards for itself alone."""
    SHARED_QUEUE_FULL = 2
    """The same for the queue of a shared subscription."""
    EXPIRED = 3
    """Its message expiry interval was over before it could be sent."""
    TOO_LARGE = 4
    """Over the client's maximum packet size."""
    NOT_AUTHORIZED = 5
    """Its publisher may not publish there."""
    NO_MEMORY = 6
    """The node or the retained messages are at their limit."""
    MALFORMED = 7
    """Not a valid message: its topic, or its payload against its format indicator."""
    LOG_FAILED = 8
    """The log could not append it; its publisher was told."""
    SESSION_ENDED = 9
    """It waited for a session that ended."""


DROP_NAMES: Final = tuple(reason.name.lower() for reason in DropReason)
"""What metrics call them, by value."""

PAUSE_NAMES: Final = ("caught_up", "window_full", "transport_full", "fetching", "offline")
"""What metrics call the values of C{session.PauseReason}, by value."""

LATENCY_BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0)
"""Upper bounds in seconds, from one quick fsync to what a client gives up on."""

BATCH_BOUNDS: Final = (1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 5000.0)
"""Upper bounds in messages of one commit."""


@final
class Histogram:
    """Fixed buckets. C{counts[i]} holds observations of at most C{bounds[i]}, and above the
    one before; the last one those over all bounds. Not cumulative."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0
        """Sum of what was observed."""

    def observe(self, value: float, times: int = 1) -> None:
        """C{times} observations of C{value}: one call a batch, not a message."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times


@final
class Counters:
    """Everything that one node counts."""

    __slots__ = (
        "append_failures",
        "auth_failures",
        "bytes_received",
        "bytes_sent",
        "connack",
        "connections",
        "connections_maximum",
        "connections_total",
        "disconnects_received",
        "disconnects_sent",
        "dropped",
        "fetch_failures",
        "packets_received",
        "packets_sent",
        "protocol_errors",
        "publish_ack_seconds",
        "publish_bytes_received",
        "publish_bytes_sent",
        "publishes_received",
        "publishes_sent",
        "retained_bytes",
        "retained_messages",
        "sessions_connected",
        "sessions_expired",
        "sessions_offline",
        "sessions_paused",
        "store_batch_size",
        "store_commit_seconds",
        "subscriptions",
        "subscriptions_shared",
        "subscriptions_wildcard",
        "taken_over",
        "tally",
        "wills_published",
    )

    def __init__(self) -> None:
        self.connections = 0
        """Transports now, whether CONNECT has come or not."""
        self.connections_total = 0
        self.connections_maximum = 0
        self.connack = [0] * 256
        """CONNACKs by MQTT 5.0 reason code, whatever the client's version."""
        self.auth_failures: dict[tuple[str, str], int] = {}
        """By (back end, reason name): see L{auth_failed}."""
        self.disconnects_received = [0] * 256
        """DISCONNECT packets by reason code."""
        self.disconnects_sent = [0] * 256
        """Connections ended by us, by reason code, also where the version has no packet."""
        self.protocol_errors = [0] * 256
        """Connections that broke the protocol, by reason code."""

        self.tally = Tally()
        """What connections count for themselves: the next two."""
        self.packets_received = self.tally.received
        """By packet type, as C{packets_sent}, but for PUBLISH: L{packets_received_of} takes that
        from C{publishes_received}, so that a run of messages is counted once."""
        self.packets_sent = self.tally.sent
        self.bytes_received = 0
        """Bytes of MQTT, without TLS, WebSocket and PROXY framing."""
        self.bytes_sent = 0
        self.publishes_received = [0, 0, 0]
        """PUBLISH packets by QoS, repetitions too."""
        self.publishes_sent = [0, 0, 0]
        self.publish_bytes_received = 0
        """Their payloads."""
        self.publish_bytes_sent = 0
        self.dropped = [0] * len(DropReason)
        """Messages by L{DropReason}; one that several sessions miss counts once for each."""
        self.wills_published = 0

        self.publish_ack_seconds = Histogram(LATENCY_BOUNDS)
        """From reading a run of QoS 1 or 2 PUBLISHes to its acknowledgement."""
        self.store_commit_seconds = Histogram(LATENCY_BOUNDS)
        self.store_batch_size = Histogram(BATCH_BOUNDS)
        """Batches and records in one commit."""
        self.append_failures = 0
        """Batches that the log did not take."""
        self.fetch_failures = 0

        self.subscriptions = 0
        """Of all sessions, offline ones too: see L{subscribed}."""
        self.subscriptions_shared = 0
        self.subscriptions_wildcard = 0
        """Those with a wildcard that are not shared, so that no subscription is in two."""
        self.sessions_connected = 0
        self.sessions_offline = 0
        self.sessions_expired = 0
        self.taken_over = 0
        """Connections that a later one of their client identifier ended."""
        self.sessions_paused = [0] * len(PAUSE_NAMES)
        """Sessions now, by C{session.PauseReason}."""
        self.retained_messages = 0
        self.retained_bytes = 0

    def drop(self, reason: DropReason, messages: int) -> None:
        """Count messages that are dropped."""
        self.dropped[reason] += messages

    def auth_failed(self, backend: str, reason: str) -> None:
        """Count a client that was not let in. C{backend} is a name from the configuration,
        C{reason} that of a reason code: never anything that a client has sent."""
        key = (backend, reason)
        self.auth_failures[key] = self.auth_failures.get(key, 0) + 1

    def subscribed(self, topic_filter: str, change: int = 1) -> None:
        """A new subscription to C{topic_filter}, or with -1 the end of one."""
        self.subscriptions += change
        if topic_filter.startswith("$share/"):
            self.subscriptions_shared += change
        elif "+" in topic_filter or topic_filter.endswith("#"):
            self.subscriptions_wildcard += change

    def packets_received_of(self, kind: int) -> int:
        """Packets of one type received."""
        return sum(self.publishes_received) if kind == PUBLISH else self.packets_received[kind]

    def packets_sent_of(self, kind: int) -> int:
        """Packets of one type sent."""
        return sum(self.publishes_sent) if kind == PUBLISH else self.packets_sent[kind]
