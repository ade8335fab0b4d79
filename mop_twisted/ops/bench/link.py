"""A client's byte stream: TCP, TLS, WebSocket, or WebSocket in TLS; never blocking.

Plain sockets and the standard library's TLS, so that what is measured is the server. The
WebSocket client frames what it sends as RFC 6455 section 5 asks and takes what it receives;
what it does not do (extensions, text frames, fragments of control frames) it treats as an error.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import os
import selectors
import socket
import ssl
from typing import Any, Final

from .load import Load

READ_BYTES: Final = 128 * 1024
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class LinkLost(Exception):
    """The connection ended or could not be made."""


def tls_context(load: Load) -> ssl.SSLContext:
    """What the load says about certificates.

    @raise OSError: a file cannot be read or is no certificate.
    """
    context = ssl.create_default_context(cafile=load.cafile)
    if load.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if load.certificate:
        context.load_cert_chain(load.certificate, load.key)
    return context


def mask(data: bytes, key: bytes) -> bytes:
    """C{data} xor C{key} repeated [RFC 6455, 5.3]: as two long integers, which is quick."""
    length = len(data)
    repeated = key * ((length + 3) // 4)
    number = int.from_bytes(data, "little") ^ int.from_bytes(repeated[:length], "little")
    return number.to_bytes(length, "little")


def client_frame(data: bytes, opcode: int = 2) -> bytes:
    """One masked frame."""
    length = len(data)
    if length < 126:
        head = bytes((0x80 | opcode, 0x80 | length))
    elif length < 65536:
        head = bytes((0x80 | opcode, 0xFE)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, 0xFF)) + length.to_bytes(8, "big")
    key = os.urandom(4)
    return head + key + mask(data, key)


class Frames:
    """What a server's frames carry."""

    __slots__ = ("_partial", "replies")

    def __init__(self) -> None:
        self._partial = b""
        self.replies = b""
        """Frames that must be sent: answers to pings."""

    def take(self, data: bytes) -> bytes:
        """The payload bytes that are whole with C{data}.

        @raise LinkLost: the server closed, or did what we do not understand.
        """
        data = self._partial + data
        at = 0
        stop = len(data)
        found = []
        while at + 2 <= stop:
            length = data[at + 1]
            body = at + 2
            if length == 126:
                body += 2
            elif length == 127:
                body += 8
            elif length > 127:
                raise LinkLost("a masked frame from the server")
            if body > stop:
                break
            if length > 125:
                length = int.from_bytes(data[at + 2 : body], "big")
            if body + length > stop:
                break
            opcode = data[at] & 0x0F
            if opcode in (0, 2):
                found.append(data[body : body + length])
            elif opcode == 9:
                self.replies += client_frame(data[body : body + length], 10)
            elif opcode == 8:
                code = int.from_bytes(data[body : body + 2], "big")
                raise LinkLost(f"WebSocket closed by the server with {code}")
            elif opcode != 10:
                raise LinkLost(f"WebSocket frame of kind {opcode}")
            at = body + length
        self._partial = data[at:]
        return b"".join(found)


