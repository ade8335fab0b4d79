"""Eclipse Paho for Python: every version of MQTT over every transport, and what 5.0 adds."""

from __future__ import annotations

import socket
import ssl
from typing import Any

from paho.mqtt.client import MQTTv5, MQTTv31, MQTTv311
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.process import PATIENCE

from .gateway import HOST, TRANSPORTS, Gateway, InteropTestCase, fresh
from .paho_client import Client, properties

VERSIONS = {"V31": MQTTv31, "V311": MQTTv311, "V5": MQTTv5}


class PahoTestCase(InteropTestCase):
    """Clients that are gone after the test, and their class's version and transport."""

    transport = "tcp"
    version: int = MQTTv5

    def client(self, **named: Any) -> Client:
        """A connected client."""
        client = Client(
            self.gateway, **{"version": self.version, "transport": self.transport, **named}
        )
        self.addCleanup(client.disconnect)
        self.assertEqual(client.reason.value, 0)
        return client


class Everything:
    """What holds for each version over each transport."""

    version: int
    client: Any
    assertEqual: Any
    assertTrue: Any
    assertFalse: Any

    def options(self, qos: int) -> Any:
        """A QoS as Paho wants it."""
        return SubscribeOptions(qos) if self.version == MQTTv5 else qos

    def persistent(self, client_id: str) -> Any:
        """A client whose session stays."""
        connect = properties(PacketTypes.CONNECT, SessionExpiryInterval=600)
        return self.client(
            client_id=client_id, clean=False, connect=connect if self.version == MQTTv5 else None
        )

    def test_publish_and_subscribe(self) -> None:
        """An unmodified client over TCP, TLS or WebSocket connects, subscribes, and gets what
        another publishes at each QoS, in order, with the lower QoS of the two; after it has
        unsubscribed it gets nothing. [MQTT311-7.0.0-2] [MQTT311-7.1.1-1] [MQTT5-4.2-1]"""
        topic = fresh("topic")
        publisher, subscriber = self.client(), self.client()
        granted = subscriber.subscribe(
            (f"{topic}/all", self.options(2)), (f"{topic}/once/+", self.options(1))
        )
        self.assertEqual(granted, [2, 1])
        for qos in (0, 1, 2):
            for place in ("all", "once/ünï", "none"):
                publisher.publish(f"{topic}/{place}", f"{place} {qos}".encode(), qos)
        expected = []
        for qos in (0, 1, 2):
            expected.append((f"{topic}/all", f"all {qos}".encode(), qos, False))
            once = f"once/ünï {qos}".encode()
            expected.append((f"{topic}/once/ünï", once, min(qos, 1), False))
        # Paho hands out QoS 2 at PUBREL, so that a later QoS 1 overtakes it there: per topic.
        came = sorted(subscriber.messages(6), key=lambda message: message[0])
        self.assertEqual(came, sorted(expected, key=lambda message: message[0]))
        subscriber.unsubscribe(f"{topic}/all")
        publisher.publish(f"{topic}/all", b"unheard", 2)
        self.assertEqual(subscriber.nothing_before(f"{topic}/end"), [])

    def test_a_large_message(self) -> None:
        """A message of half a mebibyte comes whole, and so do the small ones around it."""
        topic, large = fresh("topic"), bytes(range(256)) * 2048
        publisher, subscriber = self.client(), self.client()
        subscriber.subscribe((topic, self.options(1)))
        for payload in (b"before", large, b"after"):
            publisher.publish(topic, payload, 1)
        self.assertEqual([m[1] for m in subscriber.messages(3)], [b"before", large, b"after"])

    def test_retained(self) -> None:
        """A retained message reaches who subscribes later, marked as such, until it is
        cleared."""
        topic = fresh("topic")
        publisher = self.client()
        publisher.publish(topic, b"kept", 1, retain=True)
        subscriber = self.client()
        subscriber.subscribe((topic, self.options(2)))
        self.assertEqual(subscriber.messages(1), [(topic, b"kept", 1, True)])
        publisher.publish(topic, b"", 1, retain=True)
        self.assertEqual(subscriber.messages(1), [(topic, b"", 1, False)])
        other = self.client()
        other.subscribe((topic, self.options(1)))
        self.assertEqual(other.nothing_before(fresh("end")), [])

    def test_will(self) -> None:
        """A will is published when its client's connection is lost, not when it says goodbye."""
        topic = fresh("topic")
        subscriber = self.client()
        subscriber.subscribe((f"{topic}/#", self.options(2)))
        leaving = self.client(will=(f"{topic}/left", b"", 0, False, None))
        leaving.disconnect()
        lost = self.client(will=(f"{topic}/lost", b"gone", 2, True, None))
        lost.lose()
        self.assertEqual(subscriber.messages(1), [(f"{topic}/lost", b"gone", 2, False)])
        subscriber.publish(f"{topic}/lost", b"", 0, retain=True)

    def test_a_session_is_resumed(self) -> None:
        """What was published while a client with a persistent session was away, comes when it
        is back, without another SUBSCRIBE; a clean start ends that session."""
        topic, client_id = fresh("topic"), fresh("paho")
        publisher = self.client()
        first = self.persistent(client_id)
        self.assertFalse(first.session_present)
        first.subscribe((topic, self.options(2)))
        first.disconnect()
        for qos in (1, 2):
            publisher.publish(topic, b"missed %d" % qos, qos)
        second = self.persistent(client_id)
        # 3.1 has no such flag, but Paho shows the byte that we leave 0.
        self.assertEqual(second.session_present, self.version != MQTTv31)
        self.assertEqual(
            second.messages(2), [(topic, b"missed 1", 1, False), (topic, b"missed 2", 2, False)]
        )
        publisher.publish(topic, b"live", 2)
        self.assertEqual(second.messages(1), [(topic, b"live", 2, False)])
        second.disconnect()
        third = self.client(client_id=client_id)
        self.assertFalse(third.session_present)
        publisher.publish(topic, b"unheard", 1)
        self.assertEqual(third.nothing_before(fresh("end")), [])

    def test_takeover(self) -> None:
        """A second connection with a client id ends the first."""
        first = self.client()
        second = self.client(client_id=first.client_id)
        reason = first.take("disconnect")
        if self.version == MQTTv5:
            self.assertEqual(reason.value, 0x8E)
        self.assertEqual(second.nothing_before(fresh("end")), [])


