"""MQTT on a transport: bytes to the connection, its events to the broker, its output back.

Has no opinions: what the bytes mean is the protocol room's, what is done about it the broker's.
What it does decide is when a transport is full, when it is read, and when it is cut.
"""

from __future__ import annotations

from typing import Any, Final, final

from twisted.internet.interfaces import IAddress, IHandshakeListener, IPushProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from ..protocol.connection import Connection
from ..protocol.peer import Peer
from .gate import Gate

CHUNK_BYTES: Final = 256 * 1024
"""Most that is joined and handed to the transport at once, a single larger frame excepted: so
much lies there beside the transport's own mark when a client stops reading."""

CLOSING_SECONDS: Final = 5.0
"""How long a client that shall go may take to read what is left for it."""


@final
@implementer(IPushProducer, IHandshakeListener)
class MqttProtocol(Protocol):
    """One client's transport. C{address} was counted by the gate's C{enter}."""

    connection: Connection
    transport: Any
    congested = False
    closed = False
    """The transport was told to close."""
    closing_at = 0.0
    """When it is cut, if it should close and has not."""
    lost = False
    known = False
    """The broker was told of it."""
    connecting = True
    reading = True
    early = 0
    second = 0

    def __init__(self, gate: Gate, listener: str, address: str) -> None:
        self.gate = gate
        self.connection = Connection(
            gate.limits, Peer(listener, address), gate.seconds(), gate.counters.tally
        )

    # The transport's calls

    def connectionMade(self) -> None:
        """The transport is there; for TLS and WebSocket, before their handshakes, whose time
        counts as the client's time to connect."""
        gate = self.gate
        connection = self.connection
        gate.flusher.protocols[connection] = self
        if gate.broker is None or not gate.broker.connected(connection):
            gate.refused_connections += 1
            self.abort()
            return
        self.known = True
        self.transport.registerProducer(self, True)
        gate.deadlines.add(self)

    def handshakeCompleted(self) -> None:
        """TLS is up: the name in the client's certificate, if it had to show one, is who it is.
        A certificate without a usable name lets nobody in."""
        try:
            name = self.transport.certificate_name()
        except ValueError:
            self.gate.handshakes_failed += 1
            self.abort()
            return
        if name is not None:
            peer = self.connection.peer
            self.connection.peer = Peer(peer.listener, peer.address, name)

    def handshakeFailed(self) -> None:
        """TLS or WebSocket did not come about; the transport closes by itself."""
        self.gate.handshakes_failed += 1

    def dataReceived(self, data: bytes) -> None:
        """The client said something."""
        gate = self.gate
        connection = self.connection
        if self.closed or gate.broker is None:
            return
        gate.counters.bytes_received += len(data)
        if self.connecting and not self.count_early(len(data)):
            return
        gate.broker.handle(connection, connection.receive(data, gate.seconds()))
        if connection.reading is not self.reading:
            self._follow_reading()

    def count_early(self, size: int) -> bool:
        """Count bytes that came before the client was accepted, also those of a WebSocket
        handshake. False: all such clients together sent too much, this one is cut."""
        self.early += size
        if self.gate.count_early(size):
            return True
        self.gate.refused_connections += 1
        self.abort()
        return False

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The transport is gone."""
        if self.lost:
            return
        self.lost = self.closed = True
        gate = self.gate
        connection = self.connection
        gate.flusher.protocols.pop(connection, None)
        gate.deadlines.forget(self)
        connection.output.clear()
        connection.output_bytes = 0
        if self.known and gate.broker is not None:
            self.known = False
            gate.broker.lost(connection)
        # Afterwards: the last one to leave lets the drain go on.
        gate.leave(connection.peer.address, self.connecting, self.early)

    # Output

    def flush(self) -> None:
        """Send the connection's output, as much as the transport takes; then close or pause."""
        connection = self.connection
        if self.closed:
            if not self.lost:
                connection.output.clear()
                connection.output_bytes = 0
            return
        output = connection.output
        if output and not self.congested:
            size = connection.output_bytes
            if size <= CHUNK_BYTES:
                data = output[0] if len(output) == 1 else b"".join(output)
                output.clear()
                connection.output_bytes = 0
                self.gate.counters.bytes_sent += size
                self.transport.write(data)
            else:
                self._flush_in_chunks()
        if self.connecting and connection.established:
            self.connecting = False
            self.gate.accepted(connection.peer.address, self.early)
            # The keep alive may be shorter than what was left of the time to connect.
            self.gate.deadlines.add(self)
        if connection.closing:
            self.close()
        elif connection.reading is not self.reading:
            self._follow_reading()

    def _flush_in_chunks(self) -> None:
        connection = self.connection
        output = connection.output
        while output and not self.congested:
            size = frames = 0
            for frame in output:
                if frames and size + len(frame) > CHUNK_BYTES:
                    break
                size += len(frame)
                frames += 1
            data = b"".join(output[:frames])
            del output[:frames]
            connection.output_bytes -= size
            self.gate.counters.bytes_sent += size
            self.transport.write(data)

    def close(self) -> None:
        """Close when all output has left, or was not read in time."""
        if self.closed:
            return
        if not self.closing_at:
            self.closing_at = self.gate.seconds() + CLOSING_SECONDS
            self.gate.deadlines.add(self)
        self.connection.closing = True
        if self.connection.output:
            return
        self.closed = True
        if not self.reading:
            # Else a WebSocket's or TLS's farewell, and the end of the stream, would not be seen.
            self.reading = True
            self.transport.resumeProducing()
        # A transport with a producer waits for it before it closes.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut the transport, whatever waits."""
        self.closed = True
        if not self.lost:
            self.transport.abortConnection()

    # Back-pressure: the transport's buffer is over its mark, and was emptied

    def pauseProducing(self) -> None:
        """The transport takes no more for now: output stays in the connection, where the
        broker sees and bounds it."""
        self.congested = True
        self.connection.congested = True

    def resumeProducing(self) -> None:
        """The transport's buffer is empty."""
        if not self.congested:
            return
        self.congested = self.connection.congested = False
        self.flush()
        if self.known and not self.congested and not self.closed and self.gate.broker is not None:
            self.gate.broker.drained(self.connection)

    def stopProducing(self) -> None:
        """The transport is gone; C{connectionLost} follows."""

    def _follow_reading(self) -> None:
        if self.closed:
            return
        self.reading = self.connection.reading
        if self.reading:
            self.transport.resumeProducing()
        else:
            self.transport.pauseProducing()

    # Deadlines

    @property
    def deadline(self) -> float:
        """When L{expire} is due."""
        return self.closing_at or self.connection.deadline

    def expire(self, now: float) -> None:
        """The client's time to connect or its keep alive may be over, or its time to go is."""
        if self.closing_at:
            if now >= self.closing_at and not self.lost:
                self.gate.aborted_connections += 1
                self.closing_at = 0.0
                self.abort()
            return
        # [MQTT5-3.1.2-22] [MQTT311-3.1.2-24]
        events = self.connection.expire(now)
        if events and self.gate.broker is not None:
            self.gate.broker.handle(self.connection, events)


class MqttFactory(Factory):
    """Makes the protocols of one listener, whose specification is C{listener}."""

    noisy = False

    def __init__(self, gate: Gate, listener: str) -> None:
        self.gate = gate
        self.listener = listener

    def buildProtocol(self, addr: IAddress | None) -> MqttProtocol | None:
        """C{None} (and the socket is closed at once) for an address that has too many."""
        # A UNIX socket's clients all are the socket's path.
        address: str = getattr(addr, "host", "") or self.listener
        if not self.gate.enter(address):
            return None
        return MqttProtocol(self.gate, self.listener, address)
