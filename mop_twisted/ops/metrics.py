"""The node's numbers for Prometheus.

One table, L{METRICS}, says what there is: name, kind, labels, meaning, and how it is read from
L{Counters} and L{Observed}. The exposition and docs/reference/metrics.md are both made from it.
prometheus-client writes the text; its own counters are not used, since they take a lock for
every increment.

Labels are few and bounded: packet types, QoS, reason codes, listeners, back ends; never a client
identifier or a topic. Names are base units, C{_total} for what only rises; MoP's eight names are
kept for the boards that exist.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    UntypedMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

import twisted

from .. import __version__
from ..broker.counters import DROP_NAMES, PAUSE_NAMES, Counters, Histogram
from ..codec.packets import PACKET_NAMES
from ..reasons import ReasonCode
from .observed import Observed

Samples = Iterable[tuple[tuple[str, ...], float]]
"""Label values and a value, for each time series."""
Read = Callable[[Counters, Observed], Samples]

GAUGE: Final = "gauge"
COUNTER: Final = "counter"
HISTOGRAM: Final = "histogram"
UNTYPED: Final = "untyped"
"""Rises, but its name does not end in C{_total}."""


class Row(NamedTuple):
    """One metric: C{read} for all kinds but histograms, which have C{histogram}."""

    name: str
    kind: str
    meaning: str
    labels: tuple[str, ...] = ()
    read: Read | None = None
    histogram: Callable[[Counters], Histogram] | None = None


def _one(value: Callable[[Counters, Observed], float]) -> Read:
    return lambda counters, observed: [((), value(counters, observed))]


def _by_type(value: Callable[[Counters, int], int]) -> Read:
    return lambda counters, _: [
        ((PACKET_NAMES[kind],), value(counters, kind)) for kind in range(1, 16)
    ]


def _by_name(names: tuple[str, ...], values: Callable[[Counters], list[int]]) -> Read:
    return lambda counters, _: [((name,), n) for name, n in zip(names, values(counters))]  # noqa: B905


def _by_code(values: Callable[[Counters], list[int]]) -> Read:
    """Codes that have come up, and success, so that there is a series to start from."""
    return lambda counters, _: [
        ((f"0x{code:02x}",), n) for code, n in enumerate(values(counters)) if n or not code
    ]


def _sessions(counters: Counters, _: Observed) -> Samples:
    return [
        (("connected",), counters.sessions_connected),
        (("offline",), counters.sessions_offline),
    ]


def _subscriptions(counters: Counters, _: Observed) -> Samples:
    shared, wildcard = counters.subscriptions_shared, counters.subscriptions_wildcard
    return [
        (("normal",), counters.subscriptions - shared - wildcard),
        (("wildcard",), wildcard),
        (("shared",), shared),
    ]


_QOS: Final = ("0", "1", "2")

METRICS: Final[tuple[Row, ...]] = (
    Row("mop_build_info", GAUGE, "1; the labels say what is running.",
        ("version", "python", "twisted"),
        lambda c, o: [((__version__, platform.python_version(), twisted.__version__), 1)]),
    Row("mop_uptime_seconds", GAUGE, "Seconds since the start.", (), _one(lambda c, o: o.uptime)),
    Row("mop_connections", GAUGE, "Transports that are open, whether CONNECT has come or not.", (),
        _one(lambda c, o: c.connections)),
    Row("mop_connections_maximum", GAUGE, "The most there have been at once.", (),
        _one(lambda c, o: c.connections_maximum)),
    Row("mop_connections_total", COUNTER, "Transports that were accepted.", (),
        _one(lambda c, o: c.connections_total)),
    Row("mop_connack_total", COUNTER, "CONNACKs by MQTT 5.0 reason code, whatever the client's "
        "version.", ("code",), _by_code(lambda c: c.connack)),
    Row("mop_auth_failures_total", COUNTER, "Clients that were not let in, by what decided it and "
        "the name of the reason code.", ("backend", "reason"),
        lambda c, o: sorted(c.auth_failures.items())),
    Row("mop_disconnects_received_total", COUNTER, "DISCONNECT packets by reason code.", ("code",),
        _by_code(lambda c: c.disconnects_received)),
    Row("mop_disconnects_sent_total", COUNTER, "Connections that the server ended, by reason code, "
        "also where the version has no packet for it.", ("code",),
        _by_code(lambda c: c.disconnects_sent)),
    Row("mop_protocol_errors_total", COUNTER, "Connections that broke the protocol, by reason "
        "code.", ("code",), _by_code(lambda c: c.protocol_errors)),
    Row("mop_sessions", GAUGE, "Sessions, connected or waiting for their client.", ("state",),
        _sessions),
    Row("mop_sessions_paused", GAUGE, "Sessions by why nothing is being sent to them right now.",
        ("reason",), _by_name(PAUSE_NAMES, lambda c: c.sessions_paused)),
    Row("mop_sessions_expired_total", COUNTER, "Sessions whose expiry interval was over.", (),
        _one(lambda c, o: c.sessions_expired)),
    Row("mop_sessions_taken_over_total", COUNTER, "Connections ended by a later one of the same "
        "client identifier.", (), _one(lambda c, o: c.taken_over)),
    Row("mop_wills_published_total", COUNTER, "Will messages that were published.", (),
        _one(lambda c, o: c.wills_published)),
    Row("mop_subscriptions", GAUGE, "Subscriptions of all sessions; a shared one with a wildcard "
        "counts as shared.", ("kind",), _subscriptions),
    Row("mop_retained_messages", GAUGE, "Retained messages.", (),
        _one(lambda c, o: c.retained_messages)),
    Row("mop_retained_bytes", GAUGE, "Bytes of retained messages.", (),
        _one(lambda c, o: c.retained_bytes)),
    Row("mop_packets_received_total", COUNTER, "MQTT packets from clients.", ("type",),
        _by_type(Counters.packets_received_of)),
    Row("mop_packets_sent_total", COUNTER, "MQTT packets to clients.", ("type",),
        _by_type(Counters.packets_sent_of)),
    Row("mop_bytes_received_total", COUNTER, "Bytes of MQTT from clients, without TLS and "
        "WebSocket framing.", (), _one(lambda c, o: c.bytes_received)),
    Row("mop_bytes_sent_total", COUNTER, "Bytes of MQTT to clients, counted the same way.", (),
        _one(lambda c, o: c.bytes_sent)),
    Row("mop_publishes_received_total", COUNTER, "PUBLISH packets from clients, repetitions too.",
        ("qos",), _by_name(_QOS, lambda c: c.publishes_received)),
    Row("mop_publishes_sent_total", COUNTER, "PUBLISH packets to clients.", ("qos",),
        _by_name(_QOS, lambda c: c.publishes_sent)),
    Row("mop_publish_bytes_received_total", COUNTER, "Payload bytes from clients.", (),
        _one(lambda c, o: c.publish_bytes_received)),
    Row("mop_publish_bytes_sent_total", COUNTER, "Payload bytes to clients.", (),
        _one(lambda c, o: c.publish_bytes_sent)),
    Row("mop_messages_dropped_total", COUNTER, "Messages that did not reach a client that they "
        "were for, or were not taken, by reason; one that several sessions miss counts for each.",
        ("reason",), _by_name(DROP_NAMES, lambda c: c.dropped)),
    Row("mop_queued_bytes", GAUGE, "Bytes in memory that wait for clients.", (),
        _one(lambda c, o: o.queued_bytes())),
    Row("mop_publish_ack_seconds", HISTOGRAM, "From reading QoS 1 and 2 PUBLISHes to their PUBACK "
        "or PUBREC.", (), None, lambda c: c.publish_ack_seconds),
    Row("mop_store_commit_seconds", HISTOGRAM, "One durable write of the log.", (), None,
        lambda c: c.store_commit_seconds),
    Row("mop_store_batch_size", HISTOGRAM, "Batches and records in one durable write.", (), None,
        lambda c: c.store_batch_size),
    Row("mop_store_append_failures_total", COUNTER, "Batches that the log did not take.", (),
        _one(lambda c, o: c.append_failures)),
    Row("mop_store_fetch_failures_total", COUNTER, "Reads of the log that failed.", (),
        _one(lambda c, o: c.fetch_failures)),
    Row("mop_log_up", GAUGE, "1 while the log takes messages, 0 while appends fail.", (),
        _one(lambda c, o: o.log_healthy())),
    Row("mop_log_congested", GAUGE, "1 while publishers are not read because too much waits to be "
        "appended.", (), _one(lambda c, o: o.log_congested())),
    Row("mop_log_queue_bytes", GAUGE, "Bytes that wait to be appended.", (),
        _one(lambda c, o: o.log_queue_bytes())),
    Row("mop_journal_backlog_messages", GAUGE, "Messages in the log that some session or group has "
        "not acknowledged.", (), _one(lambda c, o: o.backlog_messages())),
    Row("mop_journal_backlog_bytes", GAUGE, "Their bytes.", (),
        _one(lambda c, o: o.backlog_bytes())),
    Row("mop_reactor_lag_seconds", GAUGE, "By how much the reactor's last timed call came late.",
        (), _one(lambda c, o: o.reactor_lag())),
    Row("mop_reactor_lag_maximum_seconds", GAUGE, "The largest of the last minute.", (),
        _one(lambda c, o: o.reactor_lag_maximum())),
    Row("mop_certificate_expiry_timestamp_seconds", GAUGE, "When a listener's certificate expires, "
        "in seconds since 1970.", ("listener",),
        lambda c, o: [((name,), at) for name, at in sorted(o.certificates().items())]),
    Row("mop_active_client_count", GAUGE, "MoP's name: connections now.", ("cluster",),
        lambda c, o: [((o.cluster,), c.connections)]),
    Row("mop_total_client_count", UNTYPED, "MoP's name: connections since the start.",
        ("cluster",), lambda c, o: [((o.cluster,), c.connections_total)]),
    Row("mop_maximum_client_count", GAUGE, "MoP's name: the most connections at once.",
        ("cluster",), lambda c, o: [((o.cluster,), c.connections_maximum)]),
    Row("mop_sub_count", GAUGE, "MoP's name: subscriptions.", ("cluster",),
        lambda c, o: [((o.cluster,), c.subscriptions)]),
    Row("mop_send_count", UNTYPED, "MoP's name: messages sent by clients, and wills.", ("cluster",),
        lambda c, o: [((o.cluster,), sum(c.publishes_received) + c.wills_published)]),
    Row("mop_send_bytes", UNTYPED, "MoP's name: their payload bytes, without wills.", ("cluster",),
        lambda c, o: [((o.cluster,), c.publish_bytes_received)]),
    Row("mop_received_count", UNTYPED, "MoP's name: messages received by clients.", ("cluster",),
        lambda c, o: [((o.cluster,), sum(c.publishes_sent))]),
    Row("mop_received_bytes", UNTYPED, "MoP's name: their payload bytes.", ("cluster",),
        lambda c, o: [((o.cluster,), c.publish_bytes_sent)]),
)  # fmt: skip
"""Every metric of ours, in the order in which they are shown."""


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """As Prometheus wants them: cumulative, with +Inf at the end."""
    cumulative: list[tuple[str, float]] = []
    count = 0
    for bound, n in zip(histogram.bounds, histogram.counts, strict=False):
        count += n
        cumulative.append((str(bound), count))
    cumulative.append(("+Inf", count + histogram.counts[-1]))
    return cumulative


class NodeCollector(Collector):
    """Reads the table when Prometheus comes, and never in between."""

    def __init__(self, counters: Counters, observed: Observed) -> None:
        self._counters = counters
        self._observed = observed

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering does not read anything."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """All metrics, with their values of now."""
        counters, observed = self._counters, self._observed
        observed.refresh()
        for row in METRICS:
            if row.histogram is not None:
                histogram = row.histogram(counters)
                summary = HistogramMetricFamily(row.name, row.meaning)
                summary.add_metric([], _buckets(histogram), histogram.total)
                yield summary
            elif row.read is not None:
                family = _FAMILIES[row.kind](row.name, row.meaning, labels=row.labels)
                for labels, value in row.read(counters, observed):
                    family.add_metric(labels, value)
                yield family


_FAMILIES: Final = {
    GAUGE: GaugeMetricFamily,
    COUNTER: CounterMetricFamily,
    UNTYPED: UntypedMetricFamily,
}


class Exposition:
    """The page C{/metrics}: the node's metrics, and what the system says of the process."""

    def __init__(self, counters: Counters, observed: Observed) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(NodeCollector(counters, observed))
        ProcessCollector(registry=self._registry)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """The page and its content type: OpenMetrics where the C{Accept} header asks for it,
        else Prometheus' text format."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def reference() -> str:
    """docs/reference/metrics.md."""
    lines = [
        "# Metrics",
        "",
        "`GET /metrics` of the admin listener, in Prometheus' text format or OpenMetrics. Made by",
        "`python -m mop_twisted.ops.metrics`; do not edit.",
        "",
        "“Received” is from clients, “sent” is to clients. No label holds a client identifier or",
        "a topic. Of the labels,",
        "",
        "- `code` is a reason code of MQTT 5.0 section 2.4, as `0x87`;",
        "- `reason` of `mop_auth_failures_total` is the name of one, as "
        f"`{ReasonCode.NOT_AUTHORIZED.name.lower()}`;",
        f"- `reason` of `mop_messages_dropped_total` is {_listed(DROP_NAMES)};",
        f"- `reason` of `mop_sessions_paused` is {_listed(PAUSE_NAMES)};",
        "- `cluster` is MoP's.",
        "",
        "| name | kind | labels | meaning |",
        "|---|---|---|---|",
    ]
    for row in METRICS:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.meaning} |")
    lines += [
        "",
        "Beside these there are prometheus-client's `process_…` metrics: CPU seconds, resident",
        "memory, open and allowed file descriptors.",
        "",
    ]
    return "\n".join(lines)


def _listed(names: Iterable[str]) -> str:
    *others, last = (f"`{name}`" for name in names)
    return f"{', '.join(others)} or {last}"


if __name__ == "__main__":
    print(reference(), end="")
