"""QoS 1 and 2 exchanges under way: what a session remembers of them in both directions.

A flight is one exchange of ours towards the client. Flights outlive the connection when the
session does; the session owns the L{Flights}, a connection uses them.

MQTT 5.0 sections 4.1, 4.3 and 4.4.
"""

from __future__ import annotations

from typing import Any, Final, final

from ..codec.packets import Publish
from ..model import Entry

PACKET_IDS: Final = 65535
"""Packet identifiers are 1 to this."""


@final
class Flight:
    """One PUBLISH of QoS 1 or 2 on its way to a client, until it is settled.

    C{entry} is its place in the log if a cursor of the session wants an acknowledgement;
    C{group} is the shared group that it was taken from, if any.
    """

    __slots__ = (
        "dup",
        "entry",
        "group",
        "identifiers",
        "ordinal",
        "packet_id",
        "publish",
        "qos",
        "retain",
        "safe",
    )

    def __init__(
        self,
        publish: Publish,
        qos: int,
        retain: bool,
        identifiers: tuple[int, ...],
        entry: Entry | None = None,
        group: Any = None,
    ) -> None:
        self.publish = publish
        self.qos = qos
        self.retain = retain
        self.identifiers = identifiers
        self.entry = entry
        self.group = group
        self.packet_id = 0
        self.ordinal = 0
        """The entry's, for the cursor that it came by."""
        self.dup = False
        self.safe = False
        """PUBREC is durable: PUBREL may be sent."""


@final
class Flights:
    """Packet identifiers in use, both ways.

    C{sent}: PUBLISH sent, PUBACK or PUBREC outstanding, in the order of sending.
    C{released}: PUBREC received; PUBREL is due or sent, PUBCOMP outstanding.
    C{received}: inbound QoS 2 identifiers between PUBLISH and PUBREL; True once PUBREC may be
    sent, False while the message is not safe yet.
    """

    __slots__ = ("_last_id", "received", "released", "sent")

    def __init__(self) -> None:
        self.sent: dict[int, Flight] = {}
        self.released: dict[int, Flight] = {}
        self.received: dict[int, bool] = {}
        self._last_id = 0

    def in_use(self, packet_id: int) -> bool:
        """Whether an exchange towards the client holds this identifier."""
        return packet_id in self.sent or packet_id in self.released

    def next_id(self) -> int:
        """An identifier that is not in use [MQTT5-2.2.1-4] [MQTT311-2.3.1-4]; the caller has
        made sure that the window is not full, so there is one."""
        packet_id = self._last_id
        while True:
            packet_id = packet_id + 1 if packet_id < PACKET_IDS else 1
            if packet_id not in self.sent and packet_id not in self.released:
                self._last_id = packet_id
                return packet_id


def stable_id(ordinal: int) -> int:
    """The packet identifier of a persistent session's message: made of its ordinal, so that a
    restart gives the same message the same identifier without a record of it."""
    return 1 + (ordinal - 1) % PACKET_IDS
