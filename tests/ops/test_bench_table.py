"""What C{scripts/bench} makes of its results, and the options of C{mop bench}."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.ops.bench.command import load_of, run
from mop_twisted.ops.bench.compare import BEGIN, END, chosen, file_system, middle, put_into
from mop_twisted.ops.bench.load import SCENARIOS, Load
from mop_twisted.ops.bench.measures import MEASURES, RATE, Figure, Measure
from mop_twisted.ops.bench.report import number, text
from mop_twisted.ops.bench.table import look_up, markdown, plain, row

MEASURE = Measure(name="load", what="a load")
WHERE = {
    "generator": "/somewhere/mqload", "gateway": "mop_twisted 1", "yardstick": "mosquitto 2",
    "cores": 2, "cpu": "a CPU", "kernel": "6", "file_system": "ext4", "sqlite": "3.5",
    "pragmas": "journal_mode = WAL", "rounds": 3,
}  # fmt: skip


class TableTests(SynchronousTestCase):
    """A figure beside the yardstick's, and whether the bar was reached."""

    def judge(self, figure: Figure, ours: dict[str, Any], theirs: dict[str, Any] | None) -> Any:
        return row(MEASURE, figure, ours, theirs, "yardstick")

    def test_a_rate_is_held_to_its_ratio(self) -> None:
        """2.5 times the yardstick's deliveries are enough where 2.5 are asked for, less is not."""
        figure = Figure(RATE, "/s", at_least=2.5)
        made = self.judge(figure, {RATE: 250}, {RATE: 100})
        self.assertEqual((made.ratio, made.bar, made.ok), (2.5, "≥ 2.5×", True))
        self.assertIs(self.judge(figure, {RATE: 249}, {RATE: 100}).ok, False)

    def test_a_time_may_be_at_most(self) -> None:
        """Latency is held to what it may be at most."""
        figure = Figure("latency_ms.p50", "ms", at_most=2.0)
        ours, theirs = {"latency_ms": {"p50": 3.0}}, {"latency_ms": {"p50": 1.0}}
        self.assertIs(self.judge(figure, ours, theirs).ok, False)
        self.assertIs(self.judge(figure, theirs, theirs).ok, True)

    def test_without_a_yardstick_nothing_relative_is_judged(self) -> None:
        """Where mosquitto is not installed there is neither a ratio nor a verdict."""
        made = self.judge(Figure(RATE, "/s", at_least=2.5), {RATE: 250}, None)
        self.assertEqual((made.ratio, made.ok, made.beside), (None, None, ""))

    def test_an_absolute_bar_needs_no_yardstick(self) -> None:
        """Bytes a connection are held to a number."""
        figure = Figure("bytes", "bytes", at_most=100, relative=False)
        self.assertIs(self.judge(figure, {"bytes": 100}, None).ok, True)
        self.assertIs(self.judge(figure, {"bytes": 101}, None).ok, False)

    def test_a_rate_that_loses_is_below(self) -> None:
        """However quick: a rate of messages of which some are missing does not count."""
        made = self.judge(Figure(RATE, "/s", at_least=2.5), {RATE: 900, "lost": 3}, {RATE: 1})
        self.assertEqual((made.ok, made.bar), (False, "≥ 2.5× (3 lost)"))

    def test_the_documentation_has_a_line_for_each_figure(self) -> None:
        """The page's table names load, figures, ratio and verdict, and what it depends on."""
        rows = [self.judge(Figure(RATE, "/s", at_least=2.5), {RATE: 250_000}, {RATE: 50_000})]
        page = markdown(rows, WHERE)
        self.assertIn("| a load | /s | 250,000 | 50,000 | yardstick | 5.00× | ≥ 2.5× | ok |", page)
        self.assertIn("mqload, mop_twisted 1, mosquitto 2; 2 cores (a CPU)", page)
        self.assertNotIn("/somewhere", page)
        self.assertEqual(len(plain(rows)), 2)
        self.assertEqual(len(plain(rows, heading=False)), 1)

    def test_figures_lie_in_parts(self) -> None:
        """A dot leads into a part; what is missing is None."""
        self.assertEqual(look_up({"a": {"b": 2}}, "a.b"), 2.0)
        self.assertIsNone(look_up({"a": 1}, "a.b"))
        self.assertIsNone(look_up(None, "a"))

    def test_numbers_are_written_for_people(self) -> None:
        """Thousands apart, three figures of small numbers, no decimals of whole ones."""
        self.assertEqual(
            [number(value) for value in (1234567, 12, 0.12345, 0, 999.6)],
            ["1,234,567", "12", "0.123", "0", "1e+03"],
        )


