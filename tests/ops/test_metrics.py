"""What Prometheus sees."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.broker.counters import Counters, DropReason
from mop_twisted.codec.packets import PUBACK
from mop_twisted.ops.metrics import METRICS, Exposition, reference
from mop_twisted.ops.observed import Observed
from mop_twisted.reasons import ReasonCode

Labels = frozenset[tuple[str, str]]

PROMISED = [
    "mop_connections",
    "mop_sessions",
    "mop_subscriptions",
    "mop_retained_messages",
    "mop_packets_received_total",
    "mop_packets_sent_total",
    "mop_messages_dropped_total",
    "mop_bytes_received_total",
    "mop_bytes_sent_total",
    "mop_auth_failures_total",
    "mop_connack_total",
    "mop_publish_ack_seconds",
    "mop_store_commit_seconds",
    "mop_store_batch_size",
    "mop_journal_backlog_messages",
    "mop_reactor_lag_seconds",
    "mop_certificate_expiry_timestamp_seconds",
    "mop_build_info",
    "mop_active_client_count",
    "mop_total_client_count",
    "mop_maximum_client_count",
    "mop_sub_count",
    "mop_send_count",
    "mop_send_bytes",
    "mop_received_count",
    "mop_received_bytes",
]
"""Names that alarms and boards hang on."""


class MetricsTests(SynchronousTestCase):
    """The page, read as Prometheus reads it."""

    def setUp(self) -> None:
        self.counters = Counters()
        self.observed = Observed(Clock().seconds)
        self.exposition = Exposition(self.counters, self.observed)

    def scrape(self) -> dict[tuple[str, Labels], float]:
        """Every sample of the page."""
        page, _ = self.exposition.render()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(page.decode())
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        return self.scrape()[name, frozenset(labels.items())]

    def test_promised_names(self) -> None:
        """The names that the documentation of anchors and MoP's boards use are all there."""
        names = {row.name for row in METRICS}
        self.assertEqual(set(), set(PROMISED) - names)
        page = self.exposition.render()[0].decode()
        for row in METRICS:
            self.assertIn(f"# HELP {row.name} ", page)

    def test_counters(self) -> None:
        """What the node counts is what is shown."""
        c = self.counters
        c.connections, c.connections_total, c.connections_maximum = 3, 9, 5
        c.connack[ReasonCode.NOT_AUTHORIZED] = 2
        c.auth_failed("passwords", "bad_user_name_or_password")
        c.packets_received[PUBACK] = 4
        c.publishes_received[2] = 6
        c.drop(DropReason.QUEUE_FULL, 8)
        c.sessions_connected, c.sessions_offline = 2, 1
        c.bytes_received = 12345678901
        for name, labels, expected in [
            ("mop_connections", {}, 3),
            ("mop_connections_total", {}, 9),
            ("mop_connack_total", {"code": "0x87"}, 2),
            ("mop_connack_total", {"code": "0x00"}, 0),
            (
                "mop_auth_failures_total",
                {"backend": "passwords", "reason": "bad_user_name_or_password"},
                1,
            ),
            ("mop_packets_received_total", {"type": "PUBACK"}, 4),
            ("mop_packets_received_total", {"type": "PUBLISH"}, 6),
            ("mop_messages_dropped_total", {"reason": "queue_full"}, 8),
            ("mop_sessions", {"state": "connected"}, 2),
            ("mop_sessions", {"state": "offline"}, 1),
            ("mop_bytes_received_total", {}, 12345678901),
        ]:
            self.assertEqual(expected, self.value(name, **labels), name)

    def test_subscriptions_sum_up(self) -> None:
        """The kinds of subscriptions are disjoint, so that their sum is their number."""
        for topic_filter in ("a", "b/#", "$share/g/#"):
            self.counters.subscribed(topic_filter)
        for kind in ("normal", "wildcard", "shared"):
            self.assertEqual(1, self.value("mop_subscriptions", kind=kind))

    def test_mop_names(self) -> None:
        """MoP's eight: sent is what clients send, wills included; received what they receive."""
        c = self.counters
        c.connections, c.connections_total, c.connections_maximum = 3, 9, 5
        c.publishes_received = [1, 2, 3]
        c.wills_published = 1
        c.publish_bytes_received = 100
        c.publishes_sent = [10, 20, 30]
        c.publish_bytes_sent = 1000
        c.subscribed("a")
        for name, expected in [
            ("active_client_count", 3),
            ("total_client_count", 9),
            ("maximum_client_count", 5),
            ("sub_count", 1),
            ("send_count", 7),
            ("send_bytes", 100),
            ("received_count", 60),
            ("received_bytes", 1000),
        ]:
            self.assertEqual(expected, self.value("mop_" + name, cluster="standalone"), name)

    def test_histogram(self) -> None:
        """Buckets are cumulative and end in +Inf, which is the count."""
        self.counters.publish_ack_seconds.observe(0.0004, 10)
        self.counters.publish_ack_seconds.observe(0.003, 5)
        self.counters.publish_ack_seconds.observe(60.0)
        bucket = "mop_publish_ack_seconds_bucket"
        self.assertEqual(10, self.value(bucket, le="0.0005"))
        self.assertEqual(15, self.value(bucket, le="0.005"))
        self.assertEqual(15, self.value(bucket, le="10.0"))
        self.assertEqual(16, self.value(bucket, le="+Inf"))
        self.assertEqual(16, self.value("mop_publish_ack_seconds_count"))
        self.assertAlmostEqual(60.019, self.value("mop_publish_ack_seconds_sum"))

    def test_observed(self) -> None:
        """What is no counter is asked for at every scrape."""
        self.assertEqual(1, self.value("mop_log_up"))
        self.observed.log_healthy = lambda: False
        self.observed.reactor_lag = lambda: 0.125
        self.observed.certificates = lambda: {"tls:8883": 1.9e9}
        self.assertEqual(0, self.value("mop_log_up"))
        self.assertEqual(0.125, self.value("mop_reactor_lag_seconds"))
        expiry = "mop_certificate_expiry_timestamp_seconds"
        self.assertEqual(1.9e9, self.value(expiry, listener="tls:8883"))

    def test_refreshes(self) -> None:
        """What is cheaper to count now and then is counted before it is shown."""

        def refresh() -> None:
            self.counters.retained_messages = 42

        self.observed.refresh = refresh
        self.assertEqual(42, self.value("mop_retained_messages"))

    def test_values_are_escaped(self) -> None:
        """A listener's name may hold what it likes; it stays one label of one line."""
        name = 'a"b\\c\nmop_connections 99'
        self.observed.certificates = lambda: {name: 1.0}
        expiry = "mop_certificate_expiry_timestamp_seconds"
        self.assertEqual(1.0, self.value(expiry, listener=name))
        self.assertEqual(0, self.value("mop_connections"))

    def test_process(self) -> None:
        """Memory and file descriptors of the process are on the page, as everywhere else."""
        self.assertIn(("process_open_fds", frozenset()), self.scrape())

    def test_open_metrics(self) -> None:
        """A scraper that asks for OpenMetrics gets it; any other the text format."""
        page, content_type = self.exposition.render("application/openmetrics-text;version=1.0.0")
        self.assertTrue(content_type.startswith("application/openmetrics-text"))
        self.assertTrue(page.endswith(b"# EOF\n"))
        self.assertTrue(self.exposition.render("*/*")[1].startswith("text/plain"))


class NamesTests(SynchronousTestCase):
    """Rules that every metric keeps."""

    def test_conventions(self) -> None:
        """Names begin with mop_, counters end in _total and nothing else does; each means
        something."""
        for row in METRICS:
            self.assertRegex(row.name, re.compile(r"^mop_[a-z_]+$"))
            self.assertEqual(row.kind == "counter", row.name.endswith("_total"), row.name)
            self.assertTrue(row.meaning.endswith("."), row.name)
        self.assertEqual(len(METRICS), len({row.name for row in METRICS}))

    def test_no_client_in_labels(self) -> None:
        """No label holds what clients choose: it would have as many series as they like."""
        labels = {label for row in METRICS for label in row.labels}
        self.assertEqual(set(), labels & {"client", "client_id", "topic", "user", "filter"})

    def test_reference_is_up_to_date(self) -> None:
        """docs/reference/metrics.md is what the table says."""
        page = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
        self.assertEqual(reference(), page.read_text(encoding="utf-8"))