def _each() -> None:
    for transport in TRANSPORTS:
        for name, version in VERSIONS.items():
            title = f"{transport.title()}{name}Tests"
            members = {"transport": transport, "version": version, "__module__": __name__}
            globals()[title] = type(title, (Everything, PahoTestCase), members)


_each()


class Version5Tests(PahoTestCase):
    """What MQTT 5.0 adds, as Paho shows it."""

    def test_properties_arrive(self) -> None:
        """Content type, response topic, correlation data, payload format, expiry and user
        properties come as they were sent, and the subscription identifier is added."""
        topic = fresh("topic")
        publisher, subscriber = self.client(), self.client(transport="wss")
        subscriber.subscribe(
            (topic, SubscribeOptions(1)),
            properties=properties(PacketTypes.SUBSCRIBE, SubscriptionIdentifier=268_435_455),
        )
        sent = properties(
            PacketTypes.PUBLISH,
            ContentType="text/plain; charset=utf-8",
            ResponseTopic="answers/здесь",
            CorrelationData=bytes(range(256)),
            PayloadFormatIndicator=1,
            MessageExpiryInterval=600,
            UserProperty=[("b", "2"), ("a", "1"), ("b", ""), ("a", "1")],
        )
        publisher.publish(topic, "grüße".encode(), 1, properties=sent)
        came = subscriber.message().properties
        for name in ("ContentType", "ResponseTopic", "CorrelationData", "PayloadFormatIndicator"):
            self.assertEqual(getattr(came, name), getattr(sent, name))
        self.assertEqual(came.UserProperty, sent.UserProperty)
        self.assertIn(came.MessageExpiryInterval, (599, 600))
        self.assertEqual(came.SubscriptionIdentifier, [268_435_455])

    def test_subscription_options(self) -> None:
        """No local, retain as published and retain handling do what they say."""
        topic = fresh("topic")
        client = self.client()
        client.publish(topic, b"old", 1, retain=True)
        options = SubscribeOptions(
            2, noLocal=True, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND
        )
        client.subscribe((topic, options))
        client.publish(topic, b"own", 1)
        self.assertEqual(client.nothing_before(fresh("end")), [])
        as_published = self.client()
        options = SubscribeOptions(1, retainAsPublished=True, retainHandling=1)
        for _ in range(2):  # Retained messages come with the first alone.
            self.assertEqual(as_published.subscribe((topic, options)), [1])
        client.publish(topic, b"new", 1, retain=True)
        self.assertEqual(
            as_published.messages(2), [(topic, b"old", 1, True), (topic, b"new", 1, True)]
        )

    def test_the_receive_maximum_is_kept(self) -> None:
        """A client that allows two messages in flight has two, until it acknowledges."""
        topic = fresh("topic")
        client = self.client(
            manual_ack=True, connect=properties(PacketTypes.CONNECT, ReceiveMaximum=2)
        )
        client.subscribe((topic, SubscribeOptions(1)))
        publisher = self.client()
        for number in range(6):
            publisher.publish(topic, b"%d" % number, 1)
        held = [client.message(), client.message()]
        # The round trip of a PINGREQ's kind: what was to come has come.
        client.subscribe((fresh("other"), SubscribeOptions(0)))
        self.assertTrue(client._queue("message").empty())
        payloads = []
        for _ in range(6):
            message = held.pop(0)
            payloads.append(message.payload)
            client.paho.ack(message.mid, message.qos)
            if len(payloads) + len(held) < 6:
                held.append(client.message())
        self.assertEqual(payloads, [b"%d" % number for number in range(6)])

    def test_our_receive_maximum_is_kept(self) -> None:
        """A burst of QoS 2 messages, larger than what we allow in flight, arrives once and in
        order."""
        topic = fresh("topic")
        # Paho does not ask CONNACK how many it may have in flight.
        publisher, subscriber = self.client(in_flight=1024), self.client()
        self.assertEqual(publisher.properties.ReceiveMaximum, 16384)
        subscriber.subscribe((topic, SubscribeOptions(2)))
        for number in range(2000):
            publisher.paho.publish(topic, b"%d" % number, 2)
        came = subscriber.messages(2000)
        self.assertEqual([m[1] for m in came], [b"%d" % number for number in range(2000)])

    def test_topic_alias(self) -> None:
        """We take topic aliases up to what CONNACK says, and a subscriber that allows some
        still learns every topic."""
        topic = fresh("topic")
        publisher = self.client()
        self.assertTrue(publisher.properties.TopicAliasMaximum > 0)
        subscriber = self.client(connect=properties(PacketTypes.CONNECT, TopicAliasMaximum=0))
        subscriber.subscribe((topic, SubscribeOptions(1)))
        alias = properties(PacketTypes.PUBLISH, TopicAlias=publisher.properties.TopicAliasMaximum)
        publisher.publish(topic, b"named", 1, properties=alias)
        publisher.publish("", b"aliased", 1, properties=alias)
        self.assertEqual(
            subscriber.messages(2), [(topic, b"named", 1, False), (topic, b"aliased", 1, False)]
        )

    def test_wildcards(self) -> None:
        """Plus is one level, a hash any number of them; overlapping filters of one client give
        each message once, at the highest QoS of them."""
        topic = fresh("topic")
        client = self.client()
        client.subscribe((f"{topic}/+/x", SubscribeOptions(1)), (f"{topic}/#", SubscribeOptions(2)))
        for place in ("", "/x", "/a/x", "/a/b/x"):
            client.publish(topic + place, b"", 2)
        heard = [client.message() for _ in range(4)]
        self.assertEqual(
            [m.topic for m in heard], [topic, f"{topic}/x", f"{topic}/a/x", f"{topic}/a/b/x"]
        )
        self.assertEqual({m.qos for m in heard}, {2})
        self.assertEqual(client.nothing_before(fresh("end")), [])

    def test_shared_subscription(self) -> None:
        """Members of a group get each message once between them; another group and a plain
        subscriber get all."""
        topic = fresh("topic")
        members = [self.client() for _ in range(3)]
        for member in members:
            self.assertEqual(
                member.subscribe((f"$share/workers/{topic}/+", SubscribeOptions(1))), [1]
            )
        other, plain = self.client(), self.client()
        other.subscribe((f"$share/others/{topic}/#", SubscribeOptions(1)))
        plain.subscribe((f"{topic}/#", SubscribeOptions(1)))
        publisher = self.client()
        expected = [b"%d" % number for number in range(60)]
        for number, payload in enumerate(expected):
            publisher.publish(f"{topic}/{number % 7}", payload, 1)
        self.assertEqual([m[1] for m in other.messages(60)], expected)
        self.assertEqual([m[1] for m in plain.messages(60)], expected)
        shares = [member.nothing_before(fresh("end")) for member in members]
        self.assertEqual(
            sorted(int(payload) for share in shares for payload in share), list(range(60))
        )

    def test_a_delayed_will_of_a_session(self) -> None:
        """A will with properties keeps them, and does not come when the session is resumed
        before its delay is over."""
        topic = fresh("topic")
        subscriber = self.client()
        subscriber.subscribe((f"{topic}/#", SubscribeOptions(1)))
        session = properties(PacketTypes.CONNECT, SessionExpiryInterval=600)

        def will(delay: int) -> Properties:
            return properties(
                PacketTypes.WILLMESSAGE,
                WillDelayInterval=delay,
                ContentType="text/plain",
                UserProperty=[("reason", "lost")],
            )

        lost = self.client(connect=session, will=(f"{topic}/1", b"no", 1, False, will(300)))
        lost.lose()
        again = self.client(
            client_id=lost.client_id,
            clean=False,
            connect=session,
            will=(f"{topic}/2", b"yes", 1, False, will(0)),
        )
        self.assertTrue(again.session_present)
        again.lose()
        message = subscriber.message()
        self.assertEqual((message.topic, message.payload), (f"{topic}/2", b"yes"))
        self.assertEqual(message.properties.ContentType, "text/plain")
        self.assertEqual(message.properties.UserProperty, [("reason", "lost")])

    def test_reasons(self) -> None:
        """PUBACK says when nobody listens, SUBACK which filter was wrong, UNSUBACK what was not
        there, CONNACK which client id we gave."""
        client = self.client()
        self.assertEqual(client.publish(fresh("nobody"), b"", 1).value, 0x10)
        self.assertEqual(client.unsubscribe(fresh("never")), [0x11])
        self.assertEqual(client.unsubscribe(fresh("never")), [0x11])
        options = SubscribeOptions(1)
        self.assertEqual(
            client.subscribe((fresh("good"), options), ("$share/g/" + fresh("x"), options)), [1, 1]
        )


