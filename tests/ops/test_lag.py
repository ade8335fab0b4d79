"""How late the reactor is."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.ops.lag import WINDOW, LagProbe


class LagProbeTests(SynchronousTestCase):
    """Lateness, measured."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.probe = LagProbe(self.clock)
        self.probe.start()

    def test_on_time(self) -> None:
        """A reactor that keeps up is not late."""
        self.clock.pump([1.0] * 3)
        self.assertEqual((0.0, 0.0), (self.probe.latest, self.probe.maximum))

    def test_late(self) -> None:
        """A reactor that was busy is late by as much, once, and the maximum remembers it."""
        self.clock.advance(1.25)
        self.assertEqual(0.25, self.probe.latest)
        self.clock.advance(1.0)
        self.assertEqual((0.0, 0.25), (self.probe.latest, self.probe.maximum))

    def test_maximum_forgets(self) -> None:
        """What was a minute ago does not alarm anybody any more."""
        self.clock.advance(3.0)
        self.clock.pump([1.0] * (WINDOW - 1))
        self.assertEqual(2.0, self.probe.maximum)
        self.clock.advance(1.0)
        self.assertEqual(0.0, self.probe.maximum)

    def test_stops(self) -> None:
        """A stopped probe leaves nothing scheduled, twice as well as once."""
        self.probe.stop()
        self.probe.stop()
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_starts_once(self) -> None:
        """Started twice it probes once."""
        self.probe.start()
        self.assertEqual(1, len(self.clock.getDelayedCalls()))

    def test_nothing_measured_yet(self) -> None:
        """Before the first probe it says 0."""
        self.assertEqual((0.0, 0.0), (self.probe.latest, self.probe.maximum))
