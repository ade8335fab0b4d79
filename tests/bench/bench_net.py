"""What a connection costs at the edge: C{python -m tests.bench.bench_net [connections]}.

For TCP and TLS: resident bytes of an idle connection (transport, protocol, state machine; no
session), the processor time of a connect, and of a message that is echoed. For WebSocket: frames
a second. The clients run in a process of their own; the broker is a double that echoes.
"""

from __future__ import annotations

import gc
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThread

from mop_twisted.net.frames import BINARY, Frames
from mop_twisted.net.listeners import raise_file_limit
from mop_twisted.net.tls import Credentials, Files
from mop_twisted.protocol.connection import Connection

from ..net.certificates import Issuer
from ..net.doubles import CONNECT, Echo, Edge, publish_bytes, read_exactly
from ..net.test_frames import frame

WARM = 200
"""Connections that are made first, so that what is made once is not counted."""

MESSAGE = publish_bytes("a", b"x" * 50)


class QuietEcho(Echo):
    """An L{Echo} that remembers nothing."""

    def connected(self, connection: Connection) -> bool:
        return True

    def handle(self, connection: Connection, events: list[Any]) -> None:
        super().handle(connection, events)
        self.events.clear()


def resident() -> int:
    """Resident bytes of this process."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def be_clients(kind: str, port: int, count: int) -> None:
    """Connect, say so, wait; then send a message on each a few times, say so, wait."""
    raise_file_limit()
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    clients = []
    for _ in range(count):
        sock: Any = socket.create_connection(("127.0.0.1", port), timeout=60)
        if kind == "tls":
            sock = context.wrap_socket(sock)
        sock.sendall(CONNECT)
        read_exactly(sock, 4)
        clients.append(sock)
    print("connected", flush=True)
    sys.stdin.readline()
    for _ in range(10):
        for sock in clients:
            sock.sendall(MESSAGE)
        for sock in clients:
            read_exactly(sock, len(MESSAGE) + 2)
    print("echoed", flush=True)
    sys.stdin.readline()


class Clients:
    """Clients in a process of their own."""

    def __init__(self, kind: str, port: int, count: int) -> None:
        arguments = ["clients", kind, str(port), str(count)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.bench_net", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def reached(self) -> Deferred[str]:
        """Fires when they have done the next step."""
        assert self._process.stdout is not None
        return deferToThread(self._process.stdout.readline)

    def go_on(self) -> None:
        """Let them do the next step."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Wherever they are, end them."""
        self._process.kill()
        self._process.communicate()


@inlineCallbacks
def measure(kind: str, count: int, **start: Any) -> Generator[Deferred[Any], Any, None]:
    """One line about C{kind}."""
    edge = Edge(f"{kind}:127.0.0.1:0", **start)
    edge.broker.__class__ = QuietEcho
    warm = Clients(kind, edge.port, WARM)
    yield warm.reached()
    before, began = resident(), time.process_time()
    clients = Clients(kind, edge.port, count)
    yield clients.reached()
    connected = time.process_time() - began
    idle = resident() - before
    began = time.process_time()
    clients.go_on()
    yield clients.reached()
    echoed = time.process_time() - began
    print(
        f"{kind}: {idle / count:,.0f} B an idle connection, {connected / count * 1e6:.0f} µs"
        f" a connect, {echoed / count / 10 * 1e6:.1f} µs a message there and back"
    )
    clients.end()
    warm.end()
    yield edge.stop()


def measure_frames() -> None:
    """Frames a second, alone and in a read of many."""
    one = frame(BINARY, bytes(100))
    for together in (1, 100):
        frames, data = Frames(), one * together
        rounds = 200_000 // together
        began = time.perf_counter()
        for _ in range(rounds):
            frames.receive(data)
        rate = rounds * together / (time.perf_counter() - began)
        print(f"ws: {rate:,.0f} frames/s of 100 B, {together} a read")


@inlineCallbacks
def measure_all(count: int) -> Generator[Deferred[Any], Any, None]:
    """Everything, then stop."""
    raise_file_limit()
    measure_frames()
    folder = tempfile.mkdtemp()
    try:
        yield measure("tcp", count)
        _, certificate, key = Issuer().issue("server")
        paths = [os.path.join(folder, name) for name in ("certificate", "key")]
        for path, content in zip(paths, (certificate, key), strict=True):
            with open(path, "wb") as file:
                file.write(content)
        yield measure("tls", count, credentials=Credentials(Files(*paths)))
    finally:
        shutil.rmtree(folder)
        stop: Callable[[], None] = reactor.stop  # type: ignore[attr-defined]
        stop()


if __name__ == "__main__":
    if sys.argv[1:2] == ["clients"]:
        be_clients(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        number = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
        reactor.callWhenRunning(measure_all, number)  # type: ignore[attr-defined]
        reactor.run()  # type: ignore[attr-defined]
