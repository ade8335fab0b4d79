"""Listeners: what C{--listen} says, and the sockets that come of it.

All of them carry streams of bytes in order and without loss: TCP, TLS, WebSocket and UNIX sockets
[MQTT5-4.2-1] [MQTT311-7.1.1-1]. They are bound and listen before twistd forks away, so that a busy
port is an exit status; the reactor takes them over afterwards. Connections that come between wait
in the backlog.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import stat
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, final

from twisted.internet.defer import Deferred, maybeDeferred

from ..errors import ConfigError
from .protocol import MqttFactory
from .tls import Credentials, TLSStream
from .transport import BACKLOG, StreamPort, UnixPort, configure_listening_socket
from .websocket import WebSocketFactory

DEFAULT_HOST: Final = "127.0.0.1"
KINDS: Final = ("tcp", "tls", "ws", "wss")


@final
@dataclass(frozen=True, slots=True)
class Listener:
    """Where and how clients connect. C{kind} is C{tcp}, C{tls}, C{ws}, C{wss} or C{unix}."""

    kind: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def encrypted(self) -> bool:
        """Whether it needs a certificate."""
        return self.kind in ("tls", "wss")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        if self.kind == "unix" or self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.kind}:{host}:{self.port}"


def parse_listener(text: str, where: str = "listen") -> Listener:
    """C{tcp:[HOST:]PORT}, likewise C{tls}, C{ws} and C{wss}, with an IPv6 host in brackets; or
    C{unix:PATH}. Without a host it is this machine's loopback; port 0 is any free one.

    @raise ConfigError: it is none of these; C{where} is the option or key that said it.
    """
    kind, colon, rest = text.strip().partition(":")
    kind = kind.lower()
    if not colon or kind not in (*KINDS, "unix"):
        raise ConfigError(
            where, f"{text!r} is not tcp:[HOST:]PORT, tls:…, ws:…, wss:… or unix:PATH"
        )
    if kind == "unix":
        if not rest or "\0" in rest:
            raise ConfigError(where, f"{text!r} has no path")
        return Listener("unix", path=os.path.abspath(rest))
    host, colon, port = rest.rpartition(":")
    if not colon:
        host = DEFAULT_HOST
    elif host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            if ip_address(host.partition("%")[0]).version != 6:
                raise ValueError
        except ValueError:
            raise ConfigError(where, f"{text!r}: {host!r} is no IPv6 address") from None
    elif not host:
        raise ConfigError(where, f"{text!r}: for every IPv4 address write {kind}:0.0.0.0:{port}")
    elif ":" in host:
        raise ConfigError(where, f"{text!r}: an IPv6 address goes into brackets")
    # int() would take "+1", " 1" and "1_0".
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(where, f"{text!r}: {port!r} is no port number")
    return Listener(kind, host, int(port))


@final
class BoundListener:
    """A listener's socket, from before the fork to the end."""

    def __init__(self, listener: Listener, reuse_port: bool = False) -> None:
        self.listener = listener
        self.specification = str(listener)
        """As configured; what peers, logs and authorisation know it by."""
        self._reuse_port = reuse_port
        self._socket: socket.socket | None = None
        self._inode = 0
        self._port: Any = None

    def bind(self) -> None:
        """Bind and listen.

        @raise ConfigError: the address is busy, forbidden, or nobody's.
        """
        listener = self.listener
        try:
            if listener.kind == "unix":
                self._socket = self._bind_path(listener.path)
            else:
                self._socket = self._bind_address(listener.host, listener.port)
        except OSError as error:
            raise ConfigError(self.specification, error.strerror or str(error)) from None
        self._socket.setblocking(False)

    def _bind_address(self, host: str, port: int) -> socket.socket:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name such as localhost may have several addresses: the first of IPv4, as without it.
        found.sort(key=lambda one: one[0] != socket.AF_INET)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            configure_listening_socket(listening)
            if family == socket.AF_INET6:
                # So that tcp:0.0.0.0:1883 and tcp:[::]:1883 live side by side.
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if self._reuse_port:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
        except BaseException:
            listening.close()
            raise
        return listening

    def _bind_path(self, path: str) -> socket.socket:
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            try:
                listening.bind(path)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not self._is_stale(path):
                    raise
                os.unlink(path)
                listening.bind(path)
            # Before it listens: nobody can have connected with other permissions.
            os.chmod(path, 0o660)
            listening.listen(BACKLOG)
            self._inode = os.stat(path).st_ino
        except BaseException:
            listening.close()
            raise
        return listening

    @staticmethod
    def _is_stale(path: str) -> bool:
        """Whether the path is a socket that nobody listens on any more."""
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                return True
            except OSError:
                return False
        return False

    @property
    def address(self) -> str:
        """The specification with the port that it really has, for the ready line."""
        if self._socket is None or self.listener.kind == "unix":
            return self.specification
        host, port = self._socket.getsockname()[:2]
        return str(Listener(self.listener.kind, host, port))

    @property
    def port(self) -> int:
        """The port number that it really has; 0 for a path."""
        if self._socket is None or self.listener.kind == "unix":
            return 0
        return int(self._socket.getsockname()[1])

    def start(
        self,
        factory: MqttFactory,
        credentials: Credentials | None = None,
        origins: frozenset[str] | None = None,
    ) -> None:
        """Accept connections. C{credentials} are needed where it L{Listener.encrypted}; browsers
        may come from pages of C{origins}, C{None} being all."""
        assert self._socket is not None
        kind = self.listener.kind
        reactor = factory.gate.reactor
        made: Any = factory
        if kind in ("ws", "wss"):
            made = WebSocketFactory(factory, origins)
        if kind == "unix":
            adopt: Any = UnixPort._fromListeningDescriptor
            port = adopt(reactor, self._socket.fileno(), made)
        else:
            adopt = StreamPort._fromListeningDescriptor
            port = adopt(reactor, self._socket.fileno(), self._socket.family, made)
        if self.listener.encrypted:
            assert credentials is not None
            port.credentials = credentials
            port.transport = TLSStream
        port.startListening()
        self._port = port

    def stop(self) -> Deferred[None]:
        """Accept no more; connections that are open stay open."""

        def closed(_: object) -> None:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
            path = self.listener.path
            try:
                if path and os.stat(path).st_ino == self._inode:
                    os.unlink(path)
            except OSError:
                pass

        port, self._port = self._port, None
        stopped: Deferred[Any] = maybeDeferred(port.stopListening if port else lambda: None)
        return stopped.addCallback(closed)


def raise_file_limit() -> int:
    """Let this process have as many open files as it may; returns how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (ValueError, OSError):
            return soft
    return hard
