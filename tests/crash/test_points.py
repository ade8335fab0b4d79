"""A gateway that dies at every step of one exchange at QoS 2, in both directions.

The log's commits and the broker's answers have names in the code (C{reach("…")}); the gateway is
made to die at the first, second, … time that it gets there, until an exchange never does. The
other deaths come between two packets.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import mop_twisted
from mop_twisted.codec.packets import PUBCOMP, PUBLISH, PUBREC, PUBREL

from .exchange import ANSWERED, UNANSWERED, UNSEEN, Exchange

MOST = 40
"""Times that one exchange may come to one point: more is a loop."""


def points() -> list[str]:
    """The names of all failpoints, in the order of files and lines."""
    names: dict[str, None] = {}
    for path in sorted(Path(mop_twisted.__file__).parent.rglob("*.py")):
        names.update(dict.fromkeys(re.findall(r'\breach\("([^"]+)"\)', path.read_text())))
    return list(names)


class PointTests(SynchronousTestCase):
    """Exactly once, wherever the gateway dies."""

    def exchange(self, version: int, where: str) -> Exchange:
        """A new one, on a folder of its own."""
        return Exchange(os.path.abspath(f"{self.mktemp()}-{where}"), version)

    def check(self, exchange: Exchange, where: str) -> None:
        """It was exactly once."""
        self.assertEqual(exchange.complaints, [], where + "\n" + "\n".join(exchange.complaints))
        self.assertEqual(exchange.subscriber.received, 2, where)

    def between(self, side: str, kind: int, version: int) -> None:
        """Deaths around one packet."""
        for how in (UNSEEN, UNANSWERED, ANSWERED):
            where = f"{side} {kind} {how}"
            exchange = self.exchange(version, where.replace(" ", "-"))
            client = exchange.publisher if side == "publisher" else exchange.subscriber
            client.fatal = (kind, how)
            exchange.run()
            self.check(exchange, where)
            self.assertEqual(exchange.deaths, 1, where)

    def test_around_pubrec_of_ours(self) -> None:
        """Between its PUBREC and the client's PUBREL. [MQTT5-4.3.3-8] [MQTT5-4.3.3-10]"""
        self.between("publisher", PUBREC, 5)

    def test_around_pubcomp_of_ours(self) -> None:
        """After its PUBCOMP. [MQTT5-4.3.3-11] [MQTT5-4.3.3-12]"""
        self.between("publisher", PUBCOMP, 4)

    def test_around_publish_of_ours(self) -> None:
        """Between its PUBLISH and the client's PUBREC. [MQTT5-4.3.3-3] [MQTT5-4.4.0-1]"""
        self.between("subscriber", PUBLISH, 4)

    def test_around_pubrel_of_ours(self) -> None:
        """Between its PUBREL and the client's PUBCOMP. [MQTT5-4.3.3-4] [MQTT5-4.3.3-6]"""
        self.between("subscriber", PUBREL, 5)

    def sweep(self, name: str) -> int:
        """Die at a point the first, the second, … time; how often one exchange gets there."""
        for count in range(1, MOST):
            where = f"{name}:{count}"
            exchange = self.exchange(4 + count % 2, where)
            exchange.run(where)
            self.check(exchange, where)
            if not exchange.deaths:
                return count - 1
        raise AssertionError(f"{name} was reached {MOST} times in one exchange")

    def test_at_every_point(self) -> None:
        """At every named point of the gateway, each time that an exchange comes there: before
        and after each commit, before and after each answer."""
        names = points()
        self.assertTrue(names)
        reached = {name: self.sweep(name) for name in names}
        self.assertTrue(any(reached.values()), reached)
