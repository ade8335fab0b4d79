"""PUBLISH and its acknowledgements, byte by byte."""

from __future__ import annotations

from typing import Final

from mop_twisted.codec import properties as p
from mop_twisted.codec.packets import PUBACK, PUBCOMP, PUBREC, PUBREL, Ack, Acks, Publish
from mop_twisted.errors import (
    MalformedPacket,
    ProtocolBreach,
    TopicAliasInvalid,
    TopicNameInvalid,
)

from .vector import Vector as V

ROWS: Final = [
    V("PUBLISH, QoS 0", 3,
      b"\x30\x05"  # PUBLISH, QoS 0; remaining length 5
      b"\x00\x01a"  # topic name
      b"hi",  # payload
      [Publish("a", b"hi")]),
    V("PUBLISH, QoS 0", 4,
      b"\x30\x05\x00\x01ahi",  # PUBLISH, QoS 0; topic name, payload
      [Publish("a", b"hi")]),
    V("PUBLISH, QoS 0", 5,
      b"\x30\x06"  # PUBLISH, QoS 0; remaining length 6
      b"\x00\x01a"  # topic name
      b"\x00"  # no properties
      b"hi",  # payload
      [Publish("a", b"hi")]),
    V("PUBLISH, QoS 1, no payload", 4,
      b"\x32\x05"  # PUBLISH, QoS 1; remaining length 5
      b"\x00\x01a"  # topic name
      b"\x00\x07",  # packet identifier
      [Publish("a", b"", 1, packet_id=7)]),
    V("PUBLISH, QoS 2, DUP, RETAIN", 4,
      b"\x3d\x06"  # PUBLISH, DUP, QoS 2, RETAIN; remaining length 6
      b"\x00\x01a\xff\xffx",  # topic name, packet identifier, payload
      [Publish("a", b"x", 2, True, 65535, dup=True)]),
    V("PUBLISH, QoS 1, DUP", 3,
      b"\x3a\x06\x00\x01a\x00\x01x",  # PUBLISH, DUP, QoS 1; topic name, packet identifier, payload
      [Publish("a", b"x", 1, packet_id=1, dup=True)]),
    V("PUBLISH, QoS 1, RETAIN", 5,
      b"\x33\x07"  # PUBLISH, QoS 1, RETAIN; remaining length 7
      b"\x00\x01a\x01\x00\x00x",  # topic name, packet identifier, no properties, payload
      [Publish("a", b"x", 1, True, 256)]),
    V("PUBLISH, all properties", 5,
      b"\x34\x31"  # PUBLISH, QoS 2; remaining length 49
      b"\x00\x01a\x00\x09"  # topic name, packet identifier
      b"\x2a"  # property length 42
      b"\x01\x01"  # payload format indicator
      b"\x02\x00\x00\x00\x1e"  # message expiry interval 30
      b"\x23\x00\x04"  # topic alias 4
      b"\x08\x00\x02re"  # response topic
      b"\x09\x00\x01\x00"  # correlation data
      b"\x26\x00\x01k\x00\x01b"  # user property k: b
      b"\x26\x00\x01k\x00\x01a"  # user property k: a
      b"\x03\x00\x06text/x"  # content type
      b"x",  # payload
      [Publish("a", b"x", 2, False, 9, {
          p.PAYLOAD_FORMAT_INDICATOR: 1, p.MESSAGE_EXPIRY_INTERVAL: 30, p.TOPIC_ALIAS: 4,
          p.RESPONSE_TOPIC: "re", p.CORRELATION_DATA: b"\0",
          p.USER_PROPERTY: [("k", "b"), ("k", "a")], p.CONTENT_TYPE: "text/x",
      })], "MQTT5-3.3.2-18"),
    V("PUBLISH, topic alias in place of the topic", 5,
      b"\x30\x07"  # PUBLISH, QoS 0; remaining length 7
      b"\x00\x00"  # empty topic name
      b"\x03\x23\x00\x04"  # properties: topic alias 4
      b"x",  # payload
      [Publish("", b"x", properties={p.TOPIC_ALIAS: 4})]),
    V("PUBLISH, subscription identifiers", 5,
      b"\x30\x0c"  # PUBLISH, QoS 0; remaining length 12
      b"\x00\x01a"  # topic name
      b"\x07\x0b\x01"  # properties: subscription identifier 1
      b"\x0b\xff\xff\xff\x7f"  # subscription identifier 268435455
      b"x",  # payload
      [Publish("a", b"x", properties={p.SUBSCRIPTION_IDENTIFIER: [1, 268435455]})],
      "MQTT5-3.3.4-4", role="client"),
    V("PUBLISH, remaining length of two bytes", 4,
      b"\x30\x83\x01"  # PUBLISH, QoS 0; remaining length 131
      b"\x00\x01a" + b"x" * 128,  # topic name, payload
      [Publish("a", b"x" * 128)]),
    V("PUBLISH, remaining length of three bytes", 4,
      b"\x30\x83\x80\x01"  # PUBLISH, QoS 0; remaining length 16387
      b"\x00\x01a" + b"x" * 16384,  # topic name, payload
      [Publish("a", b"x" * 16384)]),
    V("PUBLISH, topic outside of ASCII", 4,
      b"\x30\x09\x00\x06\xc3\xa4/\xe2\x82\xacx",  # PUBLISH; topic name, payload
      [Publish("\u00e4/\u20ac", b"x")]),
    V("PUBLISH, control characters in the topic", 4,
      b"\x30\x06\x00\x03\x01\x7f\nx",  # PUBLISH; topic name U+0001 U+007F U+000A, payload
      [Publish("\x01\x7f\n", b"x")]),
    V("PUBLISH, 65535 slashes", 4,
      b"\x30\x81\x80\x04\xff\xff" + b"/" * 65535,  # PUBLISH; topic name
      [Publish("/" * 65535, b"")], "MQTT311-4.7.3-3"),
    V("PUBLISH, QoS 3", 4,
      b"\x36\x06\x00\x01a\x00\x01x",  # PUBLISH, QoS 3; topic name, packet identifier, payload
      MalformedPacket, "MQTT311-3.3.1-4"),
    V("PUBLISH, QoS 3, DUP, RETAIN", 5,
      b"\x3f\x06\x00\x01a\x00\x01\x00",  # PUBLISH, QoS 3; topic name, identifier, no properties
      MalformedPacket, "MQTT5-3.3.1-4"),
    V("PUBLISH, DUP with QoS 0", 4,
      b"\x38\x04\x00\x01ax",  # PUBLISH, DUP, QoS 0; topic name, payload
      MalformedPacket, "MQTT311-3.3.1-2"),
    V("PUBLISH, DUP with QoS 0", 5,
      b"\x38\x05\x00\x01a\x00x",  # PUBLISH, DUP, QoS 0; topic name, no properties, payload
      MalformedPacket, "MQTT5-3.3.1-2"),
    V("PUBLISH, packet identifier 0", 4,
      b"\x32\x06\x00\x01a\x00\x00x",  # PUBLISH, QoS 1; topic name, packet identifier, payload
      ProtocolBreach, "MQTT311-2.3.1-1"),
    V("PUBLISH, packet identifier 0", 5,
      b"\x34\x06\x00\x01a\x00\x00\x00",  # PUBLISH, QoS 2; topic name, identifier, no properties
      ProtocolBreach, "MQTT5-2.2.1-3"),
    V("PUBLISH, empty", 4,
      b"\x30\x00",  # PUBLISH; remaining length 0
      MalformedPacket),
    V("PUBLISH, half a length", 4,
      b"\x30\x01\x00",  # PUBLISH; half of the topic's length
      MalformedPacket),
    V("PUBLISH, topic over the packet", 4,
      b"\x30\x04\xff\xffab",  # PUBLISH; topic name of 65535 bytes, of which there are 2
      MalformedPacket),
    V("PUBLISH, packet identifier cut off", 4,
      b"\x32\x04\x00\x01a\x00",  # PUBLISH, QoS 1; topic name; half of a packet identifier
      MalformedPacket),
    V("PUBLISH, no property length", 5,
      b"\x30\x03\x00\x01a",  # PUBLISH; topic name
      MalformedPacket, "MQTT5-2.2.2-1"),
    V("PUBLISH, topic with +", 4,
      b"\x30\x06\x00\x03a/+x",  # PUBLISH; topic name, payload
      TopicNameInvalid, "MQTT311-3.3.2-2"),
    V("PUBLISH, topic with #", 5,
      b"\x30\x06\x00\x03a/#\x00",  # PUBLISH; topic name, no properties
      TopicNameInvalid, "MQTT5-3.3.2-2"),
    V("PUBLISH, empty topic", 3,
      b"\x30\x03\x00\x00x",  # PUBLISH; empty topic name, payload
      ProtocolBreach),
    V("PUBLISH, empty topic", 4,
      b"\x30\x03\x00\x00x",  # PUBLISH; empty topic name, payload
      ProtocolBreach, "MQTT311-4.7.3-1"),
    V("PUBLISH, neither topic nor alias", 5,
      b"\x30\x04\x00\x00\x00x",  # PUBLISH; empty topic name, no properties, payload
      ProtocolBreach),
    V("PUBLISH, topic alias 0", 5,
      b"\x30\x06\x00\x00\x03\x23\x00\x00",  # PUBLISH; empty topic name; topic alias 0
      TopicAliasInvalid, "MQTT5-3.3.2-8"),
    V("PUBLISH, topic alias twice", 5,
      b"\x30\x09\x00\x00\x06\x23\x00\x01\x23\x00\x01",  # PUBLISH; empty topic; alias 1, alias 1
      ProtocolBreach),
    V("PUBLISH, U+0000 in the topic", 4,
      b"\x30\x05\x00\x03a\x00b",  # PUBLISH; topic name
      MalformedPacket, "MQTT311-4.7.3-2"),
    V("PUBLISH, surrogates in the topic", 5,
      b"\x30\x06\x00\x03\xed\xbf\xbf\x00",  # PUBLISH; topic name U+DFFF; no properties
      MalformedPacket, "MQTT5-1.5.4-1"),
    V("PUBLISH, topic cut in a character", 4,
      b"\x30\x04\x00\x02a\xc3",  # PUBLISH; topic name
      MalformedPacket, "MQTT311-1.5.3-1"),
    V("PUBLISH, subscription identifier from a client", 5,
      b"\x30\x06\x00\x01a\x02\x0b\x01",  # PUBLISH; topic name; subscription identifier 1
      ProtocolBreach, "MQTT5-3.3.4-6"),
    V("PUBLISH, subscription identifier 0", 5,
      b"\x30\x06\x00\x01a\x02\x0b\x00",  # PUBLISH; topic name; subscription identifier 0
      ProtocolBreach, role="client"),
    V("PUBLISH, subscription identifier of five bytes", 5,
      b"\x30\x0a\x00\x01a"  # PUBLISH; topic name
      b"\x06\x0b\x80\x80\x80\x80\x01",  # subscription identifier
      MalformedPacket, "MQTT5-1.5.5-1", role="client"),
    V("PUBLISH, payload format indicator 2", 5,
      b"\x30\x06\x00\x01a\x02\x01\x02",  # PUBLISH; topic name; payload format indicator
      ProtocolBreach),
    V("PUBLISH, response topic with a wildcard", 5,
      b"\x30\x08\x00\x01a\x04\x08\x00\x01#",  # PUBLISH; topic name; response topic
      ProtocolBreach, "MQTT5-3.3.2-14"),
    V("PUBLISH, correlation data over the properties", 5,
      b"\x30\x08\x00\x01a\x03\x09\x00\x01x",  # PUBLISH; topic name; correlation data; payload
      MalformedPacket),
    V("PUBLISH, half of a user property", 5,
      b"\x30\x08\x00\x01a\x04\x26\x00\x01k",  # PUBLISH; topic name; user property without value
      MalformedPacket, "MQTT5-1.5.7-1"),
    V("PUBLISH, user property that is no UTF-8", 5,
      b"\x30\x0b\x00\x01a\x07\x26\x00\x01k\x00\x01\xff",  # PUBLISH; topic name; k: 0xFF
      MalformedPacket, "MQTT5-1.5.7-1"),
    V("PUBLISH, a property of CONNECT", 5,
      b"\x30\x07\x00\x01a\x03\x21\x00\x01",  # PUBLISH; topic name; receive maximum
      ProtocolBreach),
    V("PUBLISH, a will's property", 5,
      b"\x30\x09\x00\x01a\x05\x18\x00\x00\x00\x01",  # PUBLISH; topic name; will delay interval
      ProtocolBreach),

    V("PUBACK", 3, b"\x40\x02\x00\x01",  # PUBACK; packet identifier
      Acks(PUBACK, [1])),
    V("PUBACK", 4, b"\x40\x02\x00\x01",  # PUBACK; packet identifier
      Acks(PUBACK, [1])),
    V("PUBREC", 4, b"\x50\x02\x00\x02",  # PUBREC; packet identifier
      Acks(PUBREC, [2])),
    V("PUBREL", 4, b"\x62\x02\x00\x03",  # PUBREL; packet identifier
      Acks(PUBREL, [3])),
    V("PUBCOMP", 4, b"\x70\x02\xff\xff",  # PUBCOMP; packet identifier
      Acks(PUBCOMP, [65535])),
    V("PUBACK", 5, b"\x40\x02\x00\x01",  # PUBACK; packet identifier
      Acks(PUBACK, [1])),
    V("PUBREL, sent again", 3, b"\x6a\x02\x00\x03",  # PUBREL, DUP; packet identifier
      Acks(PUBREL, [3]), canonical=False),
    V("PUBACK, success said at length", 5,
      b"\x40\x03\x00\x01\x00",  # PUBACK; packet identifier; success
      Acks(PUBACK, [1]), canonical=False),
    V("PUBCOMP, success said at full length", 5,
      b"\x70\x04\x00\x01\x00\x00",  # PUBCOMP; packet identifier; success; no properties
      Acks(PUBCOMP, [1]), canonical=False),
    V("PUBACK, no matching subscribers", 5,
      b"\x40\x03\x00\x01\x10",  # PUBACK; packet identifier; reason
      Ack(PUBACK, 1, 0x10)),
    V("PUBREC, refused", 5,
      b"\x50\x09\x00\x01\x97"  # PUBREC; packet identifier; quota exceeded
      b"\x05\x1f\x00\x02no",  # properties: reason string
      Ack(PUBREC, 1, 0x97, {p.REASON_STRING: "no"})),
    V("PUBREL, packet identifier not found", 5,
      b"\x62\x03\x00\x01\x92",  # PUBREL; packet identifier; reason
      Ack(PUBREL, 1, 0x92)),
    V("PUBCOMP, user property", 5,
      b"\x70\x0b\x00\x01\x00"  # PUBCOMP; packet identifier; success
      b"\x07\x26\x00\x01k\x00\x01v",  # properties: user property k: v
      Ack(PUBCOMP, 1, 0, {p.USER_PROPERTY: [("k", "v")]})),
    V("PUBACK, packet identifier 0", 4,
      b"\x40\x02\x00\x00",  # PUBACK; packet identifier
      ProtocolBreach),
    V("PUBACK, packet identifier 0 with a reason", 5,
      b"\x40\x03\x00\x00\x10",  # PUBACK; packet identifier; reason
      ProtocolBreach),
    V("PUBACK, too short", 4,
      b"\x40\x01\x00",  # PUBACK; half a packet identifier
      MalformedPacket),
    V("PUBACK, too long", 4,
      b"\x40\x03\x00\x01\x00",  # PUBACK; packet identifier; one byte more
      MalformedPacket),
    V("PUBREC, too long", 3,
      b"\x50\x04\x00\x01\x00\x00",  # PUBREC; packet identifier; two bytes more
      MalformedPacket),
    V("PUBACK, flags", 4,
      b"\x42\x02\x00\x01",  # PUBACK with flag 2; packet identifier
      MalformedPacket, "MQTT311-2.2.2-2"),
    V("PUBREL without its flags", 4,
      b"\x60\x02\x00\x01",  # PUBREL with flags 0; packet identifier
      MalformedPacket, "MQTT311-3.6.1-1"),
    V("PUBREL without its flags", 5,
      b"\x60\x02\x00\x01",  # PUBREL with flags 0; packet identifier
      MalformedPacket, "MQTT5-3.6.1-1"),
    V("PUBREL with DUP", 4,
      b"\x6a\x02\x00\x01",  # PUBREL, DUP; packet identifier
      MalformedPacket, "MQTT311-3.6.1-1"),
    V("PUBACK, a reason of PUBREL", 5,
      b"\x40\x03\x00\x01\x92",  # PUBACK; packet identifier; packet identifier not found
      ProtocolBreach, "MQTT5-3.4.2-1"),
    V("PUBREC, an unknown reason", 5,
      b"\x50\x03\x00\x01\x7f",  # PUBREC; packet identifier; reason
      ProtocolBreach, "MQTT5-3.5.2-1"),
    V("PUBREL, a reason of PUBACK", 5,
      b"\x62\x03\x00\x01\x97",  # PUBREL; packet identifier; quota exceeded
      ProtocolBreach, "MQTT5-3.6.2-1"),
    V("PUBCOMP, a reason of PUBACK", 5,
      b"\x70\x03\x00\x01\x10",  # PUBCOMP; packet identifier; no matching subscribers
      ProtocolBreach, "MQTT5-3.7.2-1"),
    V("PUBACK, bytes behind the properties", 5,
      b"\x40\x05\x00\x01\x00\x00\x00",  # PUBACK; identifier; success; no properties; one more
      MalformedPacket),
    V("PUBACK, content type", 5,
      b"\x40\x08\x00\x01\x00\x04\x03\x00\x01x",  # PUBACK; identifier; success; content type
      ProtocolBreach),
]  # fmt: skip
