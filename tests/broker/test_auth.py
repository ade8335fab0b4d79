"""Enhanced authentication and passwords through the whole broker: MQTT 5.0 sections 4.12, 5.4."""

from __future__ import annotations

import os

from twisted.internet import reactor
from twisted.internet.defer import inlineCallbacks

from mop_twisted.broker.authority import Authority
from mop_twisted.broker.passwords import hash_password, scram_line
from mop_twisted.broker.scram import make_credential
from mop_twisted.codec.packets import Auth, Connack, Connect, Pingreq, Publish
from mop_twisted.codec.properties import AUTHENTICATION_DATA, AUTHENTICATION_METHOD

from ..conversation import Client, Node
from ..scram_client import ScramClient
from .base import KEPT, NodeTestCase, Steps

METHOD = "SCRAM-SHA-256"


def anna(password: str = "geheim") -> ScramClient:
    """The client's side of an exchange."""
    return ScramClient("anna", password)


class AuthTestCase(NodeTestCase):
    """A node whose password file knows anna, for both ways, and otto, for SCRAM alone."""

    def make_node(self) -> Node:
        folder = self.mktemp()
        os.mkdir(folder)
        path = os.path.join(folder, "passwords")
        lines = [
            f"anna:{hash_password('sha512', b'geheim')}",
            f"anna:{scram_line(make_credential('anna', 'geheim', 4096))}",
            f"otto:{scram_line(make_credential('otto', 'anders', 4096))}",
        ]
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write("\n".join(lines) + "\n")
        return Node(authority=Authority.from_files(path, None, lambda listener: False, reactor))

    @inlineCallbacks
    def begin(self, client: Client, scram: ScramClient, **how: object) -> Steps:
        """CONNECT with client-first, AUTH with client-final; the answer to that."""
        properties = {AUTHENTICATION_METHOD: METHOD, AUTHENTICATION_DATA: scram.first()}
        client.send(
            Connect(5, client.client_id, how.get("clean", True), properties=properties | KEPT)
        )
        challenge = yield client.expect(Auth)
        self.assertEqual(0x18, challenge.reason)
        self.assertEqual(METHOD, challenge.properties[AUTHENTICATION_METHOD])
        self.answer(client, scram, challenge)
        connack = yield client.expect(Connack)
        return connack

    def answer(self, client: Client, scram: ScramClient, challenge: Auth) -> None:
        """AUTH with the client's last word."""
        data = scram.final(challenge.properties[AUTHENTICATION_DATA])
        client.send(Auth(0x18, {AUTHENTICATION_METHOD: METHOD, AUTHENTICATION_DATA: data}))


