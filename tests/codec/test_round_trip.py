"""Whatever packet we can write we can read again, in every version and in any pieces."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.codec import bodies
from mop_twisted.codec import properties as p
from mop_twisted.codec.decode import Decoder
from mop_twisted.codec.encode import encode
from mop_twisted.codec.packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DISCONNECT,
    NO_PROPERTIES,
    PUBLISH,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    Ack,
    Acks,
    Auth,
    Connack,
    Connect,
    Disconnect,
    FilterRequest,
    Pingreq,
    Pingresp,
    Properties,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    WillMessage,
)
from mop_twisted.codec.properties import (
    DISCONNECT_OF_SERVER,
    PROPERTIES,
    PUBLISH_OF_CLIENT,
    WILL,
)
from tests.vectors import describe, merge

quick = settings(max_examples=40, deadline=None, database=None, derandomize=True)

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
names = texts.map(lambda text: text.replace("+", "").replace("#", "") or "t")
filters = texts.map(lambda text: text or "#")
payloads = st.binary(max_size=300)
packet_ids = st.integers(1, 65_535)
booleans = st.booleans()
qualities = st.integers(0, 2)
versions = st.sampled_from((3, 4, 5))


def values(identifier: int, place: int) -> st.SearchStrategy[Any]:
    """What a property may be."""
    _, kind, _, rule = PROPERTIES[identifier]
    if rule == p.TOPIC:
        return names
    if kind == p.STRING:
        return texts
    if kind == p.BINARY:
        return payloads
    if kind == p.PAIR:
        return st.lists(st.tuples(texts, texts), min_size=1, max_size=5)
    least = 1 if rule in (p.NOT_ZERO, p.ALIAS) else 0
    if kind == p.VARINT:
        most = 4 if place == PUBLISH else 1
        return st.lists(st.integers(1, 268_435_455), min_size=1, max_size=most)
    if kind == p.BYTE:
        return st.integers(0, 1)
    return st.integers(least, 256**kind - 1)


@st.composite
def property_sets(draw: st.DrawFn, place: int, version: int) -> Properties:
    """Properties of one packet, in any order."""
    if version < 5:
        return NO_PROPERTIES
    allowed = [i for i, row in PROPERTIES.items() if place in row[2]]
    chosen = draw(st.permutations(allowed))[: draw(st.integers(0, len(allowed)))]
    if place == WILL:
        # The delay has a field of its own.
        chosen = [i for i in chosen if i != p.WILL_DELAY_INTERVAL]
    needs_method = place == AUTH or p.AUTHENTICATION_DATA in chosen
    if needs_method and p.AUTHENTICATION_METHOD not in chosen:
        chosen = [p.AUTHENTICATION_METHOD, *chosen]
    return {identifier: draw(values(identifier, place)) for identifier in chosen} or NO_PROPERTIES


@st.composite
def publishes(draw: st.DrawFn, version: int, role: str) -> list[Publish]:
    """A run of PUBLISHes."""
    place = PUBLISH_OF_CLIENT if role == "server" else PUBLISH
    run = []
    for _ in range(draw(st.integers(1, 3))):
        qos = draw(qualities)
        properties = draw(property_sets(place, version))
        topic = "" if p.TOPIC_ALIAS in properties and draw(booleans) else draw(names)
        run.append(
            Publish(
                topic, draw(payloads), qos, draw(booleans), draw(packet_ids) if qos else 0,
                properties, draw(booleans) if qos else False,
            )
        )  # fmt: skip
    return run


@st.composite
def acks(draw: st.DrawFn, version: int, role: str) -> Acks | Ack:
    """Acknowledgements, plain and others."""
    kind = draw(st.integers(4, 7))
    if version < 5 or draw(booleans):
        return Acks(kind, draw(st.lists(packet_ids, min_size=1, max_size=20)))
    reason = draw(st.sampled_from(sorted(bodies.ACK_REASONS[kind] - {0})))
    return Ack(kind, draw(packet_ids), reason, draw(property_sets(kind, version)))


@st.composite
def connects(draw: st.DrawFn, version: int) -> Connect:
    """CONNECT."""
    will = None
    if draw(booleans):
        will = WillMessage(
            draw(names), draw(payloads), draw(qualities), draw(booleans),
            draw(property_sets(WILL, version)),
            draw(st.integers(0, 2**32 - 1)) if version == 5 else 0,
        )  # fmt: skip
    user_name = draw(st.none() | texts)
    password = draw(st.none() | payloads)
    if user_name is None and version < 5:
        password = None
    clean = draw(booleans)
    return Connect(
        version,
        draw(texts) if version == 5 or (version == 4 and clean) else draw(filters),
        clean, draw(st.integers(0, 65_535)), user_name, password, will,
        draw(property_sets(CONNECT, version)), draw(booleans) if version < 5 else False,
    )  # fmt: skip


@st.composite
def to_server(draw: st.DrawFn, version: int) -> Any:
    """A packet of a client, but for CONNECT."""
    kind = draw(st.integers(0, 6))
    if kind == 0:
        return draw(publishes(version, "server"))
    if kind == 1:
        return draw(acks(version, "server"))
    if kind == 2:
        requests = []
        for _ in range(draw(st.integers(1, 3))):
            topic_filter = draw(filters)
            requests.append(
                FilterRequest(
                    topic_filter, draw(qualities),
                    draw(booleans) and not topic_filter.startswith("$share/"), draw(booleans),
                    draw(qualities),
                )
                if version == 5 else FilterRequest(topic_filter, draw(qualities))
            )  # fmt: skip
        return Subscribe(draw(packet_ids), requests, draw(property_sets(SUBSCRIBE, version)))
    if kind == 3:
        return Unsubscribe(
            draw(packet_ids), draw(st.lists(filters, min_size=1, max_size=3)),
            draw(property_sets(UNSUBSCRIBE, version)),
        )  # fmt: skip
    if version < 5:
        return Pingreq() if kind < 6 else Disconnect()
    if kind == 5:
        reason = draw(st.sampled_from(sorted(bodies.DISCONNECT_REASONS_OF_CLIENT)))
        return Disconnect(reason, draw(property_sets(DISCONNECT, version)))
    if kind == 6:
        reason = draw(st.sampled_from(sorted(bodies.AUTH_REASONS_OF_CLIENT)))
        return Auth(reason, draw(property_sets(AUTH, version)))
    return Pingreq()


@st.composite
def to_client(draw: st.DrawFn, version: int) -> Any:
    """A packet of a server."""
    kind = draw(st.integers(0, 7))
    if kind == 0:
        return draw(publishes(version, "client"))
    if kind == 1:
        return draw(acks(version, "client"))
    if kind == 2:
        if version < 5:
            reason = draw(st.sampled_from((0, 0x84, 0x85, 0x88, 0x86, 0x87)))
        else:
            reason = draw(st.sampled_from(sorted(bodies.CONNACK_REASONS)))
        present = version > 3 and reason == 0 and draw(booleans)
        return Connack(reason, present, draw(property_sets(CONNACK, version)))
    if kind == 3:
        codes = {3: [0, 1, 2], 4: [0, 1, 2, 0x80], 5: sorted(bodies.SUBACK_REASONS)}[version]
        reasons = draw(st.lists(st.sampled_from(codes), min_size=1, max_size=5))
        return Suback(draw(packet_ids), reasons, draw(property_sets(SUBACK, version)))
    if kind == 4:
        codes = sorted(bodies.UNSUBACK_REASONS)
        reasons = draw(st.lists(st.sampled_from(codes), min_size=1)) if version == 5 else []
        return Unsuback(draw(packet_ids), reasons, draw(property_sets(UNSUBACK, version)))
    if version == 5 and kind == 5:
        reason = draw(st.sampled_from(sorted(bodies.DISCONNECT_REASONS_OF_SERVER)))
        return Disconnect(reason, draw(property_sets(DISCONNECT_OF_SERVER, version)))
    if version == 5 and kind == 6:
        reason = draw(st.sampled_from(sorted(bodies.AUTH_REASONS_OF_SERVER)))
        return Auth(reason, draw(property_sets(AUTH, version)))
    return Pingresp()


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, int, list[Any]]:
    """A role, a version, and some packets that this role receives."""
    version = draw(versions)
    if draw(booleans):
        return "client", version, draw(st.lists(to_client(version), min_size=1, max_size=4))
    packets = draw(st.lists(to_server(version), min_size=1, max_size=4))
    return "server", version, [draw(connects(version)), *packets]


def decoder(role: str, version: int) -> Decoder:
    """One that takes large packets."""
    return Decoder(1 << 24, role=role, version=version if role == "client" else 0)


class RoundTripTests(SynchronousTestCase):
    """Encode, then decode."""

    @quick
    @given(versions.flatmap(connects))
    def test_connect(self, connect: Connect) -> None:
        """Every CONNECT comes back as it was. [MQTT5-3.1.3-1] [MQTT311-3.1.3-1]"""
        packets = decoder("server", 0).receive(encode(connect, connect.version))
        self.assertEqual(describe([connect]), describe(packets))

    @settings(parent=quick, max_examples=150)
    @given(streams())
    def test_everything(self, stream: tuple[str, int, list[Any]]) -> None:
        """Every other packet comes back as it was, and says the same when it is written
        again."""
        role, version, packets = stream
        raw = b"".join(encode(packet, version) for packet in packets)
        reader = decoder(role, version)
        back = reader.receive(raw)
        self.assertIs(None, reader.error)
        self.assertEqual(merge(packets), merge(back))
        self.assertEqual(raw, b"".join(encode(packet, version) for packet in back))

    @quick
    @given(streams(), st.lists(st.integers(1, 400), min_size=1, max_size=6))
    def test_any_split(self, stream: tuple[str, int, list[Any]], sizes: list[int]) -> None:
        """Cut into reads anywhere, a stream is the same."""
        role, version, packets = stream
        raw = b"".join(encode(packet, version) for packet in packets)
        reader = decoder(role, version)
        back: list[Any] = []
        at = turn = 0
        while at < len(raw):
            size = sizes[turn % len(sizes)]
            back += reader.receive(raw[at : at + size])
            at += size
            turn += 1
        self.assertEqual(merge(packets), merge(back))
        self.assertEqual(0, reader.buffered)
