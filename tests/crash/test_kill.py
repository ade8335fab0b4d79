"""Campaigns of C{SIGKILL} under load, short enough for every run of the tests.

The long ones are C{scripts/chaos kill}.
"""

from __future__ import annotations

import os

from twisted.internet.defer import inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mop_twisted.codec.packets import WillMessage
from mop_twisted.codec.properties import SESSION_EXPIRY_INTERVAL
from tests.conversation import Node

from .campaign import Campaign


class KillTests(SynchronousTestCase):
    """A gateway that is killed keeps its word."""

    def campaign(self, seed: int, rounds: int, **options: float) -> Campaign:
        """Carry one out; it has nothing to complain about."""
        campaign = Campaign(os.path.abspath(self.mktemp()), seed, rounds, **options)
        complaints = campaign.run()
        self.assertEqual(complaints, [], "\n".join(complaints))
        self.assertGreaterEqual(campaign.kills, rounds)
        return campaign

    def test_under_full_load(self) -> None:
        """Killed at any moment under full load, the gateway loses nothing that it acknowledged,
        delivers QoS 2 once and keeps each publisher's order; sessions are present, the retained
        message is the last one, and the wills of those who were connected fire once.

        [MQTT5-4.1.0-1] [MQTT5-4.3.2-4] [MQTT5-4.3.3-8] [MQTT5-4.3.3-10] [MQTT5-4.4.0-1]
        [MQTT5-4.6.0-1] [MQTT5-4.6.0-5] [MQTT5-3.1.2-8] [MQTT5-3.2.2-3] [MQTT5-3.3.1-1]
        [MQTT5-3.3.1-5] [MQTT311-4.1.0-1] [MQTT311-4.3.2-2] [MQTT311-4.3.3-2] [MQTT311-4.4.0-1]
        [MQTT311-4.6.0-1] [MQTT311-3.1.2-8] [MQTT311-3.3.1-1]
        """
        campaign = self.campaign(20261, 12, longest=0.6)
        self.assertGreater(campaign.acknowledged, 1000)

    def test_in_quick_succession(self) -> None:
        """Killed as soon as clients have begun to come back, again and again, it is the same."""
        self.campaign(20262, 8, longest=0.08)


class WillTests(TestCase):
    """A kill is the end of every connection."""

    @inlineCallbacks
    def test_a_client_that_is_back_at_once(self) -> object:
        """The will of a client that was connected at a kill fires although the client, whose
        session goes on, is back before the first second is over. [MQTT5-3.1.2-8]"""
        folder = self.mktemp()
        node = Node(folder)
        yield node.start()
        watching = yield node.connected("watching", properties={SESSION_EXPIRY_INTERVAL: 60})
        yield watching.subscribe("will", qos=1)
        yield node.connected(
            "willing",
            will=WillMessage("will", b"gone", 1),
            properties={SESSION_EXPIRY_INTERVAL: 60},
        )
        # As a kill leaves it: nobody has been told anything.
        yield node.log.stop()
        again = Node(folder)
        yield again.start()
        self.addCleanup(again.stop)
        yield again.connected(
            "willing", clean_start=False, properties={SESSION_EXPIRY_INTERVAL: 60}
        )
        watching = yield again.connected(
            "watching", clean_start=False, properties={SESSION_EXPIRY_INTERVAL: 60}
        )
        publish = yield watching.expect_publish()
        self.assertEqual(publish.payload, b"gone")
        yield watching.expect_nothing()
