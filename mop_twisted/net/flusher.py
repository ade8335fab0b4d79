"""Empties the broker's outbox once a turn.

The broker only marks connections. The first mark of a turn has L{Flusher.flush} called at the
beginning of the next, before the reactor waits: whatever hundred events did to a connection,
it is one joined write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from twisted.logger import Logger

from ..protocol.connection import Connection

if TYPE_CHECKING:
    from ..broker.outbox import Outbox
    from .protocol import MqttProtocol


@final
class Flusher:
    """Finds the protocol of each marked connection, and has it flush."""

    logger = Logger()

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._scheduled = False
        self.outbox: Outbox | None = None
        self.protocols: dict[Connection, MqttProtocol] = {}
        """All connections that have a transport."""

    def schedule(self) -> None:
        """Flush soon; the outbox calls this."""
        if not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(0, self.flush)

    def flush(self) -> None:
        """Send what waits, close what shall close, read or do not read."""
        self._scheduled = False
        if self.outbox is None:
            return
        protocols = self.protocols
        for connection in self.outbox.take():
            protocol = protocols.get(connection)
            if protocol is not None:
                try:
                    protocol.flush()
                except Exception:
                    # One transport's trouble is not the next one's.
                    self.logger.failure("flushing a connection failed")
                    protocol.abort()
