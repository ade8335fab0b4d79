"""A stream of bytes to packets.

One loop by offset over each read: PUBLISH and plain acknowledgements are decoded in it, the rest
by C{bodies.py}. It knows of a connection only which version it speaks and which side it plays;
phases, packet identifiers in use and topic aliases are the connection's.

MQTT 5.0 sections 2.1 and 3.3; MQTT 3.1.1 sections 2.2 and 3.3.
"""

from __future__ import annotations

from typing import Final, final

from ..errors import MalformedPacket, MisuseError, PacketTooLarge, PeerError, ProtocolBreach
from .bodies import (
    check_whole,
    read_ack,
    read_auth,
    read_connack,
    read_connect,
    read_disconnect,
    read_suback,
    read_subscribe,
    read_unsuback,
    read_unsubscribe,
    read_version,
    unsupported,
)
from .packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    NO_PROPERTIES,
    PACKET_NAMES,
    PINGREQ,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Ack,
    Acks,
    Packet,
    Pingreq,
    Pingresp,
    Properties,
    Publish,
)
from .properties import PUBLISH_OF_CLIENT, TOPIC_ALIAS, read_properties
from .wire import TOPIC_NAMES

_PLAIN_ACKS: Final = {0x40: PUBACK, 0x50: PUBREC, 0x62: PUBREL, 0x70: PUBCOMP}
"""First byte → kind."""

_SUCCESS: Final = (b"\0", b"\0\0")
"""What follows the packet identifier in 5.0 where success is said at length."""

_FLAGS: Final = {PUBREL: 2, SUBSCRIBE: 2, UNSUBSCRIBE: 2}
"""The low nibble that is not 0."""

_TO_CLIENT_ONLY: Final = frozenset({CONNACK, SUBACK, UNSUBACK, PINGRESP})
_TO_SERVER_ONLY: Final = frozenset({CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ})


