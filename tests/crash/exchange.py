"""One message from a publisher to a subscriber at QoS 2, with a gateway that dies on the way.

The gateway dies at a named point of its own (C{MOP_FAILPOINT}), or when a packet of the exchange
has come to a client. It is started again, the clients come back, the exchange is completed; then
it is killed once more, and a second message shows that nothing of the first was left behind.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from typing import Any

from mop_twisted.codec.packets import PUBLISH

from .client import Client, Loop, Publisher
from .gateway import Gateway
from .subscriber import Subscriber

PATIENCE = 20.0

UNSEEN = "unseen"
"""It dies when the packet has left, and the client never gets it."""
UNANSWERED = "unanswered"
"""The client gets it, and its answer never leaves."""
ANSWERED = "answered"
"""The client's answer has left."""


class Fatal:
    """Kills the gateway when C{fatal}, a packet type and one of the above, has come."""

    fatal: tuple[int, str] | None = None
    kill: Callable[[], None]

    def take(self: Any, packet: Any) -> None:
        """Any packet."""
        kind = PUBLISH if type(packet) is list else getattr(packet, "kind", 0)
        if self.fatal is None or kind != self.fatal[0]:
            super().take(packet)
            return
        how = self.fatal[1]
        self.fatal = None
        if how != UNSEEN:
            super().take(packet)
        if how == ANSWERED:
            self.answer(True)
            self.flush()
        self.kill()


class FatalPublisher(Fatal, Publisher):
    """The publishing side."""

    def answer(self, at_once: bool) -> None:
        """It has no choice: it answers when it takes."""


class FatalSubscriber(Fatal, Subscriber):
    """The subscribing side."""


class Exchange:
    """See the module. C{version} is both clients'."""

    def __init__(self, folder: str, version: int) -> None:
        self.complaints: list[str] = []
        self.deaths = 0
        self.gateway = Gateway(folder)
        self._loop = Loop()
        complain = self.complaints.append
        self.publisher = FatalPublisher(
            self._loop, "publisher", version, complain, 2, "exchange", 10
        )
        self.subscriber = FatalSubscriber(
            self._loop, "subscriber", version, complain, ["exchange"],
            {"publisher": self.publisher}, random.Random(0), 0.0,
        )  # fmt: skip
        self.publisher.kill = self.subscriber.kill = self._kill
        self._clients: list[Client] = [self.publisher, self.subscriber]

    def _kill(self) -> None:
        self.deaths += 1
        self.gateway.kill()

    def run(self, failpoint: str = "", only: str = "") -> None:
        """Carry it out; the gateway dies at C{failpoint}, or because a client is L{Fatal}.

        With C{only} "exchange" the failpoint counts from the PUBLISH's connection on: what
        comes before was done by an earlier life.
        """
        try:
            if failpoint and only != "exchange":
                self._start(failpoint)
            else:
                self._start()
            self._until(lambda: self.subscriber.subscribed)
            if failpoint and only == "exchange":
                self._stop()
                self._start(failpoint)
            self._message(1)
            self._stop()
            self._start()
            self._message(2)
        except AssertionError as error:
            self.complaints.append(str(error))
        finally:
            self.gateway.kill()
            for client in self._clients:
                client.drop()
            self._loop.close()
        if "Traceback" in self.gateway.logged():
            self.complaints.append(self.gateway.logged())

    def _start(self, failpoint: str = "") -> None:
        if failpoint:
            self.gateway.launch(MOP_FAILPOINT=failpoint)
            try:
                self.gateway.wait_ready()
                return
            except AssertionError:
                self._died()
        self.gateway.start()

    def _died(self) -> None:
        status = self.gateway.end()
        if status != -signal.SIGKILL:
            raise AssertionError(f"ended with {status}: {self.gateway.logged()}")
        self.deaths += 1

    def _stop(self) -> None:
        """A kill that is not the one that is looked at."""
        if self.gateway.running:
            self.gateway.kill()
        for client in self._clients:
            client.drop()

    def _message(self, number: int) -> None:
        """Publish it, and see the exchanges of both sides through."""

        def done() -> bool:
            self.publisher.fill(number)
            self.subscriber.answer(True)
            stream = self.subscriber.streams.get("publisher")
            return (
                self.publisher.completed == number
                and stream is not None
                and stream.number == number
                and not self.subscriber.holds
                and not self.subscriber.owes
            )

        self._until(done)

    def _until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > end:
                raise AssertionError(f"waited in vain: {[list(c.trace) for c in self._clients]}")
            if not self.gateway.running:
                if self.gateway.unread:
                    self._died()
                for client in self._clients:
                    client.drop()
                self.gateway.start()
                self.subscriber.restarted()
            for client in self._clients:
                if not client.open:
                    client.connect(self.gateway.port)
            self._loop.turn(0.02)
