"""What a connection tells the broker, beside the packets that are their own events.

C{Connection.receive} yields: a list of L{Publish} (a run), L{Connect}, L{Auth}, L{Subscribe},
L{Unsubscribe}, L{Disconnect}, and these.
"""

from __future__ import annotations

from typing import final

from ..errors import PeerError
from .flights import Flight


@final
class Settled:
    """These flights are over: PUBACK, PUBCOMP, or a PUBREC that refuses."""

    __slots__ = ("flights",)

    def __init__(self, flights: list[Flight]) -> None:
        self.flights = flights


@final
class Received:
    """PUBREC came for these entries of the log: PUBREL is due once that is durable
    (C{Connection.release})."""

    __slots__ = ("flights",)

    def __init__(self, flights: list[Flight]) -> None:
        self.flights = flights


@final
class Released:
    """PUBREL came for these identifiers of a durable session: PUBCOMP is due once they are
    forgotten durably (C{Connection.complete})."""

    __slots__ = ("packet_ids",)

    def __init__(self, packet_ids: list[int]) -> None:
        self.packet_ids = packet_ids


@final
class Repeated:
    """QoS 2 PUBLISHes came again: PUBREC is due again, in its turn."""

    __slots__ = ("packet_ids",)

    def __init__(self, packet_ids: list[int]) -> None:
        self.packet_ids = packet_ids


@final
class Failed:
    """The client broke the protocol or fell silent; the connection is closing by itself."""

    __slots__ = ("error",)

    def __init__(self, error: PeerError) -> None:
        self.error = error