class Link:
    """One connection. It begins to connect when it is made; call L{advance} when its socket is
    ready, until that returns C{True}. Then L{receive} and L{send}."""

    __slots__ = (
        "_frames", "_key", "_load", "_pending", "_reply", "_stage", "_tls", "sock", "wants",
    )  # fmt: skip

    def __init__(self, load: Load, address: tuple[int, Any], context: ssl.SSLContext | None):
        family, where = address
        self._load = load
        self._tls = context
        self._frames: Frames | None = None
        self._key = b""
        self._reply = b""
        self._pending = b""
        self._stage = "connect"
        self.wants = selectors.EVENT_WRITE
        """What the socket has to become ready for."""
        self.sock: socket.socket = socket.socket(family, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        failed = self.sock.connect_ex(where)
        if failed not in (0, errno.EINPROGRESS):
            self.sock.close()
            raise LinkLost(os.strerror(failed))

    def advance(self) -> bool:
        """Go on with connecting; C{True} when MQTT may be spoken.

        @raise LinkLost: it cannot be made.
        """
        try:
            if self._stage == "connect":
                failed = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if failed:
                    raise LinkLost(os.strerror(failed))
                self._stage = "tls"
                if self._tls is not None:
                    self.sock = self._tls.wrap_socket(
                        self.sock,
                        do_handshake_on_connect=False,
                        server_hostname=self._load.host,
                    )
            if self._stage == "tls":
                if isinstance(self.sock, ssl.SSLSocket):
                    self.sock.do_handshake()
                self._stage = "upgrade"
                if self._load.websocket:
                    self._begin_upgrade()
            if self._stage == "upgrade" and self._load.websocket and not self._upgraded():
                return False
        except ssl.SSLWantReadError:
            self.wants = selectors.EVENT_READ
            return False
        except ssl.SSLWantWriteError:
            self.wants = selectors.EVENT_WRITE
            return False
        except OSError as error:
            raise LinkLost(str(error)) from None
        self._stage = "open"
        self.wants = selectors.EVENT_READ
        return True

    def _begin_upgrade(self) -> None:
        self._key = base64.b64encode(os.urandom(16))
        request = (
            f"GET {self._load.path} HTTP/1.1\r\nHost: {self._load.host}:{self._load.port}\r\n"
            "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Key: {self._key.decode()}\r\n\r\n"
        )
        self._pending = request.encode()
        self._flush()
        self.wants = selectors.EVENT_READ

    def _upgraded(self) -> bool:
        self._reply += self._read()
        head, end, rest = self._reply.partition(b"\r\n\r\n")
        if not end:
            return False
        status = head.split(b"\r\n", 1)[0]
        accept = base64.b64encode(hashlib.sha1(self._key + _GUID).digest())
        if b" 101" not in status or accept not in head:
            raise LinkLost(f"no WebSocket: {status.decode('latin-1')}")
        self._frames = Frames()
        self._reply = rest
        return True

    def _read(self) -> bytes:
        """What is there; b"" is nothing yet."""
        try:
            data = self.sock.recv(READ_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return b""
        except OSError as error:
            raise LinkLost(str(error)) from None
        if not data:
            raise LinkLost("closed by the server")
        if not isinstance(self.sock, ssl.SSLSocket):
            return data
        # A record at a time; what stays in the TLS layer no selector would tell us of.
        parts = [data]
        size = len(data)
        while size < READ_BYTES or self.sock.pending():
            try:
                data = self.sock.recv(READ_BYTES)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except OSError as error:
                raise LinkLost(str(error)) from None
            if not data:
                break
            parts.append(data)
            size += len(data)
        return b"".join(parts)

    def receive(self) -> bytes:
        """MQTT's bytes that have come; b"" is none yet.

        @raise LinkLost: the connection is over.
        """
        if self._frames is None:
            return self._read()
        reply, self._reply = self._reply, b""
        data = self._frames.take(reply + self._read())
        if self._frames.replies:
            replies, self._frames.replies = self._frames.replies, b""
            self._write(replies)
        return data

    def send(self, data: bytes) -> None:
        """Send, at once as far as the kernel takes it; the rest with L{flush}.

        @raise LinkLost: the connection is over.
        """
        self._write(data if self._frames is None else client_frame(data))

    def _write(self, data: bytes) -> None:
        if self._pending:
            self._pending += data
            return
        self._pending = data
        self._flush()

    @property
    def clogged(self) -> bool:
        """Whether something waits for the socket to take it."""
        return bool(self._pending)

    def _flush(self) -> None:
        pending = self._pending
        sent = 0
        try:
            while sent < len(pending):
                sent += self.sock.send(memoryview(pending)[sent:] if sent else pending)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            raise LinkLost(str(error)) from None
        self._pending = pending[sent:]
        self.wants = selectors.EVENT_READ
        if self._pending:
            self.wants |= selectors.EVENT_WRITE

    def flush(self) -> None:
        """The socket is writable.

        @raise LinkLost: the connection is over.
        """
        self._flush()

    def close(self) -> None:
        """Close the socket; what was not sent is lost."""
        with contextlib.suppress(OSError):
            self.sock.close()


def resolve(load: Load) -> tuple[int, Any]:
    """Address family and address of the server.

    @raise OSError: there is no such host.
    """
    found = socket.getaddrinfo(load.host, load.port, type=socket.SOCK_STREAM)
    return found[0][0], found[0][4]
