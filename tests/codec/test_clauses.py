"""What the specification demands of a receiver, by statement."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.codec.decode import Decoder
from mop_twisted.codec.encode import encode
from mop_twisted.codec.packets import Connect, Publish
from mop_twisted.errors import ClientIdentifierNotValid, MalformedPacket, UnsupportedVersion
from tests.vectors import PACKETS, PEER_ERRORS, describe


class ClauseTests(SynchronousTestCase):
    """What the specification demands of a receiver, by statement."""

    def hold(self, *beginnings: str) -> None:
        """The rows whose names begin so are errors, and are found to be."""
        for beginning in beginnings:
            rows = [v for v in PEER_ERRORS if v.name.startswith(beginning)]
            self.assertTrue(rows, beginning)
            for vector in rows:
                decoder = vector.decoder()
                decoder.receive(vector.raw)
                self.assertIs(vector.error, type(decoder.error), vector.name)

    def test_reserved_flags(self) -> None:
        """Reserved flags of the fixed header that are not as listed end the connection (H3).
        [MQTT5-2.1.3-1] [MQTT5-3.6.1-1] [MQTT5-3.8.1-1] [MQTT5-3.10.1-1] [MQTT5-3.14.1-1]
        [MQTT5-3.15.1-1] [MQTT311-2.2.2-1] [MQTT311-2.2.2-2] [MQTT311-3.6.1-1]
        [MQTT311-3.8.1-1] [MQTT311-3.10.1-1] [MQTT311-3.14.1-1]"""
        self.hold(
            "PUBREL without its flags", "SUBSCRIBE without its flags",
            "UNSUBSCRIBE without its flags", "PINGREQ, flags", "DISCONNECT, flags", "AUTH, flags",
            "PUBACK, flags", "CONNECT, fixed header flags",
        )  # fmt: skip
        allowed = {6: 2, 8: 2, 10: 2}
        for kind, flags in itertools.product(range(1, 16), range(16)):
            if kind == 3 or flags == allowed.get(kind, 0):
                continue
            for role, version in itertools.product(("server", "client"), (4, 5)):
                decoder = Decoder(1000, role=role, version=version)
                decoder.receive(bytes((kind << 4 | flags, 0)))
                self.assertIs(MalformedPacket, type(decoder.error), (kind, flags))

    def test_type_0_and_type_15(self) -> None:
        """Packet type 0 does not exist, nor 15 before MQTT 5.0."""
        self.hold("type 0", "AUTH (4)", "AUTH (3)")

    def test_remaining_length(self) -> None:
        """A remaining length of five bytes, or longer than need be, is malformed (H2).
        [MQTT5-1.5.5-1]"""
        self.hold("remaining length of five bytes", "remaining length longer than need be")

    def test_fields_that_reach_over_the_end(self) -> None:
        """A remaining length shorter than the fields, and a field longer than the packet, are
        malformed, and read nothing of the packet behind (H2, H3)."""
        self.hold("PUBLISH, topic over", "PUBLISH, half", "PUBLISH, empty (4)",
                  "SUBSCRIBE, filter over", "CONNECT, name cut off")  # fmt: skip
        for vector in PACKETS:
            body = vector.raw[2:]
            if len(vector.raw) > 129 or not body:
                continue
            for length in range(len(body)):
                decoder = vector.decoder()
                decoder.receive(vector.raw[:1] + bytes((length,)) + body[:length])
                # Cut short it may be another packet, but it never needs what is not there.
                self.assertEqual(0, decoder.buffered, (vector.name, length))

    def test_packet_identifier_0(self) -> None:
        """Where a packet identifier must be, 0 is none (H3). [MQTT5-2.2.1-3]
        [MQTT5-2.2.1-4] [MQTT5-2.2.1-5] [MQTT311-2.3.1-1]"""
        self.hold("PUBLISH, packet identifier 0", "PUBACK, packet identifier 0",
                  "SUBSCRIBE, packet identifier 0")  # fmt: skip

    def test_qos(self) -> None:
        """QoS 3 does not exist, and DUP not with QoS 0. [MQTT5-3.3.1-2] [MQTT5-3.3.1-4]
        [MQTT311-3.3.1-2] [MQTT311-3.3.1-4]"""
        self.hold("PUBLISH, QoS 3", "PUBLISH, DUP with QoS 0")

    def test_topic_names(self) -> None:
        """A topic name is a UTF-8 string of at least one character without wildcards (H5, H13).
        [MQTT5-1.5.4-1] [MQTT5-1.5.4-2] [MQTT5-3.3.2-1] [MQTT5-3.3.2-2] [MQTT5-4.7.0-1]
        [MQTT5-4.7.3-1] [MQTT5-4.7.3-2] [MQTT311-1.5.3-1] [MQTT311-1.5.3-2] [MQTT311-3.3.2-1]
        [MQTT311-3.3.2-2] [MQTT311-4.7.1-1] [MQTT311-4.7.3-1] [MQTT311-4.7.3-2]"""
        self.hold("PUBLISH, topic with", "PUBLISH, empty topic", "PUBLISH, U+0000",
                  "PUBLISH, surrogates", "PUBLISH, topic cut", "PUBLISH, neither")  # fmt: skip

    def test_longest_topic(self) -> None:
        """A topic of 65 535 bytes is read in its length, whatever levels it has (H11).
        [MQTT5-4.7.3-3] [MQTT311-4.7.3-3] [MQTT5-4.7.3-4] [MQTT311-4.7.3-4]"""
        for topic in ("/" * 65_535, "a/" * 32_767 + "b", "\u00c5ngstr\u00f6m/\u212b"):
            decoder = Decoder(1 << 20, version=4)
            [[publish]] = decoder.receive(encode([Publish(topic, b"")], 4))  # type: ignore[misc]
            self.assertEqual(topic, publish.topic)

    def test_will(self) -> None:
        """The will's flags agree with each other, and its fields are there. [MQTT5-3.1.2-9]
        [MQTT5-3.1.2-11] [MQTT5-3.1.2-12] [MQTT5-3.1.2-13] [MQTT5-3.1.3-11] [MQTT311-3.1.2-9]
        [MQTT311-3.1.2-11] [MQTT311-3.1.2-13] [MQTT311-3.1.2-14] [MQTT311-3.1.2-15]
        [MQTT311-3.1.3-10]"""
        self.hold("CONNECT, will", "CONNECT, a will", "CONNECT, empty will",
                  "CONNECT, session expiry in the will")  # fmt: skip

    def test_user_name_and_password(self) -> None:
        """User name and password are there exactly where their flags say so.
        [MQTT5-3.1.2-16] [MQTT5-3.1.2-17] [MQTT5-3.1.2-18] [MQTT5-3.1.2-19] [MQTT5-3.1.3-12]
        [MQTT311-3.1.2-18] [MQTT311-3.1.2-19] [MQTT311-3.1.2-20] [MQTT311-3.1.2-21]
        [MQTT311-3.1.2-22] [MQTT311-3.1.3-11]"""
        self.hold("CONNECT, a user name", "CONNECT, password without", "CONNECT, overlong")
        for version in (4, 5):
            full = encode(Connect(version, "a", user_name="u", password=b"p"), version)
            for less in (3, 6):
                raw = full[:1] + bytes((full[1] - less,)) + full[2:-less]
                decoder = Decoder(1000)
                decoder.receive(raw)
                self.assertIs(MalformedPacket, type(decoder.error))

    def test_connect_is_validated(self) -> None:
        """A CONNECT that is not as chapter 3.1 has it is refused, and its reserved flag is 0.
        [MQTT5-3.1.2-3] [MQTT5-3.1.4-1] [MQTT311-3.1.2-3] [MQTT311-3.1.4-1]"""
        self.hold("CONNECT, reserved", "CONNECT, empty (0)", "CONNECT, no")

    def test_order_of_the_fields(self) -> None:
        """The fields of a CONNECT come in one order. [MQTT5-3.1.3-1] [MQTT5-3.1.3-3]
        [MQTT5-3.1.3-4] [MQTT311-3.1.3-1] [MQTT311-3.1.3-3] [MQTT311-3.1.3-4]"""
        for version in (4, 5):
            [vector] = [v for v in PACKETS if v.name.startswith("CONNECT, ")
                        and v.version == version
                        and v.packet.password == b"pw"]  # fmt: skip
            decoder = vector.decoder()
            self.assertEqual(describe([vector.packet]), describe(decoder.receive(vector.raw)))

    def test_versions(self) -> None:
        """Other protocol names and versions are told apart from malformed packets.
        [MQTT5-3.1.2-1] [MQTT5-3.1.2-2] [MQTT311-3.1.2-1] [MQTT311-3.1.2-2]"""
        self.hold("CONNECT, another", "CONNECT, version", "CONNECT, bridge bit")
        for level in range(256):
            decoder = Decoder(1000)
            decoder.receive(b"\x10\x0e\0\4MQTT" + bytes((level,)) + b"\2\0\0\0\0\1a"[:7])
            decoder.receive(b"\0")
            expected = (
                MalformedPacket if level in (4, 0x84) else None if level == 5
                else UnsupportedVersion
            )  # fmt: skip
            self.assertIs(expected, decoder.error and type(decoder.error), level)
            self.assertEqual(5 if 5 <= level < 0x80 else 4, decoder.version)

    def test_client_identifiers(self) -> None:
        """Without a client identifier a 3.1.1 client may not keep its session, and a 3.1 client
        has none. [MQTT311-3.1.3-6] [MQTT311-3.1.3-7] [MQTT311-3.1.3-8] [MQTT5-3.1.3-6]"""
        self.hold("CONNECT, no client identifier", "CONNECT, kept session")
        for version, clean, error in (
            (3, True, ClientIdentifierNotValid), (3, False, ClientIdentifierNotValid),
            (4, True, None), (4, False, ClientIdentifierNotValid), (5, True, None),
            (5, False, None),
        ):  # fmt: skip
            decoder = Decoder(1000)
            decoder.receive(encode(Connect(version, "", clean), version))
            self.assertIs(error, decoder.error and type(decoder.error))

    def test_byte_order_mark(self) -> None:
        """U+FEFF stays in topics and client identifiers (H13). [MQTT5-1.5.4-3]
        [MQTT311-1.5.3-3]"""
        decoder = Decoder(1000)
        connect = encode(Connect(4, "\ufeffid"), 4)
        publish = encode([Publish("\ufeff/t", b"")], 4)
        packets = decoder.receive(connect + publish)
        self.assertEqual("\ufeffid", packets[0].client_id)  # type: ignore[union-attr]
        self.assertEqual("\ufeff/t", packets[1][0].topic)  # type: ignore[index]

    def test_subscribe_and_unsubscribe(self) -> None:
        """There is at least one filter, each is a string and not empty, and options are of the
        version (H3). [MQTT5-3.8.3-1] [MQTT5-3.8.3-2] [MQTT5-3.8.3-4] [MQTT5-3.8.3-5]
        [MQTT5-3.10.3-1] [MQTT5-3.10.3-2] [MQTT5-4.7.3-1] [MQTT311-3.8.3-1] [MQTT311-3.8.3-3]
        [MQTT311-3.10.3-1] [MQTT311-3.10.3-2] [MQTT311-4.7.3-1]"""
        self.hold(
            "SUBSCRIBE, no filter", "SUBSCRIBE, empty", "SUBSCRIBE, filter", "SUBSCRIBE, QoS 3",
            "SUBSCRIBE, options", "SUBSCRIBE, retain handling", "SUBSCRIBE, reserved",
            "SUBSCRIBE, no local", "UNSUBSCRIBE, no filter", "UNSUBSCRIBE, empty",
            "UNSUBSCRIBE, half",
        )  # fmt: skip

    def test_reasons(self) -> None:
        """A reason code that its packet does not have, or not from that side, is refused.
        [MQTT5-3.2.2-8] [MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT5-3.6.2-1] [MQTT5-3.7.2-1]
        [MQTT5-3.9.3-2] [MQTT5-3.11.3-2] [MQTT5-3.14.2-1] [MQTT5-3.15.2-1]
        [MQTT311-3.9.3-2]"""
        self.hold(
            "CONNACK, a reason", "CONNACK, return code", "PUBACK, a reason", "PUBREC, an unknown",
            "PUBREL, a reason", "PUBCOMP, a reason", "SUBACK, an unknown", "SUBACK, a reason",
            "SUBACK, a failure", "UNSUBACK, an unknown", "DISCONNECT, a reason",
            "AUTH, success from", "AUTH, re-authenticate from",
        )  # fmt: skip

    def test_properties(self) -> None:
        """Properties that are wrong in any packet end the connection (H5). [MQTT5-1.5.7-1]
        [MQTT5-2.2.2-1] [MQTT5-3.2.2-1] [MQTT5-3.3.2-8] [MQTT5-3.3.2-14] [MQTT5-3.3.4-6]
        [MQTT5-3.14.2-2]"""
        self.hold(
            "PUBLISH, no property length", "PUBLISH, half of a user", "PUBLISH, user property",
            "PUBLISH, topic alias", "PUBLISH, response topic", "PUBLISH, subscription identifier",
            "DISCONNECT, session expiry", "CONNACK, reserved", "CONNECT, no properties",
        )  # fmt: skip
