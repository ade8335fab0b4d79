"""Who gets in."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from mop_twisted.broker.authority import Authority
from mop_twisted.codec.packets import Connect
from mop_twisted.errors import ConfigError, Refused
from mop_twisted.interfaces import IAuthenticator
from mop_twisted.model import Identity
from mop_twisted.protocol.peer import Peer
from mop_twisted.reasons import ReasonCode

from ..scram_client import ScramClient
from .test_passwords import AL, BO, SCRAM_AL

INSIDE = Peer("tcp:127.0.0.1:1883", "127.0.0.1")
OUTSIDE = Peer("tcp:0.0.0.0:1883", "192.0.2.1")
BAD = ReasonCode.BAD_USER_NAME_OR_PASSWORD
NOT_AUTHORIZED = ReasonCode.NOT_AUTHORIZED


def connect(
    user_name: str | None = None, password: bytes | None = None, client_id: str = "c"
) -> Connect:
    """A CONNECT."""
    return Connect(5, client_id, user_name=user_name, password=password)


@implementer(IAuthenticator)
class Answering:
    """A back end that says what a test tells it."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, bytes]] = []

    def authenticate(self, client_id: str, user_name: str, password: bytes) -> Deferred[bool]:
        self.asked.append((client_id, user_name, password))
        if isinstance(self.answer, Deferred):
            answer: Deferred[bool] = self.answer
            return answer
        if isinstance(self.answer, type):
            raise self.answer("secret")
        return fail(self.answer) if isinstance(self.answer, Exception) else succeed(self.answer)


class AuthorityTestCase(SynchronousTestCase):
    """Words that the tests share."""

    def setUp(self) -> None:
        self.clock = Clock()

    def authority(self, *back_ends: Any) -> Authority:
        """An authority that asks these, and lets anonymous clients in from inside."""
        return Authority(
            frozenset([INSIDE.listener]),
            [(f"back end {number}", back_end) for number, back_end in enumerate(back_ends, 1)],
            seconds=self.clock.seconds,
        )

    def admitted(self, authority: Authority, packet: Connect, peer: Peer = INSIDE) -> str | None:
        """The user name that a client was found to have."""
        identity = self.successResultOf(authority.admit(packet, peer))
        self.assertEqual((packet.client_id, peer.listener), (identity.client_id, identity.listener))
        return identity.user_name

    def refused(self, authority: Authority, packet: Connect, peer: Peer = INSIDE) -> ReasonCode:
        """The reason for which a client is refused."""
        return self.failureResultOf(authority.admit(packet, peer), Refused).value.reason


