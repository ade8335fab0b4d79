"""Log lines: one an event, escaped, throttled, for people or machines."""

from __future__ import annotations

import io
import json
from typing import Any

from twisted.logger import Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.python.log import LogPublisher as OlderPublisher
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.ops.logs import LogWriter, destination, escape
from mop_twisted.ops.units import Secret


class LogWriterTests(SynchronousTestCase):
    """What stands in the log."""

    def setUp(self) -> None:
        self.stream = io.StringIO()

    def write(self, form: str = "text", level: str = "info", **fields: Any) -> str:
        """The line of one event."""
        event = {
            "log_time": 1_800_000_000.5,
            "log_level": LogLevel.info,
            "log_namespace": "mop_twisted.broker.admission",
            **fields,
        }
        LogWriter(self.stream, form, level)(event)
        return self.stream.getvalue()

    def test_text(self) -> None:
        """A line says when, how grave, which event, what, and the fields."""
        line = self.write(
            log_format_="", event="client_connected", client_id="c1", reason=0, packet=object()
        )
        self.assertTrue(line.startswith("2027-01-15T08:00:00.500Z INFO client_connected:"), line)
        self.assertIn("client_id=c1", line)
        self.assertNotIn("packet", line)
        self.assertEqual(line.count("\n"), 1)

    def test_json(self) -> None:
        """With log_format json each line is an object with stable names."""
        line = self.write(
            "json", event="client_connected", client_id="c1", log_format="{client_id} came"
        )
        self.assertEqual(
            json.loads(line),
            {
                "ts": "2027-01-15T08:00:00.500Z",
                "level": "info",
                "event": "client_connected",
                "message": "c1 came",
                "client_id": "c1",
            },
        )

    def test_events_without_a_name(self) -> None:
        """An event without a name is called after its module."""
        self.assertIn(" admission: hello", self.write(log_format="hello"))

    def test_nothing_is_unescaped(self) -> None:
        """A client identifier with line ends or terminal codes can neither forge a line nor
        move a cursor, in either format. H13"""
        evil = "a\r\n2027 INFO x\x1b[2J\x85\u2028\u202e\ud800"
        for form in ("text", "json"):
            self.stream = io.StringIO()
            line = self.write(form, client_id=evil, log_format="{client_id} came")
            self.assertEqual(line.count("\n"), 1)
            self.assertTrue(line.rstrip("\n").isprintable(), repr(line))

    def test_formats_that_fail(self) -> None:
        """An event that cannot be formatted is still one line."""
        self.assertEqual(self.write(log_format="{missing}").count("\n"), 1)

    def test_long_fields_are_cut(self) -> None:
        """A topic of 65,535 bytes does not fill the log."""
        self.assertLess(len(self.write(log_format="x", topic="t" * 65535)), 2000)

    def test_a_traceback(self) -> None:
        """An unexpected error is shown with its traceback, indented or as a list."""
        try:
            raise ValueError("first\nsecond\x1b")
        except ValueError:
            failure = Failure()
        text = self.write(log_failure=failure, log_level=LogLevel.critical)
        for line in text.splitlines()[1:]:
            self.assertTrue(line.startswith("    | "))
        self.assertIn("ValueError: first", text)
        self.assertNotIn("\x1b", text)
        self.stream = io.StringIO()
        line = self.write("json", log_failure=failure)
        self.assertIn("    raise ValueError", "\n".join(json.loads(line)["traceback"]))

    def test_errors_of_older_code(self) -> None:
        """What code logs through twisted.python.log, the reactor among it, is no different."""
        try:
            raise ValueError("broken")
        except ValueError:
            failure = Failure()
        self.stream = io.StringIO()
        publisher = LogPublisher(LogWriter(self.stream))
        older = OlderPublisher(observerPublisher=publisher, publishPublisher=publisher)
        older.msg(failure=failure, why="Unhandled\nError", isError=1)
        lines = self.stream.getvalue().splitlines()
        self.assertIn("CRITICAL twisted: Unhandled\\x0aError", lines[0])
        self.assertTrue(all(line.startswith("    | ") for line in lines[1:]))
        self.assertIn("ValueError: broken", lines[-1])

    def test_secrets(self) -> None:
        """A secret that somebody logs as a field does not show. H26"""
        self.assertNotIn("hush", self.write(log_format="x", token=Secret("hush")))

    def test_levels(self) -> None:
        """What is below the level is not written; the level can be changed."""
        writer = LogWriter(self.stream, level="warn")
        logger = Logger("here", observer=writer)
        logger.info("no")
        logger.error("yes")
        writer.level = "debug"
        logger.debug("also")
        self.assertNotIn("no", self.stream.getvalue())
        self.assertIn("yes", self.stream.getvalue())
        self.assertIn("also", self.stream.getvalue())

    def test_throttle(self) -> None:
        """Of a flood of one event some are written a second, and the next says how many were
        not; other events are not held back."""
        writer = LogWriter(self.stream, rate=3)
        for _ in range(10):
            writer({"log_time": 5.0, "event": "refused", "log_format": "no"})
        writer({"log_time": 5.0, "event": "other", "log_format": "yes"})
        writer({"log_time": 6.5, "event": "refused", "log_format": "no"})
        lines = self.stream.getvalue().splitlines()
        self.assertEqual(len(lines), 5)
        self.assertTrue(lines[-1].endswith("suppressed=7"), lines[-1])

    def test_a_clock_that_goes_back(self) -> None:
        """A wall clock set back does not silence the log. H31"""
        writer = LogWriter(self.stream, rate=1)
        writer({"log_time": 1000.0, "event": "e"})
        writer({"log_time": 10.0, "event": "e"})
        self.assertEqual(len(self.stream.getvalue().splitlines()), 2)

    def test_a_stream_that_fails(self) -> None:
        """A full disk under the log does not raise into what was logged."""

        class Full(io.StringIO):
            def write(self, text: str) -> int:
                raise OSError(28, "No space left on device")

        LogWriter(Full())({"log_time": 1.0, "log_format": "x"})

    def test_plain_text_is_itself(self) -> None:
        """Letters of all scripts stay as they are."""
        self.assertEqual(escape("Größe 温度 ✓"), "Größe 温度 ✓")

    def test_destinations(self) -> None:
        """The log goes where twistd's options send it; syslog and --logger stay twistd's."""
        self.assertIsNone(destination({"syslog": True}))
        self.assertIsNone(destination({"logger": lambda: None}))
        self.assertIsNone(destination({"logfile": "-"}))
        self.assertIsNotNone(destination({"nodaemon": True}))
        path = self.mktemp()
        stream = destination({"nodaemon": True, "logfile": path})
        assert stream is not None
        stream.write("x\n")
        stream.close()
        with open(path) as opened:
            self.assertEqual(opened.read(), "x\n")
