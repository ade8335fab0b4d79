"""The real gateway as a child process that may be killed at any moment and started again."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import mop_twisted

PATIENCE = 60.0
"""Seconds after which a child hangs."""

_PROGRAM = """\
import sys
import mop_twisted
print("code", mop_twisted.__file__, file=sys.stderr, flush=True)
from twisted.scripts.twistd import run
run()
"""


class Gateway:
    """C{twistd -n mop} on one folder and, from its first start on, one port of loopback.

    Raises C{AssertionError} when the child is not the code under test or does not get ready.
    """

    def __init__(self, folder: str, *options: str) -> None:
        self.folder = folder
        self.port = 0
        self.lives = 0
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = b""
        os.makedirs(folder, exist_ok=True)

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its number."""
        assert self._process is not None
        return self._process.pid

    def launch(self, **environment: str) -> None:
        """Start the process and wait for nothing."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MOP_")}
        checkout = str(Path(mop_twisted.__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, [checkout, inherited.get("PYTHONPATH", "")]))
        inherited.update(environment, PYTHONPATH=path, XDG_STATE_HOME=self.folder)
        self.lives += 1
        self._errors = b""
        with open(os.path.join(self.folder, "gateway.log"), "ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-c", _PROGRAM, "-n", "--pidfile=", "mop", "--admin", "off",
                    "-l", f"tcp:127.0.0.1:{self.port}",
                    "-d", os.path.join(self.folder, "log"), *self._options,
                ],
                cwd=self.folder,
                env=inherited,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.PIPE,
            )  # fmt: skip

    def start(self, **environment: str) -> None:
        """Start it and wait until it is ready."""
        self.launch(**environment)
        if not self.wait_ready():
            raise AssertionError(f"ended with {self.wait()} before it was ready: {self.errors()}")

    def wait_ready(self) -> bool:
        """Wait for the ready line; False: the process ended before."""
        assert self._process is not None and self._process.stderr is not None
        stream = self._process.stderr
        end = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while b"\nready " not in self._errors or not self._errors.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise AssertionError(f"not ready after {PATIENCE} s: {self.errors()}")
                piece = os.read(stream.fileno(), 65536)
                if not piece:
                    return False
                self._errors += piece
        lines = self._errors.decode().splitlines()
        code = next(line for line in lines if line.startswith("code ")).partition(" ")[2]
        if not os.path.samefile(code, mop_twisted.__file__):
            raise AssertionError(f"the gateway runs {code}, not {mop_twisted.__file__}")
        ready = next(line for line in lines if line.startswith("ready ")).split()
        self.port = int(ready[1].rpartition(":")[2])
        return True

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        if self._process is not None:
            self._process.kill()
            self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Any other signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit status; negative for a signal."""
        assert self._process is not None
        with contextlib.suppress(ValueError):
            _, errors = self._process.communicate(timeout=PATIENCE)
            self._errors += errors or b""
        return self._process.returncode

    def errors(self) -> str:
        """Its standard error, and the end of its log."""
        return self._errors.decode(errors="replace") + self.logged()[-4000:]

    def logged(self) -> str:
        """The log of all its lives."""
        path = Path(self.folder, "gateway.log")
        return path.read_text(errors="replace") if path.exists() else ""
