"""What is left of a will that has been published: nothing."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from mop_twisted.codec.packets import WillMessage
from mop_twisted.codec.properties import SESSION_EXPIRY_INTERVAL
from tests.conversation import MemoryClient, Node

EXPIRY = {SESSION_EXPIRY_INTERVAL: 600}


class WillRecordTests(TestCase):
    """Records of wills in the store, and their origins in the log."""

    @inlineCallbacks
    def setUp(self) -> Generator[Deferred[Any], Any, None]:
        self.folder = self.mktemp()
        self.node = Node(self.folder)
        yield self.node.start()
        self.watching: MemoryClient = yield self.node.connected("watching")
        yield self.watching.subscribe("will", qos=1)

    @inlineCallbacks
    def tearDown(self) -> Generator[Deferred[Any], Any, None]:
        yield self.node.stop()

    @inlineCallbacks
    def restart(self) -> Generator[Deferred[Any], Any, None]:
        """Stop the log as it is, and begin anew on its folder."""
        yield self.node.log.stop()
        self.node = Node(self.folder)
        yield self.node.start()
        self.watching = yield self.node.connected("watching")
        yield self.watching.subscribe("will", qos=1)

    @inlineCallbacks
    def test_origins_are_forgotten(self) -> Generator[Deferred[Any], Any, None]:
        """The log does not grow by a row a will that has fired."""
        client = yield self.node.connected(
            "willing", will=WillMessage("will", b"gone", 1), properties=EXPIRY
        )
        session = self.node.broker.sessions.find("willing")
        incarnation = session.incarnation
        client.drop()
        yield self.watching.expect_publish()
        for _ in range(50):
            left = yield self.node.log.origins("will\0willing", incarnation)
            if not left:
                break
            yield self.node.turn()
        self.assertEqual(left, [])

    @inlineCallbacks
    def test_a_record_goes_with_its_session(self) -> Generator[Deferred[Any], Any, None]:
        """A session that a clean start ended while its will waited is not there again after a
        restart, nor is its will, although the new session has nothing to keep.
        [MQTT5-3.1.2-4] [MQTT5-3.1.2-10]"""
        client = yield self.node.connected(
            "willing", will=WillMessage("will", b"gone", 1, delay=60), properties=EXPIRY
        )
        client.drop()
        yield self.node.connected("willing")
        yield self.watching.expect_publish()
        yield self.restart()
        connack = yield self.node.client("willing").connect(clean_start=False)
        self.assertFalse(connack.session_present)
        yield self.watching.expect_nothing()
