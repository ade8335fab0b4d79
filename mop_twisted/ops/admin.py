"""The admin listener: dashboard, probes, metrics and C{/api/v1}, over HTTP.

L{AdminPages} routes a request to an answer; L{mop_twisted.ops.web} brings it there and back.
Who may ask is L{mop_twisted.ops.access}'s word, what the broker shows is L{BrokerView}'s. There
are no files behind paths: the one page there is was read at the start. Answers hold no secrets,
and writes are logged. [H26]

RFC 9110; RFC 6750 for the token.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import msgspec
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..broker.counters import Counters
from ..errors import BackendError, PeerError, Refused
from .access import Access, Kind
from .answers import BrokerView, Publication, describe, mop_stats
from .metrics import Exposition
from .observed import Observed
from .openapi import document
from .readiness import Readiness
from .web import BODY_LIMIT, JSON, Answer, Asked

__all__ = ["AdminPages", "BrokerView"]

PAGE: Final = 100
PAGE_MAXIMUM: Final = 1000

_CLIENTS: Final = b"/api/v1/clients/"
_RETAINED: Final = b"/api/v1/retained/"


class _Failed(Exception):
    """The request cannot be answered as asked: status and words for the client."""

    def __init__(self, status: int, why: str, *headers: tuple[str, str]) -> None:
        super().__init__(why)
        self.answer = _error(status, why, *headers)


def _json(value: Any, status: int = 200) -> Answer:
    return Answer(status, msgspec.json.encode(value))


def _error(status: int, why: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, msgspec.json.encode({"error": why}), JSON, headers)


class AdminPages:
    """Every path of the admin listener, in tables."""

    log = Logger()

    def __init__(
        self,
        view: BrokerView,
        counters: Counters,
        observed: Observed,
        readiness: Readiness,
        access: Access,
    ) -> None:
        self._view = view
        self._counters = counters
        self._observed = observed
        self._readiness = readiness
        self._access = access
        self._exposition = Exposition(counters, observed)
        self._openapi = msgspec.json.encode(document())
        self._dashboard, self._policy = _read_dashboard()
        self._open: dict[bytes, Callable[[Asked], Answer]] = {
            b"/": self._page,
            b"/livez": lambda request: Answer(200, b"ok", "text/plain; charset=utf-8"),
            b"/readyz": self._readyz,
        }
        self._reads: dict[bytes, Callable[[Asked], Answer]] = {
            b"/metrics": self._metrics,
            b"/mop/stats": self._mop_stats,
            b"/api/v1/broker": lambda request: _json(describe(counters, observed)),
            b"/api/v1/clients": self._clients,
            b"/api/v1/subscriptions": self._subscriptions,
            b"/api/v1/retained": self._retained,
            b"/api/v1/listeners": lambda request: _json(view.listeners()),
            b"/api/v1/openapi.json": lambda request: Answer(200, self._openapi),
        }

    def answer(self, request: Asked) -> Answer | Deferred[Answer]:
        """The answer, now or when the broker has done what was asked. Never fails."""
        try:
            answer = self._answer(request)
        except _Failed as failed:
            return failed.answer
        except Exception:
            self.log.failure("an admin request failed")
            return _error(500, "internal error")
        if isinstance(answer, Deferred):
            return answer.addErrback(self._failed)
        return answer

    # Routing

    def _answer(self, request: Asked) -> Answer | Deferred[Answer]:
        method, path = request.method, request.path
        if method == b"HEAD":
            method = b"GET"
        if request.overflown:
            raise _Failed(413, f"a body is at most {BODY_LIMIT} bytes")
        if method == b"GET" and path in self._open:
            self._allow(request, Kind.OPEN)
            return self._open[path](request)
        # A read that does not exist is refused like one that does: who may not read does not
        # learn what there is.
        self._allow(request, Kind.READ if method == b"GET" else Kind.WRITE)
        if path == b"/api/v1/publish":
            _only(method, b"POST")
            return self._publish(request)
        if path in self._reads or path in self._open:
            _only(method, b"GET")
            return self._reads[path](request)
        if path.startswith(_CLIENTS):
            _only(method, b"GET", b"DELETE")
            return self._client(_decoded(path[len(_CLIENTS) :]), method)
        if path.startswith(_RETAINED):
            _only(method, b"DELETE")
            return self._delete_retained(_decoded(path[len(_RETAINED) :]))
        raise _Failed(404, "there is no such page")

    def _allow(self, request: Asked, kind: Kind) -> None:
        refusal = self._access.refusal(kind, request.headers)
        if refusal is not None:
            challenge = (("WWW-Authenticate", "Bearer"),) if refusal.status == 401 else ()
            raise _Failed(refusal.status, refusal.why, *challenge)

    # Open pages

    def _page(self, request: Asked) -> Answer:
        policy = ("Content-Security-Policy", self._policy)
        return Answer(200, self._dashboard, "text/html; charset=utf-8", (policy,))

    def _readyz(self, request: Asked) -> Answer:
        found = self._readiness.examine()
        ready = bool(found) and all(why is None for why in found.values())
        answer: dict[str, Any] = {"ready": ready}
        if self._access.may_read(request.headers):
            answer["checks"] = {
                name: {"ok": True} if why is None else {"ok": False, "why": why}
                for name, why in found.items()
            }
        return _json(answer, 200 if ready else 503)

    # Reads

    def _metrics(self, request: Asked) -> Answer:
        accept = b",".join(request.headers.getRawHeaders(b"accept", []))
        page, content_type = self._exposition.render(accept.decode("latin-1"))
        return Answer(200, page, content_type)

    def _mop_stats(self, request: Asked) -> Answer:
        stats = mop_stats(self._counters, self._observed, self._view)
        # MoP says text/plain of its JSON.
        return Answer(200, msgspec.json.encode(stats), "text/plain; charset=utf-8")

    def _clients(self, request: Asked) -> Answer:
        offset, limit = _window(request)
        return _paged(*self._view.clients(offset, limit), offset)

    def _subscriptions(self, request: Asked) -> Answer:
        offset, limit = _window(request)
        client_id = _query(request, b"client_id")
        return _paged(*self._view.subscriptions(client_id, offset, limit), offset)

    def _retained(self, request: Asked) -> Answer:
        offset, limit = _window(request)
        topic_filter = _query(request, b"filter") or "#"
        try:
            return _paged(*self._view.retained(topic_filter, offset, limit), offset)
        except PeerError:
            raise _Failed(400, "filter: no valid topic filter") from None

    def _client(self, client_id: str, method: bytes) -> Answer:
        if method == b"GET":
            client = self._view.client(client_id)
            if client is None:
                raise _Failed(404, "there is no such session")
            return _json(client)
        if not self._view.kick(client_id):
            raise _Failed(404, "it has no connection")
        self.log.info("admin disconnected {client_id!r}", client_id=client_id)
        return _json({"disconnected": True})

    # Writes

    def _publish(self, request: Asked) -> Deferred[Answer]:
        content_type = request.headers.getRawHeaders(b"content-type", [b""])[0]
        if content_type.partition(b";")[0].strip().lower() != JSON.encode():
            # Also what keeps a form of a foreign page out: forms cannot send it.
            raise _Failed(415, f"a body must be {JSON}")
        try:
            publication = msgspec.json.decode(request.body, type=Publication)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise _Failed(400, str(error)) from None
        topic = publication.topic
        if topic.startswith("$SYS"):
            raise _Failed(400, "topic: $SYS is the server's own")
        payload = publication.payload_base64
        if payload is None:
            payload = publication.payload.encode("utf-8")
        self.log.info("admin publishes to {topic!r}", topic=topic)
        published = maybeDeferred(
            self._view.publish, topic, payload, publication.qos, publication.retain
        )
        return published.addCallback(lambda nothing: _json({"published": True}))

    def _delete_retained(self, topic: str) -> Deferred[Answer]:
        self.log.info("admin deletes what {topic!r} retains", topic=topic)

        def deleted(existed: bool) -> Answer:
            if not existed:
                return _error(404, "nothing is retained there")
            return _json({"deleted": True})

        return maybeDeferred(self._view.delete_retained, topic).addCallback(deleted)

    # Ends

    def _failed(self, failure: Failure) -> Answer:
        """What the broker could not do."""
        error = failure.value
        if not isinstance(error, (PeerError, Refused, BackendError)):
            # A bug of ours: what it was, only the log learns.
            self.log.failure("an admin request failed", failure)
            return _error(500, "internal error")
        status = 503 if isinstance(error, BackendError) else 400
        body = {"error": error.reason.name.lower(), "reason_code": int(error.reason)}
        return _json(body, status)


def _only(method: bytes, *allowed: bytes) -> None:
    if method not in allowed:
        names = b", ".join(allowed).decode()
        raise _Failed(405, f"only {names}", ("Allow", names))


def _decoded(raw: bytes) -> str:
    """The rest of a path as it was before its percent-encoding."""
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        raise _Failed(400, "the path is not UTF-8") from None
    if not text:
        raise _Failed(404, "there is no such page")
    return text


def _query(request: Asked, name: bytes) -> str | None:
    values = request.args.get(name, [])
    if not values:
        return None
    try:
        return str(values[-1].decode("utf-8"))
    except UnicodeDecodeError:
        raise _Failed(400, f"{name.decode()}: not UTF-8") from None


def _number(request: Asked, name: bytes, default: int, least: int, most: int) -> int:
    text = _query(request, name)
    if text is None:
        return default
    # Neither a sign, nor other digits, nor more than fits.
    if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
        raise _Failed(400, f"{name.decode()}: a number from {least} to {most}")
    return int(text)


def _window(request: Asked) -> tuple[int, int]:
    """Offset and limit of the page that is asked for."""
    offset = _number(request, b"offset", 0, 0, 2**32)
    return offset, _number(request, b"limit", PAGE, 1, PAGE_MAXIMUM)


def _paged(items: list[Any], total: int, offset: int) -> Answer:
    behind = offset + len(items)
    following = behind if items and behind < total else None
    return _json({"items": items, "total": total, "next": following})


def _read_dashboard() -> tuple[bytes, str]:
    """The page, and the content security policy that lets its own script and style run, and
    nothing else: no other source, no inline attribute, no form, no frame."""
    page = files("mop_twisted.ops").joinpath("dashboard", "index.html").read_bytes()

    def digest(element: bytes) -> str:
        found = re.search(rb"<%s>(.*?)</%s>" % (element, element), page, re.DOTALL)
        assert found is not None
        return base64.b64encode(hashlib.sha256(found[1]).digest()).decode()

    policy = (
        f"default-src 'none'; script-src 'sha256-{digest(b'script')}'; "
        f"style-src 'sha256-{digest(b'style')}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy
