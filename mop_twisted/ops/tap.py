"""C{twistd mop}: its options, and the service that they make.

Everything that can be wrong with a configuration is said here, on standard error and as exit
status 1, before anything is made: twistd itself would print its help and exit with 0.
"""

# Twisted's application framework has hardly any annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import os
import sys
import typing
from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService
from twisted.python import usage

from ..errors import ConfigError
from .config import Configuration, load
from .settings import COMMAND_LINE, Settings


def _description(key: str) -> str:
    hints = typing.get_type_hints(Settings, include_extras=True)
    meta = typing.get_args(hints[key])[1]
    text = str(meta.description).replace("`", "")
    if meta.title and key != "listen":
        text += f" [default: {meta.title.replace('`', '')}]"
    return text


def _parameters() -> list[list[str | None]]:
    found: list[list[str | None]] = [
        ["config", "c", None, "TOML file: docs/reference/options.md lists its keys."]
    ]
    for key, short in COMMAND_LINE.items():
        if key not in ("listen", "allow_anonymous"):
            found.append([key.replace("_", "-"), short, None, _description(key)])
    return found


class Options(usage.Options):
    """Options of C{twistd mop}; L{configuration} is what they come to."""

    synopsis = "[options]"
    longdesc = (
        "An MQTT 3.1, 3.1.1 and 5.0 broker. SIGTERM drains and stops it (twistd then ends by that "
        "signal: status 143), SIGHUP reloads certificates, passwords, ACL and other keys."
    )
    optParameters = _parameters()
    optFlags = [  # noqa: RUF012
        ["allow-anonymous", None, "Let clients in that do not say who they are, everywhere."],
        ["check", None, "Check the configuration and leave: 0, or 1 with file, key and reason."],
    ]
    configuration: Configuration

    def __init__(self) -> None:
        super().__init__()
        self["listen"] = []

    def opt_listen(self, specification: str) -> None:
        """Where clients connect, repeatable: tcp:[HOST:]PORT, tls:…, ws:…, wss:…, unix:PATH.
        [default: tcp:127.0.0.1:1883 and ws:127.0.0.1:8083, with a certificate also
        tls:127.0.0.1:8883]"""
        self["listen"].append(specification)

    opt_l = opt_listen

    def opt_version(self) -> None:
        """Print the version and leave."""
        from .. import __version__

        print(f"mop_twisted {__version__}")
        raise SystemExit(0)

    def parseArgs(self, *arguments: str) -> None:
        if arguments:
            raise usage.UsageError(f"{arguments[0]!r} is no option")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse, load and check.

        @raise SystemExit: with 1, said on standard error, when something is wrong; with 0
            after C{--check} and C{--help}.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            complain(f"{error} (try --help)")
        except ConfigError as error:
            complain(str(error))

    def postOptions(self) -> None:
        given: dict[str, Any] = {
            key: self[key.replace("_", "-")] for key in COMMAND_LINE if key != "allow_anonymous"
        }
        if self["allow-anonymous"]:
            given["allow_anonymous"] = True
        self.configuration = load(self["config"], os.environ, given)
        from .check import check  # what it needs takes a while to load: not for --help

        check(self.configuration)
        if self["check"]:
            for warning in self.configuration.warnings:
                print(f"mop: warning: {warning}", file=sys.stderr)
            print("the configuration is right")
            raise SystemExit(0)


def complain(reason: str) -> typing.NoReturn:
    """Say on standard error why not, and exit with 1."""
    print(f"mop: {reason}", file=sys.stderr)
    raise SystemExit(1)


def makeService(options: Options) -> IService:
    """Everything that runs, with its ports bound and nothing else made yet.

    @raise SystemExit: a port is busy, or must not be bound by this user.
    """
    from twisted.internet import reactor

    from .service import make_gateway

    try:
        return make_gateway(options.configuration, reactor, options.parent, os.environ)
    except ConfigError as error:
        complain(str(error))
