"""Who may ask the admin listener what: the one place that decides it.

It is told the method and headers of a request and answers with a refusal or none. It knows
nothing of paths but three kinds: open to all, reads, and writes.

On loopback, whoever is on the machine may read; a browser on it is kept from lending its place
to a web page by the C{Host} header (a rebound name is not ours) and, for writes, by C{Origin},
C{Sec-Fetch-Site} and a content type that no form can send. Beyond loopback everything but the
probes and the bare page needs the token. [H26]
"""

from __future__ import annotations

import hashlib
import hmac
from enum import Enum
from typing import Final, NamedTuple

from twisted.web.http_headers import Headers

from ..errors import ConfigError
from .rules import is_loopback


class Kind(Enum):
    """What a request wants."""

    OPEN = "open"
    """A probe, or a page that holds nothing."""
    READ = "read"
    WRITE = "write"


class Refusal(NamedTuple):
    """Why not: HTTP status and words for the client."""

    status: int
    why: str


_FORWARDED: Final = (b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"via")
"""A request with one of these came from somewhere else, whoever brought it."""


class Access:
    """The rules of one listener, bound to C{host}.

    @raise ConfigError: it can be reached from other machines, and there is no token.
    """

    def __init__(self, host: str, token: str | None = None) -> None:
        self._host = host.strip("[]").lower()
        self._loopback = is_loopback(self._host)
        if not self._loopback and not token:
            raise ConfigError("admin", f"{host} is not loopback: a token is needed")
        self._digest = _digest(token.encode()) if token else None

    def refusal(self, kind: Kind, headers: Headers) -> Refusal | None:
        """C{None} when the request may be answered."""
        if self._loopback and not self._host_is_ours(headers):
            return Refusal(403, "this Host is not served here")
        if kind is Kind.OPEN:
            return None
        if kind is Kind.WRITE and (refusal := _cross_site(headers)):
            return refusal
        if self.proved(headers):
            return None
        if headers.hasHeader(b"authorization") and self._digest is not None:
            return Refusal(401, "wrong token")
        local = self._loopback and not any(map(headers.hasHeader, _FORWARDED))
        if local and (kind is Kind.READ or self._digest is None):
            return None
        return Refusal(401, "a token is needed")

    def may_read(self, headers: Headers) -> bool:
        """Whether an open page may say more than that it is there."""
        return self.refusal(Kind.READ, headers) is None

    def proved(self, headers: Headers) -> bool:
        """Whether the request carries the token. Takes as long for any wrong one."""
        if self._digest is None:
            return False
        values = headers.getRawHeaders(b"authorization", [])
        if len(values) != 1:
            return False
        scheme, _, token = values[0].partition(b" ")
        # Digests are of one length: comparing them does not tell how long the token is.
        return scheme.lower() == b"bearer" and hmac.compare_digest(
            _digest(token.strip()), self._digest
        )

    def _host_is_ours(self, headers: Headers) -> bool:
        """A browser always sends Host; whoever sends none (HTTP/1.0) is not one."""
        values = headers.getRawHeaders(b"host", [])
        if not values:
            return True
        if len(values) > 1:
            return False
        name = _without_port(values[0])
        # Literal addresses are safe, since only a name can be made to mean something else.
        return name == self._host or is_loopback(name)


def _cross_site(headers: Headers) -> Refusal | None:
    """Refuse what a foreign page made a browser send."""
    for site in headers.getRawHeaders(b"sec-fetch-site", []):
        if site.lower() not in (b"same-origin", b"none"):
            return Refusal(403, "cross-site requests are refused")
    hosts = [host.lower() for host in headers.getRawHeaders(b"host", [])]
    for origin in headers.getRawHeaders(b"origin", []):
        scheme, _, host = origin.lower().partition(b"://")
        if scheme not in (b"http", b"https") or [host] != hosts:
            return Refusal(403, "cross-site requests are refused")
    return None


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _without_port(host: bytes) -> str:
    """The name in a Host header; "" when it is none."""
    try:
        text = host.decode("ascii").strip().lower()
    except UnicodeDecodeError:
        return ""
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]