class AdmissionTests(AuthorityTestCase):
    """CONNECTs without an Authentication Method."""

    def test_anonymous(self) -> None:
        """Who says nothing is let in where the listener allows it, at once, and else refused.
        [MQTT5-3.1.4-2]"""
        authority = self.authority()
        self.assertIsNone(self.admitted(authority, connect()))
        self.assertEqual(NOT_AUTHORIZED, self.refused(authority, connect(), OUTSIDE))
        self.assertEqual({("anonymous", "not_authorized"): 1}, authority.failures)

    def test_listeners_by_function(self) -> None:
        """Which listeners allow it may be a function of their names."""
        authority = Authority(lambda listener: listener.startswith("tcp:0"))
        self.assertIsNone(self.admitted(authority, connect(), OUTSIDE))
        self.assertEqual(NOT_AUTHORIZED, self.refused(authority, connect(), INSIDE))

    def test_name_that_nobody_proves(self) -> None:
        """Without a password file, any user name and password get in where anonymous clients
        do, as anonymous clients: a claim gives no rights."""
        authority = self.authority()
        for packet in (connect("admin", b"x"), connect("admin"), connect(None, b"token")):
            self.assertIsNone(self.admitted(authority, packet))
            self.assertEqual(NOT_AUTHORIZED, self.refused(authority, packet, OUTSIDE))

    def test_password(self) -> None:
        """A user name is proved by its password, on every listener. [MQTT5-3.1.4-2]"""
        back_end = Answering(True)
        authority = self.authority(back_end)
        for peer in (INSIDE, OUTSIDE):
            self.assertEqual("al", self.admitted(authority, connect("al", b"secret"), peer))
        self.assertEqual([("c", "al", b"secret")] * 2, back_end.asked)

    def test_wrong_password(self) -> None:
        """A wrong password is refused also where anonymous clients are let in.
        [MQTT5-3.1.4-2]"""
        authority = self.authority(Answering(False))
        self.assertEqual(BAD, self.refused(authority, connect("al", b"x")))
        self.assertEqual({("back end 1", "bad_user_name_or_password"): 1}, authority.failures)
        self.assertIsNone(self.admitted(authority, connect()))

    def test_half_a_proof(self) -> None:
        """A user name without a password, or the other way round, proves nothing."""
        back_end = Answering(True)
        authority = self.authority(back_end)
        for packet in (connect("al"), connect(None, b"secret")):
            self.assertEqual(BAD, self.refused(authority, packet))
        self.assertEqual([], back_end.asked)

    def test_one_after_the_other(self) -> None:
        """Several back ends are asked in order until one says yes."""
        yes, no, never = Answering(True), Answering(False), Answering(True)
        self.assertEqual("al", self.admitted(self.authority(no, yes, never), connect("al", b"x")))
        self.assertEqual((1, 1, 0), (len(no.asked), len(yes.asked), len(never.asked)))
        self.assertEqual(BAD, self.refused(self.authority(no, no), connect("al", b"x")))

    def test_certificate(self) -> None:
        """A certificate says who a client is, whatever user name it sends; nobody is asked."""
        back_end = Answering(False)
        authority = self.authority(back_end)
        peer = Peer("tls:0.0.0.0:8883", "192.0.2.1", "device-7")
        for packet in (connect(), connect("admin", b"x")):
            self.assertEqual("device-7", self.admitted(authority, packet, peer))
        self.assertEqual([], back_end.asked)

    def test_control_characters(self) -> None:
        """No client identifier, user name or certificate name has control characters. H13
        [MQTT5-3.1.3-8] [MQTT311-3.1.3-9]"""
        authority = self.authority(Answering(True))
        for text in ("a\x07", "\x00", "a\nb", "\x7f", "a\x85", "\ud800"):
            self.assertEqual(
                ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
                self.refused(authority, connect(client_id=text)),
            )
            self.assertEqual(BAD, self.refused(authority, connect(text, b"x")))
            self.assertEqual(
                BAD, self.refused(authority, connect(), Peer("tls:", "192.0.2.1", text))
            )
        self.assertEqual(BAD, self.refused(authority, connect(), Peer("tls:", "192.0.2.1", "")))


