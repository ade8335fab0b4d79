"""CONNECT, CONNACK and AUTH, byte by byte."""

from __future__ import annotations

from typing import Final

from mop_twisted.codec import properties as p
from mop_twisted.codec.packets import Auth, Connack, Connect, WillMessage
from mop_twisted.errors import (
    ClientIdentifierNotValid,
    MalformedPacket,
    ProtocolBreach,
    TopicNameInvalid,
    UnsupportedVersion,
)

from .vector import Vector as V

ROWS: Final = [
    V("CONNECT, the least", 3,
      b"\x10\x0f"  # CONNECT; remaining length 15
      b"\x00\x06MQIsdp\x03"  # protocol name and version
      b"\x02\x00\x00"  # clean session; keep alive 0
      b"\x00\x01a",  # client identifier
      Connect(3, "a")),
    V("CONNECT, the least", 4,
      b"\x10\x0d"  # CONNECT; remaining length 13
      b"\x00\x04MQTT\x04"  # protocol name and version
      b"\x02\x00\x3c"  # clean session; keep alive 60
      b"\x00\x01a",  # client identifier
      Connect(4, "a", True, 60)),
    V("CONNECT, the least", 5,
      b"\x10\x0d"  # CONNECT; remaining length 13
      b"\x00\x04MQTT\x05"  # protocol name and version
      b"\x00\x00\x0a"  # no clean start; keep alive 10
      b"\x00"  # no properties
      b"\x00\x00",  # empty client identifier
      Connect(5, "", False, 10), "MQTT5-3.1.3-6"),
    V("CONNECT, everything", 3,
      b"\x10\x1f"  # CONNECT; remaining length 31
      b"\x00\x06MQIsdp\x03"  # protocol name and version
      b"\xf6\x00\x05"  # user name, password, will retain, QoS 2, will, clean; keep alive 5
      b"\x00\x01a"  # client identifier
      b"\x00\x03w/t\x00\x02by"  # will topic, will message
      b"\x00\x01u\x00\x02pw",  # user name, password
      Connect(3, "a", True, 5, "u", b"pw", WillMessage("w/t", b"by", 2, True))),
    V("CONNECT, everything", 4,
      b"\x10\x1d"  # CONNECT; remaining length 29
      b"\x00\x04MQTT\x04"  # protocol name and version
      b"\xcc\x00\x05"  # user name, password, will QoS 1, will; keep alive 5
      b"\x00\x01a"  # client identifier
      b"\x00\x03w/t\x00\x02by"  # will topic, will message
      b"\x00\x01u\x00\x02pw",  # user name, password
      Connect(4, "a", False, 5, "u", b"pw", WillMessage("w/t", b"by", 1)), "MQTT311-3.1.3-1"),
    V("CONNECT, all properties", 5,
      b"\x10\x61"  # CONNECT; remaining length 97
      b"\x00\x04MQTT\x05"  # protocol name and version
      b"\xee\x00\x05"  # user name, password, will retain, QoS 1, will, clean; keep alive 5
      b"\x2c"  # property length 44
      b"\x11\x00\x00\x00\x3c"  # session expiry interval 60
      b"\x21\x00\x14"  # receive maximum 20
      b"\x27\x00\x01\x00\x00"  # maximum packet size 65536
      b"\x22\x00\x0a"  # topic alias maximum 10
      b"\x19\x01"  # request response information
      b"\x17\x00"  # request problem information 0
      b"\x26\x00\x01k\x00\x01v"  # user property k: v
      b"\x15\x00\x05SCRAM"  # authentication method
      b"\x16\x00\x06n,,n=u"  # authentication data
      b"\x00\x01a"  # client identifier
      b"\x13"  # will property length 19
      b"\x18\x00\x00\x00\x07"  # will delay interval 7
      b"\x01\x01"  # payload format indicator
      b"\x02\x00\x00\x00\x09"  # message expiry interval 9
      b"\x26\x00\x01k\x00\x01w"  # user property k: w
      b"\x00\x03w/t\x00\x02by"  # will topic, will payload
      b"\x00\x04user\x00\x02pw",  # user name, password
      Connect(
          5, "a", True, 5, "user", b"pw",
          WillMessage("w/t", b"by", 1, True, {
              p.PAYLOAD_FORMAT_INDICATOR: 1, p.MESSAGE_EXPIRY_INTERVAL: 9,
              p.USER_PROPERTY: [("k", "w")],
          }, 7),
          {
              p.SESSION_EXPIRY_INTERVAL: 60, p.RECEIVE_MAXIMUM: 20, p.MAXIMUM_PACKET_SIZE: 65536,
              p.TOPIC_ALIAS_MAXIMUM: 10, p.REQUEST_RESPONSE_INFORMATION: 1,
              p.REQUEST_PROBLEM_INFORMATION: 0, p.USER_PROPERTY: [("k", "v")],
              p.AUTHENTICATION_METHOD: "SCRAM", p.AUTHENTICATION_DATA: b"n,,n=u",
          },
      ), "MQTT5-3.1.3-1"),
    V("CONNECT of a bridge", 3,
      b"\x10\x0f\x00\x06MQIsdp\x83"  # protocol name; version with the bit 0x80
      b"\x02\x00\x00\x00\x01a",  # clean session; keep alive 0; client identifier
      Connect(3, "a", bridge=True)),
    V("CONNECT of a bridge", 4,
      b"\x10\x0d\x00\x04MQTT\x84"  # protocol name; version with the bit 0x80
      b"\x02\x00\x00\x00\x01a",  # clean session; keep alive 0; client identifier
      Connect(4, "a", bridge=True)),
    V("CONNECT, password alone", 5,
      b"\x10\x13\x00\x04MQTT\x05"
      b"\x42\x00\x00\x00"  # password, clean start; keep alive 0; no properties
      b"\x00\x01a"  # client identifier
      b"\x00\x03key",  # password
      Connect(5, "a", True, 0, None, b"key")),
    V("CONNECT, a user name that is not there", 3,
      b"\x10\x0f\x00\x06MQIsdp\x03"
      b"\xc2\x00\x00"  # user name, password, clean session; keep alive 0
      b"\x00\x01a",  # client identifier, and that is all
      Connect(3, "a"), canonical=False),
    V("CONNECT, flags that 3.1 disregards", 3,
      b"\x10\x0f\x00\x06MQIsdp\x03"
      b"\x3b\x00\x00"  # will retain, will QoS 3 without a will, clean session, unused bit
      b"\x00\x01a",  # client identifier
      Connect(3, "a"), canonical=False),
    V("CONNECT, 65 bytes of client identifier", 4,
      b"\x10\x4d\x00\x04MQTT\x04\x02\x00\x00"
      b"\x00\x41" + b"x" * 65,  # client identifier
      Connect(4, "x" * 65)),
    V("CONNECT, byte order mark in the client identifier", 4,
      b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00"
      b"\x00\x04\xef\xbb\xbfa",  # client identifier: U+FEFF, a
      Connect(4, "\ufeffa"), "MQTT311-1.5.3-3"),
    V("CONNECT, C1 control in the client identifier", 5,
      b"\x10\x0f\x00\x04MQTT\x05\x02\x00\x00\x00"
      b"\x00\x02\xc2\x85",  # client identifier: U+0085
      Connect(5, "\x85")),
    V("CONNECT, clean session and no client identifier", 4,
      b"\x10\x0c\x00\x04MQTT\x04"
      b"\x02\x00\x00"  # clean session; keep alive 0
      b"\x00\x00",  # empty client identifier
      Connect(4, ""), "MQTT311-3.1.3-6"),
    V("CONNECT, no client identifier", 3,
      b"\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x00"
      b"\x00\x00",  # empty client identifier
      ClientIdentifierNotValid),
    V("CONNECT, kept session and no client identifier", 4,
      b"\x10\x0c\x00\x04MQTT\x04"
      b"\x00\x00\x00"  # no clean session; keep alive 0
      b"\x00\x00",  # empty client identifier
      ClientIdentifierNotValid, "MQTT311-3.1.3-8"),
    V("CONNECT, another protocol's name", 0,
      b"\x10\x0d\x00\x04HTTP\x04"  # protocol name and version
      b"\x02\x00\x00\x00\x01a",
      UnsupportedVersion, "MQTT5-3.1.2-1"),
    V("CONNECT, version 6", 5,
      b"\x10\x0d\x00\x04MQTT\x06"  # protocol name and version
      b"\x02\x00\x00\x00\x01a",
      UnsupportedVersion, "MQTT5-3.1.2-2"),
    V("CONNECT, version 2", 4,
      b"\x10\x0d\x00\x04MQTT\x02"  # protocol name and version
      b"\x02\x00\x00\x00\x01a",
      UnsupportedVersion, "MQTT311-3.1.2-2"),
    V("CONNECT, version 3 under the new name", 4,
      b"\x10\x0d\x00\x04MQTT\x03"  # protocol name and version
      b"\x02\x00\x00\x00\x01a",
      UnsupportedVersion, "MQTT311-3.1.2-2"),
    V("CONNECT, version 4 under the old name", 4,
      b"\x10\x0f\x00\x06MQIsdp\x04"  # protocol name and version
      b"\x02\x00\x00\x00\x01a",
      UnsupportedVersion, "MQTT311-3.1.2-2"),
    V("CONNECT, bridge bit in 5", 4,
      b"\x10\x0d\x00\x04MQTT\x85"  # protocol name and version
      b"\x02\x00\x00\x00\x01a",
      UnsupportedVersion, "MQTT5-3.1.2-2"),
    V("CONNECT, empty", 0,
      b"\x10\x00",  # CONNECT; remaining length 0
      MalformedPacket, "MQTT5-3.1.4-1"),
    V("CONNECT, name cut off", 0,
      b"\x10\x04\x00\x04MQ",  # protocol name of 4 bytes, of which there are 2
      MalformedPacket, "MQTT5-3.1.4-1"),
    V("CONNECT, no version", 0,
      b"\x10\x06\x00\x04MQTT",  # protocol name
      MalformedPacket, "MQTT5-3.1.4-1"),
    V("CONNECT, no flags", 4,
      b"\x10\x07\x00\x04MQTT\x04",  # protocol name and version
      MalformedPacket, "MQTT311-3.1.4-1"),
    V("CONNECT, fixed header flags", 0,
      b"\x11\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a",  # CONNECT with flag 1
      MalformedPacket, "MQTT311-2.2.2-2"),
    V("CONNECT, reserved flag", 4,
      b"\x10\x0d\x00\x04MQTT\x04"
      b"\x03\x00\x00"  # clean session, reserved
      b"\x00\x01a",
      MalformedPacket, "MQTT311-3.1.2-3"),
    V("CONNECT, reserved flag", 5,
      b"\x10\x0e\x00\x04MQTT\x05"
      b"\x03\x00\x00\x00"  # clean start, reserved
      b"\x00\x01a",
      MalformedPacket, "MQTT5-3.1.2-3"),
    V("CONNECT, will QoS without a will", 4,
      b"\x10\x0d\x00\x04MQTT\x04"
      b"\x0a\x00\x00"  # will QoS 1, clean session
      b"\x00\x01a",
      MalformedPacket, "MQTT311-3.1.2-13"),
    V("CONNECT, will retain without a will", 5,
      b"\x10\x0e\x00\x04MQTT\x05"
      b"\x22\x00\x00\x00"  # will retain, clean start
      b"\x00\x01a",
      MalformedPacket, "MQTT5-3.1.2-13"),
    V("CONNECT, will QoS 3", 4,
      b"\x10\x13\x00\x04MQTT\x04"
      b"\x1e\x00\x00"  # will QoS 3, will, clean session
      b"\x00\x01a\x00\x01w\x00\x01x",  # client identifier, will topic, will message
      MalformedPacket, "MQTT311-3.1.2-14"),
    V("CONNECT, will QoS 3", 5,
      b"\x10\x15\x00\x04MQTT\x05"
      b"\x1e\x00\x00\x00"  # will QoS 3, will, clean start
      b"\x00\x01a\x00\x00\x01w\x00\x01x",  # client identifier, will properties, topic, payload
      MalformedPacket, "MQTT5-3.1.2-12"),
    V("CONNECT, a will that is not there", 4,
      b"\x10\x0d\x00\x04MQTT\x04"
      b"\x06\x00\x00"  # will, clean session
      b"\x00\x01a",  # client identifier, and that is all
      MalformedPacket, "MQTT311-3.1.2-9"),
    V("CONNECT, will topic with a wildcard", 4,
      b"\x10\x13\x00\x04MQTT\x04"
      b"\x06\x00\x00"  # will, clean session
      b"\x00\x01a\x00\x01#\x00\x01x",  # client identifier, will topic, will message
      TopicNameInvalid, "MQTT311-4.7.1-1"),
    V("CONNECT, empty will topic", 5,
      b"\x10\x14\x00\x04MQTT\x05"
      b"\x06\x00\x00\x00"  # will, clean start
      b"\x00\x01a\x00\x00\x00\x00\x01x",  # client identifier, will properties, topic, payload
      ProtocolBreach, "MQTT5-4.7.3-1"),
    V("CONNECT, session expiry in the will", 5,
      b"\x10\x1a\x00\x04MQTT\x05"
      b"\x06\x00\x00\x00"  # will, clean start
      b"\x00\x01a"  # client identifier
      b"\x05\x11\x00\x00\x00\x01"  # will properties: session expiry interval
      b"\x00\x01w\x00\x01x",  # will topic, will payload
      ProtocolBreach),
    V("CONNECT, password without a user name", 4,
      b"\x10\x10\x00\x04MQTT\x04"
      b"\x42\x00\x00"  # password, clean session
      b"\x00\x01a\x00\x01p",  # client identifier, password
      MalformedPacket, "MQTT311-3.1.2-22"),
    V("CONNECT, a user name that is not there", 4,
      b"\x10\x0d\x00\x04MQTT\x04"
      b"\x82\x00\x00"  # user name, clean session
      b"\x00\x01a",  # client identifier, and that is all
      MalformedPacket, "MQTT311-3.1.2-19"),
    V("CONNECT, a user name that no flag speaks of", 4,
      b"\x10\x10\x00\x04MQTT\x04"
      b"\x02\x00\x00"  # clean session
      b"\x00\x01a\x00\x01u",  # client identifier, user name
      MalformedPacket, "MQTT311-3.1.2-18"),
    V("CONNECT, U+0000 in the client identifier", 4,
      b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00"
      b"\x00\x02a\x00",  # client identifier
      MalformedPacket, "MQTT311-1.5.3-2"),
    V("CONNECT, surrogate in the client identifier", 5,
      b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00\x00"
      b"\x00\x03\xed\xa0\x80",  # client identifier: U+D800
      MalformedPacket, "MQTT5-1.5.4-1"),
    V("CONNECT, overlong UTF-8 in the user name", 4,
      b"\x10\x11\x00\x04MQTT\x04"
      b"\x82\x00\x00"  # user name, clean session
      b"\x00\x01a\x00\x02\xc0\xaf",  # client identifier; user name "/" in two bytes
      MalformedPacket, "MQTT311-1.5.3-1"),
    V("CONNECT, no properties at all", 5,
      b"\x10\x0a\x00\x04MQTT\x05"
      b"\x02\x00\x00",  # clean start; keep alive 0
      MalformedPacket, "MQTT5-2.2.2-1"),
    V("CONNECT, receive maximum 0", 5,
      b"\x10\x11\x00\x04MQTT\x05\x02\x00\x00"
      b"\x03\x21\x00\x00"  # properties: receive maximum
      b"\x00\x01a",
      ProtocolBreach),
    V("CONNECT, maximum packet size 0", 5,
      b"\x10\x13\x00\x04MQTT\x05\x02\x00\x00"
      b"\x05\x27\x00\x00\x00\x00"  # properties: maximum packet size
      b"\x00\x01a",
      ProtocolBreach),
    V("CONNECT, request problem information 2", 5,
      b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00"
      b"\x02\x17\x02"  # properties: request problem information
      b"\x00\x01a",
      ProtocolBreach),
    V("CONNECT, session expiry twice", 5,
      b"\x10\x18\x00\x04MQTT\x05\x02\x00\x00"
      b"\x0a\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01"  # properties: session expiry, twice
      b"\x00\x01a",
      ProtocolBreach),
    V("CONNECT, authentication data without a method", 5,
      b"\x10\x12\x00\x04MQTT\x05\x02\x00\x00"
      b"\x04\x16\x00\x01d"  # properties: authentication data
      b"\x00\x01a",
      ProtocolBreach),
    V("CONNECT, unknown property", 5,
      b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00"
      b"\x02\x04\x00"  # properties: 4
      b"\x00\x01a",
      MalformedPacket),
    V("CONNECT, a property behind the last", 5,
      b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00"
      b"\x02\x2b\x00"  # properties: 43
      b"\x00\x01a",
      MalformedPacket),
    V("CONNECT, property length over the packet", 5,
      b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x00"
      b"\x7f"  # property length 127
      b"\x00\x01a",
      MalformedPacket),
    V("CONNECT, property cut off by the property length", 5,
      b"\x10\x10\x00\x04MQTT\x05\x02\x00\x00"
      b"\x02\x21\x00"  # properties: receive maximum, one byte of it
      b"\x00\x01a",
      MalformedPacket),
    V("PUBLISH before CONNECT", 0,
      b"\x30\x04\x00\x01ax",  # PUBLISH; remaining length 4; topic name, payload
      ProtocolBreach, "MQTT5-3.1.0-1", first=True),
    V("second CONNECT", 4,
      b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a"  # CONNECT
      b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a",  # and again
      ProtocolBreach, "MQTT5-3.1.0-2"),
    V("CONNECT to a client", 4,
      b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01a",
      ProtocolBreach, role="client"),

    V("CONNACK, accepted", 3,
      b"\x20\x02\x00\x00",  # CONNACK; unused; return code
      Connack(0), role="client"),
    V("CONNACK, session present", 4,
      b"\x20\x02\x01\x00",  # CONNACK; session present; return code
      Connack(0, True), role="client"),
    V("CONNACK, not authorized", 4,
      b"\x20\x02\x00\x05",  # CONNACK; no session; return code 5
      Connack(0x87), role="client"),
    V("CONNACK, properties", 5,
      b"\x20\x36"  # CONNACK; remaining length 54
      b"\x01\x00"  # session present; success
      b"\x33"  # property length 51
      b"\x11\x00\x00\x00\x0a"  # session expiry interval 10
      b"\x21\x00\x05"  # receive maximum 5
      b"\x24\x01"  # maximum QoS 1
      b"\x25\x00"  # retain available 0
      b"\x27\x00\x00\x00\x80"  # maximum packet size 128
      b"\x12\x00\x02id"  # assigned client identifier
      b"\x22\x00\x03"  # topic alias maximum 3
      b"\x1f\x00\x02ok"  # reason string
      b"\x28\x01"  # wildcard subscription available
      b"\x29\x01"  # subscription identifiers available
      b"\x2a\x00"  # shared subscription available 0
      b"\x13\x00\x1e"  # server keep alive 30
      b"\x1a\x00\x03r/i"  # response information
      b"\x1c\x00\x03b:1",  # server reference
      Connack(0, True, {
          p.SESSION_EXPIRY_INTERVAL: 10, p.RECEIVE_MAXIMUM: 5, p.MAXIMUM_QOS: 1,
          p.RETAIN_AVAILABLE: 0, p.MAXIMUM_PACKET_SIZE: 128, p.ASSIGNED_CLIENT_IDENTIFIER: "id",
          p.TOPIC_ALIAS_MAXIMUM: 3, p.REASON_STRING: "ok", p.WILDCARD_SUBSCRIPTION_AVAILABLE: 1,
          p.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 1, p.SHARED_SUBSCRIPTION_AVAILABLE: 0,
          p.SERVER_KEEP_ALIVE: 30, p.RESPONSE_INFORMATION: "r/i", p.SERVER_REFERENCE: "b:1",
      }), role="client"),
    V("CONNACK, refused", 5,
      b"\x20\x03\x00\x84\x00",  # CONNACK; no session; unsupported version; no properties
      Connack(0x84), role="client"),
    V("CONNACK, reserved flags", 5,
      b"\x20\x03\x02\x00\x00",  # CONNACK; reserved bit; success; no properties
      MalformedPacket, "MQTT5-3.2.2-1", role="client"),
    V("CONNACK, session of a refused client", 4,
      b"\x20\x02\x01\x05",  # CONNACK; session present; not authorized
      ProtocolBreach, "MQTT311-3.2.2-4", role="client"),
    V("CONNACK, session of a refused client", 5,
      b"\x20\x03\x01\x87\x00",  # CONNACK; session present; not authorized; no properties
      ProtocolBreach, "MQTT5-3.2.2-6", role="client"),
    V("CONNACK, unused byte", 3,
      b"\x20\x02\xff\x00",  # CONNACK; unused; accepted
      Connack(0), role="client", canonical=False),
    V("CONNACK, return code 6", 4,
      b"\x20\x02\x00\x06",  # CONNACK; no session; return code 6
      ProtocolBreach, role="client"),
    V("CONNACK, a reason of DISCONNECT", 5,
      b"\x20\x03\x00\x8e\x00",  # CONNACK; no session; session taken over; no properties
      ProtocolBreach, "MQTT5-3.2.2-8", role="client"),
    V("CONNACK, too long", 4,
      b"\x20\x03\x00\x00\x00",  # CONNACK; no session; accepted; one byte more
      MalformedPacket, role="client"),
    V("CONNACK, cut off", 4,
      b"\x20\x01\x00",  # CONNACK; no session
      MalformedPacket, role="client"),
    V("CONNACK to a server", 4,
      b"\x20\x02\x00\x00",
      ProtocolBreach),

    V("AUTH, continue", 5,
      b"\xf0\x0d"  # AUTH; remaining length 13
      b"\x18"  # continue authentication
      b"\x0b\x15\x00\x05SCRAM\x16\x00\x00",  # authentication method; data, empty
      Auth(0x18, {p.AUTHENTICATION_METHOD: "SCRAM", p.AUTHENTICATION_DATA: b""}),
      "MQTT5-4.12.0-3"),
    V("AUTH, re-authenticate", 5,
      b"\xf0\x0a\x19"  # AUTH; remaining length 10; re-authenticate
      b"\x08\x15\x00\x05SCRAM",  # authentication method
      Auth(0x19, {p.AUTHENTICATION_METHOD: "SCRAM"}), "MQTT5-4.12.1-1"),
    V("AUTH, success", 5,
      b"\xf0\x00",  # AUTH; remaining length 0
      Auth(0), role="client"),
    V("AUTH, success from a client", 5,
      b"\xf0\x00",
      ProtocolBreach, "MQTT5-3.15.2-1"),
    V("AUTH, re-authenticate from a server", 5,
      b"\xf0\x0a\x19\x08\x15\x00\x05SCRAM",
      ProtocolBreach, "MQTT5-3.15.2-1", role="client"),
    V("AUTH, no method", 5,
      b"\xf0\x02\x18\x00",  # AUTH; continue authentication; no properties
      ProtocolBreach),
    V("AUTH, flags", 5,
      b"\xf1\x0a\x19\x08\x15\x00\x05SCRAM",  # AUTH with flag 1
      MalformedPacket, "MQTT5-3.15.1-1"),
    V("AUTH", 4,
      b"\xf0\x00",  # type 15, which 3.1.1 does not have
      MalformedPacket),
    V("AUTH", 3,
      b"\xf0\x00",  # type 15, which 3.1 does not have
      MalformedPacket),
]  # fmt: skip
