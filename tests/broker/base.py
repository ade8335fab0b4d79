"""A test case with a node, and the words that conversations share."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from mop_twisted.codec.properties import SESSION_EXPIRY_INTERVAL

from ..conversation import Node

KEPT = {SESSION_EXPIRY_INTERVAL: 1000}
"""CONNECT properties of a session that outlives its connection."""

Steps = Generator[Deferred[Any], Any, None]


class NodeTestCase(TestCase):
    """Each test has a node of its own on an empty embedded log."""

    timeout = 60
    options: dict[str, Any] = {}  # noqa: RUF012

    @inlineCallbacks
    def setUp(self) -> Steps:
        self.node = self.make_node()
        yield self.node.start()

    def make_node(self) -> Node:
        """The node, before it is started."""
        return Node(**self.options)

    def tearDown(self) -> Deferred[None]:
        return self.node.stop()

    @inlineCallbacks
    def restart(self, **options: Any) -> Steps:
        """Stop the node as SIGTERM does and start another on its folder."""
        folder, wall = self.node.folder, self.node.wall_clock()
        yield self.node.stop(keep=True)
        self.node = Node(folder, wall=wall, **options)
        yield self.node.start()
