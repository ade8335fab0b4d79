"""Fuzz the decoder: whatever bytes come, only documented errors may, and quickly.

Runs for the number of seconds given on the command line (5 without), then prints how many
streams it tried. The same seed tries the same streams. A failure prints the stream and ends
with status 1.
"""

from __future__ import annotations

import random
import sys
import time

from mop_twisted.codec.decode import Decoder
from mop_twisted.codec.encode import encode
from mop_twisted.errors import (
    ClientIdentifierNotValid,
    MalformedPacket,
    PacketTooLarge,
    ProtocolBreach,
    TopicAliasInvalid,
    TopicNameInvalid,
    UnsupportedVersion,
)

from ..vectors import VECTORS, merge

DOCUMENTED = {
    ClientIdentifierNotValid,
    MalformedPacket,
    PacketTooLarge,
    ProtocolBreach,
    TopicAliasInvalid,
    TopicNameInvalid,
    UnsupportedVersion,
}

MAXIMUM = 70_000
SECONDS = 2.0
"""No stream of this size takes so long; the slowest takes a hundredth of it."""

SHORT = [vector for vector in VECTORS if len(vector.raw) < 1000]
ALL = [vector.raw for vector in SHORT]
RIGHT = {
    (role, version): [
        vector.raw
        for vector in SHORT
        if vector.error is None
        and (vector.role, vector.version, vector.first) == (role, version, False)
    ]
    for role in ("server", "client")
    for version in (3, 4, 5)
}
CONNECTS = {
    version: [
        vector.raw
        for vector in SHORT
        if vector.error is None and (vector.version, vector.raw[0]) == (version, 0x10)
    ]
    for version in (3, 4, 5)
}

ODD = (0x00, 0x01, 0x02, 0x7F, 0x80, 0xFF, 0x23, 0x2B, 0xC0, 0xED)


def damage(rng: random.Random, raw: bytes) -> bytes:
    """Some bytes changed, put in, left out or said twice."""
    data = bytearray(raw)
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        at = rng.randrange(len(data) + 1)
        turn = rng.randrange(6)
        if turn == 0:
            data.insert(at, rng.choice(ODD))
        elif turn == 1:
            del data[at : at + rng.randrange(1, 4)]
        elif turn == 2:
            data[at:at] = data[at : at + rng.randrange(1, 12)]
        elif turn == 3 and len(data) > 1:
            # The remaining length, so that the rest is read at all.
            data[1] = min(127, max(0, len(data) - 2))
        elif at < len(data):
            data[at] = rng.choice((*ODD, rng.randrange(256)))
    return bytes(data)


def stream(rng: random.Random, role: str, version: int, whole: bool) -> bytes:
    """A few packets, right in the main and damaged here and there; with C{whole}, a CONNECT
    first."""
    parts = [rng.choice(CONNECTS[version])] if whole else []
    parts += [rng.choice(RIGHT[role, version]) for _ in range(rng.randrange(6))]
    turn = rng.randrange(10)
    if turn < 3:
        parts.append(rng.choice(ALL))
    elif turn == 3:
        parts.append(rng.randbytes(rng.randrange(300)))
    elif turn < 8 and parts:
        at = rng.randrange(len(parts))
        parts[at] = damage(rng, parts[at])
    return b"".join(parts)


def attempt(rng: random.Random, role: str, version: int, data: bytes) -> None:
    """One stream, whole and in pieces: the same packets, the same end, and never too much."""
    whole = Decoder(MAXIMUM, 100, role, version)
    began = time.process_time()
    packets = whole.receive(data)
    assert time.process_time() - began < SECONDS, "slow"
    assert whole.error is None or type(whole.error) in DOCUMENTED, repr(whole.error)
    assert whole.buffered <= MAXIMUM
    assert whole.error is None or not whole.buffered
    assert whole.error is None or whole.receive(b"\xc0\0") == []

    pieces = Decoder(MAXIMUM, 100, role, version)
    collected = []
    at = 0
    while at < len(data):
        step = rng.choice((1, 2, 3, 7, 50, 4096))
        collected += pieces.receive(data[at : at + step])
        assert pieces.buffered <= MAXIMUM + step
        at += step
    assert merge(packets) == merge(collected)
    assert type(whole.error) is type(pieces.error), (whole.error, pieces.error)
    assert whole.version == pieces.version

    # What was read can be written, and reads the same again.
    again = Decoder(MAXIMUM, 100, role, whole.version if role == "client" else version)
    raw = b"".join(encode(packet, whole.version) for packet in packets)
    assert merge(again.receive(raw)) == merge(packets)


def main(seconds: float = 5.0, seed: int = 0) -> int:
    """Try streams for so long; how many that were."""
    rng = random.Random(seed)
    end = time.monotonic() + seconds
    tried = 0
    while time.monotonic() < end:
        role = rng.choice(("server", "client"))
        version = rng.choice((3, 4, 5))
        whole = role == "server" and rng.random() < 0.5
        data = stream(rng, role, version, whole)
        try:
            attempt(rng, role, 0 if whole else version, data)
        except BaseException:
            print(f"seed {seed}, stream {tried}, {role}: {data.hex()}", file=sys.stderr)
            raise
        tried += 1
    return tried


if __name__ == "__main__":
    print(main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0))
