"""The primitive types on the wire."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.codec.wire import (
    VARINT_MAXIMUM,
    TopicNames,
    encode_binary,
    encode_number,
    encode_string,
    encode_varint,
    read_binary,
    read_packet_id,
    read_string,
    read_two,
    read_varint,
)
from mop_twisted.errors import (
    MalformedPacket,
    MisuseError,
    ProtocolBreach,
    TopicNameInvalid,
)


class VarintTests(SynchronousTestCase):
    """Variable byte integers."""

    def test_table_of_the_specification(self) -> None:
        """The borders between one, two, three and four bytes are where MQTT puts them.
        [MQTT5-1.5.5-1]"""
        rows = [
            (0, b"\x00"),
            (127, b"\x7f"),
            (128, b"\x80\x01"),
            (16_383, b"\xff\x7f"),
            (16_384, b"\x80\x80\x01"),
            (2_097_151, b"\xff\xff\x7f"),
            (2_097_152, b"\x80\x80\x80\x01"),
            (VARINT_MAXIMUM, b"\xff\xff\xff\x7f"),
        ]
        for value, raw in rows:
            self.assertEqual(raw, encode_varint(value))
            self.assertEqual((value, len(raw)), read_varint(raw, 0, len(raw)))

    @settings(max_examples=100, deadline=None, database=None, derandomize=True)
    @given(st.integers(0, VARINT_MAXIMUM), st.binary(max_size=3))
    def test_round_trip(self, value: int, before: bytes) -> None:
        """Every value survives, wherever it stands in a read."""
        raw = before + encode_varint(value) + b"\xff"
        self.assertEqual((value, len(raw) - 1), read_varint(raw, len(before), len(raw)))

    def test_no_longer_than_need_be(self) -> None:
        """A number in more bytes than it needs is malformed. [MQTT5-1.5.5-1]"""
        for raw in (b"\x80\x00", b"\x81\x00", b"\xff\x80\x00", b"\x80\x80\x80\x00"):
            self.assertRaises(MalformedPacket, read_varint, raw, 0, len(raw))

    def test_at_most_four_bytes(self) -> None:
        """Five bytes are malformed however few bits they carry (H2)."""
        for raw in (b"\xff\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x01"):
            self.assertRaises(MalformedPacket, read_varint, raw, 0, len(raw))

    def test_cut_off(self) -> None:
        """A number that is not there, or not to its end, is malformed."""
        for raw in (b"", b"\x80", b"\xff\xff"):
            self.assertRaises(MalformedPacket, read_varint, raw, 0, len(raw))
        # There are more bytes, but they are not the packet's.
        self.assertRaises(MalformedPacket, read_varint, b"\x80\x01", 0, 1)

    def test_what_does_not_fit_is_our_bug(self) -> None:
        """We never send a length that MQTT cannot say."""
        self.assertRaises(MisuseError, encode_varint, -1)
        self.assertRaises(MisuseError, encode_varint, VARINT_MAXIMUM + 1)


class FieldTests(SynchronousTestCase):
    """Numbers, binary and strings."""

    def test_cut_off(self) -> None:
        """A field that reaches over the end of its packet is malformed, though the read has
        more bytes behind it (H2)."""
        data = b"\x00\x05hello"
        self.assertEqual((b"hello", 7), read_binary(data, 0, 7))
        for end in range(7):
            self.assertRaises(MalformedPacket, read_binary, data, 0, end)
            self.assertRaises(MalformedPacket, read_string, data, 0, end)
        self.assertRaises(MalformedPacket, read_two, data, 0, 1)
        self.assertRaises(MalformedPacket, read_packet_id, data, 6, 7)

    def test_packet_identifier_0(self) -> None:
        """Packet identifier 0 does not exist (H3). [MQTT5-2.2.1-3] [MQTT311-2.3.1-1]"""
        self.assertRaises(ProtocolBreach, read_packet_id, b"\0\0", 0, 2)
        self.assertEqual(0x0102, read_packet_id(b"\1\2", 0, 2))

    def test_well_formed_utf_8(self) -> None:
        """Surrogates, overlong forms, code points over U+10FFFF and stray bytes are malformed
        (H13). [MQTT5-1.5.4-1] [MQTT311-1.5.3-1]"""
        for raw in (
            b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\xbd\xed\xb8\x80", b"\xc0\x80",
            b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf4\x90\x80\x80", b"\xff",
            b"\x80", b"\xc3", b"\xe2\x82", b"a\xf0\x9f\x98",
        ):  # fmt: skip
            data = encode_binary(raw)
            self.assertRaises(MalformedPacket, read_string, data, 0, len(data))

    def test_no_null_character(self) -> None:
        """A string with U+0000 is malformed, wherever it is (H13). [MQTT5-1.5.4-2]
        [MQTT311-1.5.3-2]"""
        for text in ("\0", "a\0", "\0a", "a\0b"):
            data = encode_string(text)
            self.assertRaises(MalformedPacket, read_string, data, 0, len(data))

    def test_byte_order_mark_is_kept(self) -> None:
        """U+FEFF is a character: neither skipped nor stripped (H13). [MQTT5-1.5.4-3]
        [MQTT311-1.5.3-3]"""
        data = b"\x00\x07\xef\xbb\xbfa\xef\xbb\xbf"
        self.assertEqual(("\ufeffa\ufeff", 9), read_string(data, 0, 9))

    def test_other_characters_are_let_through(self) -> None:
        """Control characters and non-characters are for the rooms above to refuse."""
        text = "\x01\x1f\x7f\x85\x9f\ufdd0\uffff\U0001ffff\U0001f600"
        data = encode_string(text)
        self.assertEqual((text, len(data)), read_string(data, 0, len(data)))

    def test_longest(self) -> None:
        """65535 bytes fit into a field, and not one more; characters do not count.
        [MQTT5-4.7.3-3] [MQTT311-4.7.3-3]"""
        longest = "x" * 65_535
        self.assertEqual((longest, 65_537), read_string(encode_string(longest), 0, 65_537))
        self.assertRaises(MisuseError, encode_string, longest + "x")
        self.assertRaises(MisuseError, encode_string, "\u20ac" * 21_846)
        self.assertRaises(MisuseError, encode_binary, bytes(65_536))

    def test_what_cannot_be_said_is_our_bug(self) -> None:
        """A lone surrogate or a number too large is never sent mangled."""
        self.assertRaises(MisuseError, encode_string, "\ud800")
        self.assertRaises(MisuseError, encode_number, 65_536, 2)
        self.assertRaises(MisuseError, encode_number, -1, 4)


class TopicNamesTests(SynchronousTestCase):
    """The names that were seen lately."""

    def test_one_object_a_name(self) -> None:
        """The same topic is the same object, whoever published to it."""
        names = TopicNames(10, 10)
        self.assertIs(names.name_of(b"a/b"), names.name_of(b"a/b"[:1] + b"/b"))

    def test_bounded(self) -> None:
        """A flood of new topics costs no more memory than two generations; long names are not
        kept at all."""
        names = TopicNames(10, 10)
        for number in range(1000):
            self.assertEqual(f"t/{number}", names.name_of(b"t/%d" % number))
            names.name_of(b"a topic longer than ten bytes %d" % number)
            self.assertTrue(len(names) <= 20)

    def test_what_is_used_stays(self) -> None:
        """A name in use outlives a flood of others."""
        names = TopicNames(10, 10)
        name = names.name_of(b"used")
        for number in range(100):
            names.name_of(b"t/%d" % number)
            self.assertIs(name, names.name_of(b"used"))

    def test_the_dict_stays_the_same(self) -> None:
        """The hot loop may hold C{recent} over a change of generations."""
        names = TopicNames(2, 10)
        recent = names.recent
        for raw in (b"a", b"b", b"c", b"d", b"e"):
            names.name_of(raw)
            self.assertIn(raw, recent)
        self.assertIs(recent, names.recent)

    def test_checked(self) -> None:
        """What may not be published to never gets in. [MQTT5-3.3.2-2] [MQTT5-4.7.0-1]
        [MQTT5-4.7.3-1] [MQTT5-4.7.3-2] [MQTT311-3.3.2-2] [MQTT311-4.7.1-1] [MQTT311-4.7.3-1]
        [MQTT311-4.7.3-2]"""
        names = TopicNames(10, 10)
        for raw in (b"+", b"#", b"a/+/b", b"a/#", b"a+", b"#a"):
            self.assertRaises(TopicNameInvalid, names.name_of, raw)
        self.assertRaises(ProtocolBreach, names.name_of, b"")
        self.assertRaises(MalformedPacket, names.name_of, b"a\0")
        self.assertRaises(MalformedPacket, names.name_of, b"\xff")
        self.assertEqual(0, len(names))
