"""Certificates for tests, made when they are needed."""

from __future__ import annotations

import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Issuer:
    """A certificate authority of its own."""

    def __init__(self, name: str = "Test CA") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._sign(
            self.name,
            self.key.public_key(),
            [(x509.BasicConstraints(True, None), True), (_usage(True), True)],
            NOW + 30 * DAY,
        )

    def _sign(
        self, subject: x509.Name, key: Any, extensions: list[Any], until: datetime.datetime
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 10 * DAY)
            .not_valid_after(until)
            # Clients of Python 3.13 insist on these.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False
            )
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(
        self,
        *names: str,
        alternatives: list[Any] | None = None,
        until: datetime.datetime = NOW + 20 * DAY,
    ) -> tuple[x509.Certificate, bytes, bytes]:
        """A certificate with these common names: itself, its PEM, its key's PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names])
        extensions: list[Any] = [
            (x509.BasicConstraints(False, None), True),
            (_usage(False), True),
        ]
        if alternatives:
            extensions.append((x509.SubjectAlternativeName(alternatives), False))
        certificate = self._sign(subject, key.public_key(), extensions, until)
        return certificate, pem(certificate), key_pem(key)

    def revoke(self, *certificates: x509.Certificate) -> bytes:
        """A list of revoked certificates, as PEM."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.name)
            .last_update(NOW - DAY)
            .next_update(NOW + DAY)
        )
        for certificate in certificates:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(certificate.serial_number)
                .revocation_date(NOW - DAY)
                .build()
            )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _usage(authority: bool) -> x509.KeyUsage:
    """What a key is for: to sign certificates and lists of revoked ones, or connections."""
    return x509.KeyUsage(
        not authority, False, False, False, False, authority, authority, False, False
    )


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as a file holds it."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: Any, passphrase: bytes | None = None) -> bytes:
    """A private key as a file holds it."""
    encryption: Any = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    text: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return text
