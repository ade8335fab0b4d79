"""What the pages say can be held against what there is: links, configuration keys, metrics."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.ops.bench.command import load_of, parser
from mop_twisted.ops.config import load

CHECKOUT = Path(__file__).resolve().parents[1]
PAGES = sorted([*CHECKOUT.glob("*.md"), *CHECKOUT.glob("docs/**/*.md")])

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
METRIC = re.compile(r"\bmop_[a-z_]*[a-z]\b(?=[{ `)\[]|$)", re.MULTILINE)
NO_METRICS = {"mop_twisted"}


def blocks(page: Path, language: str) -> Iterator[str]:
    """The fenced blocks of one language."""
    for found in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if found[1] == language:
            yield found[2]


def anchors(page: Path) -> set[str]:
    """What headings can be linked to by, as GitHub names them."""
    text = BLOCK.sub("", page.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }


class TestPages(SynchronousTestCase):
    """README and docs."""

    def test_links_lead_somewhere(self) -> None:
        """Every link to a page, a folder or a heading of ours has one at its other end."""
        broken = []
        for page in PAGES:
            text = BLOCK.sub("", page.read_text(encoding="utf-8"))
            for target in LINK.findall(text):
                if "://" in target or target.startswith("mailto:"):
                    continue
                path, _, anchor = target.partition("#")
                at = (page.parent / path).resolve() if path else page
                if not at.exists() or (anchor and anchor not in anchors(at)):
                    broken.append(f"{page.relative_to(CHECKOUT)}: {target}")
        self.assertEqual(broken, [])

    def test_configurations_can_be_read(self) -> None:
        """Every TOML example is a configuration with keys that exist and values that they take."""
        read = 0
        for page in PAGES:
            for text in blocks(page, "toml"):
                file = self.mktemp()
                Path(file).write_text(text, encoding="utf-8")
                load(file, {}, {})
                read += 1
        self.assertGreater(read, 5)

    def test_metrics_exist(self) -> None:
        """A metric that a page speaks of is one that the gateway has."""
        known = set(METRIC.findall((CHECKOUT / "docs/reference/metrics.md").read_text("utf-8")))
        for page in PAGES:
            if page.is_relative_to(CHECKOUT / "docs/decisions"):
                continue
            named = set(METRIC.findall(page.read_text(encoding="utf-8")))
            self.assertEqual(named - known - NO_METRICS, set(), page)

    def test_loads_can_be_run(self) -> None:
        """Every call of the benchmark has options that exist and go together."""
        page = CHECKOUT / "docs/how-to/benchmark.md"
        calls = re.findall(r"^ +\S*mop bench(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        self.assertGreater(len(calls), 5)
        for call in calls:
            words = shlex.split(call.replace("$(cat twistd.pid)", "1"), comments=True)
            load_of(vars(parser().parse_args(words)))
