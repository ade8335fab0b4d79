"""The command C{mop}: subcommands, each loaded when it is asked for.

Exit statuses: 0 done, 1 it could not be done, 2 wrong arguments, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Final

from .. import __version__

COMMANDS: Final = {
    "bench": ("mop_twisted.ops.bench", "Measure this gateway against a yardstick."),
    "certificate": ("mop_twisted.ops.certificate", "Make certificates for tls and wss."),
    "check": ("mop_twisted.ops.check", "Check a configuration, as twistd mop --check does."),
    "passwd": ("mop_twisted.ops.passwd", "Add users to a password file, or remove them."),
}
"""Each one's module, which has C{run(arguments) -> exit status}, and what it is for."""


def usage() -> str:
    """What C{mop --help} prints."""
    lines = [
        "usage: mop COMMAND [arguments]",
        "",
        "Commands, each with --help:",
        *(f"  {name:12} {summary}" for name, (_, summary) in COMMANDS.items()),
        "",
        "The gateway itself is run by: twistd -n mop [options]",
        "Exit status: 0 done, 1 it could not be done, 2 wrong arguments, 130 interrupted.",
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        print(f"mop_twisted {__version__}")
        return 0
    command = COMMANDS.get(words[0])
    if command is None:
        print(f"mop: there is no command {words[0]!r} (see mop --help)", file=sys.stderr)
        return 2
    run: Callable[[list[str]], int] = import_module(command[0]).run
    try:
        return run(words[1:])
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; what is left to flush would raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
