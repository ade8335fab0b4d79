"""The fuzz targets of this room, for a moment: campaigns run them longer."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from ..fuzz.websocket import main


class WebSocketFuzzTests(SynchronousTestCase):
    """Whatever is sent to a WebSocket's port, only documented ends come of it."""

    def test_random_streams(self) -> None:
        """Hundreds of damaged streams raise nothing and leave nothing behind."""
        self.assertTrue(main(0.5) > 20)
