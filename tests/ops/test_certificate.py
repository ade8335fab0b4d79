"""C{mop certificate}."""

from __future__ import annotations

import datetime
import io
import json
import os
import sys
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.net.tls import Credentials, Files, name_of
from mop_twisted.ops.certificate import run

from ..net.certificates import Issuer, key_pem, pem


class CertificateTestCase(SynchronousTestCase):
    """Runs the command in a folder of its own."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        self.output, self.errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.output)
        self.patch(sys, "stderr", self.errors)

    def make(self, *arguments: str) -> int:
        """Run it."""
        return run(["--folder", self.folder, *arguments])

    def path(self, name: str) -> str:
        """A file in the folder."""
        return os.path.join(self.folder, name)

    def content(self, name: str) -> bytes:
        """What a file holds."""
        with open(self.path(name), "rb") as file:
            return file.read()

    def certificate(self, name: str) -> x509.Certificate:
        """A certificate in the folder."""
        return x509.load_pem_x509_certificate(self.content(name))

    def write(self, name: str, content: bytes) -> None:
        """Put a file into the folder."""
        os.makedirs(self.folder, exist_ok=True)
        with open(self.path(name), "wb") as file:
            file.write(content)

    def verifier(self) -> Any:
        """What verifies by the authority in the folder."""
        return PolicyBuilder().store(Store([self.certificate("ca.crt")]))

    def verify(self, name: str) -> None:
        """Verify that the server certificate is for a host name.

        @raise VerificationError: it is not.
        """
        verifier = self.verifier().build_server_verifier(x509.DNSName(name))
        verifier.verify(self.certificate("server.crt"), [])


class MakeTests(CertificateTestCase):
    """What it makes."""

    def test_server(self) -> None:
        """An authority and a server certificate for this machine, that clients accept and
        nobody else's name has; keys are for their owner alone."""
        self.assertEqual(0, self.make())
        self.assertEqual(
            ["ca.crt", "ca.key", "server.crt", "server.key"], sorted(os.listdir(self.folder))
        )
        self.verify("localhost")
        self.assertRaises(VerificationError, self.verify, "example.org")
        for name in ("ca.key", "server.key"):
            self.assertEqual(0o600, os.stat(self.path(name)).st_mode & 0o777)

    def test_names(self) -> None:
        """Further names and addresses are in it, also when C{--name} is repeated."""
        self.assertEqual(
            0,
            self.make(
                "--name", "broker.example", "*.b\u00fccher.example",
                "--name", "192.0.2.7", "[2001:db8::1]",
            ),
        )  # fmt: skip
        self.verify("broker.example")
        alternatives = self.certificate("server.crt").extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        self.assertEqual(
            [
                "localhost", "127.0.0.1", "::1", "broker.example", "*.xn--bcher-kva.example",
                "192.0.2.7", "2001:db8::1",
            ],
            [str(each.value) for each in alternatives.value],
        )  # fmt: skip

    def test_kind(self) -> None:
        """Keys are ECDSA on P-256, the server's is valid for a year or as long as is said."""
        for days, arguments in ((365, ()), (7, ("--days", "7", "--force"))):
            self.make(*arguments)
            certificate = self.certificate("server.crt")
            key = certificate.public_key()
            assert isinstance(key, ec.EllipticCurvePublicKey)
            self.assertEqual("secp256r1", key.curve.name)
            left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
            self.assertTrue(datetime.timedelta(days - 1) < left <= datetime.timedelta(days))

    def test_gateway_takes_them(self) -> None:
        """The gateway starts with them, and finds the client's user name."""
        self.make("--client", "al ice")
        Credentials(
            Files(self.path("server.crt"), self.path("server.key"), self.path("ca.crt"), "", "cn")
        )
        client = self.certificate("client-al ice.crt")
        self.assertEqual("al ice", name_of(client, "cn"))
        self.assertEqual(0o600, os.stat(self.path("client-al ice.key")).st_mode & 0o777)
        usage = client.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
        self.assertEqual([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH], list(usage.value))

    def test_client_is_no_server(self) -> None:
        """A client's certificate does not pass for a server's."""
        self.make("--client", "localhost")
        verifier = self.verifier().build_server_verifier(x509.DNSName("localhost"))
        client = self.certificate("client-localhost.crt")
        self.assertRaises(VerificationError, verifier.verify, client, [])

    def test_authority_is_used_again(self) -> None:
        """Another client gets a certificate of the same authority; the server's stays."""
        self.make()
        before = {name: self.content(name) for name in os.listdir(self.folder)}
        self.assertEqual(0, self.make("--client", "al"))
        self.assertEqual(before, {name: self.content(name) for name in before})
        self.assertEqual(
            self.certificate("ca.crt").subject, self.certificate("client-al.crt").issuer
        )

    def test_says_what_comes_next(self) -> None:
        """It says what was made and the commands that use it."""
        self.make("--client", "al ice")
        for words in (
            f"made {self.path('ca.crt')}",
            f"twistd -n mop --certificate {self.path('server.crt')}",
            f"--client-ca {self.path('ca.crt')}",
            f"--cafile {self.path('ca.crt')} --cert '{self.path('client-al ice.crt')}'",
        ):
            self.assertIn(words, self.output.getvalue())

    def test_json(self) -> None:
        """C{--json} says it for programs."""
        self.make("--json")
        report = json.loads(self.output.getvalue())
        self.assertEqual(self.path("server.crt"), report["certificate"])
        self.assertEqual(["localhost", "127.0.0.1", "::1"], report["names"])
        self.assertEqual(4, len(report["made"]))


