"""The real gateway as a child process that may be killed at any moment and started again."""

from __future__ import annotations

import os
import signal

from tests.process import Program


class Gateway:
    """C{twistd -n mop} on one folder and, from its first start on, one port of loopback.

    Raises C{AssertionError} when the child is not the code under test or does not get ready.
    """

    def __init__(self, folder: str, *options: str) -> None:
        self.folder = folder
        self.port = 0
        self.lives = 0
        self._options = options
        self._program: Program | None = None
        self._logged: list[str] = []
        os.makedirs(folder, exist_ok=True)

    @property
    def program(self) -> Program:
        """The latest process."""
        assert self._program is not None
        return self._program

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._program is not None and self._program.process.poll() is None

    @property
    def unread(self) -> bool:
        """Whether there is a process, alive or dead, whose end nobody has looked at."""
        return self._program is not None

    def launch(self, **environment: str) -> None:
        """Start the process and wait for nothing."""
        self.lives += 1
        self._program = Program(
            self.folder, "-n", "--pidfile=", "mop", "--admin", "off",
            "-l", f"tcp:127.0.0.1:{self.port}", "-d", os.path.join(self.folder, "log"),
            *self._options, **environment,
        )  # fmt: skip

    def wait_ready(self) -> None:
        """Wait until it lets clients in."""
        self.port = int(self.program.ready()["tcp"].rpartition(":")[2])

    def start(self, **environment: str) -> None:
        """Start it and wait until it is ready."""
        self.launch(**environment)
        self.wait_ready()

    def kill(self) -> None:
        """SIGKILL, and wait for the end. Nothing, if there is no process."""
        if self._program is not None:
            self._program.process.kill()
            self.end()

    def terminate(self) -> int:
        """SIGTERM, and wait for the end; the exit status."""
        self.program.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self) -> int:
        """Wait for an end that is certain to come; the exit status, negative for a signal."""
        program = self.program
        status = program.wait()
        # What a life had to say is small, unless something is wrong.
        self._logged.append(program.errors.decode(errors="replace") + program.logged())
        program.close()
        self._program = None
        return status

    def logged(self) -> str:
        """What all its lives have logged."""
        return "\n".join(self._logged) + (self._program.logged() if self._program else "")
