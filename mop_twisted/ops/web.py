"""HTTP for the admin listener, on twisted.web: bounded, silent, and without a server's name.

Gives what was asked as an L{Asked} to a callable and sends its L{Answer}. The only admin module
that knows twisted.web; it knows no path. [H26]
"""

# twisted.web has hardly any annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any, Final, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IProtocolFactory, IReactorTime
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.web.http import Request as HTTPRequest
from twisted.web.http import datetimeToString
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

BODY_LIMIT: Final = 1024 * 1024
"""Bytes of a request's body."""
DISCARD_LIMIT: Final = 8 * BODY_LIMIT
"""Bytes of a body that is too large which are read on, so that its sender sees the answer."""
CONNECTIONS: Final = 256
IDLE_SECONDS: Final = 30

JSON: Final = "application/json"


class Answer(NamedTuple):
    """One response."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()


class Asked(NamedTuple):
    """One request: C{path} as it was sent, percent-encoded. Of a body that is too large nothing
    is kept, and C{overflown} says so."""

    method: bytes
    path: bytes
    args: dict[bytes, list[bytes]]
    headers: Headers
    body: bytes
    overflown: bool


Ask = Callable[[Asked], Answer | Deferred[Answer]]
"""Answers; neither raises nor fails."""


class _BoundedRequest(Request):
    """A request whose body is bounded and lies in memory, and which names no server."""

    overflown = False
    _received = 0

    def gotLength(self, length: int | None) -> None:
        # Nobody here wants forms: they are not parsed before it is known who sent them.
        self._parsePOSTFormSubmission = False
        self.content = BytesIO()
        self.overflown = length is not None and length > BODY_LIMIT

    def handleContentChunk(self, data: bytes) -> None:
        self._received += len(data)
        if self._received > DISCARD_LIMIT:
            self.channel.loseConnection()
            return
        if self._received > BODY_LIMIT:
            self.overflown = True
        if self.overflown:
            self.content = BytesIO()
        else:
            assert self.content is not None
            self.content.write(data)

    def process(self) -> None:
        # Not the inherited one, which names the server and its version.
        self.site = self.channel.site  # type: ignore[attr-defined]
        self.setHeader(b"date", datetimeToString())
        self.render(self.site.resource)


_HEADERS: Final = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
)
"""Sent with every answer that does not say otherwise."""


class _Root(Resource):
    """Every path."""

    isLeaf = True

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self._ask = ask

    def render(self, request: Any) -> int:
        body = b"" if request.overflown else request.content.read()
        answer = self._ask(
            Asked(
                request.method,
                request.path,
                request.args,
                request.requestHeaders,
                body,
                request.overflown,
            )
        )
        if isinstance(answer, Deferred):
            gone: list[Any] = []
            request.notifyFinish().addErrback(gone.append)

            def answered(answer: Answer) -> None:
                if not gone:
                    _respond(request, answer)

            answer.addCallback(answered)
        else:
            _respond(request, answer)
        return NOT_DONE_YET


def _respond(request: Any, answer: Answer) -> None:
    request.setResponseCode(answer.status)
    for name, value in _HEADERS + answer.headers:
        request.setHeader(name, value)
    request.setHeader("Content-Type", answer.content_type)
    request.setHeader("Content-Length", str(len(answer.body)))
    request.write(answer.body)
    request.finish()


class _QuietSite(Site):
    """Without an access log: probes and scrapes would fill it, and paths name clients."""

    requestFactory = _BoundedRequest
    displayTracebacks = False
    noisy = False

    def log(self, request: HTTPRequest) -> None:
        """Say nothing."""


class _BoundedFactory(WrappingFactory):
    """At most so many connections at once; more are closed as they come."""

    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> ProtocolWrapper | None:  # type: ignore[override]
        if len(self.protocols) >= CONNECTIONS:
            return None
        return super().buildProtocol(addr)


def http_factory(ask: Ask, clock: IReactorTime | None = None) -> IProtocolFactory:
    """What to listen with: HTTP/1.1, bounded in connections, headers (16 KiB), bodies and
    idle time."""
    factory: IProtocolFactory = _BoundedFactory(
        _QuietSite(_Root(ask), timeout=IDLE_SECONDS, reactor=clock)
    )
    return factory
