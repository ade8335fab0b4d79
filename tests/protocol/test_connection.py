"""Every cell of the state table: phase, packet and version, and what becomes of each."""

from __future__ import annotations

import itertools
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.codec.encode import encode, encode_publish
from mop_twisted.codec.packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Ack,
    Auth,
    Connack,
    Connect,
    Disconnect,
    FilterRequest,
    Pingreq,
    Publish,
    Subscribe,
    Unsubscribe,
)
from mop_twisted.limits import Limits
from mop_twisted.protocol.connection import Connection
from mop_twisted.protocol.events import Failed
from mop_twisted.protocol.flights import Flights
from mop_twisted.protocol.peer import Peer
from mop_twisted.protocol.sender import AWAITING_CONNECT, CLOSED, CONNECTING, ESTABLISHED

PACKETS: dict[str, Any] = {
    "CONNECT": lambda version: Connect(version, "a"),
    "PUBLISH": lambda version: Publish("t", b"x"),
    "PUBACK": lambda version: Ack(PUBACK, 1),
    "PUBREC": lambda version: Ack(PUBREC, 1),
    "PUBREL": lambda version: Ack(PUBREL, 1),
    "PUBCOMP": lambda version: Ack(PUBCOMP, 1),
    "SUBSCRIBE": lambda version: Subscribe(1, [FilterRequest("t")]),
    "UNSUBSCRIBE": lambda version: Unsubscribe(1, ["t"]),
    "PINGREQ": lambda version: Pingreq(),
    "DISCONNECT": lambda version: Disconnect(),
    "AUTH": lambda version: Auth(0x19, {21: "X"}),
}


def raw(name: str, version: int) -> bytes:
    """A right packet of this name."""
    packet = PACKETS[name](version)
    if isinstance(packet, Publish):
        return encode_publish(packet, version, 0, False, False, 0, {})
    # A version without AUTH is sent one all the same.
    return encode(packet, version) or encode(packet, 5)


def connection_in(phase: int, version: int) -> Connection:
    """A connection that has got so far."""
    connection = Connection(Limits(), Peer("tcp:127.0.0.1:1883", "127.0.0.1"), 0.0)
    if phase >= CONNECTING:
        connection.receive(encode(Connect(version, "a"), version), 1.0)
    if phase >= ESTABLISHED:
        connection.accept(Connack(0), Flights(), False, 0)
    if phase == CLOSED:
        connection.receive(raw("DISCONNECT", version), 2.0)
    connection.take_output()
    return connection


def expected(phase: int, name: str) -> str:
    """What becomes of it: taken, held until CONNACK, an error, or nothing."""
    if phase == CLOSED:
        return "nothing"
    if phase == AWAITING_CONNECT:
        return "taken" if name == "CONNECT" else "error"
    if name in ("CONNECT", "AUTH"):
        # A second CONNECT; AUTH without a method in CONNECT, or in a version without AUTH.
        return "error"
    return "held" if phase == CONNECTING else "taken"


class TotalityTests(SynchronousTestCase):
    """No cell is left to chance."""

    def test_every_cell(self) -> None:
        """Each packet in each phase of each version is taken, held, refused or ignored.

        [MQTT5-3.1.0-1] [MQTT5-3.1.0-2] [MQTT311-3.1.0-1] [MQTT311-3.1.0-2]
        """
        phases = (AWAITING_CONNECT, CONNECTING, ESTABLISHED, CLOSED)
        for phase, name, version in itertools.product(phases, PACKETS, (3, 4, 5)):
            cell = f"phase {phase}, {name}, version {version}"
            connection = connection_in(phase, version)
            events = connection.receive(raw(name, version), 3.0)
            failed = [event for event in events if type(event) is Failed]
            outcome = expected(phase, name)
            self.assertEqual(outcome == "error", bool(failed), cell)
            self.assertEqual(
                outcome == "error" or phase == CLOSED or (outcome, name) == ("taken", "DISCONNECT"),
                connection.closing,
                cell,
            )
            if outcome in ("held", "nothing"):
                self.assertEqual([], events, cell)
            if outcome == "held":
                later = connection.accept(Connack(0), Flights(), False, 0)
                self.assertEqual([], [e for e in later if type(e) is Failed], cell)
                self.assertEqual(name == "DISCONNECT", connection.closing, cell)
            if outcome == "error":
                self.assertEqual([], connection.receive(raw("PINGREQ", version), 4.0), cell)
