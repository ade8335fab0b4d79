"""SIGTERM and SIGHUP under load: nothing is lost, nobody is disturbed."""

from __future__ import annotations

import os
import signal

from twisted.trial.unittest import SynchronousTestCase

from .campaign import Campaign


class Undisturbed(Campaign):
    """Load, SIGHUP after SIGHUP, and connections that nothing may touch."""

    reloads = 0

    def _disturb(self) -> None:
        if self.gateway.logged().count("reloaded") >= self.reloads:
            self.reloads += 1
            self.gateway.program.process.send_signal(signal.SIGHUP)


class SignalTests(SynchronousTestCase):
    """Signals that operators send."""

    def test_sigterm_under_load(self) -> None:
        """A gateway that is stopped under load drains: what it acknowledged is there after the
        next start, QoS 2 once, QoS 1 again only with DUP, and wills have fired once."""
        campaign = Campaign(
            os.path.abspath(self.mktemp()), 20263, 4, longest=0.5, ending=signal.SIGTERM
        )
        complaints = campaign.run()
        self.assertEqual(complaints, [], "\n".join(complaints))

    def test_sighup_under_load(self) -> None:
        """A reload under load closes no connection and loses nothing."""
        campaign = Undisturbed(os.path.abspath(self.mktemp()), 20264, 1, longest=2.0)
        complaints = campaign.run()
        self.assertEqual(complaints, [], "\n".join(complaints))
        self.assertGreater(campaign.reloads, 3)
        # Once at first, once after the kill that ends the campaign.
        connections = {c.client_id: c.connections for c in campaign.publishers.values()}
        self.assertEqual(set(connections.values()), {2}, connections)
