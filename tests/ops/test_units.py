"""Sizes and times as people write them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.ops.units import (
    Secret,
    describe_duration,
    describe_size,
    duration,
    size,
)


class UnitsTests(SynchronousTestCase):
    """What a configuration may say for bytes and seconds."""

    def test_sizes(self) -> None:
        """Sizes are plain numbers, or text with a decimal or binary unit."""
        for text, number in (
            (7, 7),
            ("7", 7),
            ("64KiB", 65536),
            ("1 MB", 1_000_000),
            ("1.5GiB", 3 * 512 * 1024**2),
            ("0", 0),
        ):
            self.assertEqual(size(text), number)

    def test_durations(self) -> None:
        """Times are seconds, or text with a unit."""
        for text, seconds in (
            (15, 15),
            (0.5, 0.5),
            ("15s", 15),
            ("250ms", 0.25),
            ("10m", 600),
            ("1h", 3600),
            ("7d", 604800),
            ("2w", 1209600),
        ):
            self.assertEqual(duration(text), seconds)

    def test_nonsense_is_refused(self) -> None:
        """What is no size or time is refused with a reason, never guessed at."""
        for value in ("", "MiB", "-1", -1, "1 parsec", True, None, [1], float("nan"), "9" * 400):
            self.assertRaises(ValueError, size, value)
            self.assertRaises(ValueError, duration, value)

    @given(st.integers(0, 2**62))
    def test_a_described_size_reads_back(self, number: int) -> None:
        """What the options page prints for a size means the same when it is typed."""
        self.assertEqual(size(describe_size(number)), number)

    @given(st.integers(0, 10**5))
    def test_a_described_duration_reads_back(self, seconds: int) -> None:
        """What the options page prints for a time means the same when it is typed."""
        self.assertEqual(duration(describe_duration(seconds)), seconds)

    def test_a_secret_does_not_show_itself(self) -> None:
        """A token in a settings object is not in what a log or traceback prints of it. H26"""
        self.assertNotIn("hush", repr([Secret("hush")]))
