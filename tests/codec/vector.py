"""What a vector is, and how packets are compared in tests."""

from __future__ import annotations

from typing import Any

from mop_twisted.codec.decode import Decoder
from mop_twisted.codec.packets import Packet
from mop_twisted.errors import PeerError


class Vector:
    """Bytes, and what they are: a packet, or an error's class.

    C{version} is the connection's, also of a CONNECT; where an error leaves it unknown, 0.
    C{role} is the side that receives the bytes. Without C{canonical} we read these bytes but
    would write the packet differently.
    """

    def __init__(
        self,
        name: str,
        version: int,
        raw: bytes,
        outcome: Packet | type[PeerError],
        clause: str = "",
        role: str = "server",
        canonical: bool = True,
        first: bool = False,
    ) -> None:
        self.name = f"{name} ({version})"
        self.version = version
        self.raw = raw
        self.packet: Any = None if isinstance(outcome, type) else outcome
        self.error: type[PeerError] | None = outcome if isinstance(outcome, type) else None
        self.clause = clause
        self.role = role
        self.canonical = canonical and self.error is None
        self.first = first or raw[0] >> 4 == 1
        """Whether it is the first packet of its connection."""

    def decoder(self, maximum_packet_size: int = 1 << 20) -> Decoder:
        """A decoder in the state in which these bytes reach it."""
        version = 0 if self.first and self.role == "server" else self.version
        return Decoder(maximum_packet_size, role=self.role, version=version)


def describe(thing: Any) -> Any:
    """A packet, or packets, as nested tuples and lists that compare by value."""
    if isinstance(thing, list | tuple):
        return [describe(item) for item in thing]
    # A compiled class has the second.
    slots = getattr(type(thing), "__slots__", None)
    if slots is None:
        slots = getattr(type(thing), "__mypyc_attrs__", None)
    if slots is None or isinstance(thing, BaseException):
        return thing
    fields = {name: describe(getattr(thing, name)) for name in slots}
    return (type(thing).__name__, fields)


def merge(packets: list[Any]) -> list[Any]:
    """Described packets with runs taken apart, so that the splits of reads do not show."""
    flat: list[Any] = []
    for packet in packets:
        described = describe(packet)
        if isinstance(described, list):
            flat += described
        elif described[0] == "Acks":
            kind = described[1]["kind"]
            flat += [("Acks", kind, packet_id) for packet_id in described[1]["packet_ids"]]
        else:
            flat.append(described)
    return flat
