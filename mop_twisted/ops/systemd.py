"""Tells systemd how it goes: READY, RELOADING, STOPPING, WATCHDOG [sd_notify(3)].

Without C{NOTIFY_SOCKET} in the environment it does nothing.
"""

# Twisted's application framework has hardly any annotations.
# mypy: disallow-untyped-calls=False

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall


class Notifier(Service):
    """Speaks to the service manager, and feeds its watchdog while the reactor turns."""

    def __init__(self, environment: Mapping[str, str], reactor: Any) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._reactor = reactor
        self._interval = _watchdog_interval(environment)
        self._watchdog: LoopingCall | None = None

    def ready(self) -> None:
        """Clients may come; also after a reload."""
        self._say("READY=1")

    def reloading(self) -> None:
        """A reload has begun; L{ready} ends it. C{Type=notify-reload} wants the time, too."""
        self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The drain has begun."""
        self._say("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for C{systemctl status}."""
        self._say("STATUS=" + text.replace("\n", " "))

    def startService(self) -> None:
        super().startService()
        if self._address and self._interval:
            self._watchdog = LoopingCall(self._say, "WATCHDOG=1")
            self._watchdog.clock = self._reactor
            self._watchdog.start(self._interval)

    def stopService(self) -> None:
        super().stopService()
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.stop()

    def _say(self, text: str) -> None:
        if not self._address:
            return
        # "@" is the abstract namespace's zero byte.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode(), address)
        except OSError:
            return  # a manager that does not listen is no reason to fail


def _watchdog_interval(environment: Mapping[str, str]) -> float:
    """Half the time in which systemd expects a sign, in seconds; 0: it expects none."""
    try:
        microseconds = int(environment.get("WATCHDOG_USEC", "0"))
        process = int(environment.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return 0.0
    return microseconds / 2e6 if process == os.getpid() else 0.0