class ScramTests(AuthTestCase):
    """SCRAM-SHA-256 by AUTH packets."""

    @inlineCallbacks
    def test_proved(self) -> Steps:
        """Who proves the password is let in, and is shown that the server knows it too.

        [MQTT5-4.12.0-2] [MQTT5-4.12.0-5] [MQTT5-3.15.2-1]
        """
        client = self.node.client("a")
        scram = anna()
        connack = yield self.begin(client, scram)
        self.assertEqual(0, connack.reason)
        self.assertEqual(METHOD, connack.properties[AUTHENTICATION_METHOD])
        self.assertTrue(scram.is_server(connack.properties[AUTHENTICATION_DATA]))
        yield client.expect_nothing()
        self.assertEqual("anna", self.node.broker.sessions.find("a").identity.user_name)

    @inlineCallbacks
    def test_not_proved(self) -> Steps:
        """A wrong password and an unknown user end alike: CONNACK with a failure, closed.

        [MQTT5-4.12.0-4] [MQTT5-3.1.4-2]
        """
        for scram in (anna("falsch"), ScramClient("nobody", "geheim")):
            client = self.node.client("a")
            connack = yield self.begin(client, scram)
            self.assertGreaterEqual(connack.reason, 0x80)
            yield client.expect_closed()
            self.assertIsNone(self.node.broker.sessions.find("a"))

    @inlineCallbacks
    def test_unknown_method(self) -> Steps:
        """A method that we do not have is 0x8C. [MQTT5-4.12.0-1]"""
        client = self.node.client("a")
        connack = yield client.connect(properties={AUTHENTICATION_METHOD: "KERBEROS"})
        self.assertEqual(0x8C, connack.reason)
        yield client.expect_closed()

    @inlineCallbacks
    def test_without_a_method(self) -> Steps:
        """Without a method there is no AUTH from the server and none is taken, and CONNACK names
        no method. [MQTT5-4.12.0-6]"""
        client = self.node.client("a")
        connack = yield client.connect(user_name="anna", password=b"geheim")
        self.assertEqual(0, connack.reason)
        self.assertNotIn(AUTHENTICATION_METHOD, connack.properties)
        client.send(Auth(0x19, {AUTHENTICATION_METHOD: METHOD}))
        said = yield client.expect_closed()
        self.assertEqual(0x82, said.reason)

    @inlineCallbacks
    def test_only_auth_before_connack(self) -> Steps:
        """What a client sends in the middle of the exchange waits until it is let in."""
        client = self.node.client("a")
        scram = anna()
        client.send(
            Connect(
                5,
                "a",
                properties={AUTHENTICATION_METHOD: METHOD, AUTHENTICATION_DATA: scram.first()},
            )
        )
        client.send(Pingreq())
        challenge = yield client.expect(Auth)
        self.assertEqual([], client.packets)
        self.answer(client, scram, challenge)
        connack = yield client.expect(Connack)
        self.assertEqual(0, connack.reason)
        yield client.expect(type(client.packets[0]))

    @inlineCallbacks
    def test_wrong_auth(self) -> Steps:
        """AUTH with another method or reason in the middle of it is a protocol error."""
        for reason, method in ((0x18, "OTHER"), (0x19, METHOD), (0x00, METHOD)):
            client = self.node.client("a")
            properties = {AUTHENTICATION_METHOD: METHOD, AUTHENTICATION_DATA: anna().first()}
            client.send(Connect(5, "a", properties=properties))
            yield client.expect(Auth)
            client.send(Auth(reason, {AUTHENTICATION_METHOD: method, AUTHENTICATION_DATA: b"x"}))
            said = yield client.expect_closed()
            self.assertEqual(0x82, said.reason)

    @inlineCallbacks
    def test_re_authentication(self) -> Steps:
        """A client can prove itself again while its messages flow; AUTH 0x00 ends it.

        [MQTT5-4.12.0-5]
        """
        client = self.node.client("a")
        yield self.begin(client, anna())
        yield client.subscribe("t")
        for _ in range(2):
            scram = anna()
            client.send(
                Auth(0x19, {AUTHENTICATION_METHOD: METHOD, AUTHENTICATION_DATA: scram.first()})
            )
            challenge = yield client.expect(Auth)
            yield client.publish("t", b"meanwhile", 0)
            publish = yield client.expect(Publish)
            self.assertEqual(b"meanwhile", publish.payload)
            self.answer(client, scram, challenge)
            done = yield client.expect(Auth)
            self.assertEqual(0x00, done.reason)
            self.assertTrue(scram.is_server(done.properties[AUTHENTICATION_DATA]))
        yield client.expect_nothing()

    @inlineCallbacks
    def test_re_authentication_fails(self) -> Steps:
        """Who fails to, or becomes somebody else, is disconnected. [MQTT5-4.12.1-2]"""
        for scram in (anna("falsch"), ScramClient("otto", "anders")):
            client = self.node.client("a")
            yield self.begin(client, anna())
            client.send(
                Auth(0x19, {AUTHENTICATION_METHOD: METHOD, AUTHENTICATION_DATA: scram.first()})
            )
            challenge = yield client.expect(Auth)
            self.answer(client, scram, challenge)
            said = yield client.expect_closed()
            self.assertEqual(0x87, said.reason)

    @inlineCallbacks
    def test_time_is_up(self) -> Steps:
        """An exchange that does not end within the time to connect is cut."""
        client = self.node.client("a")
        properties = {AUTHENTICATION_METHOD: METHOD, AUTHENTICATION_DATA: anna().first()}
        client.send(Connect(5, "a", properties=properties))
        yield client.expect(Auth)
        self.node.advance(16)
        yield client.expect_closed()


class PasswordTests(AuthTestCase):
    """User name and password in CONNECT."""

    @inlineCallbacks
    def test_passwords(self) -> Steps:
        """The right password lets in; all else is refused: 0x86 for 5.0, code 4 for 3.x."""
        for version in (3, 4, 5):
            for user, password, reason in (
                ("anna", b"geheim", 0),
                ("anna", b"falsch", 0x86),
                ("anna", b"", 0x86),
                ("nobody", b"geheim", 0x86),
                (None, None, 0x87),
            ):
                client = self.node.client("a", version)
                connack = yield client.connect(user_name=user, password=password)
                self.assertEqual(reason, connack.reason)
                if reason:
                    yield client.expect_closed()

    @inlineCallbacks
    def test_hostile_names(self) -> Steps:
        """Control characters in client identifier or user name are refused. H13"""
        for name, user, reason in (("a\n", "anna", 0x85), ("a", "an\x1bna", 0x86)):
            client = self.node.client(name)
            connack = yield client.connect(user_name=user, password=b"geheim")
            self.assertEqual(reason, connack.reason)
