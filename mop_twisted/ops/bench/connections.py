"""Many connections, one selector: made many at a time, read and written when they are ready."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterable
from time import monotonic_ns
from typing import Final

from .client import Client
from .link import Link, LinkLost, resolve, tls_context
from .load import Load

_CONNECTING: Final = 32
"""Connections that are being made at once: fewer than the backlog of servers that we know."""
_CONNECT_TIMEOUT: Final = 60_000_000_000

Make = Callable[[Link], Client]


class Connections:
    """The connections of one process. A selector's key without a client is its owner's."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.selector = selectors.DefaultSelector()
        self.received = 0
        """PUBLISHes that have come."""
        self._context = tls_context(load) if load.tls else None
        self._address = resolve(load)

    def told(self) -> None:
        """What is no connection is ready."""

    def forget(self, client: Client) -> None:
        """A client is closed."""
        self.selector.unregister(client.link.sock)

    def turn(self, timeout: float) -> int:
        """Wait for something, at most so long, and do what is to be done; returns how many
        sockets there was something on."""
        selector = self.selector
        ready = selector.select(timeout)
        for key, events in ready:
            client = key.data
            if client is None:
                self.told()
                continue
            if events & selectors.EVENT_READ:
                self.received += client.receive(monotonic_ns())
            if events & selectors.EVENT_WRITE:
                client.link.flush()
            client.moved(monotonic_ns())
            if client.link.wants != key.events:
                selector.modify(key.fileobj, client.link.wants, client)
        return len(ready)

    def connect_all(self, makes: Iterable[Make]) -> list[Client]:
        """Make clients and have them connected and subscribed, many at a time.

        @raise LinkLost: one could not.
        """
        waiting = list(makes)[::-1]
        made: list[Client] = []
        selector = self.selector
        under_way = 0
        moved_at = monotonic_ns()
        opening: dict[int, Client] = {}
        while waiting or under_way:
            while waiting and under_way < _CONNECTING:
                link = Link(self.load, self._address, self._context)
                client = waiting.pop()(link)
                made.append(client)
                under_way += 1
                opening[link.sock.fileno()] = client
                selector.register(link.sock, link.wants, client)
            for key, events in selector.select(1.0):
                client = key.data
                if client is None:
                    self.told()
                    continue
                link = client.link
                if key.fd in opening:
                    before = link.sock
                    advanced = link.advance()
                    if link.sock is not before:  # TLS took the socket over
                        selector.unregister(key.fileobj)
                        selector.register(link.sock, link.wants, client)
                        key = selector.get_key(link.sock)
                    if advanced:
                        del opening[key.fd]
                        client.connect()
                else:
                    was_ready = client.ready
                    if events & selectors.EVENT_READ:
                        client.receive(monotonic_ns())
                    if events & selectors.EVENT_WRITE:
                        link.flush()
                    if client.ready and not was_ready:
                        under_way -= 1
                        moved_at = monotonic_ns()
                if link.wants != key.events:
                    selector.modify(link.sock, link.wants, client)
            if monotonic_ns() - moved_at > _CONNECT_TIMEOUT:
                raise LinkLost(f"{under_way} connections got no answer")
        return made
