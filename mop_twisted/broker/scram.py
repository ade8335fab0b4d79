"""SCRAM-SHA-256, the server's side: clients prove that they know a password without sending it.

Knows the messages of the exchange and what a server keeps of a password; not where that is kept
nor how the messages travel.

RFC 5802, RFC 7677 and, for names, RFC 4013; MQTT 5.0 section 4.12.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import stringprep
import unicodedata
from collections.abc import Callable
from typing import Final, NamedTuple, final

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from ..errors import Refused
from ..interfaces import IExchange, IMechanism
from ..reasons import ReasonCode
from ..topics import has_control_characters

NAME: Final = "SCRAM-SHA-256"

ITERATIONS: Final = 15_000
"""For new credentials: what RFC 5802 section 5.1 has in mind, on today's machines."""

MINIMUM_ITERATIONS: Final = 4096
"""Fewer a client must not accept [RFC 7677, 4]."""

MAXIMUM_MESSAGE: Final = 4096
"""Bytes of one message of a client; a user name and two nonces need far fewer."""

_PRINTABLE: Final = re.compile(r"[\x21-\x2b\x2d-\x7e]+")
"""A nonce: printable ASCII without a comma [RFC 5802, 7]."""

_PROHIBITED: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


class Credential(NamedTuple):
    """What a server keeps of a password [RFC 5802, 3]: whoever steals it has to guess the
    password still."""

    user_name: str
    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes


def prepare(text: str) -> str:
    """SASLprep [RFC 4013], by which two ways to write one name or password are one.

    @raise ValueError: it has characters that no name or password may have, or none at all.
    """
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    if not prepared:
        raise ValueError("it is empty")
    for character in prepared:
        if any(prohibits(character) for prohibits in _PROHIBITED):
            raise ValueError("it has characters that SASLprep prohibits")
    if any(stringprep.in_table_d1(character) for character in prepared) and (
        any(stringprep.in_table_d2(character) for character in prepared)
        or not stringprep.in_table_d1(prepared[0])
        or not stringprep.in_table_d1(prepared[-1])
    ):
        raise ValueError("it mixes directions of writing")
    return prepared


def make_credential(
    user_name: str, password: str, iterations: int = ITERATIONS, salt: bytes = b""
) -> Credential:
    """What to keep of a password; the salt is random unless it is given.

    @raise ValueError: SASLprep does not take the user name or the password.
    """
    prepare(user_name)
    salt = salt or secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", prepare(password).encode(), salt, iterations)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    return Credential(
        user_name,
        iterations,
        salt,
        hashlib.sha256(client_key).digest(),
        hmac.digest(salted, b"Server Key", "sha256"),
    )


@final
@implementer(IMechanism)
class Scram:
    """The mechanism, for the users of a password file.

    A name that is unknown is answered like any other, with a salt that is always the same for
    it: an exchange tells nobody who is a user. The salts of unknown names are derived from the
    first credential, so that they outlive restarts, are the same in every worker, and do not
    change when a user is added at the end.
    """

    name = NAME

    def __init__(
        self,
        credentials: list[Credential],
        make_nonce: Callable[[], str] = lambda: secrets.token_urlsafe(24),
    ) -> None:
        """C{credentials} is not empty.

        @raise ValueError: SASLprep does not take a name.
        """
        self._by_name = {prepare(each.user_name): each for each in credentials}
        first = credentials[0]
        self._secret = hmac.digest(first.stored_key, first.server_key, "sha256")
        self._iterations = first.iterations
        self._salt_length = len(first.salt)
        self.make_nonce = make_nonce
        self.failed: Callable[[ReasonCode], None] = lambda reason: None
        """Told whenever somebody is refused."""
        self._successor: Scram | None = self

    def begin(self, client_id: str) -> IExchange:
        """A new exchange."""
        exchange: IExchange = _Exchange(self, client_id)
        return exchange

    def find(self, prepared: str) -> Credential:
        """The credential of a name, or for an unknown one a credential that fits no password."""
        found = self._by_name.get(prepared)
        if found is not None:
            return found
        salt = hmac.digest(self._secret, prepared.encode(), "sha512")
        while len(salt) < self._salt_length:
            salt += hmac.digest(self._secret, salt, "sha512")
        salt = salt[: self._salt_length]
        return Credential("", self._iterations, salt, secrets.token_bytes(32), bytes(32))

    def is_current(self, credential: Credential) -> bool:
        """Whether a credential that was found earlier holds still: a reload may have come
        between the two halves of an exchange."""
        now = self._successor
        if now is None or not credential.user_name:
            return False
        return now._by_name.get(prepare(credential.user_name)) == credential

    def succeed_with(self, successor: Scram | None) -> None:
        """A reload: exchanges that this one has begun end by what C{successor} knows."""
        self._successor = successor


