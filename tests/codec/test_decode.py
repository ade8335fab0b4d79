"""A stream of bytes to packets."""

from __future__ import annotations

import itertools
import sys
import time

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.codec import properties as p
from mop_twisted.codec.decode import Decoder
from mop_twisted.codec.encode import encode, encode_acks
from mop_twisted.codec.packets import (
    NO_PROPERTIES,
    PUBACK,
    PUBREC,
    Acks,
    Connect,
    Pingreq,
    Publish,
)
from mop_twisted.errors import (
    MalformedPacket,
    MisuseError,
    PacketTooLarge,
    ProtocolBreach,
    TopicAliasInvalid,
    TopicNameInvalid,
)
from tests.vectors import PACKETS, PEER_ERRORS, VECTORS, Vector, describe, merge


def ping(vector: Vector) -> bytes:
    """The shortest packet that the receiver of C{vector} may get behind it."""
    return b"\xc0\0" if vector.role == "server" else b"\xd0\0"


class VectorTests(SynchronousTestCase):
    """The rows of C{tests/vectors.py}."""

    def test_enough_of_them(self) -> None:
        """There are rows for every packet type in both roles, and names are unique."""
        self.assertEqual(len(VECTORS), len({v.name + v.role for v in VECTORS}))
        self.assertEqual(set(range(1, 16)), {v.raw[0] >> 4 for v in PACKETS})
        self.assertEqual({3, 4, 5}, {v.version for v in PACKETS})

    def test_whole(self) -> None:
        """A packet that comes whole is read at once, and nothing is held."""
        for vector in PACKETS:
            decoder = vector.decoder()
            self.assertEqual(describe([vector.packet]), describe(decoder.receive(vector.raw)))
            self.assertIs(None, decoder.error, vector.name)
            self.assertEqual(0, decoder.buffered)
            self.assertEqual(vector.version, decoder.version, vector.name)

    def test_every_split(self) -> None:
        """Wherever a read ends, the packet is the same, and comes with its last byte."""
        for vector in PACKETS:
            size = len(vector.raw)
            places = range(1, size) if size < 200 else (*range(1, 8), size // 2, size - 1)
            for place in places:
                decoder = vector.decoder()
                self.assertEqual([], decoder.receive(vector.raw[:place]), vector.name)
                self.assertEqual(place, decoder.buffered)
                rest = decoder.receive(vector.raw[place:])
                self.assertEqual(describe([vector.packet]), describe(rest), vector.name)

    def test_byte_by_byte(self) -> None:
        """A packet that comes byte by byte is the same."""
        for vector in PACKETS:
            if len(vector.raw) > 2000:
                continue
            decoder = vector.decoder()
            packets = []
            for place in range(len(vector.raw)):
                packets += decoder.receive(vector.raw[place : place + 1])
            self.assertEqual(describe([vector.packet]), describe(packets), vector.name)

    def test_followed_by_more(self) -> None:
        """What follows a packet in the same read is the next one, also behind a CONNECT."""
        for vector in PACKETS:
            decoder = vector.decoder()
            packets = decoder.receive(vector.raw + ping(vector) + ping(vector)[:1])
            self.assertEqual(describe(vector.packet), describe(packets[0]), vector.name)
            self.assertEqual(2, len(packets))
            self.assertEqual(1, decoder.buffered)

    def test_every_error(self) -> None:
        """What is wrong is told by the class of the error, and the version that a CONNECT
        spoke is known though the CONNECT was wrong."""
        for vector in PEER_ERRORS:
            decoder = vector.decoder()
            decoder.receive(vector.raw)
            self.assertIs(vector.error, type(decoder.error), (vector.name, decoder.error))
            self.assertEqual(vector.version, decoder.version, vector.name)
            self.assertEqual(0, decoder.buffered)

    def test_every_error_at_every_split(self) -> None:
        """Wherever a read ends, the error is the same."""
        for vector in PEER_ERRORS:
            for place in range(1, len(vector.raw)):
                decoder = vector.decoder()
                decoder.receive(vector.raw[:place])
                decoder.receive(vector.raw[place:])
                self.assertIs(vector.error, type(decoder.error), (vector.name, place))

    def test_nothing_behind_an_error(self) -> None:
        """What came before an error is returned; nothing after it is read, now or later."""
        for vector in PEER_ERRORS:
            if vector.first:
                continue
            decoder = vector.decoder()
            before = decoder.receive(ping(vector) + vector.raw + ping(vector))
            self.assertEqual(1, len(before), vector.name)
            self.assertEqual([], decoder.receive(ping(vector)))
            self.assertEqual(0, decoder.buffered)


class OrderTests(SynchronousTestCase):
    """Which packets come when, as far as one read can tell."""

    def test_first_packet(self) -> None:
        """Anything before CONNECT is refused, by its first bytes (H1). [MQTT5-3.1.0-1]
        [MQTT311-3.1.0-1]"""
        for kind in range(2, 16):
            decoder = Decoder(65_536)
            decoder.receive(bytes((kind << 4 | (2 if kind in (6, 8, 10) else 0), 100)))
            self.assertIs(ProtocolBreach, type(decoder.error), kind)
            self.assertEqual(0, decoder.version)

    def test_second_connect(self) -> None:
        """A second CONNECT is refused. [MQTT5-3.1.0-2] [MQTT311-3.1.0-2]"""
        connect = encode(Connect(5, "a"), 5)
        for reads in ([connect + connect], [connect, connect]):
            decoder = Decoder(1000)
            packets = [packet for read in reads for packet in decoder.receive(read)]
            self.assertEqual(1, len(packets))
            self.assertIs(ProtocolBreach, type(decoder.error))

    def test_wrong_direction(self) -> None:
        """Packets that only a server sends are refused from a client, and the other way
        (H4)."""
        for vector in PACKETS:
            kind = vector.raw[0] >> 4
            if kind in (1, 2, 8, 9, 10, 11, 12, 13):
                role = "client" if vector.role == "server" else "server"
                decoder = Decoder(1 << 20, role=role, version=vector.version)
                self.assertEqual([], decoder.receive(vector.raw))
                self.assertIs(ProtocolBreach, type(decoder.error), vector.name)

    def test_roles(self) -> None:
        """A decoder plays a server or a client, and a client knows its version."""
        self.assertRaises(MisuseError, Decoder, 1000, role="proxy")
        self.assertRaises(MisuseError, Decoder, 1000, role="client")

    def test_version_of_what_follows(self) -> None:
        """What follows a CONNECT in the same read is read in its version."""
        for version in (3, 4, 5):
            raw = encode(Connect(version, "a"), version) + encode([Publish("t", b"x")], version)
            decoder = Decoder(1000)
            packets = decoder.receive(raw)
            self.assertEqual(describe([Publish("t", b"x")]), describe(packets[1]))


class RunTests(SynchronousTestCase):
    """PUBLISHes and acknowledgements that follow each other."""

    def test_publishes(self) -> None:
        """The PUBLISHes of a read are one list, of any QoS; another packet begins a new one."""
        publishes = [Publish("t", b"%d" % i, i % 3, packet_id=i if i % 3 else 0)
                     for i in range(10)]  # fmt: skip
        for version in (4, 5):
            raw = encode(publishes, version)
            packets = Decoder(1000, version=version).receive(raw + b"\xc0\0" + raw)
            self.assertEqual(
                describe([publishes, Pingreq(), publishes]), describe(packets), version
            )

    def test_acks(self) -> None:
        """Acknowledgements of one kind in a row are one packet; kinds are kept apart, in
        order. In 5.0 a success that is said at length is as plain as any."""
        raw = encode_acks(PUBACK, [3, 1, 2]) + encode_acks(PUBREC, [4]) + encode_acks(PUBACK, [5])
        runs = [Acks(PUBACK, [3, 1, 2]), Acks(PUBREC, [4]), Acks(PUBACK, [5])]
        for version in (3, 4, 5):
            self.assertEqual(describe(runs), describe(Decoder(1000, version=version).receive(raw)))
        spelt = b"\x40\3\0\3\0" + b"\x40\2\0\1" + b"\x40\4\0\2\0\0"
        self.assertEqual(describe(runs[:1]), describe(Decoder(1000, version=5).receive(spelt)))

    def test_same_topic_is_same_object(self) -> None:
        """The same topic is the same str in every packet and every connection."""
        raw = encode([Publish("same/topic", b"")] * 2, 4)
        first = Decoder(1000, version=4).receive(raw)[0]
        second = Decoder(1000, version=4).receive(raw)[0]
        assert isinstance(first, list) and isinstance(second, list)
        self.assertIs(first[0].topic, first[1].topic)
        self.assertIs(first[0].topic, second[0].topic)

    def test_no_properties(self) -> None:
        """Packets without properties share one empty dict."""
        [[publish]] = Decoder(1000, version=5).receive(  # type: ignore[misc]
            encode([Publish("t", b"")], 5)
        )
        self.assertIs(NO_PROPERTIES, publish.properties)

    def test_payload_is_its_own(self) -> None:
        """A small payload does not keep the read that it came in alive."""
        raw = encode([Publish("t", b"x" * 10), Publish("t", bytes(100_000))], 4)
        [publishes] = Decoder(1 << 20, version=4).receive(raw)
        assert isinstance(publishes, list)
        self.assertIs(bytes, type(publishes[0].payload))
        self.assertTrue(sys.getsizeof(publishes[0].payload) < 100)


class LimitTests(SynchronousTestCase):
    """What a connection may cost."""

    def test_too_large_is_known_at_once(self) -> None:
        """A packet over the maximum is refused by its header, before anything of it is kept
        (H1). [MQTT5-3.2.2-15]"""
        header = b"\x10\xff\xff\xff\x7f"
        decoder = Decoder(65_536)
        for place in range(4):
            decoder.receive(header[place : place + 1])
            self.assertIs(None, decoder.error)
        decoder.receive(header[4:])
        self.assertIs(PacketTooLarge, type(decoder.error))
        self.assertEqual(0, decoder.buffered)

    def test_the_whole_packet_counts(self) -> None:
        """The limit is for the packet with its header: one of that size passes, one byte more
        does not, also when it comes whole."""
        raw = encode([Publish("t", bytes(200))], 4)
        for maximum, error in ((len(raw), None), (len(raw) - 1, PacketTooLarge)):
            for reads in ([raw], [raw[:3], raw[3:]]):
                decoder = Decoder(maximum, version=4)
                for read in reads:
                    decoder.receive(read)
                self.assertIs(error, decoder.error and type(decoder.error))

    def test_larger_after_connect(self) -> None:
        """The limit can be raised once a CONNECT is there, also for what is in the same read."""
        connect = encode(Connect(4, "a"), 4)
        publish = encode([Publish("t", bytes(2000))], 4)
        decoder = Decoder(1000)
        self.assertEqual(1, len(decoder.receive(connect)))
        decoder.maximum_packet_size = 3000
        self.assertEqual(1, len(decoder.receive(publish)))
        decoder = Decoder(1000, maximum_packet_size_after_connect=3000)
        self.assertEqual(2, len(decoder.receive(connect + publish)))
        self.assertEqual(3000, decoder.maximum_packet_size)
        decoder = Decoder(1000)
        self.assertEqual(1, len(decoder.receive(connect + publish)))
        self.assertIs(PacketTooLarge, type(decoder.error))

    def test_user_properties(self) -> None:
        """The number of user properties in a packet is limited (H6)."""
        raw = encode([Publish("t", b"", properties={p.USER_PROPERTY: [("", "")] * 11})], 5)
        decoder = Decoder(1 << 20, 10, version=5)
        decoder.receive(raw)
        self.assertIs(PacketTooLarge, type(decoder.error))
        self.assertEqual(1, len(Decoder(1 << 20, 11, version=5).receive(raw)))

    def test_100_000_user_properties(self) -> None:
        """A packet of 100 000 user properties is refused as soon as they are too many (H6)."""
        connect = Connect(5, "a", properties={p.USER_PROPERTY: [("", "")] * 100_000})
        decoder = Decoder(1 << 20)
        began = time.process_time()
        decoder.receive(encode(connect, 5))
        self.assertIs(PacketTooLarge, type(decoder.error))
        self.assertTrue(time.process_time() - began < 1)

    def test_trickle(self) -> None:
        """A packet of 8 MiB in small reads costs about eight times one of 1 MiB, and holds no
        more memory than it has bytes."""

        def seconds(size: int) -> float:
            raw = encode([Publish("t", bytes(size))], 4)
            reads = [raw[at : at + 1448] for at in range(0, len(raw), 1448)]
            best = 1e9
            for _ in range(2):
                decoder = Decoder(1 << 28, version=4)
                began = time.process_time()
                for read in reads[:-1]:
                    if decoder.receive(read):
                        self.fail("a packet before its end")
                self.assertEqual(len(raw) - len(reads[-1]), decoder.buffered)
                self.assertEqual(1, len(decoder.receive(reads[-1])))
                best = min(best, time.process_time() - began)
            return best

        self.assertTrue(seconds(8 << 20) < 60 * seconds(1 << 20))

    def test_error_keeps_nothing_alive(self) -> None:
        """An error keeps neither the decoder nor the bytes that it came from alive."""
        decoder = Decoder(1000, version=4)
        decoder.receive(b"\x30\4\0\2a\xc3")
        error = decoder.error
        assert error is not None
        self.assertIs(MalformedPacket, type(error))
        self.assertIs(None, error.__traceback__)
        self.assertIs(None, error.__context__)

    def test_many_errors_leave_nothing(self) -> None:
        """Bad topics and aliases leave nothing behind, however many there are (H5)."""
        bad = (
            (b"\x30\6\0\0\3\x23\0\0", TopicAliasInvalid),
            (b"\x30\5\0\2a#\0", TopicNameInvalid),
        )
        for raw, error in bad:
            for _ in range(1000):
                decoder = Decoder(1000, version=5)
                decoder.receive(raw)
                self.assertIs(error, type(decoder.error))
                self.assertEqual(0, decoder.buffered)


class ReadTests(SynchronousTestCase):
    """Long streams in odd pieces."""

    def test_any_piece_size(self) -> None:
        """All packets of a version in one stream are the same in pieces of any size."""
        for role, version in itertools.product(("server", "client"), (3, 4, 5)):
            rows = [
                v for v in PACKETS
                if v.role == role and v.version == version and not v.first and len(v.raw) < 500
            ]  # fmt: skip
            stream = b"".join(v.raw for v in rows)
            whole = merge(Decoder(1000, role=role, version=version).receive(stream))
            for size in (1, 2, 3, 5, 7, 11, 64, 1000):
                decoder = Decoder(1000, role=role, version=version)
                packets = []
                for at in range(0, len(stream), size):
                    packets += decoder.receive(stream[at : at + size])
                self.assertEqual(whole, merge(packets))
                self.assertEqual(0, decoder.buffered)

    def test_empty_read(self) -> None:
        """A read of nothing changes nothing."""
        decoder = Decoder(1000, version=4)
        self.assertEqual([], decoder.receive(b""))
        decoder.receive(b"\xc0")
        self.assertEqual([], decoder.receive(b""))
        self.assertEqual(1, len(decoder.receive(b"\0")))
