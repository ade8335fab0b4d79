"""Packets to bytes."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.codec import encode as encode_module
from mop_twisted.codec import properties as p
from mop_twisted.codec.encode import (
    encode,
    encode_ack,
    encode_acks,
    encode_publish,
    publish_parts,
)
from mop_twisted.codec.packets import (
    NO_PROPERTIES,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    Ack,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Packet,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
)
from mop_twisted.errors import MisuseError
from tests.vectors import PACKETS


class VectorTests(SynchronousTestCase):
    """The rows of C{tests/vectors.py}, the other way."""

    def test_every_packet(self) -> None:
        """Every packet becomes the bytes that its row says. [MQTT5-2.1.3-1] [MQTT5-2.2.1-2]
        [MQTT5-2.2.2-1] [MQTT311-2.2.2-1] [MQTT311-2.3.1-5]"""
        for vector in PACKETS:
            if vector.canonical:
                self.assertEqual(vector.raw, encode(vector.packet, vector.version), vector.name)


class PublishTests(SynchronousTestCase):
    """PUBLISH, in its three ways."""

    def test_parts(self) -> None:
        """Head, packet identifier and tail are the frame that would be encoded for one client
        alone, in every version, QoS, retain flag and size."""
        sizes = (0, 1, 110, 118, 119, 120, 121, 122, 123, 124, 125, 126, 128, 16_400, 3_000_000)
        for version, qos, retain, size in itertools.product(
            (3, 4, 5), (0, 1, 2), (False, True), sizes
        ):
            publish = Publish("a/b", bytes(size), 2, False, 77)
            for properties in (NO_PROPERTIES, {p.CONTENT_TYPE: "text"}):
                head, tail = publish_parts(publish, version, qos, retain, properties)
                frame = head + (b"\x01\x02" if qos else b"") + tail
                self.assertEqual(
                    encode_publish(publish, version, qos, retain, False, 0x0102, properties),
                    frame,
                )
                if size > 200:
                    break

    def test_flags_are_the_callers(self) -> None:
        """DUP, QoS and RETAIN of the message that came in do not show in what goes out.
        [MQTT5-3.3.1-3] [MQTT311-3.3.1-3]"""
        publish = Publish("a", b"", 2, True, 9, dup=True)
        self.assertEqual(
            b"\x32\x05\0\1a\0\1", encode_publish(publish, 4, 1, False, False, 1, NO_PROPERTIES)
        )
        self.assertEqual(
            b"\x3b\x05\0\1a\0\1", encode_publish(publish, 4, 1, True, True, 1, NO_PROPERTIES)
        )

    def test_qos_0_has_neither_dup_nor_identifier(self) -> None:
        """At QoS 0 there is no packet identifier and never DUP. [MQTT5-2.2.1-2]
        [MQTT5-3.3.1-2] [MQTT5-4.3.1-1] [MQTT311-2.3.1-5] [MQTT311-3.3.1-2]
        [MQTT311-4.3.1-1]"""
        self.assertEqual(
            b"\x31\x04\0\1ax",
            encode_publish(Publish("a", b"x"), 4, 0, True, True, 5, NO_PROPERTIES),
        )

    def test_topic_alias(self) -> None:
        """A topic that an alias stands for is sent empty."""
        self.assertEqual(
            b"\x30\x07\0\0\3\x23\0\4x",
            encode_publish(
                Publish("long/topic", b"x"), 5, 0, False, False, 0, {p.TOPIC_ALIAS: 4}, topic=""
            ),
        )

    def test_3_x_has_no_properties(self) -> None:
        """Properties of a message do not reach clients that could not read them."""
        publish = Publish("a", b"x", properties={p.CONTENT_TYPE: "text"})
        self.assertEqual(b"\x30\x04\0\1ax", encode([publish], 4))
        self.assertEqual(
            (b"\x30\x04\0\1a", b"x"), publish_parts(publish, 3, 0, False, publish.properties)
        )

    def test_topics_are_bounded(self) -> None:
        """Topics are remembered, but not for ever, and not the long ones."""
        for number in range(20_000):
            encode([Publish(f"t/{number}", b"")], 4)
        known = encode_module._topics
        self.assertTrue(len(known) <= 16_384)
        long = "x" * 1000
        self.assertEqual(b"\x30\xea\x07\x03\xe8" + long.encode(), encode([Publish(long, b"")], 4))
        self.assertNotIn(long, known)
        self.assertRaises(MisuseError, encode, [Publish("x" * 65_536, b"")], 4)


class AckTests(SynchronousTestCase):
    """PUBACK, PUBREC, PUBREL, PUBCOMP."""

    def test_runs(self) -> None:
        """A run of any length is the acknowledgements one by one. [MQTT5-2.2.1-5]
        [MQTT311-2.3.1-6]"""
        for kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
            for count in (0, 1, 2, 7, 8, 9, 300):
                packet_ids = [1 + 211 * i for i in range(count)]
                self.assertEqual(
                    b"".join(encode_ack(kind, i, 0, NO_PROPERTIES, 4) for i in packet_ids),
                    encode_acks(kind, packet_ids),
                )
        self.assertEqual(b"\x62\2\xff\xff", encode_acks(PUBREL, [65_535]))

    def test_identifier_too_large(self) -> None:
        """An identifier that does not fit is our bug, and not sent."""
        self.assertRaises(MisuseError, encode_acks, PUBACK, [65_536])
        self.assertRaises(MisuseError, encode_acks, PUBACK, [65_536] * 20)
        self.assertRaises(MisuseError, encode_ack, PUBACK, 65_536, 0, NO_PROPERTIES, 5)

    def test_3_x_says_only_that_it_arrived(self) -> None:
        """Reason and properties are left out for 3.1 and 3.1.1."""
        ack = Ack(PUBACK, 1, 0x97, {p.REASON_STRING: "full"})
        for version in (3, 4):
            self.assertEqual(b"\x40\2\0\1", encode(ack, version))
        self.assertEqual(b"\x40\x0b\0\1\x97\7\x1f\0\4full", encode(ack, 5))


class MaximumPacketSizeTests(SynchronousTestCase):
    """What is left out for a client that takes small packets only."""

    def test_says_less(self) -> None:
        """The Reason String goes first, then the User Properties; what else there is stays.
        [MQTT5-3.2.2-19] [MQTT5-3.2.2-20] [MQTT5-3.4.2-2] [MQTT5-3.4.2-3] [MQTT5-3.5.2-2]
        [MQTT5-3.5.2-3] [MQTT5-3.6.2-2] [MQTT5-3.6.2-3] [MQTT5-3.7.2-2] [MQTT5-3.7.2-3]
        [MQTT5-3.9.2-1] [MQTT5-3.9.2-2] [MQTT5-3.11.2-1] [MQTT5-3.11.2-2] [MQTT5-3.14.2-3]
        [MQTT5-3.14.2-4] [MQTT5-3.15.2-2] [MQTT5-3.15.2-3]"""
        why = {p.REASON_STRING: "because"}
        user = {p.USER_PROPERTY: [("name", "value")]}
        method = {p.AUTHENTICATION_METHOD: "M"}
        keep = {p.SERVER_KEEP_ALIVE: 5}
        rows: list[tuple[Packet, Packet, Packet]] = [
            (Connack(0, False, keep | why | user), Connack(0, False, keep | user),
             Connack(0, False, keep)),
            (Suback(1, [0, 1], why | user), Suback(1, [0, 1], user), Suback(1, [0, 1])),
            (Unsuback(1, [0], user | why), Unsuback(1, [0], user), Unsuback(1, [0])),
            (Disconnect(0x8E, why | user), Disconnect(0x8E, user), Disconnect(0x8E)),
            (Auth(0x18, method | why | user), Auth(0x18, method | user), Auth(0x18, method)),
        ]  # fmt: skip
        rows += [
            (Ack(kind, 1, 0x92, why | user), Ack(kind, 1, 0x92, user), Ack(kind, 1, 0x92))
            for kind in (PUBACK, PUBREC, PUBREL, PUBCOMP)
        ]
        for full, shorter, least in rows:
            frame = encode(full, 5)
            self.assertEqual(frame, encode(full, 5, len(frame)))
            self.assertEqual(encode(shorter, 5), encode(full, 5, len(frame) - 1))
            small = encode(full, 5, len(encode(shorter, 5)) - 1)
            # With nothing left to say, a property length of 0 may remain.
            self.assertIn(len(small) - len(encode(least, 5)), (0, 1))
            self.assertEqual(small, encode(full, 5, 1))

    def test_the_packet_itself_is_not_changed(self) -> None:
        """What was left out for one client is there for the next."""
        properties = {p.REASON_STRING: "because"}
        encode(Connack(0x87, False, properties), 5, 5)
        self.assertEqual({p.REASON_STRING: "because"}, properties)


class LoweringTests(SynchronousTestCase):
    """What 3.1 and 3.1.1 cannot say."""

    def test_connack(self) -> None:
        """Reasons become return codes; a refusal never has a session, nor has 3.1 a flag for
        it. [MQTT5-3.2.2-1] [MQTT5-3.2.2-6] [MQTT311-3.2.2-4]"""
        self.assertEqual(b"\x20\2\1\0", encode(Connack(0, True), 4))
        self.assertEqual(b"\x20\2\0\0", encode(Connack(0, True), 3))
        self.assertEqual(b"\x20\2\0\5", encode(Connack(0x87, True), 4))
        self.assertEqual(b"\x20\2\0\1", encode(Connack(0x84), 4))
        self.assertEqual(b"\x20\3\0\x87\0", encode(Connack(0x87, True), 5))

    def test_suback(self) -> None:
        """A refused filter is 0x80 in 3.1.1 and granted QoS 0 in 3.1; their order is that of
        the filters. [MQTT5-2.2.1-6] [MQTT5-3.9.3-1] [MQTT311-2.3.1-7] [MQTT311-3.9.3-1]
        [MQTT311-3.9.3-2]"""
        suback = Suback(1, [2, 0x87, 1])
        self.assertEqual(b"\x90\6\0\1\0\2\x87\1", encode(suback, 5))
        self.assertEqual(b"\x90\5\0\1\2\x80\1", encode(suback, 4))
        self.assertEqual(b"\x90\5\0\1\2\0\1", encode(suback, 3))

    def test_unsuback(self) -> None:
        """3.x has no reasons in an UNSUBACK; in 5.0 they are in the order of the filters.
        [MQTT5-3.11.3-1]"""
        self.assertEqual(b"\xb0\5\0\1\0\0\x11", encode(Unsuback(1, [0, 0x11]), 5))
        self.assertEqual(b"\xb0\2\0\1", encode(Unsuback(1, [0, 0x11]), 4))

    def test_what_has_no_words(self) -> None:
        """AUTH, and a DISCONNECT that says why, do not exist in 3.x: nothing is sent. A client
        of 3.x says DISCONNECT plainly."""
        for version in (3, 4):
            self.assertEqual(b"", encode(Auth(0x18), version))
            self.assertEqual(b"", encode(Disconnect(0x8E), version))
            self.assertEqual(b"\xe0\0", encode(Disconnect(), version))

    def test_subscription_options(self) -> None:
        """Options of 5.0 do not reach a server of 3.x."""
        vector = next(v for v in PACKETS if v.name == "SUBSCRIBE, all options (5)")
        packet = vector.packet
        assert isinstance(packet, Subscribe)
        self.assertEqual(b"\x82\x0a\0\1\0\1a\2\0\1b\0", encode(packet, 4))

    def test_connect_speaks_its_own_version(self) -> None:
        """A CONNECT is written in the version that it asks for."""
        self.assertEqual(encode(Connect(5, "a"), 5), encode(Connect(5, "a"), 3))
