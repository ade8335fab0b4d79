"""The page of configuration keys."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.ops.config import KEYS
from mop_twisted.ops.options_page import page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "options.md"


class OptionsPageTests(SynchronousTestCase):
    """docs/reference/options.md is made from the table that the configuration is read with."""

    def test_it_is_up_to_date(self) -> None:
        """The page says what the code does; regenerate it when this fails."""
        self.assertEqual(
            PAGE.read_text(encoding="utf-8"),
            page(),
            "run: python -m mop_twisted.ops.options_page > docs/reference/options.md",
        )

    def test_every_key_is_there(self) -> None:
        """Each key has a line with what it means."""
        text = page()
        for key in KEYS:
            self.assertIn(f"| `{key}`", text)
