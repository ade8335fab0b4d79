"""WebSocket frames: what clients send becomes a stream of bytes, and a stream becomes frames.

wsproto does this as well, and is the oracle of the tests; this loop is there because it is an
order of magnitude quicker, and because MQTT wants no messages: payload is passed on as it
comes, so that no frame, however long it says it will be, is ever held.

No transport, no clock. RFC 6455 chapters 5 and 7; MQTT 5.0 chapter 6.
"""

from __future__ import annotations

from typing import Final, final

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
UNSUPPORTED: Final = 1003
NOT_TEXT: Final = 1007

_LONG: Final = 126
_LONGER: Final = 127


@final
class Frames:
    """The frames of one client. L{receive} never raises; what the client is owed besides is in
    C{pong} and C{close}, for whoever owns the transport to take."""

    __slots__ = ("_fragmented", "_held", "_mask", "_remaining", "close", "ended", "pong")

    def __init__(self) -> None:
        self.ended = False
        """The stream is over: by the client's Close, or by an error of the client's."""
        self.close: bytes | None = None
        """A Close frame to send."""
        self.pong: bytes | None = None
        """A Pong frame to send. Of many Pings in a row the last is answered [RFC 6455, 5.5.3],
        so that a flood of them costs no memory."""
        self._fragmented = False
        """A message has begun whose last frame has not come."""
        self._held = b""
        """An incomplete header, or an incomplete control frame; at most 131 bytes."""
        self._mask = b""
        self._remaining = 0
        """Payload of the current data frame that has not come yet."""

    def receive(self, data: bytes) -> list[bytes]:
        """The payload of binary frames in these bytes, unmasked, in pieces, in order."""
        pieces: list[bytes] = []
        if self.ended:
            return pieces
        if self._held:
            data = self._held + data
            self._held = b""
        at = 0
        end = len(data)
        remaining = self._remaining
        if remaining:
            at = remaining if remaining < end else end
            if at:
                mask = self._mask
                pieces.append(unmask(data[:at], mask))
                self._remaining = remaining - at
                turn = at & 3
                if turn:
                    self._mask = mask[turn:] + mask[:turn]
        while at < end:
            if end - at < 2:
                break
            first = data[at]
            second = data[at + 1]
            opcode = first & 0x0F
            size = second & 0x7F
            # Judged by its first two bytes, before anything is waited for.
            if first & 0x70 or second < 0x80:
                # RSV bits without an extension, or not masked.
                return self._fail(PROTOCOL_ERROR, pieces)
            if opcode >= CLOSE:
                if opcode > PONG or first < 0x80 or size > 125:
                    # Unknown, fragmented or too long for a control frame.
                    return self._fail(PROTOCOL_ERROR, pieces)
                if end - at < 6 + size:
                    break
                start = at + 6
                at = start + size
                self._control(opcode, unmask(data[start:at], data[start - 4 : start]))
                if self.ended:
                    return pieces
                continue
            if opcode <= BINARY and opcode != TEXT:
                if (opcode == CONTINUATION) is not self._fragmented:
                    return self._fail(PROTOCOL_ERROR, pieces)
            elif opcode == TEXT:
                # [MQTT5-6.0.0-1] [MQTT311-6.0.0-1]
                return self._fail(PROTOCOL_ERROR if self._fragmented else UNSUPPORTED, pieces)
            else:
                return self._fail(PROTOCOL_ERROR, pieces)
            start = at + 6
            if size >= _LONG:
                start += 2 if size == _LONG else 8
                if end < start:
                    if size == _LONGER and end - at > 2 and data[at + 2] >= 0x80:
                        return self._fail(PROTOCOL_ERROR, pieces)
                    break
                shortest = 126 if size == _LONG else 65536
                size = int.from_bytes(data[at + 2 : start - 4], "big")
                if size < shortest or size >= 1 << 63:
                    # A length has one encoding, and its highest bit is 0.
                    return self._fail(PROTOCOL_ERROR, pieces)
            elif end < start:
                break
            self._fragmented = first < 0x80
            mask = data[start - 4 : start]
            at = start + size
            if at <= end:
                if size:
                    pieces.append(unmask(data[start:at], mask))
                continue
            have = end - start
            self._remaining = size - have
            if have:
                pieces.append(unmask(data[start:end], mask))
                turn = have & 3
                if turn:
                    mask = mask[turn:] + mask[:turn]
            self._mask = mask
            at = end
        if at < end:
            self._held = data[at:end]
        return pieces

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.pong = bytes((0x80 | PONG, len(payload))) + payload
        elif opcode == CLOSE:
            self.ended = True
            self.pong = None
            if not payload:
                self.close = b"\x88\x00"
                return
            code = int.from_bytes(payload[:2], "big")
            if len(payload) == 1 or not _may_be_sent(code):
                code = PROTOCOL_ERROR
            else:
                try:
                    payload[2:].decode("utf-8")
                except UnicodeDecodeError:
                    code = NOT_TEXT
            self.close = close_frame(code)

    def _fail(self, code: int, pieces: list[bytes]) -> list[bytes]:
        self.ended = True
        self.pong = None
        self.close = close_frame(code)
        return pieces


def _may_be_sent(code: int) -> bool:
    """Whether a Close frame may carry C{code} [RFC 6455, 7.4]."""
    if code >= 3000:
        return code < 5000
    return 1000 <= code <= 1014 and code not in (1004, 1005, 1006)


def unmask(payload: bytes, mask: bytes) -> bytes:
    """C{payload} with the four bytes of C{mask} laid over it again and again: as one number,
    which is the quickest that Python has."""
    size = len(payload)
    repeated = (mask * ((size >> 2) + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(repeated, "little")).to_bytes(
        size, "little"
    )


def binary_frame(payload: bytes) -> bytes:
    """One unfragmented binary frame, as a server sends it. [MQTT5-6.0.0-1]"""
    size = len(payload)
    if size < 126:
        return bytes((0x82, size)) + payload
    if size < 65536:
        return b"\x82\x7e" + size.to_bytes(2, "big") + payload
    return b"\x82\x7f" + size.to_bytes(8, "big") + payload


def close_frame(code: int) -> bytes:
    """A Close frame, without a reason."""
    return b"\x88\x02" + code.to_bytes(2, "big")
