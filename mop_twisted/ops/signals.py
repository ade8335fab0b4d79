"""UNIX signals: SIGHUP reloads, SIGUSR1 rotates the log file.

SIGTERM and SIGINT are the reactor's: it stops, and our service drains on the way. A handler runs
between any two instructions, so that all it does is to have the reactor call us.
"""

# Twisted's application framework has hardly any annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import IO, Any, cast

from twisted.python.logfile import LogFile


def on_hangup(reactor: Any, reload: Callable[[], object]) -> Callable[[], None]:
    """Call C{reload} in the reactor's thread at each SIGHUP. Returns what undoes that."""
    before = signal.signal(signal.SIGHUP, lambda number, frame: reactor.callFromThread(reload))

    def undo() -> None:
        signal.signal(signal.SIGHUP, before if before is not None else signal.SIG_DFL)

    return undo


def rotate_on_signal(path: str) -> IO[str]:
    """A log file as twistd has it: rotated at a megabyte, and at SIGUSR1 if nobody else wants
    that signal."""
    log_file = LogFile.fromFullPath(path)
    if not signal.getsignal(signal.SIGUSR1):

        def rotate(number: int, frame: object) -> None:
            from twisted.internet import reactor

            cast(Any, reactor).callFromThread(log_file.rotate)

        signal.signal(signal.SIGUSR1, rotate)
    return cast("IO[str]", log_file)
