"""Password files: who may log in with which password, in mosquitto's formats.

A line is C{user:hash}; the hash is one of::

    $argon2id$v=19$m=KIBIBYTES,t=PASSES,p=LANES$salt$hash     mosquitto 2.1
    $7$iterations$salt$hash                                   PBKDF2-HMAC-SHA512, mosquitto 2.0
    $6$salt$hash                                              SHA-512, mosquitto 1.6
    $scram-sha-256$iterations$salt$StoredKey$ServerKey        ours, for enhanced authentication

A user has one line with a password of the first three kinds, one of the fourth, or both: what is
in the fourth lets nobody in with a password that is sent. Lines that begin with C{#} are
comments. Anything else, blank lines too, is an error: what mosquitto once made of such lines let
people in (H24, CVE-2018-12551).

Hashing takes a tenth of a second by design, so that it is done in threads, few at a time, and
what was found is remembered for a minute. Passwords are neither kept nor logged.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, final

from argon2 import extract_parameters, low_level
from argon2.exceptions import Argon2Error, InvalidHashError, VerifyMismatchError
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from zope.interface import implementer

from ..errors import ConfigError, Refused
from ..interfaces import IAuthenticator
from ..reasons import ReasonCode
from ..topics import has_control_characters
from .scram import MINIMUM_ITERATIONS, Credential, prepare

METHODS: Final = ("argon2id", "sha512-pbkdf2", "sha512")
"""How a password can be hashed, by the names that C{mosquitto_passwd -H} gives them."""

PBKDF2_ITERATIONS: Final = 210_000
"""For new hashes: OWASP's advice for PBKDF2-HMAC-SHA512."""

ARGON2_PASSES: Final = 2
ARGON2_MEMORY: Final = 19_456
"""In KiB. With the passes OWASP's advice for argon2id: 25 ms, where argon2-cffi's default took
75 ms and 64 MiB a verification, which a storm of CONNECTs multiplies."""

MAXIMUM_ITERATIONS: Final = 10_000_000
MAXIMUM_MEMORY: Final = 1024 * 1024
"""In KiB: a hash that asks for more is a mistake."""

THREADS: Final = 2
WAITING: Final = 1000
"""Verifications that may wait for a thread; more are refused as SERVER_BUSY."""

REMEMBERED: Final = 10_000
"""Verdicts of each kind: guesses do not push out the passwords that are right."""

REMEMBERED_SECONDS: Final = 60.0


@final
class Hash:
    """One hashed password. C{cost} names the method and its parameters."""

    __slots__ = ("_digest", "_encoded", "_iterations", "_salt", "cost")

    def __init__(
        self, cost: str, salt: bytes, digest: bytes, iterations: int = 0, encoded: bytes = b""
    ) -> None:
        self.cost = cost
        self._salt = salt
        self._digest = digest
        self._iterations = iterations
        self._encoded = encoded

    def fits(self, password: bytes) -> bool:
        """Whether this is the password, in a time that does not say how nearly.

        @raise Argon2Error: no memory for it.
        """
        if self._encoded:
            try:
                return low_level.verify_secret(self._encoded, password, low_level.Type.ID)
            except VerifyMismatchError:
                return False
        if self._iterations:
            found = hashlib.pbkdf2_hmac("sha512", password, self._salt, self._iterations)
        else:
            found = hashlib.sha512(password + self._salt).digest()
        return hmac.compare_digest(found, self._digest)


def parse_hash(text: str) -> Hash:
    """What follows C{user:}, but for SCRAM.

    @raise ValueError: it is no hash of the three kinds; the message does not repeat it.
    """
    parts = text.split("$")
    if len(parts) < 3 or parts[0]:
        raise ValueError("no hash (mop passwd makes them)")
    kind = parts[1]
    if kind == "argon2id":
        return _argon2id(text)
    if kind == "6" and len(parts) == 4:
        return Hash("sha512", _decoded(parts[2]), _decoded(parts[3], 64))
    if kind == "7" and len(parts) == 5:
        iterations = _count(parts[2], 1)
        return Hash(f"7:{iterations}", _decoded(parts[3]), _decoded(parts[4], 64), iterations)
    raise ValueError("a hash of no kind that is known, or incomplete")


def _argon2id(text: str) -> Hash:
    try:
        asked = extract_parameters(text)
    except (InvalidHashError, Argon2Error, ValueError):
        raise ValueError("no argon2id hash, or an incomplete one") from None
    if asked.memory_cost > MAXIMUM_MEMORY or asked.time_cost > 1000 or asked.parallelism > 64:
        raise ValueError("an argon2id hash that asks for more memory or time than is allowed")
    try:
        # It takes a verification to have the salt and the hash looked at: with one of the least
        # cost, so that a broken line is found now and not at its user's CONNECT.
        fields = text.split("$")
        fields[3] = "m=8,t=1,p=1"
        low_level.verify_secret("$".join(fields).encode(), b"", low_level.Type.ID)
    except VerifyMismatchError:
        pass
    except (Argon2Error, UnicodeEncodeError):
        raise ValueError("no argon2id hash, or an incomplete one") from None
    cost = f"argon2id:{asked.memory_cost}:{asked.time_cost}:{asked.parallelism}"
    return Hash(cost, b"", b"", 0, text.encode())


