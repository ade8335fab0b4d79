"""Acknowledgements that are owed, in the order in which they may leave.

PUBACKs leave in the order of their PUBLISHes, and so do PUBRECs, whatever was committed first
[MQTT5-4.6.0-2] [MQTT5-4.6.0-3]
[MQTT311-4.6.0-2] [MQTT311-4.6.0-3]: one queue a connection, whose head decides.
"""

from __future__ import annotations

from typing import final

from ..codec.packets import Publish
from ..reasons import ReasonCode


@final
class Promise:
    """A run of PUBLISHes whose acknowledgements wait for the log.

    C{outcomes} holds the reason codes that are not SUCCESS, by packet identifier.
    """

    __slots__ = ("kept", "outcomes", "run")

    def __init__(self, run: list[Publish], outcomes: dict[int, ReasonCode] | None) -> None:
        self.run = run
        self.outcomes = outcomes
        self.kept = False
        """Whether the acknowledgements may leave now."""
