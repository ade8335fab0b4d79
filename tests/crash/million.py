"""A million messages for one client that is away, with a gateway that is killed in between.

Two publishers at QoS 1 and 2 send while a persistent session is offline; the gateway is killed in
the middle, at the end, and while the client reads its backlog. All must come, in order, at QoS 2
once; the gateway's memory must not grow with the backlog, and the log's folder must shrink when it
has been read.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

from .client import Loop, Publisher
from .gateway import Gateway
from .subscriber import Subscriber

PATIENCE = 60.0
FLOOR = 4 * 1024 * 1024
"""Bytes of a folder with nothing in it, about."""
MEMORY = 400 * 1024 * 1024
"""Bytes that the gateway may use, however long the backlog is."""


class Million:
    """See the module. C{messages} is the number of both publishers together."""

    def __init__(
        self,
        folder: str,
        seed: int,
        messages: int = 1_000_000,
        progress: Callable[[int, int, str], None] = lambda done, of, what: None,
    ) -> None:
        self.folder = folder
        self.seed = seed
        self.messages = messages
        self.complaints: list[str] = []
        self.gateway = Gateway(folder)
        self.figures: dict[str, object] = {}
        self._progress = progress
        self._random = random.Random(seed)
        self._loop = Loop()
        self.publishers = {
            name: Publisher(
                self._loop, name, 5, self.complain, qos, f"million/{name}", 500,
                filler=lambda: b"." * 60,
            )
            for name, qos in (("m1", 1), ("m2", 2))
        }  # fmt: skip
        self.subscriber = Subscriber(
            self._loop, "reader", 5, self.complain, ["million/+"], self.publishers,
            self._random, 0.0,
        )  # fmt: skip

    def complain(self, text: str) -> None:
        """The gateway broke a promise."""
        if len(self.complaints) < 20:
            self.complaints.append(f"seed {self.seed}: {text}")

    def run(self) -> list[str]:
        """Carry it out; the complaints."""
        try:
            self.gateway.start()
            self._run()
        except AssertionError as error:
            self.complain(str(error))
        finally:
            self.gateway.kill()
            for client in (*self.publishers.values(), self.subscriber):
                client.drop()
            self._loop.close()
        return self.complaints

    def _run(self) -> None:
        clients = [*self.publishers.values(), self.subscriber]
        each = self.messages // len(self.publishers)
        for client in clients:
            client.connect(self.gateway.port)
        self._until(lambda: self.subscriber.subscribed, "SUBACK")
        self.subscriber.drop()
        began = time.monotonic()
        for goal in (each // 2, each):
            self._until(lambda goal=goal: self._publish(goal), "published")
            self._measure("memory with the backlog")
            self._restart(*self.publishers.values())
        self._until(lambda: self._publish(each), "published")
        self.figures["seconds to publish"] = round(time.monotonic() - began, 1)
        self.figures["bytes of the backlog"] = self._size()
        began = time.monotonic()
        self.subscriber.connect(self.gateway.port)
        middle = self._random.randint(each // 4, each)
        self._until(lambda: self._read() >= middle, "read")
        self._measure("memory while it is read")
        self._restart(self.subscriber)
        self._until(
            lambda: (
                self._read() >= 2 * each and not (self.subscriber.owes or self.subscriber.holds)
            ),
            "read",
        )
        self.figures["seconds to read"] = round(time.monotonic() - began, 1)
        self._measure("memory at the end")
        self.subscriber.drop(politely=True)
        full = self.figures["bytes of the backlog"]
        assert isinstance(full, int)
        # Beside the write-ahead log, whose length is bounded and may stay.
        self._until(lambda: self._size("-wal") < max(full // 10, FLOOR), "a folder that shrinks")
        self.figures["bytes at the end"] = self._size("-wal")
        self.figures["bytes of the write-ahead log"] = self._size() - self._size("-wal")

    def _publish(self, goal: int) -> bool:
        for publisher in self.publishers.values():
            publisher.fill(goal)
        self._progress(self._completed(), self.messages, "published")
        return all(p.completed >= goal and p.idle for p in self.publishers.values())

    def _completed(self) -> int:
        return sum(p.completed for p in self.publishers.values())

    def _read(self) -> int:
        self.subscriber.answer(True)
        count = sum(stream.number for stream in self.subscriber.streams.values())
        self._progress(count, self.messages, "read")
        return count

    def _restart(self, *clients: Publisher | Subscriber) -> None:
        self.gateway.kill()
        for client in clients:
            client.drop()
        self.subscriber.restarted()
        began = time.monotonic()
        self.gateway.start()
        self.figures["seconds to start"] = round(time.monotonic() - began, 2)
        for client in clients:
            client.connect(self.gateway.port)

    def _until(self, done: Callable[[], bool], what: str) -> None:
        progress = None
        patience = 0.0
        while not done():
            self._loop.turn(0.02)
            if not self.gateway.running:
                raise AssertionError(f"the gateway went by itself: {self.gateway.logged()[-4000:]}")
            current = (self._completed(), self.subscriber.received, self._size() >> 20)
            now = time.monotonic()
            if current != progress:
                progress, patience = current, now + PATIENCE
            elif now > patience:
                raise AssertionError(f"waited in vain: {what}; {list(self.subscriber.trace)[-9:]}")

    def _size(self, without: str = " ") -> int:
        size = 0
        for path in Path(self.folder, "log").glob("*"):
            if not path.name.endswith(without):
                size += path.stat().st_size
        return size

    def _measure(self, what: str) -> None:
        """Resident memory, where the system tells."""
        try:
            status = Path(f"/proc/{self.gateway.program.process.pid}/statm").read_text()
        except OSError:
            return
        resident = int(status.split()[1]) * os.sysconf("SC_PAGE_SIZE")
        self.figures[what] = resident
        if resident > MEMORY:
            self.complain(f"{what}: {resident} bytes")
