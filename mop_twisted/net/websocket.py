"""MQTT over WebSocket: a layer between a transport and L{mop_twisted.net.protocol.MqttProtocol}.

Below, it is a protocol; above, it is a transport: nothing else knows that there are frames.
wsproto answers the opening handshake, L{mop_twisted.net.frames} does the rest. No extensions:
compression before authentication is a bomb's way in, and MQTT payloads rarely shrink.

RFC 6455; MQTT 5.0 chapter 6.
"""

from __future__ import annotations

from typing import Any, Final, final

from twisted.internet.interfaces import IAddress, IHandshakeListener
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request
from wsproto.utilities import RemoteProtocolError
from zope.interface import implementer

from .frames import NORMAL, Frames, binary_frame, close_frame
from .protocol import MqttFactory, MqttProtocol

PATH: Final = "/mqtt"
SUBPROTOCOLS: Final = ("mqtt", "mqttv3.1")
"""The name of the standard, and that of clients from before it."""

HEADER_BYTES: Final = 8 * 1024
"""Most that the opening handshake may have."""

_END: Final = b"\r\n\r\n"

_PHRASES: Final = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
}


def refusal(status: int, why: str) -> bytes:
    """A short HTTP answer to what is no opening handshake of ours."""
    extra = ""
    if status == 426:
        extra = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    elif status == 405:
        extra = "Allow: GET\r\n"
    body = why + "\n"
    return (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\n{extra}Connection: close\r\n"
        f"Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode("ascii")


class Refusal(Exception):
    """The opening handshake fails, with an HTTP status and a reason."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


def answer(head: bytes, origins: frozenset[str] | None) -> bytes:
    """The response that opens the WebSocket. C{head} is the whole request.

    @raise Refusal: it is no request for one that we take.
    """
    handshake = WSConnection(ConnectionType.SERVER)
    lowered = head.lower()
    if b"upgrade:" not in lowered:
        raise Refusal(426, "this port speaks MQTT over WebSocket, at " + PATH)
    try:
        handshake.receive_data(head)
        request = next(handshake.events(), None)
    except RemoteProtocolError as error:
        status = getattr(error.event_hint, "status_code", 400)
        if not head.startswith(b"GET "):
            status = 405
        raise Refusal(status if status in _PHRASES else 400, "not a WebSocket handshake") from None
    except ValueError:
        # A host name or a path that is not even text.
        raise Refusal(400, "not a WebSocket handshake") from None
    if not isinstance(request, Request):
        raise Refusal(400, "not a WebSocket handshake")
    if request.target.partition("?")[0] != PATH:
        raise Refusal(404, "MQTT is at " + PATH)
    if origins is not None:
        for name, value in request.extra_headers:
            if name.lower() == b"origin" and value.decode("latin-1").lower() not in origins:
                raise Refusal(403, "not from this origin")
    for subprotocol in SUBPROTOCOLS:
        if subprotocol in request.subprotocols:
            # [MQTT5-6.0.0-4] [MQTT311-6.0.0-4]
            return handshake.send(AcceptConnection(subprotocol=subprotocol))
    # [MQTT5-6.0.0-3] [MQTT311-6.0.0-3]
    raise Refusal(400, "the subprotocol mqtt was not offered")


@final
@implementer(IHandshakeListener)
class WebSocket(Protocol):
    """One WebSocket: the transport's protocol, and the MQTT protocol's transport."""

    transport: Any
    _frames: Frames | None = None
    """C{None} until the opening handshake is done."""
    _closing = False
    """Nothing is passed on any more, either way; the farewell may be outstanding."""

    def __init__(self, above: MqttProtocol, origins: frozenset[str] | None) -> None:
        self._above = above
        self._origins = origins
        self._head: bytearray | None = None

    # What the transport below calls

    def connectionMade(self) -> None:
        """The transport is there; the time for the handshake is the client's time to connect."""
        self._above.makeConnection(self)  # type: ignore[no-untyped-call]

    def handshakeCompleted(self) -> None:
        """TLS is up, for wss."""
        self._above.handshakeCompleted()

    def handshakeFailed(self) -> None:
        """TLS did not come up."""
        self._above.handshakeFailed()

    def dataReceived(self, data: bytes) -> None:
        """Bytes of the handshake, or frames."""
        frames = self._frames
        if frames is None:
            if self._closing:
                return
            rest = self._open(data)
            frames = self._frames
            if frames is None or not rest:
                return
            data = rest
        # [MQTT5-6.0.0-2] [MQTT311-6.0.0-2]: frames mean nothing to MQTT's packets.
        pieces = frames.receive(data)
        if pieces and not self._closing:
            self._above.dataReceived(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if frames.pong is not None:
            pong, frames.pong = frames.pong, None
            # A client that pings and does not read gets no more of them.
            if not self._closing and not self._above.congested:
                self.transport.write(pong)
        if frames.ended:
            close, frames.close = frames.close, None
            if not self._closing:
                self._closing = True
                if close is not None:
                    self.transport.write(close)
                self._above.close()
            # Their Close, before or after ours: RFC 6455, 7.1.1, the server closes first.
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """The transport is gone."""
        self._closing = True
        self._above.connectionLost(reason)

    # The opening handshake

    def _open(self, data: bytes) -> bytes:
        """Collect the request's head and answer it; returns what came behind it."""
        if not self._above.count_early(len(data)):
            return b""
        head = self._head
        if head is None:
            head = self._head = bytearray()
        searched = max(0, len(head) - len(_END) + 1)
        head += data
        end = head.find(_END, searched)
        if end < 0:
            if len(head) > HEADER_BYTES:
                self._refuse(Refusal(431, "the request's head is too long"))
            return b""
        end += len(_END)
        self._head = None
        if end > HEADER_BYTES:
            self._refuse(Refusal(431, "the request's head is too long"))
            return b""
        try:
            accepted = answer(bytes(head[:end]), self._origins)
        except Refusal as refused:
            self._refuse(refused)
            return b""
        self._frames = Frames()
        self.transport.write(accepted)
        return bytes(head[end:])

    def _refuse(self, refused: Refusal) -> None:
        self._head = None
        self._closing = True
        self._above.handshakeFailed()
        self.transport.write(refusal(refused.status, str(refused)))
        self._above.close()
        self.transport.loseConnection()

    # What the MQTT protocol above calls

    def write(self, data: bytes) -> None:
        """Send bytes of MQTT as one binary frame."""
        if not self._closing and self._frames is not None:
            self.transport.write(binary_frame(data))

    def loseConnection(self) -> None:
        """Say farewell. The transport is closed when the client has answered, or by
        C{MqttProtocol}'s deadline: a browser that is cut off earlier reports a failure."""
        if self._closing:
            return
        self._closing = True
        if self._frames is None:
            self.transport.loseConnection()
        else:
            self.transport.write(close_frame(NORMAL))

    def abortConnection(self) -> None:
        """Cut it."""
        self._closing = True
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        """Do not read."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read again."""
        self.transport.resumeProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """C{producer} hears when the transport is full."""
        self.transport.registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        """It does not any more."""
        self.transport.unregisterProducer()

    def certificate_name(self) -> str | None:
        """Who the client is by its certificate, for wss."""
        name: str | None = self.transport.certificate_name()
        return name


class WebSocketFactory(Factory):
    """Puts a L{WebSocket} under each protocol of a L{MqttFactory}."""

    noisy = False

    def __init__(self, above: MqttFactory, origins: frozenset[str] | None = None) -> None:
        self.above = above
        self.origins = None if origins is None else frozenset(o.lower() for o in origins)

    def buildProtocol(self, addr: IAddress | None) -> WebSocket | None:
        """C{None} for an address that has too many connections."""
        above = self.above.buildProtocol(addr)
        return None if above is None else WebSocket(above, self.origins)
