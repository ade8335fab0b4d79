"""Tests of L{mop_twisted.net.frames}."""

from __future__ import annotations

import itertools
import os

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.utilities import RemoteProtocolError

from mop_twisted.net.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frames,
    binary_frame,
    close_frame,
    unmask,
)

MASK = b"\x11\x22\x33\x44"


def frame(
    opcode: int,
    payload: bytes = b"",
    last: bool = True,
    mask: bytes | None = MASK,
    reserved: int = 0,
    length: int | None = None,
) -> bytes:
    """A client's frame, or what a hostile client takes for one."""
    size = len(payload) if length is None else length
    first = (0x80 if last else 0) | reserved | opcode
    masked = 0x80 if mask else 0
    if size < 126:
        head = bytes((first, masked | size))
    elif size < 65536:
        head = bytes((first, masked | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((first, masked | 127)) + size.to_bytes(8, "big")
    return head + (mask + unmask(payload, mask) if mask else payload)


class FramesTests(SynchronousTestCase):
    """What clients may send, and what becomes of it. H22"""

    def setUp(self) -> None:
        self.frames = Frames()

    def assert_fails(self, data: bytes, code: int) -> None:
        """Whole and byte by byte, C{data} ends the stream with C{code}."""
        for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
            frames = Frames()
            for piece in pieces:
                frames.receive(piece)
            self.assertTrue(frames.ended)
            self.assertEqual(close_frame(code), frames.close)
            self.assertEqual([], frames.receive(frame(BINARY, b"later")))

    def test_payload_comes_out(self) -> None:
        """Binary frames of every length encoding carry what was put in. [MQTT5-6.0.0-1]"""
        for size in (0, 1, 2, 3, 4, 5, 125, 126, 127, 65535, 65536, 70000):
            payload = os.urandom(size)
            self.assertEqual(payload, b"".join(self.frames.receive(frame(BINARY, payload))))

    def test_any_split(self) -> None:
        """It does not matter how the network cuts frames into pieces. [MQTT5-6.0.0-2]
        [MQTT311-6.0.0-2]"""
        payload = os.urandom(200)
        data = (
            frame(BINARY, payload[:130], last=False)
            + frame(PING, b"are you there")
            + frame(CONTINUATION, payload[130:])
        )
        for cut in range(len(data)):
            frames = Frames()
            pieces = frames.receive(data[:cut]) + frames.receive(data[cut:])
            self.assertEqual(payload, b"".join(pieces))
            self.assertEqual(b"\x8a\x0dare you there", frames.pong)
        frames = Frames()
        pieces = [p for i in range(len(data)) for p in frames.receive(data[i : i + 1])]
        self.assertEqual(payload, b"".join(pieces))

    def test_many_frames_in_one_read(self) -> None:
        """Many frames that come at once all count. [MQTT5-6.0.0-2] [MQTT311-6.0.0-2]"""
        data = b"".join(frame(BINARY, bytes((i,))) for i in range(200))
        self.assertEqual(bytes(range(200)), b"".join(self.frames.receive(data)))

    def test_text_is_refused(self) -> None:
        """A text frame ends the connection. [MQTT5-6.0.0-1] [MQTT311-6.0.0-1]"""
        self.assert_fails(frame(TEXT, b"hello"), 1003)

    def test_unmasked_is_refused(self) -> None:
        """A client masks its frames; one that does not is cut off."""
        self.assert_fails(frame(BINARY, b"hello", mask=None), 1002)

    def test_reserved_bits_are_refused(self) -> None:
        """No extension was negotiated, so no reserved bit may be set."""
        for bit in (0x40, 0x20, 0x10):
            self.assert_fails(frame(BINARY, b"x", reserved=bit), 1002)

    def test_unknown_opcodes_are_refused(self) -> None:
        """Opcodes that mean nothing end the connection."""
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
            self.assert_fails(frame(opcode, b"x"), 1002)

    def test_fragmented_control_frame_is_refused(self) -> None:
        """Control frames are whole."""
        for opcode in (PING, PONG, CLOSE):
            self.assert_fails(frame(opcode, b"", last=False), 1002)

    def test_long_control_frame_is_refused(self) -> None:
        """Control frames are short."""
        self.assert_fails(frame(PING, bytes(126)), 1002)

    def test_stray_continuation_is_refused(self) -> None:
        """A continuation continues something."""
        self.assert_fails(frame(CONTINUATION, b"x"), 1002)

    def test_message_within_a_message_is_refused(self) -> None:
        """A new message begins after the last one ended."""
        self.assert_fails(frame(BINARY, b"x", last=False) + frame(BINARY, b"y"), 1002)
        self.assert_fails(frame(BINARY, b"x", last=False) + frame(TEXT, b"y"), 1002)

    def test_lengths_have_one_encoding(self) -> None:
        """A short length in a long encoding is no valid frame."""
        self.assert_fails(b"\x82\xfe\x00\x05" + MASK + b"abcde", 1002)
        self.assert_fails(b"\x82\xff" + (65535).to_bytes(8, "big") + MASK, 1002)

    def test_absurd_length_is_refused(self) -> None:
        """A length with its highest bit set is refused when that byte is there."""
        self.assert_fails(b"\x82\xff\x80", 1002)
        self.assert_fails(b"\x82\xff" + (2**63).to_bytes(8, "big") + MASK, 1002)

    def test_huge_frame_is_not_held(self) -> None:
        """A frame that says it has 2^62 bytes costs no memory: its bytes are passed on."""
        pieces = self.frames.receive(frame(BINARY, b"abc", length=2**62))
        self.assertEqual([b"abc"], pieces)
        self.assertEqual(
            [bytes(4096)], self.frames.receive(unmask(bytes(4096), MASK[3:] + MASK[:3]))
        )
        self.assertEqual(b"", self.frames._held)

    def test_ping_flood_is_answered_once(self) -> None:
        """Of many pings in one read the last is answered, so that a flood costs nothing."""
        self.frames.receive(b"".join(frame(PING, b"%d" % i) for i in range(1000)))
        self.assertEqual(b"\x8a\x03999", self.frames.pong)

    def test_fragment_flood_costs_nothing(self) -> None:
        """A million empty fragments leave nothing behind."""
        begin = frame(BINARY, b"", last=False)
        self.assertEqual([], self.frames.receive(begin))
        self.assertEqual([], self.frames.receive(frame(CONTINUATION, b"", last=False) * 100_000))
        self.assertEqual(b"", self.frames._held)

    def test_pong_is_ignored(self) -> None:
        """Pongs that nobody asked for are fine."""
        self.assertEqual([], self.frames.receive(frame(PONG, b"hello")))
        self.assertFalse(self.frames.ended)

    def test_close_is_answered(self) -> None:
        """A Close is answered with its code, and what came before it counts."""
        data = frame(BINARY, b"last words") + frame(CLOSE, b"\x03\xe9going")
        self.assertEqual([b"last words"], self.frames.receive(data))
        self.assertEqual(close_frame(1001), self.frames.close)
        frames = Frames()
        frames.receive(frame(CLOSE))
        self.assertEqual(b"\x88\x00", frames.close)

    def test_wrong_close(self) -> None:
        """A Close with half a code, a code nobody may send, or a reason that is no text."""
        self.assert_fails(frame(CLOSE, b"\x03"), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000):
            self.assert_fails(frame(CLOSE, code.to_bytes(2, "big")), 1002)
        self.assert_fails(frame(CLOSE, b"\x03\xe8\xff\xff"), 1007)

    def test_server_frames_are_understood(self) -> None:
        """wsproto as a client reads our frames. [MQTT5-6.0.0-1]"""
        client = Connection(ConnectionType.CLIENT)
        for size in (0, 1, 125, 126, 65535, 65536):
            payload = os.urandom(size)
            client.receive_data(binary_frame(payload))
            got = b"".join(bytes(event.data) for event in client.events())
            self.assertEqual(payload, got)
        client.receive_data(close_frame(1000))
        self.assertEqual([1000], [event.code for event in client.events()])


masks = st.binary(min_size=4, max_size=4)
any_frames = st.builds(
    frame,
    opcode=st.sampled_from((0, 0, 0, 2, 2, 2, 2, 9, 9, 10, 8, 1, 3, 11)),
    payload=st.one_of(st.binary(max_size=20), st.binary(min_size=120, max_size=140)),
    last=st.booleans(),
    mask=st.one_of(masks, masks, masks, masks, st.none()),
    reserved=st.sampled_from((0, 0, 0, 0, 0, 0, 0, 0, 0x40)),
)


def judge(chunks: list[bytes]) -> tuple[bytes, str]:
    """What wsproto makes of a client's bytes: the binary data, and how it ended."""
    server = Connection(ConnectionType.SERVER)
    received = b""
    for chunk in chunks:
        try:
            server.receive_data(chunk)
            for event in server.events():
                if isinstance(event, BytesMessage):
                    received += bytes(event.data)
                elif isinstance(event, (TextMessage, CloseConnection)):
                    return received, "ended"
        except RemoteProtocolError:
            return received, "ended"
    return received, "open"


class OracleTests(SynchronousTestCase):
    """Compared with wsproto, which is the reference."""

    @settings(max_examples=400, deadline=None)
    @given(st.lists(any_frames, max_size=8), st.lists(st.integers(0, 600), max_size=6))
    def test_same_verdict(self, stream: list[bytes], cuts: list[int]) -> None:
        """For any mixture of right and wrong frames, however it is cut, the same data comes out
        and the stream ends at the same place as with wsproto."""
        data = b"".join(stream)
        edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
        chunks = [data[a:b] for a, b in itertools.pairwise(edges)]
        frames = Frames()
        received = b""
        for chunk in chunks:
            received += b"".join(frames.receive(chunk))
        # One frame at a time, so that wsproto, which raises, has passed on what came before.
        expected, how = judge(stream)
        self.assertEqual(how, "ended" if frames.ended else "open")
        self.assertEqual(expected, received)
