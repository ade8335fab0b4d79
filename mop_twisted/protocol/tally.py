"""Packets by type, counted where they are read and written; a node's connections share one."""

from __future__ import annotations

from typing import final


@final
class Tally:
    """Counts by packet type (the numbers of C{codec/packets.py}), PUBLISH excepted: the broker
    counts that by QoS, a run at a time."""

    __slots__ = ("received", "sent")

    def __init__(self) -> None:
        self.received = [0] * 16
        self.sent = [0] * 16
