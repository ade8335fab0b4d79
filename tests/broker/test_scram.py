"""SCRAM-SHA-256, the server's side."""

from __future__ import annotations

import base64
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mop_twisted.broker.scram import Scram, make_credential, prepare
from mop_twisted.errors import Refused
from mop_twisted.interfaces import IExchange, IMechanism
from mop_twisted.reasons import ReasonCode

from ..scram_client import ScramClient

ALICE = make_credential("alice", "secret", 4096, b"0123456789abcdef")


class ScramTestCase(SynchronousTestCase):
    """A mechanism that knows alice."""

    def setUp(self) -> None:
        self.mechanism = Scram([ALICE])
        self.failures: list[ReasonCode] = []
        self.mechanism.failed = self.failures.append

    def refused(self, exchange: Any, data: bytes) -> ReasonCode:
        """The reason with which a message is refused."""
        return self.failureResultOf(exchange.respond(data), Refused).value.reason

    def log_in(self, client: ScramClient, mechanism: Scram | None = None) -> Any:
        """The Deferred of a whole exchange's second half."""
        exchange = (mechanism or self.mechanism).begin("c")
        server_first, user_name = self.successResultOf(exchange.respond(client.first()))
        self.assertIsNone(user_name)
        return exchange.respond(client.final(server_first))


