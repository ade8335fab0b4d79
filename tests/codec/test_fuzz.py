"""The decoder's fuzz target, for a moment."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..fuzz import decoder


class FuzzTests(SynchronousTestCase):
    """C{python -m tests.fuzz.decoder} runs longer."""

    def test_a_moment(self) -> None:
        """Damaged streams end in documented errors, whole or in pieces (H2 to H6, H13)."""
        self.assertTrue(decoder.main(1.0) > 100)
