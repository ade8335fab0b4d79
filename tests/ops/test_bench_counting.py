"""What C{mop bench} counts: times, sequences, frames by columns, and who does what."""

from __future__ import annotations

import os
import random

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.codec.decode import Decoder
from mop_twisted.ops.bench.frames import Block, Run, packet_id_of
from mop_twisted.ops.bench.histogram import Histogram, bucket_of, middle_of
from mop_twisted.ops.bench.load import SCENARIOS, Load, shares
from mop_twisted.ops.bench.sequence import Sequence, surplus
from mop_twisted.ops.bench.usage import family, usage


class HistogramTests(SynchronousTestCase):
    """Percentiles that are right to 1.6 %, and add up across processes."""

    @given(st.integers(0, 1 << 60))
    def test_a_bucket_is_narrow(self, value: int) -> None:
        """What a bucket stands for differs from what was put in by at most 1/64."""
        self.assertLessEqual(abs(middle_of(bucket_of(value)) - value), value / 64)

    @given(st.lists(st.integers(0, 10**12), min_size=1), st.floats(0, 1))
    def test_percentiles_are_near_the_true_ones(self, values: list[int], share: float) -> None:
        """A percentile is the value of that rank, within the width of a bucket."""
        histogram = Histogram()
        for value in values:
            histogram.add(value)
        values.sort()
        rank = max(1, -(-int(share * len(values) * 1e9) // 10**9))
        near = {values[min(len(values) - 1, max(0, rank + by))] for by in (-2, -1, 0)}
        found = histogram.percentile(share)
        self.assertTrue(any(abs(found - value) <= value / 32 for value in near))

    def test_merging_is_counting_everything_once(self) -> None:
        """Two workers' times together are the times of one that saw both."""
        chance = random.Random(7)
        whole, parts = Histogram(), [Histogram(), Histogram()]
        for _ in range(1000):
            value = chance.randrange(1, 10**9)
            whole.add(value)
            chance.choice(parts).add(value)
        merged = Histogram()
        for part in parts:
            merged.merge(Histogram.load(part.dump()))
        self.assertEqual(whole.dump().keys(), merged.dump().keys())
        self.assertEqual(whole.buckets, merged.buckets)
        self.assertEqual(whole.milliseconds(), merged.milliseconds())

    def test_of_nothing_everything_is_zero(self) -> None:
        """A run without deliveries reports zeros, and fails at nothing."""
        self.assertEqual(set(Histogram().milliseconds().values()), {0.0})

    def test_the_worst_is_exact(self) -> None:
        """The largest latency is reported as it was, not as its bucket."""
        histogram = Histogram()
        histogram.add(1_234_567_891)
        histogram.add(5, times=10)
        self.assertEqual(histogram.milliseconds()["max"], 1234.568)


class SequenceTests(SynchronousTestCase):
    """Once, in order, or not."""

    def counts(self, *numbers: int) -> tuple[int, int, int]:
        sequence = Sequence()
        for number in numbers:
            sequence.take(number)
        return sequence.unique, sequence.duplicates, sequence.disorder

    def test_in_order_is_no_fault(self) -> None:
        """Messages that count upwards are neither twice nor out of order."""
        self.assertEqual(self.counts(0, 1, 2, 3), (4, 0, 0))

    def test_a_gap_is_not_disorder(self) -> None:
        """What is missing is counted from what came, not as disorder."""
        self.assertEqual(self.counts(0, 1, 5, 6), (4, 0, 0))

    def test_a_late_message_is_out_of_order(self) -> None:
        """A message behind a higher number is out of order, and counts as delivered."""
        self.assertEqual(self.counts(0, 2, 1), (3, 0, 1))

    def test_a_second_copy_is_a_duplicate(self) -> None:
        """The same number again is a duplicate, whenever it comes."""
        self.assertEqual(self.counts(0, 1, 1, 2, 0), (3, 2, 0))

    @given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)), max_size=20))
    def test_runs_count_as_their_numbers_one_by_one(self, runs: list[tuple[int, int]]) -> None:
        """A whole run of messages is counted as if they had come alone."""
        by_run = Sequence()
        one_by_one = Sequence()
        for first, count in runs:
            by_run.take(first, count)
            for number in range(first, first + count):
                one_by_one.take(number)
        self.assertEqual(
            (by_run.unique, by_run.duplicates, by_run.disorder, by_run.seen),
            (one_by_one.unique, one_by_one.duplicates, one_by_one.disorder, one_by_one.seen),
        )

    def test_a_shared_group_counts_together(self) -> None:
        """What two members of a group both got came twice."""
        self.assertEqual(surplus([b"\1\0\1", b"\1\1"]), (3, 1))


