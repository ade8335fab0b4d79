"""What systemd is told."""

from __future__ import annotations

import os
import socket
import tempfile

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.ops.systemd import Notifier


class NotifierTests(SynchronousTestCase):
    """A service of Type=notify."""

    def setUp(self) -> None:
        # Not mktemp: a socket's path has at most 107 bytes.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "notify")
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(self.manager.close)
        self.manager.bind(self.path)
        self.manager.setblocking(False)

    def heard(self) -> list[str]:
        """All messages so far."""
        found = []
        while True:
            try:
                found.append(self.manager.recv(4096).decode())
            except BlockingIOError:
                return found

    def test_life(self) -> None:
        """Ready, reloading, ready again, stopping."""
        notifier = Notifier({"NOTIFY_SOCKET": self.path}, Clock())
        notifier.ready()
        notifier.reloading()
        notifier.ready()
        notifier.status("three\nclients")
        notifier.stopping()
        heard = self.heard()
        self.assertEqual(heard[0], "READY=1")
        self.assertTrue(heard[1].startswith("RELOADING=1\nMONOTONIC_USEC="))
        self.assertEqual(heard[2:], ["READY=1", "STATUS=three clients", "STOPPING=1"])

    def test_watchdog(self) -> None:
        """With WatchdogSec= systemd hears of us twice in that time, until we stop."""
        clock = Clock()
        environment = {
            "NOTIFY_SOCKET": self.path,
            "WATCHDOG_USEC": "10000000",
            "WATCHDOG_PID": str(os.getpid()),
        }
        notifier = Notifier(environment, clock)
        notifier.startService()
        clock.pump([1.0] * 11)
        self.assertEqual(self.heard(), ["WATCHDOG=1"] * 3)
        notifier.stopService()
        clock.pump([1.0] * 11)
        self.assertEqual(self.heard(), [])

    def test_a_watchdog_for_another_process(self) -> None:
        """A watchdog that is meant for another process is left to it."""
        environment = {
            "NOTIFY_SOCKET": self.path,
            "WATCHDOG_USEC": "10000000",
            "WATCHDOG_PID": "1",
        }
        notifier = Notifier(environment, Clock())
        notifier.startService()
        notifier.stopService()
        self.assertEqual(self.heard(), [])

    def test_no_manager(self) -> None:
        """Without systemd, or with a socket that nobody reads, nothing happens."""
        Notifier({}, Clock()).ready()
        Notifier({"NOTIFY_SOCKET": "/nowhere/notify"}, Clock()).ready()
        Notifier({"NOTIFY_SOCKET": "@nobody-is-there-mop"}, Clock()).ready()
