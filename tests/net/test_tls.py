"""Tests of L{mop_twisted.net.tls}, with Python's own ssl as the client."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import tempfile
from collections.abc import Generator
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mop_twisted.errors import ConfigError
from mop_twisted.limits import Limits
from mop_twisted.net.tls import Credentials, Files, name_of

from .certificates import DAY, NOW, Issuer, key_pem, pem
from .doubles import (
    CONNACK,
    CONNECT,
    Edge,
    in_thread,
    publish_bytes,
    read_exactly,
    read_to_end,
    until,
)

ISSUER = Issuer()


class Folder:
    """Files of credentials in a folder of their own."""

    def __init__(self, case: Any) -> None:
        self.path = tempfile.mkdtemp()
        case.addCleanup(shutil.rmtree, self.path)
        self.server, certificate, key = ISSUER.issue(
            "server", alternatives=[x509.DNSName("localhost")]
        )
        self.certificate = self.write("server.pem", certificate + pem(ISSUER.certificate))
        self.key = self.write("server.key", key)
        self.ca = self.write("ca.pem", pem(ISSUER.certificate))

    def write(self, name: str, content: bytes) -> str:
        """A file, and its path."""
        path = os.path.join(self.path, name)
        with open(path, "wb") as file:
            file.write(content)
        return path

    def client(self, *names: str, issuer: Issuer = ISSUER, **kept: Any) -> tuple[str, str]:
        """A client's certificate and key."""
        _, certificate, key = issuer.issue(*names, **kept)
        return self.write("client.pem", certificate), self.write("client.key", key)


class CredentialsTests(SynchronousTestCase):
    """What is accepted as credentials, and what is said of the rest. H23"""

    def setUp(self) -> None:
        self.folder = Folder(self)

    def assert_refused(self, where: str, **changed: str) -> ConfigError:
        """These files are refused, and the error names the one at fault."""
        files = {"certificate": self.folder.certificate, "key": self.folder.key, **changed}
        error: ConfigError = self.assertRaises(ConfigError, Credentials, Files(**files))
        self.assertEqual(where, error.where)
        return error

    def test_expiry(self) -> None:
        """When the certificate expires is known, for the metrics."""
        credentials = Credentials(Files(self.folder.certificate, self.folder.key))
        self.assertEqual((NOW + 20 * DAY).replace(microsecond=0).timestamp(), credentials.not_after)

    def test_missing_file(self) -> None:
        """Each file that is not there is named."""
        path = os.path.join(self.folder.path, "nothing")
        self.assert_refused(path, certificate=path)
        self.assert_refused(path, key=path)
        self.assert_refused(path, client_ca=path)
        self.assert_refused(path, client_ca=self.folder.ca, crl=path)

    def test_empty_file(self) -> None:
        """An empty file is an error, above all an empty client CA, which might let all in."""
        path = self.folder.write("empty", b"")
        self.assert_refused(path, certificate=path)
        self.assert_refused(path, key=path)
        self.assert_refused(path, client_ca=path)
        self.assert_refused(path, client_ca=self.folder.ca, crl=path)

    def test_wrong_key(self) -> None:
        """A key of another certificate, or behind a passphrase, is refused without asking."""
        other = ec.generate_private_key(ec.SECP256R1())
        path = self.folder.write("other.key", key_pem(other))
        self.assert_refused(path, key=path)
        path = self.folder.write("locked.key", key_pem(other, b"secret"))
        self.assertIn("passphrase", str(self.assert_refused(path, key=path)))

    def test_wrong_options(self) -> None:
        """A name that certificates do not have, and a revocation list without a CA."""
        self.assert_refused("certificate_name", client_ca=self.folder.ca, certificate_name="serial")
        crl = self.folder.write("crl.pem", ISSUER.revoke())
        self.assert_refused(crl, crl=crl)
        broken = self.folder.write("broken.pem", b"-----BEGIN X509 CRL-----\nAAAA\n")
        self.assert_refused(broken, client_ca=self.folder.ca, crl=broken)

    def test_failed_reload_changes_nothing(self) -> None:
        """A reload that fails keeps what was there."""
        credentials = Credentials(Files(self.folder.certificate, self.folder.key))
        context, expiry = credentials._context, credentials.not_after
        self.folder.write("server.pem", b"")
        self.assertRaises(ConfigError, credentials.reload)
        self.assertRaises(ConfigError, credentials.reload, Files("nothing", "nothing"))
        self.assertIs(context, credentials._context)
        self.assertEqual(expiry, credentials.not_after)
        self.assertEqual(self.folder.key, credentials.files.key)