class RoundsTests(SynchronousTestCase):
    """The median of the rounds."""

    def test_the_median_counts(self) -> None:
        """Of each number, also in parts, the median; of what is not a number the first."""
        self.assertEqual(
            middle([{"a": 1, "p": {"b": 9.0}, "s": "x"}, {"a": 3, "p": {"b": 1.0}, "s": "x"},
                    {"a": 100, "p": {"b": 5.0}, "s": "x"}]),
            {"a": 3, "p": {"b": 5.0}, "s": "x"},
        )  # fmt: skip

    def test_of_what_is_lost_the_worst_counts(self) -> None:
        """A loss in one round is not forgotten."""
        self.assertEqual(middle([{"lost": 0}, {"lost": 4}, {"lost": 0}]), {"lost": 4})

    def test_a_comparison_brings_what_it_is_compared_with(self) -> None:
        """Persistent fan-out is compared with the clean one, so that is measured first."""
        names = [measure.name for measure in chosen(["fan-out-persistent"])]
        self.assertEqual(names, ["fan-out-clean", "fan-out-persistent"])
        self.assertEqual(len(chosen(["all"])), len(MEASURES))
        self.assertRaises(ValueError, chosen, ["no such load"])

    def test_every_measure_names_a_load(self) -> None:
        """Each drives a scenario that there is, or one process, and has figures."""
        for measure in MEASURES:
            self.assertTrue(measure.figures)
            self.assertTrue(measure.inside or measure.scenario in SCENARIOS, measure.name)

    def test_the_table_goes_between_the_markers(self) -> None:
        """Only what lies between the markers of the page is replaced, as often as one likes."""
        page = Path(self.mktemp())
        page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
        put_into(page, "new \\1")
        put_into(page, "newer \\1")
        self.assertEqual(
            page.read_text(encoding="utf-8"),
            f"before\n{BEGIN}\n\nnewer \\1\n\n{END}\nafter\n",
        )
        page.write_text("no markers", encoding="utf-8")
        self.assertRaises(ValueError, put_into, page, "x")

    def test_the_page_has_its_markers(self) -> None:
        """The documentation's page can take a table."""
        page = Path(__file__).resolve().parents[2] / "docs" / "reference" / "performance.md"
        content = page.read_text(encoding="utf-8")
        self.assertLess(content.index(BEGIN), content.index(END))

    def test_the_file_system_is_known(self) -> None:
        """The root of the system lies on a file system of some kind."""
        self.assertTrue(file_system(Path("/proc")), "proc")


class OptionsTests(SynchronousTestCase):
    """Options make a load, or say what is wrong."""

    def fails(self, *arguments: str) -> str:
        output = io.StringIO()
        with redirect_stderr(output), redirect_stdout(output):
            self.assertEqual(run(list(arguments)), 2, arguments)
        return output.getvalue()

    def test_what_is_not_said_is_the_default(self) -> None:
        """Without options it is one publisher and one subscriber at QoS 0."""
        self.assertEqual(load_of({}), Load())

    def test_options_change_a_scenario(self) -> None:
        """What is said on the command line wins over the scenario."""
        load = load_of({"scenario": "qos1-fan-in", "window": 7})
        self.assertEqual((load.qos, load.publishers, load.window), (1, 4, 7))

    def test_pairs(self) -> None:
        """Pairs are as many publishers, subscribers and topics, one to one."""
        load = load_of({"pairs": 9})
        self.assertEqual(
            (load.publishers, load.subscribers, load.topics, load.filter), (9, 9, 9, "one")
        )

    def test_the_port_follows_the_transport(self) -> None:
        """TLS and WebSocket have well-known ports of their own."""
        self.assertEqual(load_of({"tls": True}).port, 8883)
        self.assertEqual(load_of({"websocket": True}).port, 8083)
        self.assertEqual(load_of({"tls": True, "websocket": True}).port, 8084)
        self.assertEqual(load_of({"tls": True, "port": 1}).port, 1)

    def test_all_scenarios_are_loads(self) -> None:
        """Every named load is accepted as it stands."""
        for name in SCENARIOS:
            load_of({"scenario": name})

    def test_what_cannot_be_is_refused(self) -> None:
        """Wrong numbers, contradictions and unknown words exit with 2 and say why."""
        self.assertIn("--size", self.fails("--size", "15"))
        self.assertIn("--window", self.fails("--window", "0"))
        self.assertIn("--publishers", self.fails("--publishers", "-1"))
        self.assertIn("--duration", self.fails("--publishers", "0"))
        self.assertIn("--persistent", self.fails("--protocol", "3.1", "--persistent"))
        self.assertIn("--filter", self.fails("--protocol", "3.1", "--filter", "share"))
        self.assertIn("invalid choice", self.fails("--qos", "3"))
        self.assertIn("unrecognized", self.fails("--nonsense"))

    def test_help_lists_the_scenarios(self) -> None:
        """C{mop bench --help} names every scenario and exits with 0."""
        output = io.StringIO()
        with redirect_stdout(output):
            self.assertEqual(run(["--help"]), 0)
        words = output.getvalue().replace("\n", " ")
        for name in ("qos0-fan-in", "retained-million"):
            self.assertIn(name, words)

    def test_the_report_says_what_was_lost(self) -> None:
        """A person reads rates, latencies and faults."""
        result = {
            "protocol": "5", "transport": "tcp", "qos": 1, "publishers": 1, "subscribers": 2,
            "size": 100, "processes": 2, "sent": 1000, "publishes_per_s": 5000,
            "delivered": 1998, "deliveries_per_s": 9990, "lost": 2, "duplicates": 3,
            "disorder": 4, "latency_ms": {"p50": 1.25}, "cpu_us_per_message": 2.5,
            "rss_mib": 40.0,
        }  # fmt: skip
        shown = text(result)
        for words in ("MQTT 5 over tcp, QoS 1", "1,998, 9,990 a second", "p50 1.25 ms",
                      "2 lost, 3 twice, 4 out of order", "2.5 µs of CPU"):  # fmt: skip
            self.assertIn(words, shown)
