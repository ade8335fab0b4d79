"""The load generator C{mop bench}, and what C{scripts/bench} compares with it.

Worker processes drive many MQTT connections each, on this package's own codec; the parent tells
them what to do, adds up what they saw and prints it. Nothing here is needed to run a gateway,
and nothing here knows which server it talks to, but for L{compare} and L{servers}.
"""

from __future__ import annotations


def run(arguments: list[str]) -> int:
    """The command: returns its exit status."""
    from .command import run as run_command

    return run_command(arguments)
