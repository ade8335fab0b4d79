"""The properties of MQTT 5.0."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.codec import properties as p
from mop_twisted.codec.packets import (
    AUTH,
    CONNACK,
    CONNECT,
    NO_PROPERTIES,
    PUBACK,
    PUBLISH,
    SUBSCRIBE,
    Properties,
)
from mop_twisted.codec.properties import (
    PROPERTIES,
    PUBLISH_OF_CLIENT,
    WILL,
    encode_properties,
    read_properties,
)
from mop_twisted.codec.wire import encode_varint
from mop_twisted.errors import (
    MalformedPacket,
    MisuseError,
    PacketTooLarge,
    PeerError,
    ProtocolBreach,
    TopicAliasInvalid,
)

PLACES = range(18)


def sample(identifier: int) -> Any:
    """A value that this property may have."""
    kind = PROPERTIES[identifier][1]
    return {
        p.BYTE: 1, p.TWO_BYTES: 258, p.FOUR_BYTES: 16_909_060, p.VARINT: [300], p.STRING: "x/y",
        p.BINARY: b"\0\xff", p.PAIR: [("name", "value")],
    }[kind]  # fmt: skip


def read(raw: bytes, place: int, most: int = 100) -> Properties:
    """All of C{raw} as properties."""
    properties, at = read_properties(raw, 0, len(raw), place, most)
    assert at == len(raw), (at, len(raw))
    return properties


class TableTests(SynchronousTestCase):
    """Every property in every packet."""

    def test_all_27(self) -> None:
        """The table knows the 27 properties of MQTT 5.0, each under its own number."""
        self.assertEqual(
            [1, 2, 3, 8, 9, 11, 17, 18, 19, 21, 22, 23, 24, 25, 26, 28, 31, *range(33, 43)],
            sorted(PROPERTIES),
        )

    def test_where_they_are_allowed(self) -> None:
        """A property is read back where it belongs and refused everywhere else."""
        for identifier, (name, _, places, _) in PROPERTIES.items():
            properties: Properties = {identifier: sample(identifier)}
            if identifier == p.AUTHENTICATION_DATA:
                properties = {p.AUTHENTICATION_METHOD: "x", **properties}
            raw = encode_properties(properties)
            for place in PLACES:
                if place in places:
                    self.assertEqual(properties, read(raw, place), name)
                else:
                    self.assertRaises(ProtocolBreach, read, raw, place)

    def test_twice(self) -> None:
        """A property that may come once is refused when it comes twice (H5)."""
        for identifier, (name, _, places, _) in PROPERTIES.items():
            one = encode_properties({identifier: sample(identifier)})[1:]
            raw = encode_varint(2 * len(one)) + one + one
            for place in places:
                if identifier == p.USER_PROPERTY:
                    self.assertEqual(2, len(read(raw, place)[identifier]))
                elif identifier == p.SUBSCRIPTION_IDENTIFIER and place == PUBLISH:
                    self.assertEqual({identifier: [300, 300]}, read(raw, place))
                else:
                    error = self.assertRaises(ProtocolBreach, read, raw, place)
                    self.assertIn(name, str(error))

    def test_cut_off(self) -> None:
        """A property that the property length cuts off is malformed (H2, H5)."""
        for identifier, (_, _, places, _) in PROPERTIES.items():
            raw = encode_properties({identifier: sample(identifier)})
            for length in range(1, len(raw) - 1):
                short = bytes((length,)) + raw[1:]
                error = self.assertRaises(
                    PeerError, read_properties, short, 0, len(short), places[0], 100
                )
                self.assertIsInstance(error, MalformedPacket)

    def test_unknown(self) -> None:
        """Numbers that no property has are malformed."""
        for identifier in set(range(256)) - set(PROPERTIES):
            raw = bytes((2, identifier, 0))
            self.assertRaises(MalformedPacket, read, raw, CONNECT)

    def test_property_length(self) -> None:
        """A property length that is missing, or reaches over the packet, is malformed.
        [MQTT5-2.2.2-1]"""
        self.assertRaises(MalformedPacket, read, b"", PUBLISH)
        self.assertRaises(MalformedPacket, read, b"\x80", PUBLISH)
        self.assertRaises(MalformedPacket, read, b"\x03\x01\x01", PUBLISH)
        self.assertIs(NO_PROPERTIES, read(b"\x00", PUBLISH))
        self.assertEqual(b"\x00", encode_properties(NO_PROPERTIES))
        self.assertEqual(b"\x00", encode_properties({p.USER_PROPERTY: []}))


class ValueTests(SynchronousTestCase):
    """Values that the specification forbids."""

    def test_flags(self) -> None:
        """What is a yes or no is 0 or 1."""
        for identifier, (_, kind, places, values) in PROPERTIES.items():
            if kind != p.BYTE:
                continue
            self.assertEqual(p.FLAG, values)
            for value in (2, 255):
                raw = bytes((2, identifier, value))
                self.assertRaises(ProtocolBreach, read, raw, places[0])

    def test_not_zero(self) -> None:
        """Receive Maximum, Maximum Packet Size and Subscription Identifier are not 0."""
        rows = [
            (b"\x03\x21\0\0", CONNECT),
            (b"\x05\x27\0\0\0\0", CONNECT),
            (b"\x03\x21\0\0", CONNACK),
            (b"\x02\x0b\0", SUBSCRIBE),
        ]
        for raw, place in rows:
            self.assertRaises(ProtocolBreach, read, raw, place)

    def test_topic_alias_0(self) -> None:
        """Topic Alias 0 has a reason code of its own (H5). [MQTT5-3.3.2-8]"""
        self.assertRaises(TopicAliasInvalid, read, b"\x03\x23\0\0", PUBLISH_OF_CLIENT)

    def test_response_topic(self) -> None:
        """A Response Topic is a topic name: UTF-8, not empty, without wildcards.
        [MQTT5-3.3.2-13] [MQTT5-3.3.2-14] [MQTT5-4.7.3-1]"""
        for raw in (b"\x04\x08\0\1+", b"\x06\x08\0\3a/#", b"\x03\x08\0\0"):
            self.assertRaises(ProtocolBreach, read, raw, PUBLISH_OF_CLIENT)
            self.assertRaises(ProtocolBreach, read, raw, WILL)
        self.assertRaises(MalformedPacket, read, b"\x04\x08\0\1\xff", PUBLISH_OF_CLIENT)

    def test_strings(self) -> None:
        """Content Type and both halves of a User Property are UTF-8 without U+0000.
        [MQTT5-1.5.7-1] [MQTT5-3.3.2-19]"""
        for raw in (
            b"\x04\x03\0\1\xff", b"\x04\x03\0\1\0", b"\x07\x26\0\1\xff\0\1v",
            b"\x07\x26\0\1k\0\1\xff", b"\x07\x26\0\1\0\0\1v",
        ):  # fmt: skip
            self.assertRaises(MalformedPacket, read, raw, PUBLISH_OF_CLIENT)

    def test_authentication_data_needs_a_method(self) -> None:
        """Authentication Data alone is refused, whatever their order."""
        data = b"\x16\0\1d"
        method = b"\x15\0\1m"
        for place in (CONNECT, CONNACK, AUTH):
            self.assertRaises(ProtocolBreach, read, b"\x04" + data, place)
            read(b"\x08" + data + method, place)
            read(b"\x08" + method + data, place)

    def test_subscription_identifiers_of_a_client(self) -> None:
        """Only servers put Subscription Identifiers into a PUBLISH. [MQTT5-3.3.4-6]"""
        self.assertRaises(ProtocolBreach, read, b"\x02\x0b\1", PUBLISH_OF_CLIENT)
        self.assertEqual({p.SUBSCRIPTION_IDENTIFIER: [1]}, read(b"\x02\x0b\1", PUBLISH))


class UserPropertyTests(SynchronousTestCase):
    """Any number of names and values."""

    def test_order_and_repetition(self) -> None:
        """User Properties keep their order, and the same name may come again, with others
        between them. [MQTT5-3.1.3-10] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18]"""
        pairs = [("b", "1"), ("a", "2"), ("b", "1"), ("", "")]
        raw = encode_properties({p.USER_PROPERTY: pairs})
        self.assertEqual({p.USER_PROPERTY: pairs}, read(raw, PUBLISH))
        apart = b"\x10\x26\0\1b\0\x011\x01\x01\x26\0\1a\0\x012"
        self.assertEqual(
            {p.USER_PROPERTY: [("b", "1"), ("a", "2")], p.PAYLOAD_FORMAT_INDICATOR: 1},
            read(apart, PUBLISH),
        )

    def test_cap(self) -> None:
        """More of them than the limit allows is a packet too large (H6)."""
        raw = encode_properties({p.USER_PROPERTY: [("k", "v")] * 11})
        self.assertEqual(11, len(read(raw, PUBACK, 11)[p.USER_PROPERTY]))
        self.assertRaises(PacketTooLarge, read, raw, PUBACK, 10)

    def test_linear(self) -> None:
        """100 000 of them take ten times as long as 10 000, not a hundred times (H6)."""

        def seconds(count: int) -> float:
            raw = encode_properties({p.USER_PROPERTY: [("k", "v")] * count})
            best = 1e9
            for _ in range(3):
                began = time.process_time()
                read(raw, PUBLISH, count)
                best = min(best, time.process_time() - began)
            return best

        self.assertTrue(seconds(100_000) < 40 * seconds(10_000))


class EncodeTests(SynchronousTestCase):
    """What we write."""

    def test_order_of_the_dict(self) -> None:
        """Properties are written in the order in which they are given."""
        self.assertEqual(
            b"\x06\x25\1\x24\1\x28\0",
            encode_properties(
                {
                    p.RETAIN_AVAILABLE: 1,
                    p.MAXIMUM_QOS: 1,
                    p.WILDCARD_SUBSCRIPTION_AVAILABLE: 0,
                }
            ),
        )

    def test_our_own_bugs(self) -> None:
        """An unknown property, or a value too large for it, is not sent."""
        self.assertRaises(MisuseError, encode_properties, {4: 1})
        self.assertRaises(MisuseError, encode_properties, {p.RECEIVE_MAXIMUM: 65_536})
        self.assertRaises(MisuseError, encode_properties, {p.REASON_STRING: "x" * 65_536})