class TroubleTests(AuthorityTestCase):
    """Back ends that fail."""

    def setUp(self) -> None:
        super().setUp()
        self.lines: list[Any] = []
        globalLogPublisher.addObserver(self._observe)
        self.addCleanup(globalLogPublisher.removeObserver, self._observe)

    def _observe(self, event: Any) -> None:
        if event.get("event") == "authentication_failed":
            self.lines.append(event)

    def test_means_no(self) -> None:
        """A back end that fails, in whatever way, means no, and no other one is asked."""
        for trouble in (RuntimeError("secret"), RuntimeError):
            other = Answering(True)
            authority = self.authority(Answering(trouble), other)
            self.assertEqual(NOT_AUTHORIZED, self.refused(authority, connect("al", b"x")))
            self.assertEqual([], other.asked)
            self.assertEqual({("back end 1", "not_authorized"): 1}, authority.failures)

    def test_nonsense_means_no(self) -> None:
        """An answer that is neither yes nor no means no."""
        for nonsense in (None, "True", 1):
            authority = self.authority(Answering(nonsense))
            self.assertEqual(BAD, self.refused(authority, connect("al", b"x")))

    def test_busy(self) -> None:
        """A back end that is overloaded says so itself."""
        authority = self.authority(Answering(Refused(ReasonCode.SERVER_BUSY)))
        self.assertEqual(ReasonCode.SERVER_BUSY, self.refused(authority, connect("al", b"x")))
        self.assertEqual([], self.lines)

    def test_logged_once_a_minute(self) -> None:
        """The log has one line a minute about it, with how many it left out and nothing that a
        client has sent."""
        authority = self.authority(Answering(RuntimeError("secret")))
        for _ in range(5):
            self.refused(authority, connect("al", b"secret"))
        self.clock.advance(61)
        self.refused(authority, connect("al", b"secret"))
        self.assertEqual([0, 4], [line["suppressed"] for line in self.lines])
        self.assertNotIn("secret", repr(self.lines))

    def test_counted_elsewhere(self) -> None:
        """The broker's counters may take the place of the authority's own."""
        authority = self.authority()
        counted: list[tuple[str, str]] = []
        authority.failed = lambda backend, reason: counted.append((backend, reason))
        self.refused(authority, connect(), OUTSIDE)
        self.assertEqual([("anonymous", "not_authorized")], counted)
        self.assertEqual({}, authority.failures)


class ReplaceTests(AuthorityTestCase):
    """Reloading. H18"""

    def test_everything_at_once(self) -> None:
        """What is new holds from there on, and cached verdicts are void."""
        authority = self.authority()
        version = authority.authorizer.version
        new = self.authority(Answering(True))
        authority.replace(new)
        self.assertIs(new.authorizer, authority.authorizer)
        self.assertNotEqual(version, authority.authorizer.version)
        self.assertEqual("al", self.admitted(authority, connect("al", b"x")))
        version = authority.authorizer.version
        authority.replace(self.authority())
        self.assertGreater(authority.authorizer.version, version)

    def test_under_way(self) -> None:
        """Whoever was removed while the password was being verified does not get in."""
        for successor, reason in (
            (self.authority(Answering(False)), BAD),
            (self.authority(), NOT_AUTHORIZED),
        ):
            verifying: Deferred[bool] = Deferred()
            authority = self.authority(Answering(verifying))
            admitting = authority.admit(connect("al", b"x"), INSIDE)
            authority.replace(successor)
            self.assertNoResult(admitting)
            verifying.callback(True)
            self.assertEqual(reason, self.failureResultOf(admitting, Refused).value.reason)

    def test_still_there(self) -> None:
        """Whoever is still a user gets in, although the file was read again meanwhile."""
        verifying: Deferred[bool] = Deferred()
        authority = self.authority(Answering(verifying))
        admitting = authority.admit(connect("al", b"x"), INSIDE)
        authority.replace(self.authority(Answering(True)))
        verifying.callback(False)
        self.assertEqual("al", self.successResultOf(admitting).user_name)


