"""Packets to bytes; hedge."""
from __future__ import annotations
from typing import Any
from ..reasons import connack_code, suback_code
from .packets import *
from .packets import Properties
from .properties import encode_properties, REASON_STRING, USER_PROPERTY, WILL_DELAY_INTERVAL
from .wire import encode_string, encode_varint, encode_binary
_topics: dict[str, bytes] = {}
def _topic(t):
    r = _topics.get(t)
    if r is None:
        if len(_topics) > 16384: _topics.clear()
        r = _topics[t] = encode_string(t)
    return r
def publish_parts(publish, version, qos, retain, properties):
    topic = _topic(publish.topic); payload = publish.payload
    first = 0x30 | qos << 1 | retain
    props = b"" if version != 5 else (encode_properties(properties) if properties else b"\0")
    n = len(topic) + len(props) + len(payload) + (2 if qos else 0)
    if n < 128: h = bytes((first, n))
    else: h = bytes((first,)) + encode_varint(n)
    return h + topic, props + payload
def encode_publish(publish, version, qos, retain, dup, packet_id, properties, topic=None):
    t = _topic(publish.topic if topic is None else topic); payload = publish.payload
    first = 0x30 | dup << 3 | qos << 1 | retain
    props = b"" if version != 5 else (encode_properties(properties) if properties else b"\0")
    n = len(t) + len(props) + len(payload) + (2 if qos else 0)
    h = bytes((first, n)) if n < 128 else bytes((first,)) + encode_varint(n)
    return b"".join((h, t, packet_id.to_bytes(2, "big") if qos else b"", props, payload))
_FIRST = {PUBACK: b"\x40\x02", PUBREC: b"\x50\x02", PUBREL: b"\x62\x02", PUBCOMP: b"\x70\x02"}
def encode_acks(kind, packet_ids):
    f = _FIRST[kind]
    return b"".join([f + i.to_bytes(2, "big") for i in packet_ids])
def encode_ack(kind, packet_id, reason, properties, version):
    if version != 5 or (reason == 0 and not properties): return encode_acks(kind, [packet_id])
    body = packet_id.to_bytes(2, "big") + bytes((reason,)) + (encode_properties(properties) if properties else b"")
    return _FIRST[kind][:1] + encode_varint(len(body)) + body
def encode(packet, version, maximum_packet_size=0):
    frame = _encode(packet, version)
    if maximum_packet_size and len(frame) > maximum_packet_size:
        for key in (REASON_STRING, USER_PROPERTY):
            if key in packet.properties:
                p = dict(packet.properties); del p[key]; packet.properties = p
                frame = _encode(packet, version)
                if len(frame) <= maximum_packet_size: break
    return frame
def _encode(packet, version):
    v5 = version == 5
    k = type(packet)
    P = lambda: encode_properties(packet.properties) if v5 else b""
    if k is Connack: first, body = 0x20, bytes((packet.session_present, connack_code(version, packet.reason))) + P()
    elif k is Suback: first, body = 0x90, packet.packet_id.to_bytes(2, "big") + P() + bytes(suback_code(version, r) for r in packet.reasons)
    elif k is Unsuback: first, body = 0xB0, packet.packet_id.to_bytes(2, "big") + P() + (bytes(packet.reasons) if v5 else b"")
    elif k is Pingresp: return b"\xd0\0"
    elif k is Pingreq: return b"\xc0\0"
    elif k is Disconnect:
        first = 0xE0
        body = b"" if not v5 or (packet.reason == 0 and not packet.properties) else bytes((packet.reason,)) + (P() if packet.properties else b"")
    elif k is Auth: first, body = 0xF0, bytes((packet.reason,)) + P()
    elif k is Ack: return encode_ack(packet.kind, packet.packet_id, packet.reason, packet.properties, version)
    elif k is Acks: return encode_acks(packet.kind, packet.packet_ids)
    elif k is Subscribe:
        first = 0x82
        body = packet.packet_id.to_bytes(2, "big") + P() + b"".join(encode_string(r.topic_filter) + bytes((r.qos | (r.no_local << 2 | r.retain_as_published << 3 | r.retain_handling << 4 if v5 else 0),)) for r in packet.requests)
    elif k is Unsubscribe:
        first, body = 0xA2, packet.packet_id.to_bytes(2, "big") + P() + b"".join(map(encode_string, packet.topic_filters))
    elif k is Connect:
        first = 0x10; w = packet.will
        flags = packet.clean_start << 1
        if w: flags |= 4 | w.qos << 3 | w.retain << 5
        if packet.user_name is not None: flags |= 128
        if packet.password is not None: flags |= 64
        body = encode_string("MQIsdp" if version == 3 else "MQTT") + bytes((version | (128 if packet.bridge else 0), flags)) + packet.keep_alive.to_bytes(2, "big") + P() + encode_string(packet.client_id)
        if w:
            if v5:
                wp = dict(w.properties)
                if w.delay: wp[WILL_DELAY_INTERVAL] = w.delay
                body += encode_properties(wp)
            body += encode_string(w.topic) + encode_binary(w.payload)
        if packet.user_name is not None: body += encode_string(packet.user_name)
        if packet.password is not None: body += encode_binary(packet.password)
    elif k is Publish: return encode_publish(packet, version, packet.qos, packet.retain, packet.dup, packet.packet_id, packet.properties)
    else: raise TypeError(k)
    return bytes((first,)) + encode_varint(len(body)) + body
