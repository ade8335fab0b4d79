"""What every log must do with the past that it keeps."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from .follower import message, number_of
from .log import LogBase, Yields


class HistoryContract(LogBase):
    """Where it begins, what it brings, and where it ends."""

    @inlineCallbacks
    def numbers(
        self, log: Any, start: str, topic_filter: str = "#", limit: int = 100
    ) -> Generator[Deferred[Any], Any, list[int]]:
        """The whole history from a start on."""
        position = yield log.position_at(start)
        found: list[int] = []
        while True:
            history = yield log.history(topic_filter, position, limit)
            assert len(history.entries) <= limit
            found += [number_of(entry) for entry in history.entries]
            if history.live:
                return found
            position = history.position

    @inlineCallbacks
    def test_history(self) -> Yields:
        """The past of a topic that is kept can be had from its beginning, from now, from a
        time, an age and a place, in portions, by a filter; what is not kept is not there."""
        log = yield self.opened("kept/#")
        self.assertTrue(log.keeps("kept/a"))
        self.assertFalse(log.keeps("other"))
        cursor = yield log.cursor("a")
        for n in range(10):
            topic = "kept/a" if n % 2 else "kept/b"
            entries = [message(n, topic=topic, kept=True), message(100 + n, cursor, topic="other")]
            yield self.publish(log, *entries)
            yield self.pass_time(1.0)
            if n == 4:
                moment = self.now() - 0.5
        for reopened in (False, True):
            if reopened:
                yield log.stop()
                log = yield self.opened("kept/#")
            stamp = datetime.fromtimestamp(moment, UTC).isoformat()
            for start, topic_filter, limit, expected in (
                ("earliest", "#", 100, [*range(10)]),
                ("earliest", "kept/+", 3, [*range(10)]),
                ("earliest", "kept/a", 2, [1, 3, 5, 7, 9]),
                ("earliest", "nothing", 2, []),
                ("latest", "#", 100, []),
                (stamp, "#", 100, [*range(5, 10)]),
                (stamp.replace("+00:00", "Z"), "#", 1, [*range(5, 10)]),
                ("2001-02-03", "#", 100, [*range(10)]),
                ("2999-02-03T04:05:06", "#", 100, []),
                ("-1h", "#", 100, [*range(10)]),
                ("-1d", "kept/b", 100, [0, 2, 4, 6, 8]),
                ("-0s", "#", 100, []),
            ):
                found = yield self.numbers(log, start, topic_filter, limit)
                self.assertEqual(found, expected, (start, topic_filter))
            position = yield log.position_at(stamp)
            found = yield self.numbers(log, str(position))
            self.assertEqual(found, [*range(5, 10)])

    @inlineCallbacks
    def test_no_start(self) -> Yields:
        """A start that means nothing is told, and nothing happens."""
        log = yield self.opened("#")
        starts = ["", "yesterday", "-1", "-1y", "--1h", "1.5", "2024-13-01", "9" * 5000]
        for start in [*starts, "-\u0661h", "\u0661"]:
            yield self.assertFailure(log.position_at(start), ValueError)
