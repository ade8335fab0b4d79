"""Tests of L{mop_twisted.net.listeners}."""

from __future__ import annotations

import os
import resource
import socket
import tempfile
from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import SynchronousTestCase, TestCase

from mop_twisted.errors import ConfigError
from mop_twisted.net.listeners import BoundListener, Listener, parse_listener, raise_file_limit

from .doubles import CONNACK, CONNECT, Edge, in_thread, read_exactly, read_to_end


class ParseTests(SynchronousTestCase):
    """What C{--listen} understands."""

    def test_understood(self) -> None:
        """Every documented form, and what a missing host means."""
        rows = {
            "tcp:1883": Listener("tcp", "127.0.0.1", 1883),
            "TCP:1883": Listener("tcp", "127.0.0.1", 1883),
            "tcp:0.0.0.0:1883": Listener("tcp", "0.0.0.0", 1883),
            "tls:example.net:8883": Listener("tls", "example.net", 8883),
            "ws:localhost:0": Listener("ws", "localhost", 0),
            "wss:[::1]:8884": Listener("wss", "::1", 8884),
            "tcp:[::]:1883": Listener("tcp", "::", 1883),
            "tcp:[fe80::1%lo]:1883": Listener("tcp", "fe80::1%lo", 1883),
            "unix:/run/mop.sock": Listener("unix", path="/run/mop.sock"),
        }
        for text, listener in rows.items():
            self.assertEqual(listener, parse_listener(text), text)

    def test_not_understood(self) -> None:
        """Everything else is refused, naming the option and what was said."""
        for text in (
            "", "1883", "tcp", "tcp:", "udp:1883", "tcp:host", "tcp:host:", "tcp::1883",
            "tcp:::1:1883", "tcp:[::1:1883", "tcp:[1.2.3.4]:1883", "tcp:[x]:1883", "tcp:65536",
            "tcp:-1", "tcp:+1", "tcp:1_0", "tcp: 1", "tcp:0x10", "tcp:٣", "unix:", "unix:a\0b",
        ):  # fmt: skip
            error = self.assertRaises(ConfigError, parse_listener, text, "listen[0]")
            self.assertEqual("listen[0]", error.where)

    def test_as_text(self) -> None:
        """A listener says itself as it would be configured."""
        for text in ("tcp:127.0.0.1:1883", "wss:[::1]:8884", "unix:/run/mop.sock"):
            self.assertEqual(text, str(parse_listener(text)))

    def test_is_local(self) -> None:
        """What only this machine reaches is told from what others reach."""
        for text in ("tcp:1883", "tcp:[::1]:1883", "ws:localhost:1", "unix:/x", "tcp:127.8.0.1:1"):
            self.assertTrue(parse_listener(text).is_local, text)
        for text in ("tcp:0.0.0.0:1883", "tcp:[::]:1883", "tls:192.0.2.1:1", "tcp:example.net:1"):
            self.assertFalse(parse_listener(text).is_local, text)

    def test_encrypted(self) -> None:
        """What needs a certificate."""
        self.assertEqual(
            [False, True, False, True],
            [parse_listener(f"{kind}:1").encrypted for kind in ("tcp", "tls", "ws", "wss")],
        )


