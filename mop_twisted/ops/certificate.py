"""C{mop certificate}: a certificate authority for development, and certificates of it.

Makes what C{tls} and C{wss} listeners need on a machine that has no certificates: C{ca.crt} and
C{ca.key}, C{server.crt} and C{server.key}, and for a client C{client-USER.crt} and C{.key}. All
keys are ECDSA on P-256, without a passphrase, in files that only their owner may read. An authority
that is there is used again. For the public internet, certificates come from elsewhere.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import re
import shlex
import sys
from ipaddress import ip_address
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..errors import ConfigError
from ..topics import has_control_characters

SERVER_DAYS: Final = 365
AUTHORITY_DAYS: Final = 3650
NAMES: Final = ("localhost", "127.0.0.1", "::1")
"""What every server certificate is for."""

_HOST: Final = re.compile(
    r"(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.?",
    re.IGNORECASE,
)
_SKEW: Final = datetime.timedelta(hours=1)
"""How far a client's clock may be behind ours."""


def parser() -> argparse.ArgumentParser:
    """The arguments, as C{--help} explains them."""
    found = argparse.ArgumentParser(
        "mop certificate",
        description="Make a certificate authority for development, and certificates of it. An "
        "authority that is in the folder already is used again.",
    )
    found.add_argument(
        "--folder",
        metavar="DIR",
        default=".",
        help="where the files are, made when missing (default: here)",
    )
    found.add_argument(
        "--name",
        metavar="NAME",
        nargs="+",
        action="extend",
        default=[],
        help="host names and IP addresses of the server, beside " + ", ".join(NAMES),
    )
    found.add_argument(
        "--client",
        metavar="USER",
        help="also make a certificate of a client with this user name; a server "
        "certificate that is there stays, unless --name is given",
    )
    found.add_argument(
        "--days",
        type=int,
        default=SERVER_DAYS,
        help=f"how long certificates are valid (default: {SERVER_DAYS})",
    )
    found.add_argument(
        "--force",
        action="store_true",
        help="replace certificates that are there (never the authority)",
    )
    found.add_argument("--json", action="store_true", help="report as JSON")
    return found  # fmt: skip


