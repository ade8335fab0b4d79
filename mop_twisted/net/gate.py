"""What all connections of a node share in net: who may come in, and the way to the broker.

Everything that a client can have before it proved who it is, is counted here, in constant time:
connections of its address, those of them without a CONNECT, and the bytes that all of these
together have sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol, final

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ..broker.counters import Counters
from ..broker.outbox import Outbox
from ..limits import Limits
from ..protocol.connection import Connection
from .deadlines import Deadlines
from .flusher import Flusher

EARLY_BYTES: Final = 64 * 1024 * 1024
"""Bytes that connections which have not been accepted may have sent, all together. Each is
bounded by the maximum packet size before CONNECT; a hundred thousand of them are not."""


class Front(Protocol):
    """The broker, as net sees it."""

    outbox: Outbox

    def connected(self, connection: Connection) -> bool:
        """A transport is there; False: close it at once."""

    def handle(self, connection: Connection, events: list[Any]) -> None:
        """Carry out what a connection was told."""

    def lost(self, connection: Connection) -> None:
        """The transport is gone; once for each that was connected."""

    def drained(self, connection: Connection) -> None:
        """The transport takes more again."""


@final
class Address:
    """What one client address has open."""

    __slots__ = ("connecting", "connections")

    def __init__(self) -> None:
        self.connections = 0
        self.connecting = 0


@final
class Gate:
    """One a node.

    C{seconds} is monotonic time, the same that the broker is given. C{limits} may be replaced
    at a reload: it holds for connections that come later.
    """

    logger = Logger()

    def __init__(
        self, reactor: Any, seconds: Callable[[], float], limits: Limits, counters: Counters
    ) -> None:
        self.reactor = reactor
        self.seconds = seconds
        self.limits = limits
        self.counters = counters
        self.flusher = Flusher(reactor)
        self.deadlines = Deadlines(reactor, seconds)
        self.broker: Front | None = None
        self.early_limit = EARLY_BYTES
        self.early_bytes = 0
        """Bytes of all connections that are not accepted yet."""
        self.refused_connections = 0
        """Of an address with too many, or over the node's limit, or over L{early_limit}."""
        self.aborted_connections = 0
        """Closed by us, and cut because the peer did not read the rest in time."""
        self.handshakes_failed = 0
        """TLS or WebSocket handshakes that did not end well."""
        self._addresses: dict[str, Address] = {}
        self._emptied: Deferred[None] | None = None

    def open(self, broker: Front) -> None:
        """Let connections through to C{broker}; L{Flusher.schedule} was given to it."""
        self.broker = broker
        self.flusher.outbox = broker.outbox
        self.deadlines.start()

    # Counting

    def enter(self, address: str) -> bool:
        """Count a connection of C{address}; False, and nothing counted, when it has too many."""
        limits = self.limits
        counted = self._addresses.get(address)
        if counted is None:
            counted = self._addresses[address] = Address()
        elif (
            counted.connections >= limits.connections_per_address
            or counted.connecting >= limits.connecting_per_address
        ):
            self.refused_connections += 1
            return False
        counted.connections += 1
        counted.connecting += 1
        return True

    def accepted(self, address: str, early: int) -> None:
        """A connection of C{address}, which sent C{early} bytes so far, is established."""
        self._addresses[address].connecting -= 1
        self.early_bytes -= early

    def leave(self, address: str, connecting: bool, early: int) -> None:
        """A connection is gone."""
        counted = self._addresses[address]
        counted.connections -= 1
        if connecting:
            counted.connecting -= 1
            self.early_bytes -= early
        if not counted.connections:
            del self._addresses[address]
        if self._emptied is not None and not self.flusher.protocols:
            emptied, self._emptied = self._emptied, None
            emptied.callback(None)

    def count_early(self, size: int) -> bool:
        """Count bytes of a connection that is not accepted yet; False: that is too many."""
        self.early_bytes += size
        return self.early_bytes <= self.early_limit

    # The end

    def close(self, timeout: float) -> Deferred[None]:
        """Close all connections: what waits for them is sent, and whoever has not taken it
        after C{timeout} seconds is cut off. Fires when none is left. Listeners are closed
        before."""
        protocols = self.flusher.protocols
        self.flusher.flush()
        for protocol in list(protocols.values()):
            protocol.close()
        emptied: Deferred[None] = Deferred()
        if not protocols:
            self.deadlines.stop()
            emptied.callback(None)
            return emptied
        self._emptied = emptied

        def cut() -> None:
            for protocol in list(protocols.values()):
                protocol.abort()

        late = self.reactor.callLater(timeout, cut)

        def done(result: None) -> None:
            if late.active():
                late.cancel()
            self.deadlines.stop()

        return emptied.addCallback(done)
