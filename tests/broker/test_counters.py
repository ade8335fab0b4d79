"""What a node counts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.broker.counters import (
    DROP_NAMES,
    PAUSE_NAMES,
    Counters,
    DropReason,
    Histogram,
)
from mop_twisted.codec.packets import PUBLISH, SUBSCRIBE


class HistogramTests(SynchronousTestCase):
    """Fixed buckets."""

    def test_buckets(self) -> None:
        """A value lies in the first bucket whose bound it does not exceed; the last takes all."""
        histogram = Histogram((1.0, 2.0))
        for value in (0.5, 1.0, 1.5, 2.0, 2.5, 100.0):
            histogram.observe(value)
        self.assertEqual([2, 2, 2], histogram.counts)
        self.assertEqual(107.5, histogram.total)

    def test_once_a_batch(self) -> None:
        """A batch of messages with one latency is observed by one call."""
        histogram = Histogram((1.0, 2.0))
        histogram.observe(1.5, 40)
        self.assertEqual(([0, 40, 0], 60.0), (histogram.counts, histogram.total))


class CountersTests(SynchronousTestCase):
    """Counters that are more than a field."""

    def test_dropped_by_reason(self) -> None:
        """Dropped messages are counted by why; each reason has a name for metrics."""
        counters = Counters()
        counters.drop(DropReason.EXPIRED, 3)
        counters.drop(DropReason.EXPIRED, 1)
        self.assertEqual(4, counters.dropped[DropReason.EXPIRED])
        self.assertEqual(4, sum(counters.dropped))
        self.assertEqual("expired", DROP_NAMES[DropReason.EXPIRED])

    def test_authentication_failures(self) -> None:
        """They are counted by what refused the client, and why."""
        counters = Counters()
        counters.auth_failed("passwords", "bad_user_name_or_password")
        counters.auth_failed("passwords", "bad_user_name_or_password")
        self.assertEqual({("passwords", "bad_user_name_or_password"): 2}, counters.auth_failures)

    def test_subscriptions_by_kind(self) -> None:
        """A subscription is of one kind: shared, else with a wildcard, else neither."""
        counters = Counters()
        for topic_filter in ("a", "a/b", "a/+/b", "a/#", "#", "$share/g/a", "$share/g/#"):
            counters.subscribed(topic_filter)
        counters.subscribed("a", -1)
        counters.subscribed("#", -1)
        counters.subscribed("$share/g/a", -1)
        self.assertEqual(
            (4, 1, 2),
            (
                counters.subscriptions,
                counters.subscriptions_shared,
                counters.subscriptions_wildcard,
            ),
        )

    def test_packets_by_type(self) -> None:
        """A PUBLISH is counted once, by QoS, and shown among the packets all the same."""
        counters = Counters()
        counters.publishes_received[1] += 5
        counters.publishes_sent[0] += 7
        counters.packets_received[SUBSCRIBE] += 1
        self.assertEqual(5, counters.packets_received_of(PUBLISH))
        self.assertEqual(7, counters.packets_sent_of(PUBLISH))
        self.assertEqual(1, counters.packets_received_of(SUBSCRIBE))

    def test_names_of_pauses(self) -> None:
        """Metrics name every reason for which a session may wait."""
        from mop_twisted.broker.session import PauseReason

        self.assertEqual(tuple(reason.name.lower() for reason in PauseReason), PAUSE_NAMES)