class ExchangeTests(ScramTestCase):
    """Logging in."""

    def test_interfaces(self) -> None:
        """It is what the broker asks for."""
        verifyObject(IMechanism, self.mechanism)
        verifyObject(IExchange, self.mechanism.begin("c"))

    def test_rfc_7677_example(self) -> None:
        """The example exchange of RFC 7677 section 3, byte for byte."""
        salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
        mechanism = Scram(
            [make_credential("user", "pencil", 4096, salt)],
            lambda: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        )
        exchange = mechanism.begin("c")
        first = self.successResultOf(exchange.respond(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"))
        self.assertEqual(
            (
                b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                None,
            ),
            first,
        )
        final = self.successResultOf(
            exchange.respond(
                b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
                b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
            )
        )
        self.assertEqual((b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", "user"), final)

    def test_both_prove(self) -> None:
        """The client proves that it knows the password, and the server does too."""
        client = ScramClient("alice", "secret")
        server_final, user_name = self.successResultOf(self.log_in(client))
        self.assertEqual("alice", user_name)
        self.assertTrue(client.is_server(server_final))
        self.assertEqual([], self.failures)

    def test_headers(self) -> None:
        """A client may know channel binding without using it, and may name itself as whom it
        acts as."""
        for header in ("n,,", "y,,", "n,a=alice,"):
            client = ScramClient("alice", "secret", header=header)
            self.assertEqual("alice", self.successResultOf(self.log_in(client))[1])

    def test_asked_for_first_message(self) -> None:
        """A CONNECT without Authentication Data is asked for the first message, once."""
        exchange = self.mechanism.begin("c")
        self.assertEqual((b"", None), self.successResultOf(exchange.respond(b"")))
        client = ScramClient("alice", "secret")
        first, _ = self.successResultOf(exchange.respond(client.first()))
        self.successResultOf(exchange.respond(client.final(first)))
        exchange = self.mechanism.begin("c")
        self.successResultOf(exchange.respond(b""))
        self.assertEqual(ReasonCode.NOT_AUTHORIZED, self.refused(exchange, b""))

    def test_escaped_name(self) -> None:
        """A user name may have commas and equals signs."""
        mechanism = Scram([make_credential("a=b,c", "secret", 4096)])
        client = ScramClient("a=b,c", "secret")
        self.assertEqual("a=b,c", self.successResultOf(self.log_in(client, mechanism))[1])

    def test_two_ways_to_write_a_name(self) -> None:
        """A name is the same however its accents are composed, and the identity is the file's."""
        mechanism = Scram([make_credential("j\u00f6rg", "secret", 4096)])
        client = ScramClient("jo\u0308rg", "secret")
        self.assertEqual("j\u00f6rg", self.successResultOf(self.log_in(client, mechanism))[1])

    def test_nonces_differ(self) -> None:
        """No two exchanges have one nonce, so that none can be replayed."""
        client = ScramClient("alice", "secret")
        exchange = self.mechanism.begin("c")
        first, _ = self.successResultOf(exchange.respond(client.first()))
        recorded = client.final(first)
        exchange = self.mechanism.begin("c")
        again, _ = self.successResultOf(exchange.respond(client.first()))
        self.assertNotEqual(first, again)
        self.assertEqual(ReasonCode.NOT_AUTHORIZED, self.refused(exchange, recorded))


class RefusalTests(ScramTestCase):
    """Who does not get in. [MQTT5-4.12.0-4]"""

    def test_wrong_password(self) -> None:
        """A wrong password is refused, and counted. [MQTT5-4.12.0-4]"""
        failure = self.failureResultOf(self.log_in(ScramClient("alice", "wrong")), Refused)
        self.assertEqual(ReasonCode.BAD_USER_NAME_OR_PASSWORD, failure.value.reason)
        self.assertEqual([ReasonCode.BAD_USER_NAME_OR_PASSWORD], self.failures)

    def test_unknown_user_looks_known(self) -> None:
        """Nobody can find out who is a user: an unknown one gets a salt too, always the same
        one, also after a restart, and is refused at the end for the same reason."""
        client = ScramClient("mallory", "secret")
        salts = set()
        for mechanism in (self.mechanism, Scram([ALICE]), Scram([ALICE, ALICE])):
            first, _ = self.successResultOf(mechanism.begin("c").respond(client.first()))
            salts.add(first.split(b",", 1)[1])
        self.assertEqual(1, len(salts))
        known, _ = self.successResultOf(
            self.mechanism.begin("c").respond(ScramClient("alice", "").first())
        )
        self.assertEqual(len(known.split(b",", 1)[1]), len(salts.pop()))
        failure = self.failureResultOf(self.log_in(client), Refused)
        self.assertEqual(ReasonCode.BAD_USER_NAME_OR_PASSWORD, failure.value.reason)

    def test_malformed(self) -> None:
        """What is no first message of the mechanism, or asks for what is not offered, is
        refused."""
        for data in (
            b"n",
            b"n,,",
            b"n,,n=alice",
            b"n,,n=,r=x",
            b"n,,n=alice,r=",
            b"n,,n=alice,r=a b",
            b"n,,r=x,n=alice",
            b"n,,m=x,n=alice,r=x",
            b"n,,n=al=ice,r=x",
            b"n,a=bob,n=alice,r=x",
            b"n,alice,n=alice,r=x",
            b"p=tls-unique,,n=alice,r=x",
            b"x,,n=alice,r=x",
            b"n,,n=al\x00ice,r=x",
            b"n,,n=al\xffice,r=x",
            b"n,,n=alice,r=" + b"x" * 5000,
        ):
            self.assertEqual(
                ReasonCode.NOT_AUTHORIZED, self.refused(self.mechanism.begin("c"), data), data
            )

    def test_malformed_final(self) -> None:
        """A second message with another header, another nonce or no proof is refused."""
        client = ScramClient("alice", "secret")
        for change in (
            lambda final: b"",
            lambda final: final.rpartition(b",")[0],
            lambda final: final.replace(b"c=biws", b"c=eSws"),
            lambda final: final.replace(b"c=biws", b"c=?"),
            lambda final: final.replace(b",r=client", b",r=other"),
            lambda final: final[:-4],
            lambda final: final.replace(b"c=biws,", b""),
        ):
            exchange = self.mechanism.begin("c")
            first, _ = self.successResultOf(exchange.respond(client.first()))
            reason = self.refused(exchange, change(client.final(first)))
            self.assertEqual(ReasonCode.NOT_AUTHORIZED, reason)

    def test_over_is_over(self) -> None:
        """An exchange that has ended, well or not, takes nothing more."""
        exchange = self.mechanism.begin("c")
        self.refused(exchange, b"nonsense")
        client = ScramClient("alice", "secret")
        self.assertEqual(ReasonCode.PROTOCOL_ERROR, self.refused(exchange, client.first()))

    def test_client_identifier(self) -> None:
        """A client identifier with control characters is refused here as well. H13"""
        exchange = self.mechanism.begin("a\x07b")
        self.assertEqual(
            ReasonCode.CLIENT_IDENTIFIER_NOT_VALID,
            self.refused(exchange, ScramClient("alice", "secret").first()),
        )

    def test_reload_between_the_halves(self) -> None:
        """Whoever is removed or gets another password while logging in does not get in."""
        other = make_credential("alice", "changed", 4096)
        for successor, gets_in in (
            (Scram([ALICE]), True),
            (Scram([other]), False),
            (None, False),
        ):
            mechanism = Scram([ALICE])
            client = ScramClient("alice", "secret")
            exchange = mechanism.begin("c")
            first, _ = self.successResultOf(exchange.respond(client.first()))
            mechanism.succeed_with(successor)
            answer = exchange.respond(client.final(first))
            if gets_in:
                self.assertEqual("alice", self.successResultOf(answer)[1])
            else:
                self.failureResultOf(answer, Refused)


class PrepareTests(SynchronousTestCase):
    """SASLprep, by the examples of RFC 4013 section 3."""

    def test_mapped(self) -> None:
        """Soft hyphens go, compatible characters become one."""
        for text, prepared in (
            ("I\u00adX", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u00aa", "a"),
            ("\u2168", "IX"),
            ("a\u00a0b", "a b"),
        ):
            self.assertEqual(prepared, prepare(text))

    def test_prohibited(self) -> None:
        """Control characters, mixed directions and nothing at all are refused."""
        for text in ("\u0007", "\u0627\u0031", "", "\u00ad", "\u0627a\u0627", "\ue000"):
            self.assertRaises(ValueError, prepare, text)