@final
class Decoder:
    """The bytes that one side of a connection receives, as packets.

    C{maximum_packet_size} counts the whole packet with its fixed header and may be set at any
    time. C{role} is the side that is played: C{server} or C{client}. C{version} is 0 until a
    server has decoded a CONNECT; a client says its own. A CONNECT may be followed by more in the
    same read: with C{maximum_packet_size_after_connect} the larger limit is taken at once.

    @raise MisuseError: another role, or a client without a version.
    """

    __slots__ = (
        "_maximum_packet_size_after_connect",
        "_maximum_user_properties",
        "_partial",
        "_server",
        "_wanted",
        "error",
        "maximum_packet_size",
        "version",
    )

    def __init__(
        self,
        maximum_packet_size: int,
        maximum_user_properties: int = 4096,
        role: str = "server",
        version: int = 0,
        maximum_packet_size_after_connect: int = 0,
    ) -> None:
        if role not in ("server", "client") or (role == "client" and not version):
            raise MisuseError(f"a decoder as {role} of version {version}")
        self.version = version
        """3, 4 or 5; 0 until it is known."""
        self.maximum_packet_size = maximum_packet_size
        self.error: PeerError | None = None
        """What was wrong with the stream; from then on L{receive} returns nothing."""
        self._maximum_packet_size_after_connect = maximum_packet_size_after_connect
        self._maximum_user_properties = maximum_user_properties
        self._server = role == "server"
        self._partial: bytearray | None = None
        # _wanted: below this length the partial packet need not be looked at again.
        self._wanted = 0

    @property
    def buffered(self) -> int:
        """Bytes held of a packet that is not whole yet: never more than
        C{maximum_packet_size} and one read."""
        partial = self._partial
        return 0 if partial is None else len(partial)

    def receive(self, data: bytes) -> list[Packet]:
        """The packets that are whole with C{data}. PUBLISHes that follow each other come as one
        list, and so do plain acknowledgements of a kind.

        Never raises: what came before an error is returned, the error is in L{error}.
        """
        packets: list[Packet] = []
        if self.error is not None:
            return packets
        partial = self._partial
        if partial is not None:
            # A bytearray grows in place, and more cheaply than a list of tiny chunks: a packet
            # that comes byte by byte costs its size, not 40 times that.
            partial += data
            if len(partial) < self._wanted:
                return packets
            data = bytes(partial)
            self._partial = None
        try:
            at = self._read(data, packets)
        except PeerError as error:
            # Without its traceback: it would keep this frame, and the read, alive in a cycle.
            error.__context__ = None
            self.error = error.with_traceback(None)
            return packets
        if at < len(data):
            self._partial = bytearray(data[at:])
        return packets

    def _read(self, data: bytes, packets: list[Packet]) -> int:
        """Decode all whole packets; returns where the first that is not whole begins."""
        names = TOPIC_NAMES.recent
        plain_acks = _PLAIN_ACKS
        version = self.version
        maximum = self.maximum_packet_size
        publishes: list[Publish] = []
        packet_ids: list[int] = []
        run = 0  # kind of the last packet, if it is one that comes in runs
        at = 0
        stop = len(data)
        while at + 2 <= stop:
            first = data[at]
            length = data[at + 1]
            body = at + 2
            if length > 127:
                # [MQTT5-1.5.5-1]: the same as read_varint, but it may be cut off.
                length &= 127
                shift = 7
                while True:
                    if body == stop:
                        self._wanted = stop - at + 1
                        return at
                    byte = data[body]
                    body += 1
                    length |= (byte & 127) << shift
                    if byte < 128:
                        if byte == 0:
                            raise MalformedPacket(
                                "remaining length longer than need be", "MQTT5-1.5.5-1"
                            )
                        break
                    shift += 7
                    if shift == 28:
                        raise MalformedPacket("remaining length of five bytes", "MQTT5-1.5.5")
            end = body + length
            if end > stop or end - at > maximum:
                # Judged by its header, before anything is kept of it.
                if version == 0 and first >> 4 != CONNECT:
                    # [MQTT5-3.1.0-1] [MQTT311-3.1.0-1]
                    raise ProtocolBreach("no CONNECT", "MQTT5-3.1.0-1")
                if end - at > maximum:
                    raise PacketTooLarge(
                        f"a packet of {end - at} bytes, over {maximum}", "MQTT5-3.2.2-15"
                    )
                self._wanted = end - at
                return at

            if 0x30 <= first <= 0x3F and version:
                if length < 2:
                    raise MalformedPacket("PUBLISH is cut off", "MQTT5-3.3.2")
                start = body + 2
                body = start + (data[body] << 8 | data[body + 1])
                qos = first >> 1 & 3
                if qos:
                    body += 2
                    if qos == 3:
                        # [MQTT5-3.3.1-4] [MQTT311-3.3.1-4]
                        raise MalformedPacket("QoS 3", "MQTT5-3.3.1-4")
                    if body > end:
                        raise MalformedPacket("PUBLISH is cut off", "MQTT5-3.3.2")
                    packet_id = data[body - 2] << 8 | data[body - 1]
                    if packet_id == 0:
                        # [MQTT5-2.2.1-3] [MQTT5-2.2.1-4] [MQTT311-2.3.1-1]
                        raise ProtocolBreach("packet identifier 0", "MQTT5-2.2.1-3")
                    raw = data[start : body - 2]
                else:
                    # [MQTT5-2.2.1-2] [MQTT311-2.3.1-5]
                    if body > end:
                        raise MalformedPacket("PUBLISH is cut off", "MQTT5-3.3.2")
                    packet_id = 0
                    raw = data[start:body]
                    if first & 8:
                        # [MQTT5-3.3.1-2] [MQTT311-3.3.1-2]
                        raise MalformedPacket("DUP with QoS 0", "MQTT5-3.3.1-2")
                topic = names.get(raw)
                if topic is None:
                    # [MQTT5-3.3.2-1] [MQTT5-3.3.2-2] [MQTT311-3.3.2-1] [MQTT311-3.3.2-2]
                    topic = TOPIC_NAMES.name_of(raw) if raw or version < 5 else ""
                properties: Properties = NO_PROPERTIES
                if version == 5:
                    if body < end and data[body] == 0:
                        body += 1
                    else:
                        # [MQTT5-3.3.4-6]
                        properties, body = read_properties(
                            data,
                            body,
                            end,
                            PUBLISH_OF_CLIENT if self._server else PUBLISH,
                            self._maximum_user_properties,
                        )
                    if not raw and TOPIC_ALIAS not in properties:
                        raise ProtocolBreach("neither topic name nor topic alias", "MQTT5-3.3.2.1")
                publish = Publish(topic, data[body:end], qos, first & 1 == 1, packet_id, properties)
                if first & 8:
                    publish.dup = True
                if run != PUBLISH:
                    run = PUBLISH
                    publishes = []
                    packets.append(publishes)
                publishes.append(publish)
                at = end
                continue

            kind = plain_acks.get(first, 0) if version else 0
            # With length < 2: compiled, a slice that ends before it begins is a SystemError.
            if length != 2 and kind:
                told = data[body + 2 : end] if version == 5 and length > 2 else b""
                if told not in _SUCCESS:
                    kind = 0
            if kind:
                packet_id = data[body] << 8 | data[body + 1]
                if packet_id == 0:
                    # [MQTT5-2.2.1-5]
                    raise ProtocolBreach("packet identifier 0", "MQTT5-2.2.1-5")
                if run != kind:
                    run = kind
                    packet_ids = []
                    packets.append(Acks(kind, packet_ids))
                packet_ids.append(packet_id)
                at = end
                continue

            run = 0
            packet = self._read_other(data, first, body, end)
            if type(packet) is Ack and not packet.reason and not packet.properties:
                # Only 3.1 comes here: PUBREL with DUP.
                packets.append(Acks(packet.kind, [packet.packet_id]))
            else:
                packets.append(packet)
            version = self.version
            maximum = self.maximum_packet_size
            at = end
        self._wanted = 2
        return at

    def _read_other(self, data: bytes, first: int, at: int, end: int) -> Packet:
        """One packet that is neither PUBLISH nor a plain acknowledgement."""
        kind = first >> 4
        version = self.version
        most = self._maximum_user_properties
        if version == 0 and kind != CONNECT:
            # [MQTT5-3.1.0-1] [MQTT311-3.1.0-1]
            raise ProtocolBreach("no CONNECT", "MQTT5-3.1.0-1")
        if kind == 0 or (kind == AUTH and version < 5):
            raise MalformedPacket(f"packet type {kind}", "MQTT5-2.1.2")
        flags = first & 15
        if flags != _FLAGS.get(kind, 0) and not (version == 3 and flags == 10 and kind in _FLAGS):
            # [MQTT5-2.1.3-1] [MQTT5-3.6.1-1] [MQTT5-3.8.1-1] [MQTT5-3.10.1-1] [MQTT5-3.14.1-1]
            # [MQTT5-3.15.1-1] [MQTT311-2.2.2-1] [MQTT311-2.2.2-2] [MQTT311-3.6.1-1]
            # [MQTT311-3.8.1-1] [MQTT311-3.10.1-1] [MQTT311-3.14.1-1]. In 3.1 these packets
            # carry DUP when they are sent again.
            raise MalformedPacket(f"reserved flags of {PACKET_NAMES[kind]}", "MQTT5-2.1.3-1")
        if kind in (_TO_CLIENT_ONLY if self._server else _TO_SERVER_ONLY):
            raise ProtocolBreach(f"{PACKET_NAMES[kind]} in the wrong direction", "MQTT5-2.1.2")
        if kind == CONNECT:
            return self._read_connect(data, at, end)
        if kind == SUBSCRIBE:
            return read_subscribe(data, at, end, version, most)
        if kind == UNSUBSCRIBE:
            return read_unsubscribe(data, at, end, version, most)
        if kind == DISCONNECT:
            return read_disconnect(data, at, end, version, self._server, most)
        if kind == AUTH:
            return read_auth(data, at, end, self._server, most)
        if kind == CONNACK:
            return read_connack(data, at, end, version, most)
        if kind == SUBACK:
            return read_suback(data, at, end, version, most)
        if kind == UNSUBACK:
            return read_unsuback(data, at, end, version, most)
        if kind == PINGREQ:
            check_whole(at, end, kind)
            return Pingreq()
        if kind == PINGRESP:
            check_whole(at, end, kind)
            return Pingresp()
        return read_ack(data, at, end, kind, version, most)

    def _read_connect(self, data: bytes, at: int, end: int) -> Packet:
        """CONNECT; from its protocol version on, errors included, L{version} is known."""
        if self.version:
            # [MQTT5-3.1.0-2] [MQTT311-3.1.0-2]
            raise ProtocolBreach("a second CONNECT", "MQTT5-3.1.0-2")
        version, bridge, at = read_version(data, at, end)
        self.version = abs(version)
        if version <= 0:
            raise unsupported(version)
        packet = read_connect(data, at, end, version, bridge, self._maximum_user_properties)
        if self._maximum_packet_size_after_connect:
            self.maximum_packet_size = self._maximum_packet_size_after_connect
        return packet