class NameTests(SynchronousTestCase):
    """Who a client is by its certificate."""

    def test_kinds(self) -> None:
        """Each kind of name is found where it is."""
        certificate = ISSUER.issue(
            "pump",
            alternatives=[
                x509.DNSName("pump.example.net"),
                x509.RFC822Name("pump@example.net"),
                x509.UniformResourceIdentifier("urn:pump:7"),
            ],
        )[0]
        self.assertEqual(
            ["pump", "pump.example.net", "pump@example.net", "urn:pump:7"],
            [name_of(certificate, kind) for kind in ("cn", "san-dns", "san-email", "san-uri")],
        )

    def test_no_name_or_several(self) -> None:
        """Without exactly one name nobody is let in."""
        for certificate in (ISSUER.issue()[0], ISSUER.issue("a", "b")[0]):
            self.assertRaises(ValueError, name_of, certificate, "cn")
        self.assertRaises(ValueError, name_of, ISSUER.issue("a")[0], "san-dns")
        two = [x509.DNSName("a"), x509.DNSName("b")]
        self.assertRaises(ValueError, name_of, ISSUER.issue("a", alternatives=two)[0], "san-dns")

    def test_control_characters(self) -> None:
        """A name that could deceive a log or an access list is no name."""
        for name in ("a\nb", "a\0b", "a\x9bb", "a\u202eb", "\ufeffa", "a\u2028b", "a\x7f"):
            certificate = ISSUER.issue(name)[0]
            self.assertRaises(ValueError, name_of, certificate, "cn")
        self.assertEqual("Pumpe Süd 7", name_of(ISSUER.issue("Pumpe Süd 7")[0], "cn"))


