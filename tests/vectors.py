"""Bytes with their meaning: one row, many tests.

The rows lie beside the codec's tests, by packet; the decoder, the encoder, the fuzzer and the
connection are all held to them.
"""

from __future__ import annotations

from typing import Final

from .codec import vectors_connect, vectors_publish, vectors_subscribe
from .codec.vector import Vector, describe, merge

__all__ = ["PACKETS", "PEER_ERRORS", "VECTORS", "Vector", "describe", "merge"]

VECTORS: Final = [*vectors_connect.ROWS, *vectors_publish.ROWS, *vectors_subscribe.ROWS]

PACKETS: Final = [vector for vector in VECTORS if vector.error is None]
"""Those that are packets."""

PEER_ERRORS: Final = [vector for vector in VECTORS if vector.error is not None]
"""Those that are errors of the peer."""