def _decoded(text: str, length: int = 0) -> bytes:
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a part of the hash is not base64") from None
    if not value or (length and len(value) != length):
        raise ValueError("a part of the hash has the wrong length")
    return value


def _count(text: str, minimum: int) -> int:
    # int() would take "+7", " 7" and "7_0" as well.
    if not (text.isascii() and text.isdigit() and len(text) <= 8):
        raise ValueError("the number of iterations is no number")
    count = int(text)
    if not minimum <= count <= MAXIMUM_ITERATIONS:
        raise ValueError(f"the number of iterations is not {minimum} to {MAXIMUM_ITERATIONS}")
    return count


def hash_password(method: str, password: bytes, iterations: int = PBKDF2_ITERATIONS) -> str:
    """A new hash with a random salt. C{method} is one of L{METHODS}; C{iterations} are of
    C{sha512-pbkdf2}. Takes a while."""
    if method == "argon2id":
        return low_level.hash_secret(
            password, secrets.token_bytes(16), ARGON2_PASSES, ARGON2_MEMORY, 1, 32,
            low_level.Type.ID,
        ).decode()  # fmt: skip
    salt = secrets.token_bytes(12)  # mosquitto 2.0 reads no other length
    encoded = base64.b64encode(salt).decode()
    if method == "sha512":
        digest = hashlib.sha512(password + salt).digest()
        return f"$6${encoded}${base64.b64encode(digest).decode()}"
    digest = hashlib.pbkdf2_hmac("sha512", password, salt, iterations)
    return f"$7${iterations}${encoded}${base64.b64encode(digest).decode()}"


def scram_line(credential: Credential) -> str:
    """What a password file says of a SCRAM credential, behind C{user:}."""
    parts = (credential.salt, credential.stored_key, credential.server_key)
    encoded = "$".join(base64.b64encode(part).decode() for part in parts)
    return f"{SCRAM}{credential.iterations}${encoded}"


SCRAM: Final = "$scram-sha-256$"


def _parse_scram(user_name: str, text: str) -> Credential:
    parts = text.split("$")
    if len(parts) != 6:
        raise ValueError("an incomplete SCRAM credential")
    try:
        prepare(user_name)
    except ValueError as error:
        raise ValueError(f"a user name that SCRAM does not take: {error}") from None
    return Credential(
        user_name,
        _count(parts[2], MINIMUM_ITERATIONS),
        _decoded(parts[3]),
        _decoded(parts[4], 32),
        _decoded(parts[5], 32),
    )


@final
class Users:
    """What a password file holds."""

    __slots__ = ("hashes", "scram", "warnings")

    def __init__(self) -> None:
        self.hashes: dict[str, Hash] = {}
        self.scram: dict[str, Credential] = {}
        """By user name, prepared."""
        self.warnings: list[str] = []

    @classmethod
    def read(cls, path: str) -> Users:
        """Parse a file. That others may read it is a warning.

        @raise ConfigError: it cannot be read, is no file, may be written by everybody, is
            reached by a link of somebody else's (H32), or a line is wrong: C{FILE:LINE}.
        """
        content, warnings = _read(path)
        users = cls.parse(content, path)
        users.warnings = warnings
        return users

    @classmethod
    def parse(cls, content: bytes, where: str) -> Users:
        """Parse what a file called C{where} holds.

        @raise ConfigError: a line is wrong; it says which one and why, never what it holds.
        """
        users = cls()
        lines = content.split(b"\n")
        if not lines[-1]:
            lines.pop()
        for number, raw in enumerate(lines, 1):
            try:
                users._line(raw)
            except ValueError as error:
                why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
                raise ConfigError(f"{where}:{number}", why) from None
        return users

    def _line(self, raw: bytes) -> None:
        line = raw.removesuffix(b"\r").decode()
        if line.startswith("#"):
            return
        if not line.strip():
            raise ValueError("a blank line")
        user_name, colon, text = line.partition(":")
        if not colon:
            raise ValueError("a line without a colon")
        why = user_name_fault(user_name)
        if why:
            raise ValueError(why)
        if text.startswith(SCRAM):
            credential = _parse_scram(user_name, text)
            prepared = prepare(user_name)
            if prepared in self.scram:
                raise ValueError("another SCRAM line for the same user")
            self.scram[prepared] = credential
            return
        if user_name in self.hashes:
            raise ValueError("another line for the same user")
        self.hashes[user_name] = parse_hash(text)


def user_name_fault(user_name: str) -> str:
    """Why a password file cannot have this user name; "" when it can."""
    if not user_name:
        return "the user name is empty"
    if has_control_characters(user_name):
        return "the user name has control characters"  # H13
    if ":" in user_name:
        return "the user name has a colon"
    if user_name.startswith("#"):
        return "the user name begins with #, as comments do"
    return ""