class UnixSocketTests(Everything, PahoTestCase):
    """The same over a UNIX socket."""

    transport = "unix"


class CertificateTests(PahoTestCase):
    """Certificates, as Paho sees and shows them."""

    def setUp(self) -> None:
        self.gateway = Gateway(
            ("tls", "wss"), client_certificates=True, acl="pattern readwrite of/%u/#\n"
        )
        self.addCleanup(self.gateway.stop)

    def test_a_client_certificate(self) -> None:
        """With a client CA, a client that shows a certificate of it gets in over TLS and over
        secure WebSocket, and its common name is its user name for the ACL; without one it
        stays outside."""
        for transport in ("tls", "wss"):
            client = self.client(transport=transport, certificate=True)
            topic = f"of/meter/{transport}"
            self.assertEqual(client.subscribe((topic, SubscribeOptions(1))), [1])
            self.assertEqual(client.publish(topic, b"mine", 1).value, 0)
            self.assertEqual(client.messages(1), [(topic, b"mine", 1, False)])
            self.assertEqual(client.publish("of/other", b"", 1).value, 0x87)
            self.assertRaises(OSError, self.stranger, transport)

    def stranger(self, transport: str) -> None:
        """Connect without a certificate.

        @raise OSError: refused; in the handshake, or later when it is TLS 1.3.
        """
        context = ssl.create_default_context(cafile=self.gateway.files.authority)
        with (
            socket.create_connection((HOST, self.gateway.ports[transport]), PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=HOST) as wrapped,
        ):
            wrapped.sendall(b"GET / HTTP/1.1\r\n\r\n")
            if not wrapped.recv(100):
                raise ConnectionResetError("closed")

    def test_another_certificate_of_the_server(self) -> None:
        """A client that trusts another CA does not talk to us."""
        other = Gateway(("tls",))
        self.addCleanup(other.stop)
        self.assertRaises(
            ssl.SSLCertVerificationError, Client, self.gateway, transport="tls", trust=other
        )
