"""Whether a node can do its work."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.ops.readiness import Readiness, is_true


class ReadinessTests(SynchronousTestCase):
    """Checks by name."""

    def test_all_well(self) -> None:
        """It is ready when every check says so."""
        readiness = Readiness()
        readiness.add("listeners", lambda: None)
        readiness.add("log", is_true(lambda: True, "appends fail"))
        self.assertTrue(readiness.ready)
        self.assertEqual({"listeners": None, "log": None}, readiness.examine())

    def test_one_is_not(self) -> None:
        """One check that fails is enough, and says why."""
        readiness = Readiness()
        readiness.add("listeners", lambda: None)
        readiness.add("log", is_true(lambda: False, "appends fail"))
        self.assertFalse(readiness.ready)
        self.assertEqual("appends fail", readiness.examine()["log"])

    def test_nothing_started(self) -> None:
        """A node that has not got as far as adding a check is not ready."""
        self.assertFalse(Readiness().ready)

    def test_broken_check(self) -> None:
        """A check that raises counts as failed; its error goes to the log and nowhere else."""
        readiness = Readiness()

        def check() -> str | None:
            raise RuntimeError("password=hunter2")

        readiness.add("log", check)
        self.assertEqual({"log": "the check itself failed"}, readiness.examine())
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))

    def test_removed(self) -> None:
        """A check that was removed is not asked."""
        readiness = Readiness()
        readiness.add("one", lambda: None)
        readiness.add("other", lambda: "not yet")
        readiness.remove("other")
        readiness.remove("never added")
        self.assertTrue(readiness.ready)