def _read(path: str) -> tuple[bytes, list[str]]:
    warnings = []
    try:
        link = os.lstat(path)
        # Not blocking: of a pipe, too, we want to see what it is.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            target = os.fstat(file.fileno())
            if not stat.S_ISREG(target.st_mode):
                raise ConfigError(path, "no regular file")
            content = file.read()
    except OSError as error:
        raise ConfigError(path, f"cannot be read: {error.strerror}") from None
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in (0, os.geteuid(), target.st_uid):
        # As Linux has it for links in sticky folders; mounted secrets are links of root's.
        raise ConfigError(path, "a symbolic link that belongs to another user")
    if target.st_mode & stat.S_IWOTH:
        raise ConfigError(path, "everybody may write to it (chmod 600)")
    if target.st_mode & stat.S_IROTH:
        warnings.append(f"{path}: everybody may read it (chmod 600)")
    return content, warnings


@final
class Throttle:
    """Says when a log line about the same trouble is due again."""

    __slots__ = ("_due", "_seconds", "suppressed")

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._due = float("-inf")
        self.suppressed = 0
        """Lines left out since the last that was due."""

    def is_due(self) -> bool:
        """At most once in a minute."""
        now = self._seconds()
        if now < self._due:
            self.suppressed += 1
            return False
        self._due = now + 60.0
        return True


@final
@implementer(IAuthenticator)
class PasswordFile:
    """Authenticates the users of a password file.

    C{in_thread} calls a function in a thread, C{seconds} is a monotonic clock. A reload makes a
    new one, so that nothing is remembered of the old file.
    """

    logger = Logger()

    def __init__(
        self,
        users: Users,
        in_thread: Callable[[Callable[[], bool]], Deferred[bool]],
        seconds: Callable[[], float],
    ) -> None:
        self._hashes = users.hashes
        self._in_thread = in_thread
        self._seconds = seconds
        self._key = secrets.token_bytes(32)
        # What an unknown user costs: as much as most users do.
        costs = Counter(known.cost for known in users.hashes.values()).most_common(1)
        usual = [known for known in users.hashes.values() if known.cost == costs[0][0]]
        self._dummy = usual[0] if usual else None
        self._right: dict[bytes, float] = {}
        self._wrong: dict[bytes, float] = {}
        self._asked: dict[bytes, list[Deferred[bool]]] = {}
        self._waiting: deque[tuple[bytes, Callable[[], bool]]] = deque()
        self._running = 0
        self._throttle = Throttle(seconds)

    def authenticate(self, client_id: str, user_name: str, password: bytes) -> Deferred[bool]:
        """Whether it is the user's password: at once when it was asked within the last minute.

        @raise Refused: (in the Deferred) SERVER_BUSY: too many wait for an answer.
        """
        key = self._fingerprint(user_name, password)
        now = self._seconds()
        if self._right.get(key, now) > now:
            return succeed(True)
        if self._wrong.get(key, now) > now or self._dummy is None:
            return succeed(False)
        answer: Deferred[bool] = Deferred()
        asked = self._asked.get(key)
        if asked is not None:
            # A fleet that comes back with one password is one verification.
            asked.append(answer)
            return answer
        if self._running >= THREADS and len(self._waiting) >= WAITING:
            return fail(Refused(ReasonCode.SERVER_BUSY, "too many passwords to verify"))
        self._asked[key] = [answer]
        known = self._hashes.get(user_name)
        dummy = self._dummy

        def verify() -> bool:
            if known is None:
                dummy.fits(password)
                return False
            return known.fits(password)

        self._waiting.append((key, verify))
        self._start()
        return answer

    def _fingerprint(self, user_name: str, password: bytes) -> bytes:
        name = user_name.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, len(name).to_bytes(4, "big") + name + password, "sha256")

    def _start(self) -> None:
        while self._running < THREADS and self._waiting:
            key, verify = self._waiting.popleft()
            self._running += 1
            verifying = self._in_thread(verify)
            verifying.addCallbacks(self._verified, self._failed, (key,), {}, (key,), {})

    def _verified(self, right: bool, key: bytes) -> None:
        remembered = self._right if right else self._wrong
        remembered.pop(key, None)
        if len(remembered) >= REMEMBERED:
            del remembered[next(iter(remembered))]  # the oldest
        remembered[key] = self._seconds() + REMEMBERED_SECONDS
        self._answer(right, key)

    def _failed(self, failure: Any, key: bytes) -> None:
        if self._throttle.is_due():
            # The failure's frames hold the password: its kind is all that is said.
            self.logger.error(
                "a password could not be verified: {why} ({suppressed} more since the last line)",
                event="password_failed",
                why=failure.type.__name__,
                suppressed=self._throttle.suppressed,
            )
            self._throttle.suppressed = 0
        self._answer(False, key)

    def _answer(self, right: bool, key: bytes) -> None:
        self._running -= 1
        for answer in self._asked.pop(key):
            answer.callback(right)
        self._start()