def run(arguments: list[str]) -> int:
    """C{mop certificate}; returns the exit status."""
    try:
        words = parser()
        options = words.parse_args(arguments)
        if not 1 <= options.days <= AUTHORITY_DAYS:
            words.error(f"--days must be 1 to {AUTHORITY_DAYS}")
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 2
    try:
        report = make(options.folder, options.name, options.client, options.days, options.force)
    except ConfigError as error:
        print(f"mop certificate: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = error.filename or options.folder
        print(f"mop certificate: {where}: {error.strerror}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps(report, ensure_ascii=False))
    else:
        print(_advice(report))
    return 0


def make(
    folder: str,
    names: list[str],
    client: str | None = None,
    days: int = SERVER_DAYS,
    force: bool = False,
) -> dict[str, Any]:
    """Make what is missing. Returns the paths of the files by what they are, C{names} of the
    server certificate, and C{made}: the paths that are new.

    @raise ConfigError: a name cannot be in a certificate, a file is there already, or the
        authority in the folder is no good. Nothing was made.
    """
    alternatives = _alternatives([*NAMES, *names])
    if client is not None:
        _check_client(client)
    paths = {
        "ca": os.path.join(folder, "ca.crt"),
        "ca_key": os.path.join(folder, "ca.key"),
        "certificate": os.path.join(folder, "server.crt"),
        "key": os.path.join(folder, "server.key"),
    }
    server = (paths["certificate"], paths["key"])
    has_server = any(os.path.lexists(path) for path in server)
    wants_server = not has_server or client is None or bool(names)
    asked = list(server) if wants_server else []
    if client is not None:
        paths["client_certificate"] = os.path.join(folder, f"client-{client}.crt")
        paths["client_key"] = os.path.join(folder, f"client-{client}.key")
        asked += [paths["client_certificate"], paths["client_key"]]
    if not force:
        for path in asked:
            if os.path.lexists(path):
                raise ConfigError(path, "exists already (--force replaces it)")
    authority = _find_authority(paths["ca"], paths["ca_key"])
    made: list[str] = []
    os.makedirs(folder, mode=0o755, exist_ok=True)
    if authority is None:
        authority = _make_authority()
        _write(paths["ca_key"], _key_pem(authority[1]), 0o600)
        _write(paths["ca"], _pem(authority[0]), 0o644)
        made += [paths["ca"], paths["ca_key"]]
    if wants_server:
        common_name = names[0] if names else NAMES[0]
        issued = _issue(
            authority, common_name[:64], alternatives, ExtendedKeyUsageOID.SERVER_AUTH, days
        )
        _write(paths["key"], _key_pem(issued[1]), 0o600)
        _write(paths["certificate"], _pem(issued[0]), 0o644)
        made += server
    if client is not None:
        issued = _issue(authority, client, [], ExtendedKeyUsageOID.CLIENT_AUTH, days)
        _write(paths["client_key"], _key_pem(issued[1]), 0o600)
        _write(paths["client_certificate"], _pem(issued[0]), 0o644)
        made += [paths["client_certificate"], paths["client_key"]]
    report: dict[str, Any] = dict(paths)
    report["made"] = made
    if wants_server:
        report["names"] = [str(each.value) for each in alternatives]
    return report


_Authority = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _alternatives(names: list[str]) -> list[x509.GeneralName]:
    found: dict[str, x509.GeneralName] = {}
    for name in names:
        bare = name.removeprefix("[").removesuffix("]")
        try:
            address = ip_address(bare)
            found[str(address)] = x509.IPAddress(address)
            continue
        except ValueError:
            pass
        try:
            host = name if name.isascii() else name.encode("idna").decode()
        except UnicodeError:
            host = ""
        if not _HOST.fullmatch(host) or len(host) > 253:
            raise ConfigError(repr(name), "neither a host name nor an IP address")
        found[host.lower()] = x509.DNSName(host)
    return list(found.values())


def _check_client(client: str) -> None:
    if not client or has_control_characters(client):
        raise ConfigError(repr(client), "a user name is not empty and has no control characters")
    if len(client) > 64:
        raise ConfigError(repr(client), "a certificate's common name has at most 64 characters")
    if "/" in client or not client.isprintable():
        raise ConfigError(repr(client), "cannot be part of a file's name")


def _find_authority(certificate_path: str, key_path: str) -> _Authority | None:
    """The authority in the folder, if one is there.

    @raise ConfigError: one of the files is missing, they are not what they should be, do not
        belong together, or are expired.
    """
    found = [os.path.lexists(path) for path in (certificate_path, key_path)]
    if not any(found):
        return None
    if not all(found):
        here, missing = certificate_path, key_path
        if found[1]:
            here, missing = missing, here
        raise ConfigError(missing, f"is missing beside {here}: move that away for a new authority")
    try:
        with open(certificate_path, "rb") as file:
            certificate = x509.load_pem_x509_certificate(file.read())
    except ValueError:
        raise ConfigError(certificate_path, "no certificate in PEM") from None
    try:
        with open(key_path, "rb") as file:
            key = serialization.load_pem_private_key(file.read(), None)
    except (ValueError, TypeError):
        raise ConfigError(key_path, "no private key in PEM without a passphrase") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(key_path, "no ECDSA key, as mop certificate makes them")
    if key.public_key() != certificate.public_key():
        raise ConfigError(key_path, f"not the key of {certificate_path}")
    try:
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        is_authority = basic.value.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if not is_authority:
        raise ConfigError(certificate_path, "not the certificate of an authority")
    if certificate.not_valid_after_utc <= _now():
        raise ConfigError(certificate_path, "is expired: move it and its key away for a new one")
    return certificate, key


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _make_authority() -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    # Two authorities of one name would be taken for each other: the name has a part of the key.
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = x509.Name(
        [
            x509.NameAttribute(
                NameOID.COMMON_NAME, f"mop development CA {identifier.digest.hex()[:8]}"
            )
        ]
    )
    now = _now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + datetime.timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(True, 0), True)
        .add_extension(_usage(authority=True), True)
        .add_extension(identifier, False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _issue(
    authority: _Authority,
    common_name: str,
    alternatives: list[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
    days: int,
) -> _Authority:
    issuer, issuer_key = authority
    key = ec.generate_private_key(ec.SECP256R1())
    now = _now()
    # Longer than its authority nothing is valid.
    until = min(now + datetime.timedelta(days=days), issuer.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - _SKEW, issuer.not_valid_before_utc))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(_usage(authority=False), True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        # Python's own ssl refuses chains without it, from 3.13 on.
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
        )
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
    return builder.sign(issuer_key, hashes.SHA256()), key


def _usage(authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: str, content: bytes, mode: int) -> None:
    """In one step, and with its mode from the beginning."""
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with open(handle, "wb") as file:
        os.fchmod(handle, mode)
        file.write(content)
    os.replace(temporary, path)


def _advice(report: dict[str, Any]) -> str:
    ca, certificate, key = (shlex.quote(report[each]) for each in ("ca", "certificate", "key"))
    lines = [f"made {path}" for path in report["made"]]
    demands = f" --client-ca {ca}" if "client_key" in report else ""
    lines += ["", "Start the gateway with:",
              f"  twistd -n mop --certificate {certificate} --key {key}{demands}"]  # fmt: skip
    shows = ""
    if demands:
        shows = (
            f" --cert {shlex.quote(report['client_certificate'])}"
            f" --key {shlex.quote(report['client_key'])}"
        )
    lines += ["and a client with:",
              f"  mosquitto_sub -h localhost -p 8883 --cafile {ca}{shows} -t '#' -v"]  # fmt: skip
    return "\n".join(lines)