class BindTests(TestCase):
    """Sockets are bound early, and errors are an exit status."""

    def bound(self, text: str) -> BoundListener:
        """A listener that is bound until the test ends."""
        listener = BoundListener(parse_listener(text))
        listener.bind()
        self.addCleanup(listener.stop)
        return listener

    def test_busy_port(self) -> None:
        """A port that somebody has is refused, by its name."""
        first = self.bound("tcp:0")
        second = BoundListener(parse_listener(f"tcp:{first.port}"))
        error = self.assertRaises(ConfigError, second.bind)
        self.assertIn(f"tcp:127.0.0.1:{first.port}", str(error))
        self.assertIn("in use", str(error))

    def test_address_of_nobody(self) -> None:
        """An address that this machine does not have is refused."""
        for text in ("tcp:192.0.2.1:0", "tcp:no-such-host.invalid:0"):
            self.assertRaises(ConfigError, BoundListener(parse_listener(text)).bind)

    def test_real_port(self) -> None:
        """Port 0 becomes a real one, and the ready line can name it."""
        listener = self.bound("ws:0")
        self.assertTrue(listener.port)
        self.assertEqual(f"ws:127.0.0.1:{listener.port}", listener.address)
        self.assertEqual("ws:127.0.0.1:0", listener.specification)

    def test_waits_for_the_start(self) -> None:
        """Whoever connects between binding and starting is not refused."""
        listener = self.bound("tcp:0")
        socket.create_connection(("127.0.0.1", listener.port), timeout=10).close()

    def test_both_families(self) -> None:
        """IPv6 leaves the port free for IPv4."""
        if not socket.has_ipv6:
            return
        six = self.bound("tcp:[::1]:0")
        self.assertEqual(f"tcp:[::1]:{six.port}", six.address)
        self.bound(f"tcp:127.0.0.1:{six.port}")

    def test_path(self) -> None:
        """A path is for this user and group, is cleaned up, and a stale one is taken over."""
        folder = tempfile.mkdtemp()
        self.addCleanup(os.rmdir, folder)
        path = os.path.join(folder, "mqtt")
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(path)
        listener = BoundListener(parse_listener(f"unix:{path}"))
        listener.bind()
        self.assertEqual(0o660, os.stat(path).st_mode & 0o777)
        self.assertEqual((f"unix:{path}", 0), (listener.address, listener.port))
        busy = BoundListener(parse_listener(f"unix:{path}"))
        self.assertRaises(ConfigError, busy.bind)
        self.successResultOf(listener.stop())
        self.assertFalse(os.path.exists(path))

    def test_path_of_something_else(self) -> None:
        """A file that is no socket is not deleted."""
        folder = tempfile.mkdtemp()
        self.addCleanup(os.rmdir, folder)
        path = os.path.join(folder, "precious")
        with open(path, "w"):
            pass
        self.addCleanup(os.unlink, path)
        self.assertRaises(ConfigError, BoundListener(parse_listener(f"unix:{path}")).bind)
        self.assertTrue(os.path.exists(path))

    @inlineCallbacks
    def test_stop_keeps_connections(self) -> Generator[Deferred[Any], Any, None]:
        """After a listener stopped nobody new gets in, and who is in stays."""
        edge = Edge()
        self.addCleanup(edge.stop)
        sock = yield in_thread(edge.connect)
        self.addCleanup(sock.close)
        yield in_thread(sock.sendall, CONNECT)
        self.assertEqual(CONNACK, (yield in_thread(read_exactly, sock, 4)))
        yield edge.bound.stop()
        self.assertRaises(ConnectionRefusedError, edge.connect)
        yield in_thread(sock.sendall, b"\xc0\x00")
        self.assertEqual(b"\xd0\x00", (yield in_thread(read_exactly, sock, 2)))

    @inlineCallbacks
    def test_ipv6_client(self) -> Generator[Deferred[Any], Any, None]:
        """A client over IPv6 is known by its address."""
        edge = Edge("tcp:[::1]:0")
        self.addCleanup(edge.stop)
        sock = yield in_thread(socket.create_connection, ("::1", edge.port), 10)
        self.addCleanup(sock.close)
        yield in_thread(sock.sendall, CONNECT)
        yield in_thread(read_exactly, sock, 4)
        protocol = next(iter(edge.gate.flusher.protocols.values()))
        self.assertEqual("::1", protocol.connection.peer.address)
        self.assertEqual("::1", protocol.transport.getPeer().host)


class ExhaustionTests(TestCase):
    """Running out of open files is survived."""

    @inlineCallbacks
    def test_no_files_left(self) -> Generator[Deferred[Any], Any, None]:
        """Clients that come when no file can be opened are turned away, and those that come
        later are served."""
        edge = Edge()
        self.addCleanup(edge.stop)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        clients = [socket.socket() for _ in range(5)]
        highest = max(client.fileno() for client in clients)
        free = [fd for fd in range(highest) if not os.path.exists(f"/dev/fd/{fd}")]
        fill = [socket.socket() for _ in free]
        for sock in clients + fill:
            self.addCleanup(sock.close)
            sock.settimeout(10)
        yield in_thread(lambda: None)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, before[1]))
        for client in clients:
            client.connect(("127.0.0.1", edge.port))
        for client in clients:
            self.assertEqual(b"", (yield in_thread(read_to_end, client)))
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        sock = yield in_thread(edge.connect)
        self.addCleanup(sock.close)
        yield in_thread(sock.sendall, CONNECT)
        self.assertEqual(CONNACK, (yield in_thread(read_exactly, sock, 4)))


class FileLimitTests(SynchronousTestCase):
    """A fleet needs open files."""

    def test_raised(self) -> None:
        """The limit is raised to what the system allows."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        self.assertEqual(before[1], raise_file_limit())
        self.assertEqual((before[1], before[1]), resource.getrlimit(resource.RLIMIT_NOFILE))
