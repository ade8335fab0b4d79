"""The gateway as a process: how it begins, what signals do, how it ends.

Each test runs the real C{twistd mop} on free ports of loopback.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import tempfile
import time
import urllib.request
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.process import PATIENCE, Program

CONNECT_5 = b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00\x00\x02c1"
SUBSCRIBE_5 = b"\x82\x09\x00\x01\x00\x00\x03a/b\x00"
PUBLISH = b"\x30\x08\x00\x03a/b\x00hi"


def connect(place: str) -> socket.socket:
    """A connection to C{tcp:HOST:PORT}."""
    _, host, port = place.split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE)


def exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes."""
    found = b""
    while len(found) < size:
        piece = connection.recv(size - len(found))
        if not piece:
            raise AssertionError(f"closed after {found!r}")
        found += piece
    return found


def packet(connection: socket.socket) -> bytes:
    """A whole short packet."""
    head = exactly(connection, 2)
    return head + exactly(connection, head[1])


class ServiceTests(SynchronousTestCase):
    """A gateway from start to end."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.makedirs(self.folder)

    def start(self, *arguments: str, **environment: str) -> Program:
        """twistd -n mop with these options and the admin server on a free port."""
        program = Program(
            self.folder, "-n", "--pidfile=", "mop", "--admin", "0", *arguments, **environment
        )
        self.addCleanup(program.close)
        return program

    def test_from_start_to_end(self) -> None:
        """It says where it listens; a client connects, subscribes and gets what it publishes;
        SIGTERM tells it that the server shuts down, and the process ends by that signal."""
        program = self.start("-l", "tcp:0", "-l", "ws:0")
        places = program.ready()
        self.assertEqual(set(places), {"tcp", "ws", "admin", "log"})
        self.assertEqual(places["log"], f"log:embedded:{self.folder}/mop-data")
        self.assertEqual(os.stat(f"{self.folder}/mop-data").st_mode & 0o777, 0o700)
        with connect(places["tcp"]) as client:
            client.sendall(CONNECT_5)
            self.assertEqual(packet(client)[:4], packet_head(0x20))
            client.sendall(SUBSCRIBE_5 + PUBLISH)
            heard = sorted([packet(client), packet(client)])
            self.assertEqual(heard[0], PUBLISH)
            self.assertEqual(heard[1][0], 0x90)
            program.process.terminate()
            goodbye = packet(client)
            self.assertEqual((goodbye[0], goodbye[2]), (0xE0, 0x8B))
            self.assertEqual(client.recv(1), b"")
        self.assertEqual(program.wait(), -signal.SIGTERM)
        self.assertIn("stopped", program.logged())

    def test_readiness(self) -> None:
        """The admin server says that the node is ready."""
        program = self.start("-l", "tcp:0")
        admin = program.ready()["admin"].removeprefix("admin:")
        with urllib.request.urlopen(admin + "readyz", timeout=PATIENCE) as answer:
            self.assertEqual(answer.status, 200)

    def test_a_busy_port(self) -> None:
        """A port that somebody else has is exit status 1 and a reason, also for a daemon."""
        with socket.create_server(("127.0.0.1", 0)) as other:
            listener = f"tcp:127.0.0.1:{other.getsockname()[1]}"
            program = self.start("-l", listener)
            self.assertEqual(program.wait(), 1)
            self.assertIn(listener, program.errors.decode())
            self.assertNotIn(b"Traceback", program.errors)
            daemon = Program(self.folder, "mop", "--admin", "off", "-l", listener)
            self.addCleanup(daemon.close)
            self.assertEqual(daemon.wait(), 1)
        self.assertFalse(os.path.exists(f"{self.folder}/mop-data"))

    def test_a_wrong_configuration(self) -> None:
        """A wrong configuration is exit status 1, with file, key and reason; nothing is made."""
        path = os.path.join(self.folder, "mop.toml")
        with open(path, "w") as opened:
            opened.write('receive_maximum = "lots"\n')
        program = self.start("-c", path)
        self.assertEqual(program.wait(), 1)
        self.assertIn("receive_maximum", program.errors.decode())
        self.assertEqual(os.listdir(self.folder), ["mop.toml"])

    def test_a_log_that_cannot_be_opened(self) -> None:
        """A data folder that is none is exit status 1 with the reason."""
        path = os.path.join(self.folder, "file")
        with open(path, "w"):
            pass
        program = self.start("-l", "tcp:0", "-d", path)
        self.assertEqual(program.wait(), 1)
        self.assertIn("cannot start", program.errors.decode())

    def test_a_daemon(self) -> None:
        """Without -n it goes to the background, says in its log when it is ready, and ends by
        SIGTERM, leaving no pid file."""
        parent = Program(
            self.folder, "--pidfile=mop.pid", "--logfile=mop.log", "mop", "--admin=off", "-ltcp:0"
        )
        self.addCleanup(parent.close)
        self.assertEqual(parent.wait(), 0)
        with open(f"{self.folder}/mop.pid") as opened:
            number = int(opened.read())
        self.addCleanup(self.kill, number)
        log = Path(self.folder, "mop.log")
        self.wait_for(lambda: " ready:" in log.read_text(), log.read_text)
        os.kill(number, signal.SIGTERM)
        self.wait_for(lambda: not os.path.exists(f"{self.folder}/mop.pid"), log.read_text)
        self.assertIn("stopped", log.read_text())

    def kill(self, number: int) -> None:
        """End a daemon that a failed test left."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)

    def wait_for(self, what: object, report: object) -> None:
        """Until a question is answered with yes."""
        end = time.monotonic() + PATIENCE
        while not what():  # type: ignore[operator]
            if time.monotonic() > end:
                raise AssertionError(report())  # type: ignore[operator]
            os.sched_yield()

    def test_reload(self) -> None:
        """SIGHUP takes reloadable keys over; a reload that is wrong changes nothing, and the log
        says which key was wrong; what needs a restart is named."""
        path = os.path.join(self.folder, "mop.toml")

        def configure(text: str) -> None:
            with open(path + "~", "w") as opened:
                opened.write('listen = ["tcp:127.0.0.1:0"]\n' + text)
            os.replace(path + "~", path)

        configure("")
        program = self.start("-c", path)
        places = program.ready()
        configure("allow_anonymous = false\nreceive_maximum = 0\n")
        program.process.send_signal(signal.SIGHUP)
        self.assertIn("receive_maximum", program.wait_for_log("reload_failed"))
        with connect(places["tcp"]) as client:
            client.sendall(CONNECT_5)
            self.assertEqual(packet(client)[:4], packet_head(0x20))
        configure("allow_anonymous = false\nreceive_maximum = 7\nworkers = 1\norigins = ['x']\n")
        program.process.send_signal(signal.SIGHUP)
        self.assertIn("origins has changed", program.wait_for_log("reloaded:"))
        with connect(places["tcp"]) as client:
            client.sendall(CONNECT_5)
            self.assertEqual(packet(client)[3], 0x87)

    def test_json_log(self) -> None:
        """With log_format json every line of the log is an object."""
        import json

        program = self.start("-l", "tcp:0", MOP_LOG_FORMAT="json", MOP_PORT="tcp://10.0.0.1")
        program.ready()
        program.process.terminate()
        program.wait()
        events = [json.loads(line) for line in program.logged().splitlines()]
        self.assertTrue({"starting", "ready", "stopped"} <= {e["event"] for e in events})
        warnings = [e for e in events if e["event"] == "configuration"]
        self.assertIn("MOP_PORT", warnings[0]["message"])

    def test_systemd(self) -> None:
        """systemd hears when it is ready and when it stops."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "notify")
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.bind(path)
                manager.settimeout(PATIENCE)
                program = self.start("-l", "tcp:0", NOTIFY_SOCKET=path)
                self.assertEqual(manager.recv(100), b"READY=1")
                program.process.terminate()
                self.assertEqual(manager.recv(100), b"STOPPING=1")
                self.assertEqual(program.wait(), -signal.SIGTERM)


def packet_head(kind: int) -> Prefix:
    """Equal to a packet's first four bytes when its kind is this, and flags and reason are 0."""
    return Prefix(kind)


class Prefix:
    """See L{packet_head}."""

    def __init__(self, kind: int) -> None:
        self.kind = kind

    def __eq__(self, other: object) -> bool:
        return isinstance(other, bytes) and (other[0], other[2:4]) == (self.kind, b"\0\0")

    def __hash__(self) -> int:
        return hash(self.kind)

    def __repr__(self) -> str:
        return f"a packet of kind {self.kind:#x} with reason 0"
