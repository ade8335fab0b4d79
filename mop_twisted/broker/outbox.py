"""The connections that net has to look at before this turn ends."""

from __future__ import annotations

from collections.abc import Callable

from ..protocol.connection import Connection


class Outbox:
    """Collects connections with output, or that shall close, or be read or not read.

    C{schedule} is called when the first one comes, once a turn: net then calls L{take} at the
    turn's end. The broker never calls net for anything else.
    """

    __slots__ = ("_connections", "_schedule")

    def __init__(self, schedule: Callable[[], None]) -> None:
        self._connections: list[Connection] = []
        self._schedule = schedule

    def add(self, connection: Connection) -> None:
        """Have C{connection} flushed at the end of this turn. Twice is as good as once."""
        if not connection.dirty:
            connection.dirty = True
            self._connections.append(connection)
            if len(self._connections) == 1:
                self._schedule()

    def take(self) -> list[Connection]:
        """All of them, which are then clean again."""
        connections = self._connections
        self._connections = []
        for connection in connections:
            connection.dirty = False
        return connections
