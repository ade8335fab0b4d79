"""One real gateway for the tests of a module: all kinds of listeners, and TLS with its own CA.

A module's tests share it, so that a test uses topics and client ids of its own (L{fresh}). When
the next module asks, or the interpreter ends, it is stopped by SIGTERM.
"""

from __future__ import annotations

import atexit
import ipaddress
import itertools
import os
import shutil
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.net.certificates import Issuer, pem
from tests.process import Program

HOST = "127.0.0.1"
TRANSPORTS = ("tcp", "tls", "ws", "wss")

_numbers = itertools.count(1)


def fresh(name: str) -> str:
    """A name that nothing else in this run has, of 23 characters at most if C{name} is short:
    the longest that MQTT 3.1 lets a client id be."""
    return f"{name}-{next(_numbers)}"


def missing(what: str) -> NoReturn:
    """A client that the tests need is not installed: a skip, but a failure where everything
    must be there.

    @raise SkipTest: with the reason.
    @raise AssertionError: with the reason, in C{.ci/run}.
    """
    reason = f"{what} is not installed"
    if os.environ.get("MOP_REQUIRE_PULSAR") == "1":
        raise AssertionError(reason)
    raise SkipTest(reason)


def program(name: str) -> str:
    """The path of a program, or L{missing}."""
    # Debian keeps servers where users' PATH does not look.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    return missing(name) if found is None else found


@dataclass(frozen=True)
class Files:
    """PEM files: what the gateway shows, what clients trust, and what a client may show."""

    authority: str
    certificate: str
    key: str
    client_certificate: str
    client_key: str


def make_files(folder: Path) -> Files:
    """An authority, a server's certificate for this host, and one of the client "meter"."""
    issuer = Issuer()
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
    _, server, server_key = issuer.issue("localhost", alternatives=names)
    _, client, client_key = issuer.issue("meter")
    written = {
        "authority": pem(issuer.certificate),
        "certificate": server,
        "key": server_key,
        "client_certificate": client,
        "client_key": client_key,
    }
    for name, text in written.items():
        folder.joinpath(f"{name}.pem").write_bytes(text)
    return Files(**{name: str(folder / f"{name}.pem") for name in written})


class Gateway:
    """A gateway that is ready, listening in these ways and on a UNIX socket;
    C{client_certificates} makes clients of tls and wss show one, C{acl} is that file's text."""

    def __init__(
        self,
        kinds: tuple[str, ...] = TRANSPORTS,
        client_certificates: bool = False,
        acl: str = "",
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mop-interop-")
        folder = Path(self._folder.name)
        self.files = make_files(folder)
        self._options = ["--certificate", self.files.certificate, "--key", self.files.key]
        if client_certificates:
            self._options += ["--client-ca", self.files.authority]
        if acl:
            folder.joinpath("acl").write_text(acl)
            self._options += ["--acl", str(folder / "acl")]
        self.ports = dict.fromkeys(kinds, 0)
        self.socket = str(folder / "socket")
        """The path of its UNIX socket."""
        self._start()

    def _start(self) -> None:
        arguments = ["-n", "--pidfile=", "mop", "--admin", "off", *self._options]
        for kind, port in self.ports.items():
            arguments += ["-l", f"{kind}:{HOST}:{port}"]
        arguments += ["-l", f"unix:{self.socket}"]
        # $SYS soon enough for a test.
        self._program = Program(self._folder.name, *arguments, MOP_SYS_INTERVAL="200ms")
        try:
            places = self._program.ready()
        except BaseException:
            self._program.close()
            raise
        for kind in self.ports:
            self.ports[kind] = int(places[kind].rpartition(":")[2])

    def log(self) -> str:
        """What it has logged so far."""
        return self._program.logged()

    def restart(self) -> None:
        """End it, and start it again on the same ports with the same log.

        @raise AssertionError: as L{stop} does, or it does not get ready.
        """
        self._end()
        self._start()

    def stop(self) -> None:
        """End it.

        @raise AssertionError: it did not end by SIGTERM, or something raised in it.
        """
        try:
            self._end()
        finally:
            self._folder.cleanup()

    def _end(self) -> None:
        try:
            self._program.process.terminate()
            status, log = self._program.wait(), self._program.logged()
        finally:
            self._program.close()
        if status != -signal.SIGTERM or "Traceback" in log:
            raise AssertionError(f"the gateway ended with status {status}: {log}")


_shared: dict[str, Gateway] = {}


def gateway_of(module: str) -> Gateway:
    """The gateway that a module's tests share."""
    if module not in _shared:
        stop_shared()
        _shared[module] = Gateway()
    return _shared[module]


def stop_shared() -> None:
    """Stop the shared gateway, if one runs."""
    while _shared:
        _shared.popitem()[1].stop()


atexit.register(stop_shared)


class InteropTestCase(SynchronousTestCase):
    """A test with the module's gateway, which fails when something raises in that gateway."""

    def setUp(self) -> None:
        self.gateway = gateway_of(type(self).__module__)
        before = len(self.gateway.log())
        self.addCleanup(lambda: self.assertNotIn("Traceback", self.gateway.log()[before:]))