@final
@implementer(IExchange)
class _Exchange:
    """client-first → server-first → client-final → server-final, and nothing after it."""

    __slots__ = (
        "_bare",
        "_client_id",
        "_credential",
        "_header",
        "_mechanism",
        "_nonce",
        "_server_first",
        "_step",
    )

    def __init__(self, mechanism: Scram, client_id: str) -> None:
        self._mechanism = mechanism
        self._client_id = client_id
        self._step = 0
        self._header = b""
        self._bare = b""
        self._server_first = b""
        self._nonce = ""
        self._credential: Credential | None = None

    def respond(self, data: bytes) -> Deferred[tuple[bytes, str | None]]:
        """The answer to a message of the client.

        @raise Refused: (in the Deferred) CLIENT_IDENTIFIER_NOT_VALID; NOT_AUTHORIZED: it is no
            message of this mechanism, or asks for what we do not do;
            BAD_USER_NAME_OR_PASSWORD: the proof is wrong; PROTOCOL_ERROR: the exchange is over.
        """
        step, self._step = self._step, 3
        try:
            if step == 0 and not data:
                # [RFC 4422, 3.3]: who sends no initial response is asked for it.
                self._step = 1
                return succeed((b"", None))
            if step < 2:
                answer = self._first(data)
                self._step = 2
                return succeed((answer, None))
            if step == 2:
                final_message, user_name = self._final(data)
                return succeed((final_message, user_name))
            raise Refused(ReasonCode.PROTOCOL_ERROR, "the exchange is over")
        except Refused as refused:
            # [MQTT5-4.12.0-4]
            self._mechanism.failed(refused.reason)
            return fail(refused)

    def _first(self, data: bytes) -> bytes:
        if has_control_characters(self._client_id):
            # H13: it becomes part of an identity, as with a password.
            raise Refused(ReasonCode.CLIENT_IDENTIFIER_NOT_VALID, "control characters")
        parts = _text(data).split(",", 2)
        if len(parts) != 3:
            raise _no("client-first-message is incomplete")
        flag, authorization, bare = parts
        if flag not in ("n", "y"):
            # "p=…" names a channel binding, and none was offered [RFC 5802, 6].
            raise _no("channel binding is not offered")
        attributes = bare.split(",")
        if len(attributes) < 2:
            raise _no("client-first-message has no nonce")
        # "m=" would stand before the name: an extension that must be understood is not.
        name = _unescape(_value(attributes[0], "n"))
        nonce = _value(attributes[1], "r")
        if not _PRINTABLE.fullmatch(nonce):
            raise _no("the nonce has characters that it must not have")
        if authorization and _unescape(_value(authorization, "a")) != name:
            raise _no("one user may not act as another")
        try:
            prepared = prepare(name)
        except ValueError:
            raise _no("SASLprep does not take the user name") from None
        credential = self._credential = self._mechanism.find(prepared)
        self._header = f"{flag},{authorization},".encode()
        self._bare = bare.encode()
        self._nonce = nonce + self._mechanism.make_nonce()
        salt = base64.b64encode(credential.salt).decode()
        self._server_first = f"r={self._nonce},s={salt},i={credential.iterations}".encode()
        return self._server_first

    def _final(self, data: bytes) -> tuple[bytes, str]:
        credential = self._credential
        assert credential is not None
        text = _text(data)
        without_proof, comma, proof_text = text.rpartition(",")
        attributes = without_proof.split(",")
        if not comma or len(attributes) < 2:
            raise _no("client-final-message is incomplete")
        proof = _decode(_value(proof_text, "p"))
        if _decode(_value(attributes[0], "c")) != self._header:
            raise _no("another header than in client-first-message")
        if not hmac.compare_digest(_value(attributes[1], "r").encode(), self._nonce.encode()):
            raise _no("another nonce than the one given")
        signed = b",".join((self._bare, self._server_first, without_proof.encode()))
        signature = hmac.digest(credential.stored_key, signed, "sha256")
        if len(proof) != len(signature):
            raise _no("the proof has another length")
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        proved = hmac.compare_digest(hashlib.sha256(client_key).digest(), credential.stored_key)
        if not proved or not self._mechanism.is_current(credential):
            raise Refused(ReasonCode.BAD_USER_NAME_OR_PASSWORD)
        verifier = base64.b64encode(hmac.digest(credential.server_key, signed, "sha256"))
        return b"v=" + verifier, credential.user_name


def _no(why: str) -> Refused:
    return Refused(ReasonCode.NOT_AUTHORIZED, why)


def _text(data: bytes) -> str:
    if len(data) > MAXIMUM_MESSAGE:
        raise _no(f"a message is over {MAXIMUM_MESSAGE} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _no("a message is not UTF-8") from None


def _value(attribute: str, name: str) -> str:
    if not attribute.startswith(name + "="):
        raise _no(f"attribute {name} is missing")
    return attribute[2:]


def _unescape(name: str) -> str:
    """A user name as it is: C{=2C} is a comma, C{=3D} an equals sign [RFC 5802, 5.1]."""
    if not name:
        raise _no("the user name is empty")
    if re.search("=(?!2C|3D)", name):
        raise _no("the user name has an equals sign that is not escaped")
    return name.replace("=2C", ",").replace("=3D", "=")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _no("an attribute is not base64") from None
