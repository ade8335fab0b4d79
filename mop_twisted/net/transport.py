"""Transports that send at once, and cost little while they idle.

Twisted's C{write} puts bytes aside, has the reactor watch the socket for writing, and sends in
the next turn: two C{epoll_ctl} and a turn for a few bytes. Here C{write} sends at once while
nothing waits, and only what the socket did not take goes the ordinary way; errors go that way
too, so that they are reported by the reactor and never from inside C{write}.

Knows sockets and the reactor; knows nothing of MQTT.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from twisted.internet import address, tcp, unix
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

BACKLOG: Final = 4096
"""Connections that may wait to be accepted: a fleet that comes back comes at once."""

RECEIVE_BYTES: Final = 64 * 1024
"""Most that one read of a socket takes."""


def configure_listening_socket(listening: socket.socket) -> None:
    """Set what connections inherit from their listening socket, so that an accept costs no
    further system calls: no delay (a PUBACK must not wait for Nagle), and TCP keep alive (for
    clients whose MQTT keep alive is 0)."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class Stream(tcp.Server):
    """The server's end of one TCP connection.

    C{__init__} sets what Twisted's own would, but no strings for logs, no list for output that
    may never wait, and no peer's address: about 0.7 KB less for a connection that idles.
    """

    logstr = "mqtt"
    repstr = "<mqtt connection>"
    sessionno = 0
    hostname = ""
    _tempDataLen = 0
    _tempDataBuffer: list[bytes] = []  # noqa: RUF012  replaced, never changed in place

    def __init__(
        self,
        sock: socket.socket,
        protocol: Any,
        client: Any,
        server: Any,
        sessionno: int,
        reactor: Any,
    ) -> None:
        self.reactor = reactor
        self.socket = sock
        sock.setblocking(False)
        self.fileno = sock.fileno
        self.protocol = protocol
        self.server = server
        self.connected = 1
        self.startReading()  # type: ignore[no-untyped-call]

    def getPeer(self) -> Any:
        """The client's address, asked of the socket."""
        peer = self.socket.getpeername()
        kind = address.IPv6Address if len(peer) == 4 else address.IPv4Address
        return kind("TCP", *peer)

    def doRead(self) -> Any:
        """The reactor says that there is something to read."""
        try:
            received = self.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not received:
            return CONNECTION_DONE
        self.protocol.dataReceived(received)
        return None

    def write(self, data: bytes) -> None:
        """Send now what the socket takes now, and the rest when it takes more."""
        if not self.connected or self._writeDisconnected or not data:
            return
        if not (self._tempDataLen or self.dataBuffer):
            sent = self._send(data)
            if sent == len(data):
                return
            if sent:
                data = data[sent:]
        if self._tempDataLen:
            self._tempDataBuffer.append(data)
        else:
            self._tempDataBuffer = [data]
        self._tempDataLen += len(data)
        self._maybePauseProducer()  # type: ignore[no-untyped-call]
        self.startWriting()  # type: ignore[no-untyped-call]

    def _send(self, data: bytes) -> int:
        """How much of C{data} was sent; after an error 0, and C{doWrite} will meet it again."""
        try:
            return self.socket.send(data)
        except OSError:
            return 0

    @property
    def waiting_bytes(self) -> int:
        """Bytes that were written and not sent yet."""
        return len(self.dataBuffer) - self.offset + self._tempDataLen


class UnixStream(Stream):
    """The same over a UNIX domain socket."""

    def getPeer(self) -> Any:
        """The client's end, which has no name."""
        return address.UNIXAddress(None)

    def getHost(self) -> Any:
        """The socket's path."""
        return address.UNIXAddress(self.socket.getsockname())


class StreamPort(tcp.Port):
    """Accepts TCP connections; C{credentials} are for transports that encrypt."""

    transport = Stream
    credentials: Any = None


class UnixPort(unix.Port):
    """Accepts connections on a path, which whoever bound it made and removes."""

    transport = UnixStream  # type: ignore[assignment]
    credentials: Any = None

    def __init__(
        self,
        fileName: bytes,
        factory: Any,
        backlog: int = BACKLOG,
        mode: int = 0o660,
        reactor: Any = None,
        wantPID: int = 0,
    ) -> None:
        super().__init__(fileName, factory, backlog, mode, reactor, wantPID)

    def connectionLost(self, reason: Any) -> None:
        """Close the socket, and leave its path alone."""
        tcp.Port.connectionLost(self, reason)  # type: ignore[no-untyped-call]
