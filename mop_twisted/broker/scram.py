"""SCRAM-SHA-256: enhanced authentication without the password ever being sent.

The server's side of RFC 5802 and RFC 7677 as a state machine of two steps. The messages travel in
Authentication Data of CONNECT, AUTH and CONNACK. Channel binding is not offered. A user that does
not exist is asked all the same, with a salt that stays the same, and refused at the end.

MQTT 5.0 section 4.12.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Callable, Iterable
from typing import Final, final

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from ..errors import Refused
from ..interfaces import IExchange, IMechanism
from ..reasons import ReasonCode

MINIMUM_ITERATIONS: Final = 4096
"""For users that do not exist, and the least that RFC 7677 allows."""
_HEADERS: Final = ("n,", "y,")


@final
class Credential:
    """What a server keeps of a password (RFC 5802, section 3)."""

    __slots__ = ("iterations", "salt", "server_key", "stored_key", "user_name")

    def __init__(
        self, user_name: str, iterations: int, salt: bytes, stored_key: bytes, server_key: bytes
    ) -> None:
        self.user_name = user_name
        self.iterations = iterations
        self.salt = salt
        self.stored_key = stored_key
        self.server_key = server_key


def prepare(text: str) -> str:
    """A user name or password as SCRAM compares it (SASLprep, RFC 4013, by NFKC).

    @raise ValueError: it is empty, or has characters that are not allowed.
    """
    prepared = unicodedata.normalize("NFKC", text)
    if not prepared or any(unicodedata.category(each) in ("Cc", "Cs", "Co") for each in prepared):
        raise ValueError("empty, or with control characters")
    return prepared


def credential_of(user_name: str, password: str, salt: bytes, iterations: int) -> Credential:
    """What the server keeps of a password (RFC 5802, section 3)."""
    salted = hashlib.pbkdf2_hmac("sha256", prepare(password).encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    return Credential(user_name, iterations, salt, stored_key, server_key)


@final
@implementer(IMechanism)
class Scram:
    """The mechanism, over the users of a password file that have SCRAM keys."""

    name = "SCRAM-SHA-256"

    def __init__(self, users: Iterable[Credential]) -> None:
        self._users = {prepare(user.user_name): user for user in users}
        self.failed: Callable[[ReasonCode], None] = lambda reason: None
        """Told of each exchange that failed."""
        self._secret = secrets.token_bytes(32)

    def succeed_with(self, successor: Scram | None) -> None:
        """A reload: exchanges under way go on with the users of C{successor}."""
        self._users = {} if successor is None else successor._users

    def begin(self, client_id: str) -> ScramExchange:
        """@see: L{IMechanism.begin}"""
        return ScramExchange(self, secrets.token_urlsafe(18))

    def keys_of(self, user: str) -> tuple[Credential, bool]:
        """A user's keys, or for nobody keys that no password fits; and whether they are real."""
        keys = self._users.get(prepare(user))
        if keys is not None:
            return keys, True
        salt = hmac.digest(self._secret, user.encode(), "sha256")[:16]
        return Credential(user, MINIMUM_ITERATIONS, salt, b"\0" * 32, b"\0" * 32), False


@final
@implementer(IExchange)
class ScramExchange:
    """One authentication under way."""

    def __init__(self, mechanism: Scram, nonce: str) -> None:
        self._mechanism = mechanism
        self._nonce = nonce
        self._first: str | None = None
        self._user = ""
        self._keys: Credential
        self._header = ""
        self._real = False

    def respond(self, data: bytes) -> Deferred[tuple[bytes, str | None]]:
        """@see: L{IExchange.respond}"""
        try:
            text = data.decode("utf-8")
            if self._first is None:
                return succeed((self._begin(text).encode(), None))
            return succeed((self._finish(text).encode(), self._user))
        except (ValueError, KeyError, UnicodeError, binascii.Error):
            # Which of them it was is nobody's business but the client's own.
            self._mechanism.failed(ReasonCode.NOT_AUTHORIZED)
            return fail(Refused(ReasonCode.NOT_AUTHORIZED, "SCRAM failed"))

    def _begin(self, text: str) -> str:
        """client-first-message → server-first-message."""
        header, authzid, bare = _split_first(text)
        fields = _fields(bare)
        if "m" in fields:
            raise ValueError("mandatory extensions are unknown")
        self._user = _unescaped(fields["n"])
        if authzid and _unescaped(authzid.removeprefix("a=")) != self._user:
            raise ValueError("authorisation as somebody else")
        client_nonce = fields["r"]
        if not client_nonce:
            raise ValueError("no nonce")
        self._header = header
        self._keys, self._real = self._mechanism.keys_of(self._user)
        self._nonce = client_nonce + self._nonce
        salt = base64.b64encode(self._keys.salt).decode()
        first = f"r={self._nonce},s={salt},i={self._keys.iterations}"
        self._first = f"{bare},{first}"
        return first

    def _finish(self, text: str) -> str:
        """client-final-message → server-final-message."""
        without_proof, _, proof_text = text.rpartition(",p=")
        fields = _fields(without_proof)
        proof = base64.b64decode(proof_text, validate=True)
        message = f"{self._first},{without_proof}".encode()
        signature = hmac.digest(self._keys.stored_key, message, "sha256")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        right = hmac.compare_digest(hashlib.sha256(client_key).digest(), self._keys.stored_key)
        bound = base64.b64encode(self._header.encode()).decode()
        if not (right and self._real and fields["r"] == self._nonce and fields["c"] == bound):
            raise ValueError("wrong proof")
        verifier = hmac.digest(self._keys.server_key, message, "sha256")
        return "v=" + base64.b64encode(verifier).decode()


def _split_first(text: str) -> tuple[str, str, str]:
    if not text.startswith(_HEADERS):
        raise ValueError("channel binding is not offered")
    flag, authzid, bare = text.split(",", 2)
    return f"{flag},{authzid},", authzid, bare


def _fields(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or len(name) != 1 or name in fields:
            raise ValueError("not of the form name=value")
        fields[name] = value
    return fields


def _unescaped(name: str) -> str:
    rest = name.replace("=2C", "").replace("=3D", "")
    if "=" in rest or not name:
        raise ValueError("not an escaped name")
    return name.replace("=2C", ",").replace("=3D", "=")
