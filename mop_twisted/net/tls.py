"""TLS: the credentials of a node, and a transport that encrypts.

OpenSSL works on the socket itself, as a Twisted transport; not, as Twisted's own TLS does, as a
protocol between memory buffers. That saves those buffers, their copies, and the turn that
Twisted waits to aggregate small writes (our output is joined already); a reply leaves in the
turn in which it was made, as it does without TLS.

Only TLS 1.2 and 1.3, no renegotiation, no compression. Knows nothing of MQTT.
"""

from __future__ import annotations

import contextlib
import unicodedata
from array import array
from dataclasses import dataclass
from fcntl import ioctl
from termios import FIONREAD
from typing import Any, Final, final

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL import SSL
from OpenSSL.crypto import X509StoreFlags
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

from ..errors import ConfigError
from .transport import RECEIVE_BYTES, Stream

CIPHERS: Final = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption. Those of 1.3 all have both."""

RECORD_BYTES: Final = 16 * 1024
"""Most plaintext in one record [RFC 8446, 5.1]. Reading this much leaves nothing behind in
OpenSSL of which the reactor could not know."""

CERTIFICATE_NAMES: Final = ("cn", "san-dns", "san-email", "san-uri")

_waiting = array("i", [0])

_FORBIDDEN: Final = ("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp")
"""Categories of characters that no name may hold: what a log, a file or a person reading a
list of permissions could take for something else."""


@final
@dataclass(frozen=True, slots=True)
class Files:
    """Where the credentials are, all PEM. C{certificate} is the server's, with its chain.

    With a C{client_ca}, clients must show a certificate of it; C{certificate_name} says which
    of its names is who they are; C{crl} lists certificates that it has revoked.
    """

    certificate: str
    key: str
    client_ca: str = ""
    crl: str = ""
    certificate_name: str = "cn"


@final
class Credentials:
    """What new connections are encrypted with. L{reload} swaps it; those that are open keep
    what they began with."""

    def __init__(self, files: Files) -> None:
        """@raise ConfigError: a file is missing, empty, or not what it should be."""
        self.files = files
        self._context: SSL.Context
        self.not_after: float
        self._context, self.not_after = _load(files)
        """When the server's certificate expires, in seconds since 1970."""

    def reload(self, files: Files | None = None) -> None:
        """Read the files again, or others.

        @raise ConfigError: as at first; nothing was changed then.
        """
        files = files or self.files
        self._context, self.not_after = _load(files)
        self.files = files

    def connect(self, sock: Any) -> SSL.Connection:
        """The server's side of a new connection."""
        connection = SSL.Connection(self._context, sock)
        connection.set_accept_state()
        return connection

    def client_name(self, connection: SSL.Connection) -> str | None:
        """Who the client is by its verified certificate; C{None} when none is asked for.

        @raise ValueError: it has no such name, several, or one with forbidden characters.
        """
        if not connection.get_verify_mode() & SSL.VERIFY_PEER:
            # Asked of the connection: a reload since it began may have changed the files.
            return None
        certificate = connection.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            raise ValueError("no certificate")
        return name_of(certificate, self.files.certificate_name)


def name_of(certificate: x509.Certificate, kind: str) -> str:
    """The one name of C{kind} (of L{CERTIFICATE_NAMES}) in a certificate.

    @raise ValueError: it has none, several, or one with forbidden characters.
    """
    names: list[Any]
    if kind == "cn":
        names = [
            attribute.value
            for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        ]
    else:
        try:
            alternatives = certificate.extensions.get_extension_for_class(
                x509.SubjectAlternativeName
            ).value
        except x509.ExtensionNotFound:
            raise ValueError("the certificate has no subject alternative name") from None
        of_kind: Any = {
            "san-dns": x509.DNSName,
            "san-email": x509.RFC822Name,
            "san-uri": x509.UniformResourceIdentifier,
        }[kind]
        names = alternatives.get_values_for_type(of_kind)
    if len(set(names)) != 1:
        # Of several, whoever asked for the certificate would choose who to be.
        raise ValueError(f"the certificate has {len(set(names))} names of kind {kind}, not one")
    name = names[0]
    if not isinstance(name, str) or not name:
        raise ValueError("the certificate's name is empty, or no text")
    if any(unicodedata.category(character) in _FORBIDDEN for character in name):
        raise ValueError("the certificate's name has control characters")
    return name