class FilesTests(TestCase):
    """An authority made of files, with real threads."""

    def write(self, *lines: str) -> str:
        """A file of these lines that nobody else reads."""
        path = self.mktemp()
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write("".join(line + "\n" for line in lines))
        return path

    def make(self, passwords: str | None = None, acl: str | None = None) -> Authority:
        """An authority that lets nobody in anonymously."""
        return Authority.from_files(passwords, acl, frozenset(), reactor)

    async def test_passwords(self) -> None:
        """Users of the file get in with their password, and only with it."""
        authority = self.make(self.write(AL, BO))
        identity = await authority.admit(connect("al", b"secret"), OUTSIDE)
        self.assertEqual("al", identity.user_name)
        for packet in (connect("al", b"x"), connect("nobody", b"secret")):
            await self.assertFailure(authority.admit(packet, OUTSIDE), Refused)
        self.assertEqual({("passwords", "bad_user_name_or_password"): 2}, authority.failures)

    def test_no_files(self) -> None:
        """Without files everything is open, but to nobody."""
        authority = self.make()
        self.assertTrue(authority.authorizer.open)
        self.assertEqual([], authority.methods)
        self.assertEqual(NOT_AUTHORIZED, self.failureResultOf(
            authority.admit(connect(), OUTSIDE), Refused).value.reason)  # fmt: skip

    def test_methods(self) -> None:
        """SCRAM is offered when somebody can use it; other methods are unknown, and counted.
        [MQTT5-4.12.0-1]"""
        self.assertEqual([], self.make(self.write(AL)).methods)
        authority = self.make(self.write(AL, SCRAM_AL))
        self.assertEqual(["SCRAM-SHA-256"], authority.methods)
        for name in ("SCRAM-SHA-1", "PLAIN", "", "scram-sha-256"):
            self.assertIsNone(authority.mechanism(name))
        self.assertEqual({("methods", "bad_authentication_method"): 4}, authority.failures)

    def scram(self, authority: Authority, client: ScramClient) -> Any:
        """An exchange and what answers its last message."""
        mechanism = authority.mechanism("SCRAM-SHA-256")
        assert mechanism is not None
        exchange = mechanism.begin("c")
        first, _ = self.successResultOf(exchange.respond(client.first()))
        return lambda: exchange.respond(client.final(first))

    def test_scram(self) -> None:
        """Who has a SCRAM line proves it without sending the password; failures are counted."""
        authority = self.make(self.write(SCRAM_AL))
        finish = self.scram(authority, ScramClient("al", "secret"))
        self.assertEqual("al", self.successResultOf(finish())[1])
        finish = self.scram(authority, ScramClient("al", "wrong"))
        self.failureResultOf(finish(), Refused)
        self.assertEqual({("scram", "bad_user_name_or_password"): 1}, authority.failures)

    def test_scram_over_a_reload(self) -> None:
        """An exchange that a reload interrupts ends by the new file. H18"""
        for lines, gets_in in (((SCRAM_AL,), True), ((AL,), False)):
            authority = self.make(self.write(SCRAM_AL))
            finish = self.scram(authority, ScramClient("al", "secret"))
            authority.replace(self.make(self.write(*lines)))
            if gets_in:
                self.assertEqual("al", self.successResultOf(finish())[1])
            else:
                self.failureResultOf(finish(), Refused)

    def test_counts_go_on(self) -> None:
        """After a reload failures are counted where they were before, SCRAM's too."""
        authority = self.make(self.write(SCRAM_AL))
        authority.replace(self.make(self.write(SCRAM_AL)))
        self.failureResultOf(self.scram(authority, ScramClient("al", "wrong"))(), Refused)
        self.assertEqual({("scram", "bad_user_name_or_password"): 1}, authority.failures)

    def test_broken_file_changes_nothing(self) -> None:
        """A file with a wrong line is refused as a whole, and what there was stays. H24"""
        good = self.write("topic readwrite a")
        for passwords, acl in (
            (self.write(AL, ""), good),
            (self.write(AL), self.write("topics a")),
            (self.mktemp(), None),
            (None, self.mktemp()),
        ):
            self.assertRaises(ConfigError, self.make, passwords, acl)

    def test_access_list(self) -> None:
        """With an access list, what it does not allow is forbidden; its warnings and those of
        the password file are there to be shown."""
        passwords, acl = self.write(AL), self.write("user al", "topic a", "pattern read b")
        os.chmod(passwords, 0o644)
        authority = self.make(passwords, acl)
        self.assertFalse(authority.authorizer.open)
        self.assertTrue(authority.authorizer.may_publish(Identity("c", "al"), "a"))
        self.assertFalse(authority.authorizer.may_publish(Identity("c", "bo"), "a"))
        self.assertEqual(2, len(authority.warnings))
