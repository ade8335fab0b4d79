"""The gateway as a process: C{twistd} with the interpreter and the code under test."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mop_twisted

PATIENCE = 30.0
"""Seconds after which a process hangs; nothing waits for it to pass."""


PACKAGES = str(Path(mop_twisted.__file__).resolve().parents[1])
"""Where the code under test is imported from."""

CODE = f"{Path(mop_twisted.__file__).resolve()} {mop_twisted.__version__}"
"""What the child must say of the code that it runs, before anything else."""

PROGRAM = """
import sys, pathlib, mop_twisted
code = pathlib.Path(mop_twisted.__file__).resolve()
print(code, mop_twisted.__version__, file=sys.stderr, flush=True)
from twisted.scripts.twistd import run
run()
"""


class Program:
    """A process of C{twistd}, with its standard error, and its log on standard output."""

    def __init__(self, folder: str, *arguments: str, **environment: str) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MOP_")}
        inherited.update(environment, PYTHONPATH=PACKAGES, XDG_STATE_HOME=folder)
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=folder,
            env=inherited,
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.PIPE,
        )
        self.errors = b""

    def read_until(self, text: bytes) -> bytes:
        """Standard error, until C{text} and a line end have come."""
        assert self.process.stderr is not None
        end = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stderr, selectors.EVENT_READ)
            while not (text in self.errors and self.errors.endswith(b"\n")):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise AssertionError(f"no {text!r} in {self.errors!r}; log: {self.logged()}")
                piece = os.read(self.process.stderr.fileno(), 65536)
                if not piece:
                    raise AssertionError(f"ended without {text!r}: {self.errors!r}")
                self.errors += piece
        return self.errors

    def ready(self) -> dict[str, str]:
        """Wait for the ready line; what it names, by kind (tcp, ws, admin, log). It is the code
        under test that says so."""
        lines = self.read_until(b"\nready ").decode().splitlines()
        if lines[0] != CODE:
            raise AssertionError(f"it runs {lines[0]!r}, not {CODE!r}")
        words = next(line for line in lines if line.startswith("ready ")).split()
        return {word.partition(":")[0]: word for word in words[1:]}

    def wait(self) -> int:
        """The exit status; negative for a signal."""
        _, errors = self.process.communicate(timeout=PATIENCE)
        self.errors += errors or b""
        return self.process.returncode

    def logged(self) -> str:
        """The log so far."""
        return os.pread(self.log.fileno(), 1 << 20, 0).decode()

    def wait_for_log(self, text: str) -> str:
        """The log, once C{text} stands in it."""
        end = time.monotonic() + PATIENCE
        while text not in self.logged():
            if time.monotonic() > end or self.process.poll() is not None:
                raise AssertionError(f"no {text!r} in: {self.logged()}")
            os.sched_yield()
        return self.logged()

    def close(self) -> None:
        """Leave nothing running."""
        if self.process.poll() is None:
            self.process.kill()
        with contextlib.suppress(ValueError):
            self.process.communicate(timeout=PATIENCE)
        self.log.close()
