"""The servers that are compared: this gateway and mosquitto, each with a folder and free ports of
its own on the loopback interface.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from .system import child_environment

_PATIENCE: Final = 30.0
_MOSQUITTO: Final = ("mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto")


class ServerFailed(Exception):
    """A server did not start, or died."""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its P-256 key, as PEM files in C{folder}."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
            ),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    certificate_file = folder / "certificate.pem"
    key_file = folder / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate_file, key_file


class Server(ABC):
    """A server that runs while it is used as a context manager, with fresh state."""

    name = ""

    def __init__(self, folder: Path, certificate: Path, key: Path) -> None:
        self.folder = folder
        """Emptied at every start."""
        self.certificate = certificate
        self.key = key
        self.ports: dict[str, int] = {}
        """By transport: tcp, tls, ws. What a server has not is missing."""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def version(self) -> str:
        """What it is, for people."""

    def transports(self) -> tuple[str, ...]:
        """What it listens on."""
        return ("tcp", "tls", "ws")

    @abstractmethod
    def command(self) -> list[str]:
        """How it is started, with C{ports} set."""

    @property
    def pids(self) -> list[int]:
        """Its process, when it runs."""
        return [] if self._process is None else [self._process.pid]

    def __enter__(self) -> Server:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.ports = {transport: free_port() for transport in self.transports()}
        log = self.folder / "output.txt"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=child_environment(),
            )
        until = time.monotonic() + _PATIENCE
        for port in self.ports.values():
            while not self._listens(port):
                if self._process.poll() is not None or time.monotonic() > until:
                    self.__exit__()
                    tail = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
                    raise ServerFailed(f"{self.name} did not start:\n{tail}")
                time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    @staticmethod
    def _listens(port: int) -> bool:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return True
        return False


class Gateway(Server):
    """This one, as it is installed, on its embedded log."""

    name = "mop_twisted"
    _admin = 0

    @property
    def version(self) -> str:
        from ... import __version__

        return f"mop_twisted {__version__} on Python {sys.version.split()[0]}"

    def command(self) -> list[str]:
        listen = [f"{transport}:127.0.0.1:{port}" for transport, port in self.ports.items()]
        options = [word for spec in listen for word in ("--listen", spec)]
        self._admin = free_port()
        return [
            *self._twistd(), "-n", "--pidfile=", "mop", *options,
            "--admin", f"127.0.0.1:{self._admin}",
            "--data", str(self.folder / "log"),
            "--certificate", str(self.certificate), "--key", str(self.key),
        ]  # fmt: skip

    def commits(self) -> int:
        """How many transactions its log has made durable since it started; 0 when it does not
        say."""
        url = f"http://127.0.0.1:{self._admin}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return 0
        found = re.search(r"^mop_store_commit_seconds_count (\S+)", text, re.MULTILINE)
        return int(float(found[1])) if found else 0

    @staticmethod
    def _twistd() -> list[str]:
        beside = Path(sys.executable).with_name("twistd")
        return [str(beside)] if beside.exists() else [sys.executable, "-m", "twisted"]


class Mosquitto(Server):
    """Eclipse Mosquitto as it is installed, without persistence and limits."""

    name = "mosquitto"

    def __init__(self, folder: Path, certificate: Path, key: Path, program: str) -> None:
        super().__init__(folder, certificate, key)
        self._program = program
        self._websockets = self._knows("websockets")

    @classmethod
    def find(cls) -> str | None:
        """Its program, when it is installed. C{MOSQUITTO} in the environment names another."""
        for name in (os.environ.get("MOSQUITTO", ""), *_MOSQUITTO):
            found = shutil.which(name) if name else None
            if found:
                return found
        return None

    def _knows(self, word: str) -> bool:
        """Whether it was built with something. It does not say, but a protocol that it knows
        stands in its program, or in the name of a library that it is linked with."""
        content = Path(self._program).read_bytes()
        return b"lib" + word.encode() in content or b"Sec-WebSocket-Accept" in content

    @property
    def version(self) -> str:
        told = subprocess.run([self._program, "-h"], capture_output=True, text=True, check=False)
        return (told.stdout or told.stderr).partition("\n")[0].replace(" version", "")

    def transports(self) -> tuple[str, ...]:
        return ("tcp", "tls", "ws") if self._websockets else ("tcp", "tls")

    def command(self) -> list[str]:
        lines = [
            "persistence false",
            "max_inflight_messages 0",
            "max_queued_messages 0",
            "set_tcp_nodelay true",
            "allow_anonymous true",
        ]
        if os.geteuid() == 0:
            # Else it becomes a user who may not read our key.
            lines.append("user root")
        for transport, port in self.ports.items():
            lines.append(f"listener {port} 127.0.0.1")
            if transport == "ws":
                lines.append("protocol websockets")
            if transport == "tls":
                lines += [f"certfile {self.certificate}", f"keyfile {self.key}"]
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text("\n".join(lines) + "\n")
        return [self._program, "-c", str(configuration)]
