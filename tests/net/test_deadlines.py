"""Tests of L{mop_twisted.net.deadlines}."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.net.deadlines import SLICE, Deadlines


class Client:
    """Something with a deadline that it moves as it likes."""

    second = 0

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.expired: list[float] = []

    def expire(self, now: float) -> None:
        self.expired.append(now)
        self.deadline = 0.0


class DeadlinesTests(SynchronousTestCase):
    """Connections are ended when they are due, for next to nothing."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.deadlines = Deadlines(self.clock, self.clock.seconds)
        self.deadlines.start()

    def pass_seconds(self, seconds: int) -> None:
        """Let time pass as a reactor would."""
        self.clock.pump([0.1] * (10 * seconds))

    def test_expires_soon_after(self) -> None:
        """What is due is told within about a second, and never before."""
        client = Client(5.5)
        self.deadlines.add(client)
        self.pass_seconds(20)
        self.assertEqual(1, len(client.expired))
        self.assertTrue(5.5 <= client.expired[0] <= 7.5, client.expired)

    def test_no_more_than_a_second_late(self) -> None:
        """A client that fell silent is told within a second, whenever the gateway began: one and
        a half times a keep alive of a second is not three. [MQTT5-3.1.2-22] [MQTT311-3.1.2-24]"""
        for phase in range(10):
            clock = Clock()
            clock.advance(phase / 10)
            deadlines = Deadlines(clock, clock.seconds)
            deadlines.start()
            clients = [Client(5 + tenth / 10) for tenth in range(10)]
            for client in clients:
                deadlines.add(client)
            for client in clients:
                due = client.deadline
                clock.pump([0.01] * round(100 * (due + 1.02 - clock.seconds())))
                self.assertEqual(1, len(client.expired), (phase, due))

    def test_later_deadline_moves(self) -> None:
        """A client that speaks in time is asked again later, and not ended."""
        client = Client(3.0)
        self.deadlines.add(client)
        for _ in range(20):
            client.deadline = self.clock.seconds() + 3.0
            self.pass_seconds(1)
        self.assertEqual([], client.expired)
        self.pass_seconds(6)
        self.assertEqual(1, len(client.expired))

    def test_earlier_deadline_counts(self) -> None:
        """Adding again what has become due earlier moves it."""
        client = Client(100.0)
        self.deadlines.add(client)
        client.deadline = 2.0
        self.deadlines.add(client)
        self.pass_seconds(4)
        self.assertEqual(1, len(client.expired))

    def test_no_deadline(self) -> None:
        """Without a deadline nothing is watched."""
        client = Client(0.0)
        self.deadlines.add(client)
        self.assertEqual(0, client.second)
        client.deadline = 3.0
        self.deadlines.add(client)
        client.deadline = 0.0
        self.pass_seconds(10)
        self.assertEqual([], client.expired)
        self.assertEqual({}, self.deadlines._buckets)

    def test_forgotten_leaves_nothing(self) -> None:
        """A connection that is gone is neither told nor remembered."""
        client = Client(3.0)
        self.deadlines.add(client)
        self.deadlines.forget(client)
        self.deadlines.forget(client)
        self.assertEqual({}, self.deadlines._buckets)
        self.pass_seconds(10)
        self.assertEqual([], client.expired)

    def test_one_failure_stops_nobody(self) -> None:
        """An error with one connection is logged, and the others are served."""

        class Broken(Client):
            def expire(self, now: float) -> None:
                self.deadline = 0.0
                raise RuntimeError("expected by the test")

        broken, client = Broken(2.0), Client(2.0)
        self.deadlines.add(broken)
        self.deadlines.add(client)
        self.pass_seconds(5)
        self.assertEqual(1, len(client.expired))
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_many_at_once_are_told_in_slices(self) -> None:
        """Thousands that fall silent together do not stop the reactor for one long turn."""
        clients = [Client(2.0) for _ in range(SLICE + 500)]
        told_in_between: list[int] = []

        def others_are_served() -> None:
            told_in_between.append(sum(len(client.expired) for client in clients))

        class First(Client):
            def expire(self, now: float) -> None:
                super().expire(now)
                clock.callLater(0, others_are_served)

        clock = self.clock
        clients.append(First(2.0))
        for client in clients:
            self.deadlines.add(client)
        self.deadlines.forget(clients[0])
        self.pass_seconds(5)
        self.assertEqual(SLICE + 500, sum(len(client.expired) for client in clients))
        # It is in the first slice or in the second, and was served right behind it.
        self.assertIn(told_in_between[0], (SLICE, SLICE + 500))

    def test_a_jump_of_the_clock(self) -> None:
        """A machine that slept for a month asks everybody once."""
        client = Client(3.0)
        self.deadlines.add(client)
        self.clock.advance(3_000_000)
        self.assertEqual(1, len(client.expired))

    def test_stop(self) -> None:
        """After the end nothing is scheduled any more."""
        self.deadlines.stop()
        self.deadlines.stop()
        self.assertEqual([], self.clock.getDelayedCalls())