def _load(files: Files) -> tuple[SSL.Context, float]:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(
        SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    # 32 KiB less for each connection that idles.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(CIPHERS)
    # Tickets resume sessions without memory of ours; the cache would hold 20,480 of them.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(b"mop")
    # Never ask the terminal.
    context.set_passwd_cb(lambda *_: b"")
    certificates = _certificates(files.certificate)
    try:
        context.use_certificate_chain_file(files.certificate)
    except SSL.Error as error:
        raise ConfigError(files.certificate, f"not usable: {_reason(error)}") from None
    _read(files.key)
    try:
        context.use_privatekey_file(files.key)
    except SSL.Error as error:
        raise ConfigError(
            files.key,
            f"not the private key of {files.certificate}, or not PEM without a passphrase"
            f" ({_reason(error)})",
        ) from None
    try:
        context.check_privatekey()
    except SSL.Error:
        raise ConfigError(files.key, f"not the private key of {files.certificate}") from None
    if files.client_ca:
        _ask_for_certificates(context, files)
    elif files.crl:
        raise ConfigError(files.crl, "a list of revoked certificates needs a client CA")
    return context, certificates[0].not_valid_after_utc.timestamp()


def _ask_for_certificates(context: SSL.Context, files: Files) -> None:
    if files.certificate_name not in CERTIFICATE_NAMES:
        raise ConfigError("certificate_name", f"must be one of {', '.join(CERTIFICATE_NAMES)}")
    # An empty file would be a CA of nobody, or, in OpenSSL's mind, no demand at all.
    _certificates(files.client_ca)
    try:
        context.load_verify_locations(files.client_ca)
        context.load_client_ca(files.client_ca.encode())
    except SSL.Error as error:
        raise ConfigError(files.client_ca, f"not usable: {_reason(error)}") from None
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    if files.crl:
        text = _read(files.crl)
        store = context.get_cert_store()
        begin = b"-----BEGIN X509 CRL-----"
        parts = text.split(begin)[1:]
        if store is None or not parts:
            raise ConfigError(files.crl, "no list of revoked certificates in it")
        try:
            for part in parts:
                store.add_crl(x509.load_pem_x509_crl(begin + part))
        except ValueError as error:
            raise ConfigError(files.crl, f"not a list of revoked certificates: {error}") from None
        store.set_flags(X509StoreFlags.CRL_CHECK)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ConfigError(path, error.strerror or str(error)) from None


def _certificates(path: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError as error:
        raise ConfigError(path, f"no certificate in it: {error}") from None


def _reason(error: SSL.Error) -> str:
    """OpenSSL's own words, without its codes."""
    try:
        return str(error.args[0][-1][-1])
    except (IndexError, TypeError):
        return "no reason given"


class TLSStream(Stream):
    """A L{Stream} that encrypts with its port's C{credentials}.

    The protocol is connected before the handshake and told of its end by
    C{handshakeCompleted}, or C{handshakeFailed}. It must not write before.
    """

    protocol: Any
    server: Any
    startWriting: Any
    stopWriting: Any
    abortConnection: Any
    _shaken = False
    _blocked = False
    """OpenSSL has to write before it can go on reading."""

    def __init__(
        self,
        sock: Any,
        protocol: Any,
        client: Any,
        server: Any,
        sessionno: int,
        reactor: Any,
    ) -> None:
        super().__init__(sock, protocol, client, server, sessionno, reactor)
        self._tls = server.credentials.connect(sock)

    def certificate_name(self) -> str | None:
        """Who the client is by its certificate.

        @raise ValueError: the certificate does not say.
        """
        name: str | None = self.server.credentials.client_name(self._tls)
        return name

    def doRead(self) -> Any:
        """Handshake, or decrypt all records that are here and pass them on as one."""
        if not self._shaken:
            try:
                self._tls.do_handshake()
            except SSL.WantReadError:
                return None
            except SSL.WantWriteError:
                self._blocked = True
                self.startWriting()
                return None
            except SSL.Error:
                # The alert that says why is on its way already.
                self.protocol.handshakeFailed()
                return CONNECTION_LOST
            self._shaken = True
            self.protocol.handshakeCompleted()
            if self.disconnected or self._aborting:
                return None
        received = []
        size = 0
        why: BaseException | None = None
        receive = self._tls.recv
        try:
            while size < RECEIVE_BYTES:
                piece = receive(RECORD_BYTES)
                received.append(piece)
                size += len(piece)
                # A fifth of what it costs OpenSSL to find out. At the end of the stream it is 0
                # as well; then the reactor comes again.
                ioctl(self.socket, FIONREAD, _waiting)
                if not _waiting[0]:
                    break
        except SSL.WantReadError:
            pass
        except SSL.WantWriteError:
            self._blocked = True
            self.startWriting()
        except SSL.ZeroReturnError:
            why = CONNECTION_DONE
        except SSL.Error:
            why = CONNECTION_LOST
        if received:
            self.protocol.dataReceived(received[0] if len(received) == 1 else b"".join(received))
        return why

    def doWrite(self) -> Any:
        """The socket takes more."""
        if self._blocked:
            self._blocked = False
            why = self.doRead()
            if why is not None:
                return why
            if self._blocked or not self._shaken:
                if not self._blocked:
                    self.stopWriting()
                return None
        return super().doWrite()  # type: ignore[no-untyped-call]

    def _send(self, data: bytes) -> int:
        sent = self.writeSomeData(data)
        return sent if isinstance(sent, int) else 0

    def writeSomeData(self, data: Any) -> Any:
        """Encrypt and send, a record at a time, until the socket is full. What OpenSSL could
        not finish is offered again from where it began, as it wants."""
        sent = 0
        size = min(len(data), self.SEND_LIMIT)
        if not self._shaken:
            return 0
        view = memoryview(data) if size > RECORD_BYTES else data
        send = self._tls.send
        try:
            while sent < size:
                sent += send(view[sent:] if sent else view)
        except (SSL.WantWriteError, SSL.WantReadError):
            pass
        except SSL.Error:
            return sent or CONNECTION_LOST
        return sent

    def loseConnection(self) -> None:
        """Close once everything is sent; before the handshake, at once."""
        if self._shaken:
            super().loseConnection()  # type: ignore[no-untyped-call]
        else:
            self.abortConnection()

    def _postLoseConnection(self) -> BaseException:
        with contextlib.suppress(SSL.Error):
            self._tls.shutdown()
        return CONNECTION_DONE

    def connectionLost(self, reason: Any) -> None:
        """The connection is over; its descriptor may soon be another's."""
        super().connectionLost(reason)
        self._tls = None