class FramesTests(SynchronousTestCase):
    """PUBLISHes made and read by columns are those of the codec."""

    def test_blocks_are_what_the_codec_decodes(self) -> None:
        """Every message of a block has its number, publisher, time and packet identifier."""
        for level in (3, 4, 5):
            for qos in (0, 1, 2):
                for first, count in ((0, 1), (7, 5), (100, 300), (65_500, 100), (131_060, 70)):
                    block = Block("a/b", 40, qos, level, 0xBEEF, 3, False)
                    decoder = Decoder(1 << 20, role="client", version=level)
                    (found,) = decoder.receive(block.make(first, count, 123456789))
                    assert isinstance(found, list)
                    self.assertEqual(len(found), count)
                    for number, publish in enumerate(found, first):
                        payload = publish.payload
                        self.assertEqual(int.from_bytes(payload[:8], "big"), 123456789)
                        self.assertEqual(payload[8:12], b"\xbe\xef\0\3")
                        self.assertEqual(int.from_bytes(payload[12:16], "big"), number)
                        self.assertEqual(publish.packet_id, packet_id_of(number) if qos else 0)
                        self.assertEqual((publish.topic, publish.qos), ("a/b", qos))

    def test_packet_identifiers_are_never_zero(self) -> None:
        """They go round from 65535 to 1."""
        self.assertEqual(packet_id_of(65_534), 65_535)
        self.assertEqual(packet_id_of(65_535), 1)

    @given(
        st.lists(
            st.tuples(st.integers(0, 3), st.integers(0, 99), st.integers(0, 5)),
            min_size=1,
            max_size=40,
        )
    )
    def test_a_run_is_read_message_by_message(self, sent: list[tuple[int, int, int]]) -> None:
        """Whoever wrote the messages of a read, all of them are counted, in their order."""
        data = b"".join(
            stamp.to_bytes(8, "big") + b"\0\7" + who.to_bytes(2, "big") + number.to_bytes(4, "big")
            for who, number, stamp in sent
        )
        run = Run(data, 0, 16, len(sent))
        found = [
            (who, number)
            for tag, who, first, count in run.sequences()
            for number in range(first, first + count)
        ]
        self.assertEqual(found, [(who, number) for who, number, _ in sent])
        stamps = [stamp for stamp, times in run.sent_at() for _ in range(times)]
        self.assertEqual(stamps, [stamp for _, _, stamp in sent])


class SharesTests(SynchronousTestCase):
    """Every client is driven by one worker, and all have about the same to do."""

    def test_every_client_has_one_worker(self) -> None:
        """Of every named load, nobody is left out and nobody doubled, over any workers."""
        for name, (_, words) in SCENARIOS.items():
            load = Load(**words)
            for workers in (1, 2, 3, 8):
                parts = shares(load, "run", 1, workers)
                for kind in ("publishers", "subscribers", "idle"):
                    given = sorted(i for part in parts for i in getattr(part, kind))
                    self.assertEqual(given, list(range(getattr(load, kind))), name)

    def test_one_subscriber_of_everything_is_alone(self) -> None:
        """Who takes all messages of four publishers shares its process with none of them."""
        first, second = shares(Load(publishers=4), "run", 1, 2)
        self.assertEqual((first.subscribers, first.publishers), ([0], []))
        self.assertEqual((second.subscribers, second.publishers), ([], [0, 1, 2, 3]))

    def test_with_a_rate_nobody_publishes_and_takes(self) -> None:
        """Where latency counts, publishing never delays taking."""
        load = Load(publishers=6, subscribers=6, topics=6, filter="one", rate=10.0)
        for part in shares(load, "run", 1, 2):
            self.assertFalse(part.publishers and part.subscribers)

    def test_expected_deliveries(self) -> None:
        """All take all; one topic each; one of a shared group takes each."""
        load = Load(publishers=3, subscribers=4, topics=3)
        self.assertEqual(load.expected([10, 20, 30]), 240)
        self.assertEqual(
            Load(publishers=3, subscribers=4, topics=3, filter="one").expected([10, 20, 30]), 70
        )
        self.assertEqual(
            Load(publishers=3, subscribers=4, topics=3, filter="share").expected([1, 2, 3]), 6
        )
        self.assertEqual(Load(publishers=3, subscribers=0).expected([1, 2, 3]), 0)

    def test_topics_are_equally_long(self) -> None:
        """All messages of a load have the same length, so topics have too."""
        load = Load(topics=12)
        self.assertEqual([load.topic_of("p", number) for number in (0, 11)], ["p/t00", "p/t11"])


class UsageTests(SynchronousTestCase):
    """CPU and memory of a process and its children, from /proc."""

    def test_this_process_has_used_something(self) -> None:
        """A running process has memory and has run."""
        found = usage([os.getpid()])
        self.assertGreater(found.resident, 1 << 20)
        self.assertGreater(found.cpu, 0.0)

    def test_children_are_family(self) -> None:
        """We belong to our parent's processes; who is gone does not."""
        self.assertIn(os.getpid(), family([os.getppid()]))
        self.assertEqual(family([1 << 30]), set())