class TLSTests(TestCase):
    """Conversations over TLS. H23"""

    kind = "tls"

    def setUp(self) -> None:
        self.folder = Folder(self)

    def listen(self, limits: Limits | None = None, **files: str) -> Edge:
        """An edge with the folder's credentials."""
        self.credentials = Credentials(Files(self.folder.certificate, self.folder.key, **files))
        edge = Edge(f"{self.kind}:127.0.0.1:0", limits, credentials=self.credentials)
        self.addCleanup(edge.stop)
        self.edge = edge
        return edge

    def context(self, client: tuple[str, str] | None = None) -> ssl.SSLContext:
        """A client that trusts our issuer, perhaps with a certificate of its own."""
        context = ssl.create_default_context(cafile=self.folder.ca)
        if client is not None:
            context.load_cert_chain(*client)
        return context

    def connect(self, context: ssl.SSLContext, session: Any = None) -> ssl.SSLSocket:
        """Blocking: a TLS connection."""
        return context.wrap_socket(
            self.edge.connect(), server_hostname="localhost", session=session
        )

    def talk(self, context: ssl.SSLContext) -> bytes:
        """Blocking: connect, publish, and what comes back."""
        with self.connect(context) as sock:
            sock.sendall(CONNECT + publish_bytes("a", b"x"))
            return read_exactly(sock, 12)

    def refused(self, context: ssl.SSLContext) -> str:
        """Blocking: a conversation that must fail, and how it does."""
        try:
            received = self.talk(context)
        except OSError as error:
            return str(error)
        # TLS 1.3 tells a client only when it reads.
        return "closed" if not received else f"answered {received!r}"

    @inlineCallbacks
    def assert_talks(self, context: ssl.SSLContext) -> Generator[Deferred[Any], Any, None]:
        """A conversation succeeds."""
        received = yield in_thread(self.talk, context)
        self.assertEqual(CONNACK + publish_bytes("a/0", b"x"), received)

    @inlineCallbacks
    def test_conversation(self) -> Generator[Deferred[Any], Any, None]:
        """A client talks over TLS 1.3 and over TLS 1.2."""
        self.listen()
        for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
            context = self.context()
            context.minimum_version = context.maximum_version = version
            yield self.assert_talks(context)
        yield until(lambda: not self.edge.gate.flusher.protocols)
        self.assertEqual(0, self.edge.gate.handshakes_failed)

    @inlineCallbacks
    def test_old_versions(self) -> Generator[Deferred[Any], Any, None]:
        """TLS 1.1 is not spoken, nor is plain MQTT on an encrypted port."""
        self.listen()

        def old() -> str:
            context = self.context()
            context.set_ciphers("ALL:@SECLEVEL=0")
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            return self.refused(context)

        def plain() -> bytes:
            with self.edge.connect() as sock:
                sock.sendall(CONNECT)
                return read_to_end(sock)

        self.assertNotIn("answered", (yield in_thread(old)))
        self.assertNotIn(CONNACK, (yield in_thread(plain)))
        yield until(lambda: not self.edge.gate.flusher.protocols)
        self.assertEqual(2, self.edge.gate.handshakes_failed)
        self.assertEqual([], self.edge.broker.events)

    @inlineCallbacks
    def test_slow_reader_gets_everything(self) -> Generator[Deferred[Any], Any, None]:
        """Megabytes to a client that reads late arrive whole, and then we close."""
        self.listen()
        sock = yield in_thread(self.connect, self.context())
        self.addCleanup(sock.close)
        flood = publish_bytes("flood", b"12000") + publish_bytes("goodbye", b"")
        yield in_thread(sock.sendall, CONNECT + flood)
        protocols = self.edge.gate.flusher.protocols
        yield until(lambda: any(connection.congested for connection in protocols))
        expected = CONNACK + b"".join(
            publish_bytes(f"flood/{i}", bytes(1000)) for i in range(12000)
        )
        received = yield in_thread(read_to_end, sock)
        self.assertTrue(expected == received)

    @inlineCallbacks
    def test_large_message(self) -> Generator[Deferred[Any], Any, None]:
        """A message of many records arrives whole, in both directions."""
        self.listen()
        payload = os.urandom(900_000)
        sent, echo = publish_bytes("a", payload), publish_bytes("a/0", payload)

        def talk() -> bytes:
            with self.connect(self.context()) as sock:
                sock.sendall(CONNECT)
                connack = read_exactly(sock, 4)
                sock.sendall(sent)
                return connack + read_exactly(sock, len(echo))

        received = yield in_thread(talk)
        self.assertTrue(CONNACK + echo == received)

    @inlineCallbacks
    def test_sends_at_once(self) -> Generator[Deferred[Any], Any, None]:
        """A small answer leaves in the turn in which it was made."""
        self.listen()
        sock = yield in_thread(self.connect, self.context())
        self.addCleanup(sock.close)
        yield in_thread(sock.sendall, CONNECT)
        yield in_thread(read_exactly, sock, 4)
        protocol = next(iter(self.edge.gate.flusher.protocols.values()))
        protocol.transport.write(b"\xd0\x00")
        self.assertEqual(0, protocol.transport.waiting_bytes)
        self.assertEqual(b"\xd0\x00", (yield in_thread(read_exactly, sock, 2)))

    @inlineCallbacks
    def test_client_certificates(self) -> Generator[Deferred[Any], Any, None]:
        """With a client CA, who shows a certificate of it is known by its name, and nobody else
        gets in: no certificate, an expired one, one of somebody else's CA, one without a
        usable name."""
        self.listen(client_ca=self.folder.ca)
        yield self.assert_talks(self.context(self.folder.client("pump 7")))
        connection = self.edge.broker.calls[0][1]
        self.assertEqual("pump 7", connection.peer.certificate_name)
        self.edge.broker.events.clear()
        for context in (
            self.context(),
            self.context(self.folder.client("pump", until=NOW - DAY)),
            self.context(self.folder.client("pump", issuer=Issuer())),
            self.context(self.folder.client("pump\n")),
            self.context(self.folder.client("a", "b")),
        ):
            self.assertNotIn("answered", (yield in_thread(self.refused, context)))
        self.assertEqual([], self.edge.broker.events)
        yield until(lambda: not self.edge.gate.flusher.protocols)
        self.assertEqual(5, self.edge.gate.handshakes_failed)

    @inlineCallbacks
    def test_revoked(self) -> Generator[Deferred[Any], Any, None]:
        """A certificate on the list of revoked ones does not get in, once the list is read."""
        crl = self.folder.write("crl.pem", ISSUER.revoke())
        self.listen(client_ca=self.folder.ca, crl=crl)
        certificate, text, key = ISSUER.issue("pump")
        client = self.folder.write("c.pem", text), self.folder.write("c.key", key)
        yield self.assert_talks(self.context(client))
        self.folder.write("crl.pem", ISSUER.revoke(certificate))
        self.credentials.reload()
        answer = yield in_thread(self.refused, self.context(client))
        self.assertNotIn("answered", answer)
        yield self.assert_talks(self.context(self.folder.client("other")))

    @inlineCallbacks
    def test_reload(self) -> Generator[Deferred[Any], Any, None]:
        """After a reload new connections see the new certificate; open ones stay."""
        self.listen()

        def serial(sock: ssl.SSLSocket) -> int:
            der = sock.getpeercert(binary_form=True)
            assert der is not None
            return x509.load_der_x509_certificate(der).serial_number

        old = yield in_thread(self.connect, self.context())
        self.addCleanup(old.close)
        self.assertEqual(self.folder.server.serial_number, serial(old))
        new, certificate, key = ISSUER.issue("new", alternatives=[x509.DNSName("localhost")])
        self.folder.write("server.pem", certificate)
        self.folder.write("server.key", key)
        self.credentials.reload()
        sock = yield in_thread(self.connect, self.context())
        self.addCleanup(sock.close)
        self.assertEqual(new.serial_number, serial(sock))
        yield in_thread(old.sendall, CONNECT)
        self.assertEqual(CONNACK, (yield in_thread(read_exactly, old, 4)))

    @inlineCallbacks
    def test_sessions_resume(self) -> Generator[Deferred[Any], Any, None]:
        """A client that comes back skips the expensive part of the handshake, and is still
        known by its certificate."""
        self.listen(client_ca=self.folder.ca)
        context = self.context(self.folder.client("pump"))
        first = yield in_thread(self.connect, context)
        self.addCleanup(first.close)
        yield in_thread(first.sendall, CONNECT)
        yield in_thread(read_exactly, first, 4)
        second = yield in_thread(self.connect, context, first.session)
        self.addCleanup(second.close)
        yield in_thread(second.sendall, CONNECT)
        yield in_thread(read_exactly, second, 4)
        self.assertTrue(second.session_reused)
        names = {call[1].peer.certificate_name for call in self.edge.broker.calls}
        self.assertEqual({"pump"}, names)

    @inlineCallbacks
    def test_silent_client(self) -> Generator[Deferred[Any], Any, None]:
        """A client that begins no handshake is closed after its time to connect."""
        limits = Limits()
        limits.connect_timeout = 0.2
        self.listen(limits)

        def wait() -> bytes:
            with self.edge.connect() as sock:
                sock.sendall(b"\x16\x03\x01")
                return read_to_end(sock)

        self.assertEqual(b"", (yield in_thread(wait)))
        yield until(lambda: not self.edge.gate.flusher.protocols)

    @inlineCallbacks
    def test_farewell(self) -> Generator[Deferred[Any], Any, None]:
        """When we close, the client sees an orderly end of TLS, not a cut."""
        self.listen()

        def talk() -> bytes:
            with self.connect(self.context()) as sock:
                sock.sendall(CONNECT + publish_bytes("goodbye", b""))
                sock.suppress_ragged_eofs = False
                return read_to_end(sock)

        self.assertEqual(CONNACK, (yield in_thread(talk)))

    @inlineCallbacks
    def test_cut_in_the_handshake(self) -> Generator[Deferred[Any], Any, None]:
        """A client that goes in the middle of its handshake leaves nothing behind."""
        self.listen()
        outgoing, incoming = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = self.context().wrap_bio(incoming, outgoing, server_hostname="localhost")
        self.assertRaises(ssl.SSLWantReadError, client.do_handshake)
        hello = outgoing.read()
        for size in (1, 5, 6, len(hello) // 2, len(hello)):
            sock = yield in_thread(socket.create_connection, ("127.0.0.1", self.edge.port), 10)
            yield in_thread(sock.sendall, hello[:size])
            sock.close()
        broker = self.edge.broker
        yield until(lambda: broker.names().count("lost") == 5)
        self.assertEqual({}, self.edge.gate._addresses)
