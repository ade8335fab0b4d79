"""SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT, their answers, and broken headers, byte by byte."""

from __future__ import annotations

from typing import Final

from mop_twisted.codec import properties as p
from mop_twisted.codec.packets import (
    Disconnect,
    FilterRequest,
    Pingreq,
    Pingresp,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
)
from mop_twisted.errors import MalformedPacket, PacketTooLarge, ProtocolBreach

from .vector import Vector as V

ROWS: Final = [
    V("SUBSCRIBE", 3,
      b"\x82\x06"  # SUBSCRIBE; remaining length 6
      b"\x00\x01"  # packet identifier
      b"\x00\x01#\x00",  # topic filter, QoS 0
      Subscribe(1, [FilterRequest("#")])),
    V("SUBSCRIBE, two filters", 4,
      b"\x82\x0c"  # SUBSCRIBE; remaining length 12
      b"\x00\x0a"  # packet identifier
      b"\x00\x03a/+\x01"  # topic filter, QoS 1
      b"\x00\x01b\x02",  # topic filter, QoS 2
      Subscribe(10, [FilterRequest("a/+", 1), FilterRequest("b", 2)])),
    V("SUBSCRIBE, all options", 5,
      b"\x82\x14"  # SUBSCRIBE; remaining length 20
      b"\x00\x01"  # packet identifier
      b"\x09\x0b\x02"  # properties: subscription identifier 2
      b"\x26\x00\x01k\x00\x01v"  # user property k: v
      b"\x00\x01a\x2e"  # topic filter; QoS 2, no local, retain as published, retain handling 2
      b"\x00\x01b\x10",  # topic filter; retain handling 1
      Subscribe(
          1,
          [FilterRequest("a", 2, True, True, 2), FilterRequest("b", retain_handling=1)],
          {p.SUBSCRIPTION_IDENTIFIER: [2], p.USER_PROPERTY: [("k", "v")]},
      )),
    V("SUBSCRIBE, sent again", 3,
      b"\x8a\x06\x00\x01\x00\x01#\x00",  # SUBSCRIBE, DUP; packet identifier; topic filter, QoS
      Subscribe(1, [FilterRequest("#")]), canonical=False),
    V("SUBSCRIBE, no filter", 4,
      b"\x82\x02\x00\x01",  # SUBSCRIBE; packet identifier
      ProtocolBreach, "MQTT311-3.8.3-3"),
    V("SUBSCRIBE, no filter", 5,
      b"\x82\x03\x00\x01\x00",  # SUBSCRIBE; packet identifier; no properties
      ProtocolBreach, "MQTT5-3.8.3-2"),
    V("SUBSCRIBE, empty filter", 4,
      b"\x82\x05\x00\x01\x00\x00\x00",  # SUBSCRIBE; packet identifier; empty filter, QoS 0
      ProtocolBreach, "MQTT311-4.7.3-1"),
    V("SUBSCRIBE, no options", 4,
      b"\x82\x05\x00\x01\x00\x01a",  # SUBSCRIBE; packet identifier; topic filter
      MalformedPacket),
    V("SUBSCRIBE, filter over the packet", 4,
      b"\x82\x06\x00\x01\x00\x09a\x00",  # SUBSCRIBE; identifier; filter of 9 bytes
      MalformedPacket),
    V("SUBSCRIBE, filter that is no UTF-8", 4,
      b"\x82\x06\x00\x01\x00\x01\x80\x00",  # SUBSCRIBE; identifier; filter, QoS 0
      MalformedPacket, "MQTT311-3.8.3-1"),
    V("SUBSCRIBE, QoS 3", 4,
      b"\x82\x06\x00\x01\x00\x01a\x03",  # SUBSCRIBE; packet identifier; topic filter, QoS 3
      MalformedPacket),
    V("SUBSCRIBE, options of 5.0", 4,
      b"\x82\x06\x00\x01\x00\x01a\x05",  # SUBSCRIBE; identifier; filter, QoS 1 and no local
      MalformedPacket),
    V("SUBSCRIBE, QoS 3", 5,
      b"\x82\x07\x00\x01\x00\x00\x01a\x03",  # SUBSCRIBE; identifier; no properties; filter, QoS 3
      ProtocolBreach),
    V("SUBSCRIBE, retain handling 3", 5,
      b"\x82\x07\x00\x01\x00\x00\x01a\x30",  # SUBSCRIBE; identifier; no properties; filter, options
      ProtocolBreach),
    V("SUBSCRIBE, reserved bits", 5,
      b"\x82\x07\x00\x01\x00\x00\x01a\x40",  # SUBSCRIBE; identifier; no properties; filter, options
      MalformedPacket, "MQTT5-3.8.3-5"),
    V("SUBSCRIBE, no local on a shared subscription", 5,
      b"\x82\x10\x00\x01\x00"  # SUBSCRIBE; packet identifier; no properties
      b"\x00\x0a$share/g/a\x04",  # topic filter; no local
      ProtocolBreach, "MQTT5-3.8.3-4"),
    V("SUBSCRIBE, packet identifier 0", 4,
      b"\x82\x06\x00\x00\x00\x01a\x00",  # SUBSCRIBE; packet identifier; topic filter, QoS 0
      ProtocolBreach, "MQTT311-2.3.1-1"),
    V("SUBSCRIBE, packet identifier cut off", 5,
      b"\x82\x01\x00",  # SUBSCRIBE; half of a packet identifier
      MalformedPacket),
    V("SUBSCRIBE without its flags", 4,
      b"\x80\x06\x00\x01\x00\x01a\x00",  # SUBSCRIBE with flags 0
      MalformedPacket, "MQTT311-3.8.1-1"),
    V("SUBSCRIBE without its flags", 5,
      b"\x80\x07\x00\x01\x00\x00\x01a\x00",  # SUBSCRIBE with flags 0
      MalformedPacket, "MQTT5-3.8.1-1"),
    V("SUBSCRIBE, subscription identifier 0", 5,
      b"\x82\x09\x00\x01\x02\x0b\x00\x00\x01a\x00",  # SUBSCRIBE; identifier; properties; filter
      ProtocolBreach),
    V("SUBSCRIBE, subscription identifier twice", 5,
      b"\x82\x0b\x00\x01\x04\x0b\x01\x0b\x02"  # SUBSCRIBE; identifier; two subscription identifiers
      b"\x00\x01a\x00",  # topic filter, options
      ProtocolBreach),
    V("SUBSCRIBE to a client", 4,
      b"\x82\x06\x00\x01\x00\x01a\x00",
      ProtocolBreach, role="client"),

    V("SUBACK", 3,
      b"\x90\x04\x00\x01\x00\x02",  # SUBACK; packet identifier; QoS 0, QoS 2
      Suback(1, [0, 2]), role="client"),
    V("SUBACK", 4,
      b"\x90\x04\x00\x01\x01\x80",  # SUBACK; packet identifier; QoS 1, failure
      Suback(1, [1, 0x80]), role="client"),
    V("SUBACK", 5,
      b"\x90\x0a\x00\x01"  # SUBACK; packet identifier
      b"\x05\x1f\x00\x02no"  # properties: reason string
      b"\x02\x87",  # QoS 2, not authorized
      Suback(1, [2, 0x87], {p.REASON_STRING: "no"}), role="client"),
    V("SUBACK, no reasons", 4,
      b"\x90\x02\x00\x01",  # SUBACK; packet identifier
      ProtocolBreach, role="client"),
    V("SUBACK, a reason of 5.0", 4,
      b"\x90\x03\x00\x01\x87",  # SUBACK; packet identifier; not authorized
      ProtocolBreach, "MQTT311-3.9.3-2", role="client"),
    V("SUBACK, a failure", 3,
      b"\x90\x03\x00\x01\x80",  # SUBACK; packet identifier; what 3.1 cannot say
      ProtocolBreach, role="client"),
    V("SUBACK, an unknown reason", 5,
      b"\x90\x04\x00\x01\x00\x03",  # SUBACK; packet identifier; no properties; reason
      ProtocolBreach, "MQTT5-3.9.3-2", role="client"),
    V("SUBACK to a server", 4,
      b"\x90\x03\x00\x01\x00",
      ProtocolBreach),

    V("UNSUBSCRIBE", 4,
      b"\xa2\x09\x00\x02"  # UNSUBSCRIBE; packet identifier
      b"\x00\x01a\x00\x02b/",  # topic filters
      Unsubscribe(2, ["a", "b/"])),
    V("UNSUBSCRIBE", 5,
      b"\xa2\x0d\x00\x02"  # UNSUBSCRIBE; packet identifier
      b"\x07\x26\x00\x01k\x00\x01v"  # properties: user property k: v
      b"\x00\x01a",  # topic filter
      Unsubscribe(2, ["a"], {p.USER_PROPERTY: [("k", "v")]})),
    V("UNSUBSCRIBE, sent again", 3,
      b"\xaa\x05\x00\x02\x00\x01a",  # UNSUBSCRIBE, DUP; packet identifier; topic filter
      Unsubscribe(2, ["a"]), canonical=False),
    V("UNSUBSCRIBE, no filter", 4,
      b"\xa2\x02\x00\x01",  # UNSUBSCRIBE; packet identifier
      ProtocolBreach, "MQTT311-3.10.3-2"),
    V("UNSUBSCRIBE, no filter", 5,
      b"\xa2\x03\x00\x01\x00",  # UNSUBSCRIBE; packet identifier; no properties
      ProtocolBreach, "MQTT5-3.10.3-2"),
    V("UNSUBSCRIBE, empty filter", 4,
      b"\xa2\x04\x00\x01\x00\x00",  # UNSUBSCRIBE; packet identifier; empty filter
      ProtocolBreach, "MQTT311-4.7.3-1"),
    V("UNSUBSCRIBE, half a length", 4,
      b"\xa2\x03\x00\x01\x00",  # UNSUBSCRIBE; packet identifier; half of a length
      MalformedPacket, "MQTT311-3.10.3-1"),
    V("UNSUBSCRIBE without its flags", 4,
      b"\xa0\x05\x00\x02\x00\x01a",  # UNSUBSCRIBE with flags 0
      MalformedPacket, "MQTT311-3.10.1-1"),
    V("UNSUBSCRIBE, a reason string", 5,
      b"\xa2\x0a\x00\x02\x04\x1f\x00\x01x\x00\x01a",  # UNSUBSCRIBE; identifier; reason string
      ProtocolBreach),
    V("UNSUBACK", 3, b"\xb0\x02\x00\x02",  # UNSUBACK; packet identifier
      Unsuback(2, []), role="client"),
    V("UNSUBACK", 4, b"\xb0\x02\x00\x02",  # UNSUBACK; packet identifier
      Unsuback(2, []), role="client"),
    V("UNSUBACK", 5,
      b"\xb0\x05\x00\x02\x00\x00\x11",  # UNSUBACK; identifier; no properties; reasons
      Unsuback(2, [0, 0x11]), role="client"),
    V("UNSUBACK, reasons", 4,
      b"\xb0\x03\x00\x02\x00",  # UNSUBACK; packet identifier; what 3.1.1 does not have
      MalformedPacket, role="client"),
    V("UNSUBACK, no reasons", 5,
      b"\xb0\x03\x00\x02\x00",  # UNSUBACK; packet identifier; no properties
      ProtocolBreach, role="client"),
    V("UNSUBACK, an unknown reason", 5,
      b"\xb0\x04\x00\x02\x00\x01",  # UNSUBACK; packet identifier; no properties; reason
      ProtocolBreach, "MQTT5-3.11.3-2", role="client"),
    V("UNSUBACK to a server", 5,
      b"\xb0\x04\x00\x02\x00\x00",
      ProtocolBreach),

    V("PINGREQ", 3, b"\xc0\x00", Pingreq()),
    V("PINGREQ", 4, b"\xc0\x00", Pingreq()),
    V("PINGREQ", 5, b"\xc0\x00", Pingreq()),
    V("PINGRESP", 4, b"\xd0\x00", Pingresp(), role="client"),
    V("PINGREQ, too long", 4, b"\xc0\x01\x00", MalformedPacket),
    V("PINGREQ, flags", 4, b"\xc1\x00", MalformedPacket, "MQTT311-2.2.2-2"),
    V("PINGREQ to a client", 4, b"\xc0\x00", ProtocolBreach, role="client"),
    V("PINGRESP to a server", 4, b"\xd0\x00", ProtocolBreach),
    V("PINGRESP, too long", 4, b"\xd0\x01\x00", MalformedPacket, role="client"),

    V("DISCONNECT", 3, b"\xe0\x00", Disconnect()),
    V("DISCONNECT", 4, b"\xe0\x00", Disconnect()),
    V("DISCONNECT", 5, b"\xe0\x00", Disconnect()),
    V("DISCONNECT, success said at length", 5,
      b"\xe0\x02\x00\x00",  # DISCONNECT; normal disconnection; no properties
      Disconnect(), canonical=False),
    V("DISCONNECT with will", 5,
      b"\xe0\x01\x04",  # DISCONNECT; disconnect with will message
      Disconnect(4)),
    V("DISCONNECT, session expiry", 5,
      b"\xe0\x07\x00\x05\x11\x00\x00\x00\x00",  # DISCONNECT; normal; session expiry interval 0
      Disconnect(0, {p.SESSION_EXPIRY_INTERVAL: 0})),
    V("DISCONNECT, server moved", 5,
      b"\xe0\x08\x9d\x06\x1c\x00\x03b:1",  # DISCONNECT; server moved; server reference
      Disconnect(0x9D, {p.SERVER_REFERENCE: "b:1"}), role="client"),
    V("DISCONNECT, session expiry from a server", 5,
      b"\xe0\x07\x00\x05\x11\x00\x00\x00\x00",  # DISCONNECT; normal; session expiry interval 0
      ProtocolBreach, "MQTT5-3.14.2-2", role="client"),
    V("DISCONNECT, too long", 4,
      b"\xe0\x01\x00",  # DISCONNECT; what 3.1.1 does not have
      MalformedPacket),
    V("DISCONNECT, flags", 4, b"\xe1\x00", MalformedPacket, "MQTT311-3.14.1-1"),
    V("DISCONNECT, flags", 5, b"\xe8\x00", MalformedPacket, "MQTT5-3.14.1-1"),
    V("DISCONNECT, a reason of servers", 5,
      b"\xe0\x01\x8e",  # DISCONNECT; session taken over
      ProtocolBreach, "MQTT5-3.14.2-1"),
    V("DISCONNECT, bytes behind the properties", 5,
      b"\xe0\x03\x00\x00\x00",  # DISCONNECT; normal; no properties; one more
      MalformedPacket),

    V("type 0", 4, b"\x00\x00", MalformedPacket),
    V("type 0", 5, b"\x0f\x00", MalformedPacket),
    V("remaining length of five bytes", 4,
      b"\x30\xff\xff\xff\xff\x7f",  # PUBLISH; remaining length
      MalformedPacket),
    V("remaining length longer than need be", 5,
      b"\x30\x84\x00\x00\x01a\x00",  # PUBLISH; remaining length 4 in two bytes
      MalformedPacket, "MQTT5-1.5.5-1"),
    V("the largest remaining length", 4,
      b"\x30\xff\xff\xff\x7f",  # PUBLISH; remaining length 268435455
      PacketTooLarge),
    V("too large before CONNECT", 0,
      b"\x10\xff\xff\xff\x7f",  # CONNECT; remaining length 268435455
      PacketTooLarge),
    V("something else than MQTT", 0,
      b"GET / HTTP/1.1\r\n",
      ProtocolBreach, "MQTT5-3.1.0-1", first=True),
]  # fmt: skip
