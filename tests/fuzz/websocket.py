"""Fuzz the WebSocket's door: only documented ends may come of whatever is sent.

Runs for the number of seconds given on the command line (5 without), then prints how many
streams it tried. The same seed tries the same streams. A failure prints the stream and ends
with status 1.
"""

from __future__ import annotations

import random
import sys
import time

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from mop_twisted.broker.counters import Counters
from mop_twisted.limits import Limits
from mop_twisted.net.frames import unmask
from mop_twisted.net.gate import Gate
from mop_twisted.net.protocol import MqttFactory
from mop_twisted.net.websocket import WebSocketFactory

from ..net.doubles import CONNECT, Echo, publish_bytes
from ..net.test_frames import frame
from ..net.test_websocket import request

CODES = {1000, 1001, 1002, 1003, 1007}
"""Close codes that we say of our own accord; a client's own code is said back to it."""

STATUSES = {101, 400, 403, 404, 405, 426, 431}


def stream(rng: random.Random) -> bytes:
    """A handshake and frames, right in the main and damaged here and there."""
    parts = [request()]
    for _ in range(rng.randrange(8)):
        payload = rng.choice((CONNECT, publish_bytes("a", b"x"), rng.randbytes(rng.randrange(300))))
        parts.append(
            frame(
                rng.choice((0, 2, 2, 2, 2, 8, 9, 10, rng.randrange(16))),
                payload,
                last=rng.random() < 0.8,
                mask=rng.randbytes(4) if rng.random() < 0.97 else None,
                reserved=0 if rng.random() < 0.97 else rng.choice((0x10, 0x20, 0x40)),
                length=None if rng.random() < 0.95 else rng.randrange(2**64),
            )
        )
    data = bytearray(b"".join(parts))
    for _ in range(rng.choice((0, 0, 0, 1, 3))):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.1:
        del data[rng.randrange(len(data)) :]
    return bytes(data)


def check_answer(answer: bytes) -> None:
    """What was sent back is an HTTP response, then unmasked frames that make sense."""
    if not answer:
        return
    head, _, rest = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    assert status in STATUSES, status
    if status != 101:
        return
    while rest:
        opcode, size = rest[0], rest[1]
        assert opcode in (0x82, 0x88, 0x8A) and size < 0x80, rest[:2]
        start = 2
        if size >= 126:
            start += 2 if size == 126 else 8
            size = int.from_bytes(rest[2:start], "big")
        payload, rest = rest[start : start + size], rest[start + size :]
        assert len(payload) == size
        if opcode == 0x88:
            assert not rest, "something behind Close"
            code = int.from_bytes(payload, "big")
            assert not payload or code in CODES or 1000 <= code < 5000, code


def attempt(rng: random.Random, data: bytes) -> None:
    """One client, its stream cut anywhere, and everything clean afterwards."""
    clock = Clock()
    gate = Gate(clock, clock.seconds, Limits(), Counters())
    broker = Echo(gate.flusher.schedule)
    gate.open(broker)
    websocket = WebSocketFactory(MqttFactory(gate, "ws")).buildProtocol(
        IPv4Address("TCP", "192.0.2.1", 1)
    )
    assert websocket is not None
    transport = StringTransport()
    websocket.makeConnection(transport)
    at = 0
    while at < len(data) and not transport.disconnecting:
        step = rng.choice((1, 2, 7, 100, 4096))
        websocket.dataReceived(data[at : at + step])
        at += step
        if rng.random() < 0.5:
            clock.advance(0)
    clock.advance(0)
    check_answer(transport.value())
    websocket.connectionLost(Failure(ConnectionDone()))
    assert broker.names() == ["connected", "lost"], broker.names()
    assert not gate._addresses and not gate.early_bytes and not gate.flusher.protocols


def main(seconds: float = 5.0, seed: int = 0) -> int:
    """Try streams for so long; how many that were."""
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    tried = 0
    while time.monotonic() < end:
        data = stream(rng)
        try:
            attempt(rng, data)
            assert unmask(unmask(data, b"abcd"), b"abcd") == data
        except BaseException:
            print(f"seed {seed}, stream {tried}: {data.hex()}", file=sys.stderr)
            raise
        tried += 1
    return tried


if __name__ == "__main__":
    print(main(*(float(argument) for argument in sys.argv[1:2])))