class RefusalTests(CertificateTestCase):
    """What it does not do."""

    def test_overwrite(self) -> None:
        """Certificates that are there are replaced by C{--force} alone, the authority never."""
        self.make("--client", "al")
        before = {name: self.content(name) for name in os.listdir(self.folder)}
        for arguments in ((), ("--client", "al"), ("--name", "x", "--client", "bo")):
            self.assertEqual(1, self.make(*arguments))
            self.assertIn("exists already", self.errors.getvalue())
        self.assertEqual(before, {name: self.content(name) for name in os.listdir(self.folder)})
        self.assertEqual(0, self.make("--force"))
        self.assertNotEqual(before["server.crt"], self.content("server.crt"))
        self.assertEqual(before["ca.crt"], self.content("ca.crt"))
        self.assertEqual(before["client-al.crt"], self.content("client-al.crt"))

    def test_names(self) -> None:
        """What is no host name or address, or no user name or part of a file's name, is refused
        before anything is made. H13"""
        for arguments in (
            ("--name", "a b"),
            ("--name", ""),
            ("--name", "a..b"),
            ("--name", "a-"),
            ("--name", "a/b"),
            ("--name", "\u00e4" * 80),
            ("--client", ""),
            ("--client", "../x"),
            ("--client", "a\nb"),
            ("--client", "x" * 65),
        ):
            self.assertEqual(1, self.make(*arguments), arguments)
        self.assertFalse(os.path.exists(self.folder))

    def test_arguments(self) -> None:
        """Wrong arguments are exit status 2, C{--help} is 0."""
        for arguments in (("--days", "0"), ("--days", "x"), ("--no-such",), ("--name",)):
            self.assertEqual(2, self.make(*arguments))
        self.assertEqual(0, self.make("--help"))

    def test_authority_that_is_no_good(self) -> None:
        """An authority that is incomplete, expired, or none at all, is not used, and not
        replaced either."""
        issuer, other = Issuer(), Issuer()
        _, leaf_pem, leaf_key = issuer.issue("x")
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "past")])
        expired = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(issuer.key.public_key())
            .serial_number(1)
            .not_valid_before(past - datetime.timedelta(days=1))
            .not_valid_after(past)
            .add_extension(x509.BasicConstraints(True, None), True)
            .sign(issuer.key, hashes.SHA256())
        )
        good, key = pem(issuer.certificate), key_pem(issuer.key)
        for certificate, its_key, why in (
            (good, None, "is missing"),
            (None, key, "is missing"),
            (b"nonsense", key, "no certificate"),
            (good, b"nonsense", "no private key"),
            (good, key_pem(issuer.key, b"phrase"), "without a passphrase"),
            (good, key_pem(other.key), "not the key of"),
            (leaf_pem, leaf_key, "not the certificate of an authority"),
            (pem(expired), key, "is expired"),
        ):
            for file_name, content in (("ca.crt", certificate), ("ca.key", its_key)):
                if content is not None:
                    self.write(file_name, content)
                elif os.path.exists(self.path(file_name)):
                    os.unlink(self.path(file_name))
            before = sorted(os.listdir(self.folder))
            self.assertEqual(1, self.make("--force"), why)
            self.assertIn(why, self.errors.getvalue())
            self.assertEqual(before, sorted(os.listdir(self.folder)))

    def test_folder_that_cannot_be(self) -> None:
        """A folder that cannot be made is said."""
        self.write("file", b"")
        self.assertEqual(1, run(["--folder", self.path("file/in")]))
        self.assertIn("file/in", self.errors.getvalue())
