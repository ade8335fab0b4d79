"""What the admin listener says about the node as a whole, made of counters and observations.

Structures here are the bodies of C{/api/v1} and their schema; C{/mop/stats} has MoP's fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Protocol

import msgspec
from twisted.internet.defer import Deferred

from .. import __version__
from ..broker.counters import DROP_NAMES, PAUSE_NAMES, Counters
from ..broker.shown import ShownClient, ShownListener, ShownRetained, ShownSubscription
from .observed import Observed, resident_bytes

LISTED: Final = 1000
"""Client identifiers and filters that C{/mop/stats} lists at most; its counts are of all."""


class BrokerView(Protocol):
    """What the admin room asks of the broker. Everything answers from memory, a page at a time;
    a page comes with the number of all."""

    def clients(self, offset: int, limit: int) -> tuple[list[ShownClient], int]:
        """Sessions, connected or not, in an order that stays while none comes or goes."""

    def client(self, client_id: str) -> ShownClient | None:
        """One of them."""

    def subscriptions(
        self, client_id: str | None, offset: int, limit: int
    ) -> tuple[list[ShownSubscription], int]:
        """Those of a client, or of all."""

    def retained(
        self, topic_filter: str, offset: int, limit: int
    ) -> tuple[list[ShownRetained], int]:
        """Retained messages that match.

        @raise PeerError: C{topic_filter} is no valid one.
        """

    def listeners(self) -> list[ShownListener]:
        """All of this node."""

    def kick(self, client_id: str) -> bool:
        """End the client's connection with 0x98, Administrative action; the session stays.
        False: it has no connection."""

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> Deferred[None]:
        """Publish in the node's own name; fires when it is as durable as it will be.

        @raise MopError: (in the Deferred) the topic is not valid, or the log does not take it.
        """

    def delete_retained(self, topic: str) -> Deferred[bool]:
        """Forget a retained message, durably; False: there was none.

        @raise MopError: (in the Deferred) the store does not take it.
        """


class Publication(msgspec.Struct, forbid_unknown_fields=True):
    """A message to publish; its payload as text, or in base 64."""

    topic: str
    payload: str = ""
    payload_base64: bytes | None = None
    qos: Annotated[int, msgspec.Meta(ge=0, le=2)] = 0
    retain: bool = False


class Traffic(msgspec.Struct):
    """One direction, since the start."""

    packets: int
    publishes: int
    publish_bytes: int
    bytes: int


class Latency(msgspec.Struct):
    """Acknowledgements by how long they took: C{counts[i]} took at most C{bounds[i]} seconds,
    the last one longer than all bounds."""

    bounds: tuple[float, ...]
    counts: list[int]


class LogState(msgspec.Struct):
    """The log below the broker."""

    name: str
    healthy: bool
    congested: bool
    queue_bytes: int
    backlog_messages: int
    backlog_bytes: int


class Node(msgspec.Struct):
    """Everything at a glance; totals are since the start."""

    version: str
    uptime_seconds: float
    connections: int
    connections_maximum: int
    connections_total: int
    sessions_connected: int
    sessions_offline: int
    sessions_paused: dict[str, int]
    subscriptions: int
    subscriptions_shared: int
    retained_messages: int
    retained_bytes: int
    received: Traffic
    sent: Traffic
    dropped: dict[str, int]
    refused: int
    """CONNECTs that were refused."""
    protocol_errors: int
    queued_bytes: int
    """Waiting in memory for clients."""
    publish_ack: Latency
    log: LogState
    reactor_lag_seconds: float
    reactor_lag_maximum_seconds: float
    memory_bytes: int


def describe(counters: Counters, observed: Observed) -> Node:
    """C{/api/v1/broker}."""
    observed.refresh()
    return Node(
        version=__version__,
        uptime_seconds=round(observed.uptime, 3),
        connections=counters.connections,
        connections_maximum=counters.connections_maximum,
        connections_total=counters.connections_total,
        sessions_connected=counters.sessions_connected,
        sessions_offline=counters.sessions_offline,
        sessions_paused=dict(zip(PAUSE_NAMES, counters.sessions_paused, strict=True)),
        subscriptions=counters.subscriptions,
        subscriptions_shared=counters.subscriptions_shared,
        retained_messages=counters.retained_messages,
        retained_bytes=counters.retained_bytes,
        received=Traffic(
            sum(counters.packets_received) + sum(counters.publishes_received),
            sum(counters.publishes_received),
            counters.publish_bytes_received,
            counters.bytes_received,
        ),
        sent=Traffic(
            sum(counters.packets_sent) + sum(counters.publishes_sent),
            sum(counters.publishes_sent),
            counters.publish_bytes_sent,
            counters.bytes_sent,
        ),
        dropped=dict(zip(DROP_NAMES, counters.dropped, strict=True)),
        refused=sum(counters.connack[1:]),
        protocol_errors=sum(counters.protocol_errors),
        queued_bytes=observed.queued_bytes(),
        publish_ack=Latency(
            counters.publish_ack_seconds.bounds, counters.publish_ack_seconds.counts
        ),
        log=LogState(
            observed.log_name,
            observed.log_healthy(),
            observed.log_congested(),
            observed.log_queue_bytes(),
            observed.backlog_messages(),
            observed.backlog_bytes(),
        ),
        reactor_lag_seconds=round(observed.reactor_lag(), 6),
        reactor_lag_maximum_seconds=round(observed.reactor_lag_maximum(), 6),
        memory_bytes=resident_bytes(),
    )


def mop_stats(counters: Counters, observed: Observed, view: BrokerView) -> dict[str, Any]:
    """C{/mop/stats}, field by field as MoP has it: "send" is what clients send."""
    observed.refresh()
    clients, _ = view.clients(0, LISTED)
    subscriptions, count = view.subscriptions(None, 0, LISTED)
    return {
        "version": __version__,
        "uptime": f"{int(observed.uptime)} seconds",
        "cluster": observed.cluster,
        "tenant": observed.tenant,
        "namespace": observed.namespace,
        "clients": {
            "total": counters.connections_total,
            "maximum": counters.connections_maximum,
            "active": counters.connections,
            "active_clients": [client.client_id for client in clients if client.connected],
        },
        "subscriptions": {
            "count": count,
            "subs": sorted({subscription.topic_filter for subscription in subscriptions}),
        },
        "messages": {
            "send_count": sum(counters.publishes_received) + counters.wills_published,
            "send_bytes": counters.publish_bytes_received,
            "received_count": sum(counters.publishes_sent),
            "received_bytes": counters.publish_bytes_sent,
        },
    }
