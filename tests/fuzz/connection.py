"""Fuzz a connection with its broker: whatever a client sends, in whatever order, it gets an answer
of the protocol or is closed, and the broker stays sound.

Runs for the number of seconds given on the command line (5 without), then prints how many
conversations it tried. The same seed tries the same ones.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

from mop_twisted import errors
from mop_twisted.broker.broker import Broker
from mop_twisted.codec.decode import Decoder
from mop_twisted.codec.encode import encode
from mop_twisted.codec.packets import Connect
from mop_twisted.protocol.connection import CLOSED, Connection
from mop_twisted.protocol.events import Failed
from mop_twisted.protocol.peer import Peer

from .decoder import CONNECTS, DOCUMENTED, RIGHT, damage

PEER = Peer("tcp:127.0.0.1:1883", "127.0.0.1")


def stream(rng: random.Random, version: int) -> bytes:
    """A CONNECT, mostly a right one, and some packets, some of them damaged."""
    if rng.random() < 0.8:
        begin = encode(Connect(version, f"fuzz{rng.randrange(3)}", rng.random() < 0.5), version)
    else:
        begin = damage(rng, rng.choice(CONNECTS[version]))
    packets = [begin]
    for _ in range(rng.randrange(12)):
        raw = rng.choice(RIGHT["server", version])
        packets.append(raw if rng.random() < 0.7 else damage(rng, raw))
    return b"".join(packets)


def converse(rng: random.Random, broker: Broker, now: float) -> None:
    """One connection from its first byte to its end.

    @raise AssertionError: something came of it that must not.
    """
    version = rng.choice((3, 4, 5))
    data = stream(rng, version)
    connection = Connection(broker.limits, PEER, now)
    if not broker.connected(connection):
        raise AssertionError("no room")
    heard = bytearray()
    at = 0
    while at < len(data):
        size = rng.choice((1, 2, 7, 50, 1000))
        events: list[Any] = connection.receive(data[at : at + size], now)
        at += size
        for event in events:
            if type(event) is Failed and type(event.error) not in DOCUMENTED | RUN_TIME:
                raise AssertionError(f"undocumented {type(event.error).__name__}: {data!r}")
        broker.handle(connection, events)
        for other in broker.outbox.take():
            output = other.take_output()
            if other is connection:
                heard += output
    if connection.version == version:
        client = Decoder(1 << 28, role="client", version=version)
        client.receive(bytes(heard))
        if client.error is not None:
            raise AssertionError(f"nonsense {bytes(heard)!r} for {data!r}: {client.error}")
    broker.lost(connection)
    if connection.session is not None:
        raise AssertionError(f"a lost connection has a session: {data!r}")
    if connection.phase == CLOSED and not connection.closing:
        raise AssertionError(f"closed but not closing: {data!r}")


RUN_TIME = {errors.ReceiveMaximumExceeded}
"""Errors that a decoder alone cannot find."""


def fuzz(broker: Broker, now: float, seconds: float, seed: int = 0) -> int:
    """Converse for some seconds; how many conversations there were."""
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    count = 0
    while time.monotonic() < end:
        converse(rng, broker, now)
        count += 1
    return count


def main() -> int:
    """From the command line: on a node with a log of its own."""
    from twisted.internet import reactor

    from ..conversation import Node

    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    node = Node()
    result: list[Any] = []

    def run(_: Any) -> Any:
        result.append(fuzz(node.broker, node.clock.seconds(), seconds, int(time.time())))
        return node.stop()

    def begin() -> None:
        node.start().addCallback(run).addErrback(result.append).addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run()
    print(result[0], "conversations" if isinstance(result[0], int) else "")
    return 0 if isinstance(result[0], int) and len(result) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
