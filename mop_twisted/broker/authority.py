"""Who gets in, and who decides what a client may do.

Holds the authenticators, the mechanisms of enhanced authentication and the authorizer of a node,
and changes all of them at once at a reload. It does not know what is kept in which file (that do
L{passwords}, L{scram} and L{acl}), nor what a session or a connection is.

MQTT 5.0 section 5.4; design 3.8, 3.10; the hostile case H13.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, final

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from ..codec.packets import Connect
from ..errors import Refused
from ..interfaces import IAuthenticator, IAuthorizer, IMechanism
from ..model import Identity
from ..protocol.peer import Peer
from ..reasons import ReasonCode
from ..topics import has_control_characters
from .acl import AccessList, Everything
from .passwords import PasswordFile, Throttle, Users
from .scram import Scram

PASSWORDS: Final = "passwords"
"""The password file's name in counters."""


@final
class Authority:
    """What the broker asks.

    C{anonymous} tells of a listener whether clients that prove nothing get in there; C{None} of
    C{authorizer} allows everything.
    """

    logger = Logger()

    def __init__(
        self,
        anonymous: Callable[[str], bool] | Collection[str],
        authenticators: Sequence[tuple[str, IAuthenticator]] = (),
        mechanisms: Sequence[IMechanism] = (),
        authorizer: IAuthorizer | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._anonymous: Callable[[str], bool] = (
            anonymous if callable(anonymous) else lambda listener: listener in anonymous
        )
        self._authenticators = tuple(authenticators)
        self._mechanisms: dict[str, IMechanism] = {each.name: each for each in mechanisms}
        everything: IAuthorizer = Everything()
        self._authorizer = authorizer if authorizer is not None else everything
        self._throttle = Throttle(seconds)
        self._reloads = 0
        self.warnings: list[str] = []
        """What a person should know of the files that it was made of."""
        self.failures: dict[tuple[str, str], int] = {}
        """Clients that were not let in, by (who decided it, reason in small letters), unless
        somebody else counts them."""
        self.failed: Callable[[str, str], None] = self._keep_count
        """Told of each; the broker's counters take its place."""

    @classmethod
    def from_files(
        cls,
        passwords: str | None,
        acl: str | None,
        anonymous_listeners: Callable[[str], bool] | Collection[str],
        reactor: Any,
        seconds: Callable[[], float] = time.monotonic,
    ) -> Authority:
        """By a password file and an access list, each of which may be missing. Passwords are
        verified in threads of the reactor's pool.

        @raise ConfigError: a file cannot be read or has a wrong line; nothing was changed.
        """

        def in_thread(function: Callable[[], bool]) -> Deferred[bool]:
            return deferToThreadPool(reactor, reactor.getThreadPool(), function)

        users = Users.read(passwords) if passwords is not None else None
        access_list = AccessList.read(acl) if acl is not None else None
        authenticators: list[tuple[str, IAuthenticator]] = []
        mechanisms: list[IMechanism] = []
        warnings: list[str] = []
        scram = None
        if users is not None:
            authenticators.append((PASSWORDS, PasswordFile(users, in_thread, seconds)))
            warnings.extend(users.warnings)
            if users.scram:
                scram = Scram(list(users.scram.values()))
                mechanisms.append(scram)
        if access_list is not None:
            warnings.extend(access_list.warnings)
        authority = cls(anonymous_listeners, authenticators, mechanisms, access_list, seconds)
        authority.warnings = warnings
        if scram is not None:
            scram.failed = authority._mechanism_failed
        return authority

    def replace(self, authority: Authority) -> None:
        """Go on as C{authority}, in one step; counters go on. Verifications that are under way
        are asked again of what is new. The callers' cached verdicts become void."""
        version = self._authorizer.version + 1
        for mechanism in self._mechanisms.values():
            if isinstance(mechanism, Scram):
                successor = authority._mechanisms.get(mechanism.name)
                mechanism.succeed_with(successor if isinstance(successor, Scram) else None)
        self._anonymous = authority._anonymous
        self._authenticators = authority._authenticators
        self._mechanisms = authority._mechanisms
        for mechanism in self._mechanisms.values():
            if isinstance(mechanism, Scram):
                mechanism.failed = self._mechanism_failed
        self._authorizer = authority._authorizer
        self._authorizer.version = version
        self.warnings = authority.warnings
        self._reloads += 1

    # What a client may do

    @property
    def authorizer(self) -> IAuthorizer:
        """Asked on every way to a subscriber. Another one after a reload."""
        return self._authorizer

    # Who a client is

    @property
    def methods(self) -> list[str]:
        """Authentication Methods that clients can use."""
        return sorted(self._mechanisms)

    def mechanism(self, name: str) -> IMechanism | None:
        """The mechanism of an Authentication Method; C{None}: we do not have it."""
        found = self._mechanisms.get(name)
        if found is None:
            self._count("methods", ReasonCode.BAD_AUTHENTICATION_METHOD)
        return found

    def admit(self, connect: Connect, peer: Peer) -> Deferred[Identity]:
        """Who the client of a CONNECT without an Authentication Method is. Fires at once unless
        a password has to be verified.

        A certificate says who a client is, whatever user name it sends. Otherwise a user name
        is proved by its password. Where nothing can prove a user name and anonymous clients are
        let in, a client with one is let in as an anonymous one, whom no access list takes for
        that user.

        @raise Refused: (in the Deferred) CLIENT_IDENTIFIER_NOT_VALID,
            BAD_USER_NAME_OR_PASSWORD; NOT_AUTHORIZED: it may not come anonymously, or a back end
            is in trouble; SERVER_BUSY.
        """
        client_id = connect.client_id
        if has_control_characters(client_id):
            # H13, [MQTT5-3.1.3-8] [MQTT311-3.1.3-9]
            return self._refuse("names", ReasonCode.CLIENT_IDENTIFIER_NOT_VALID)
        certificate_name = peer.certificate_name
        if certificate_name is not None:
            if not certificate_name or has_control_characters(certificate_name):
                return self._refuse("certificates", ReasonCode.BAD_USER_NAME_OR_PASSWORD)
            return succeed(Identity(client_id, certificate_name, peer.listener))
        user_name, password = connect.user_name, connect.password
        if user_name is not None and has_control_characters(user_name):
            return self._refuse("names", ReasonCode.BAD_USER_NAME_OR_PASSWORD)
        if self._authenticators and (user_name is not None or password is not None):
            if user_name is None or password is None:
                # [MQTT5-3.1.4-2]: half a proof is none.
                return self._refuse(self._authenticators[0][0], _BAD)
            answer: Deferred[Identity] = Deferred()
            asking = _Asking(Identity(client_id, user_name, peer.listener), password, answer)
            self._ask(asking, 0, self._reloads)
            return answer
        if self._anonymous(peer.listener):
            return succeed(Identity(client_id, None, peer.listener))
        return self._refuse("anonymous", ReasonCode.NOT_AUTHORIZED)

    def _ask(self, asking: _Asking, place: int, reloads: int) -> None:
        """Ask one authenticator after the other until one says yes."""
        name, authenticator = self._authenticators[place]
        identity = asking.identity
        assert identity.user_name is not None
        try:
            verdict = authenticator.authenticate(
                identity.client_id, identity.user_name, asking.password
            )
        except Exception:
            verdict = fail()
        verdict.addCallback(self._said, asking, place, reloads)
        verdict.addErrback(self._troubled, asking, name)

    def _said(self, right: Any, asking: _Asking, place: int, reloads: int) -> None:
        if reloads != self._reloads:
            self._ask_again(asking)
        elif right is True:
            asking.answer.callback(asking.identity)
        elif place + 1 < len(self._authenticators):
            self._ask(asking, place + 1, reloads)
        else:
            self._count(self._authenticators[place][0], _BAD)
            asking.answer.errback(Refused(_BAD))

    def _ask_again(self, asking: _Asking) -> None:
        """What was found is of a file that holds no more."""
        if self._authenticators:
            self._ask(asking, 0, self._reloads)
        else:
            self._count("anonymous", ReasonCode.NOT_AUTHORIZED)
            asking.answer.errback(Refused(ReasonCode.NOT_AUTHORIZED))

    def _troubled(self, failure: Any, asking: _Asking, name: str) -> None:
        """A back end that fails means no [design 3.8], and the next one is not asked."""
        if failure.check(Refused):
            refused = failure.value
        else:
            refused = Refused(ReasonCode.NOT_AUTHORIZED)
            if self._throttle.is_due():
                self.logger.error(
                    "{backend} cannot say who a client is: {kind} ({suppressed} more since the "
                    "last line)",
                    event="authentication_failed",
                    backend=name,
                    # Its text and its frames may hold a password.
                    kind=failure.type.__name__,
                    suppressed=self._throttle.suppressed,
                )
                self._throttle.suppressed = 0
        self._count(name, refused.reason)
        asking.answer.errback(refused)

    def _refuse(self, backend: str, reason: ReasonCode) -> Deferred[Identity]:
        self._count(backend, reason)
        return fail(Refused(reason))

    def _mechanism_failed(self, reason: ReasonCode) -> None:
        self._count("scram", reason)

    def _count(self, backend: str, reason: ReasonCode) -> None:
        self.failed(backend, reason.name.lower())

    def _keep_count(self, backend: str, reason: str) -> None:
        self.failures[backend, reason] = self.failures.get((backend, reason), 0) + 1


_BAD: Final = ReasonCode.BAD_USER_NAME_OR_PASSWORD


@final
class _Asking:
    """A client whose password is being verified."""

    __slots__ = ("answer", "identity", "password")

    def __init__(self, identity: Identity, password: bytes, answer: Deferred[Identity]) -> None:
        self.identity = identity
        self.password = password
        self.answer = answer
