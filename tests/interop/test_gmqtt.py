"""gmqtt: an asyncio client of its own make, which reconnects by itself."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Coroutine
from typing import Any

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311

from tests.process import PATIENCE

from .gateway import HOST, Gateway, InteropTestCase, fresh

# It warns of every lost connection, which would end up on standard error.
logging.getLogger("gmqtt").addHandler(logging.NullHandler())

VERSIONS = (MQTTv311, MQTTv50)


def run(conversation: Coroutine[Any, Any, None]) -> None:
    """Run it in an event loop of its own; it hangs when it takes too long."""
    asyncio.run(asyncio.wait_for(conversation, PATIENCE))


class Client:
    """A gmqtt client, and what its callbacks brought as queues."""

    def __init__(self, clean: bool = True, client_id: str | None = None, **named: Any) -> None:
        self.gmqtt = gmqtt.Client(client_id or fresh("gmqtt"), clean_session=clean, **named)
        self.gmqtt.set_config({"reconnect_delay": 0.05, "reconnect_retries": -1})
        self.messages: asyncio.Queue[tuple[str, bytes, int, bool, dict[str, Any]]] = asyncio.Queue()
        self.connected: asyncio.Queue[int] = asyncio.Queue()
        self.subscribed: asyncio.Queue[tuple[int, ...]] = asyncio.Queue()
        self.gmqtt.on_message = self._message
        self.gmqtt.on_connect = lambda c, flags, result, p: self.connected.put_nowait(flags)
        self.gmqtt.on_subscribe = lambda c, n, qos, p: self.subscribed.put_nowait(tuple(qos))

    async def _message(
        self, client: Any, topic: str, payload: bytes, qos: int, properties: dict[str, Any]
    ) -> int:
        retain = bool(properties.get("retain"))
        self.messages.put_nowait((topic, payload, qos, retain, properties))
        return 0

    async def connect(self, gateway: Gateway, version: int, kind: str = "tcp") -> int:
        """Connect; the CONNACK's flags."""
        context = (
            ssl.create_default_context(cafile=gateway.files.authority) if kind == "tls" else False
        )
        await self.gmqtt.connect(HOST, gateway.ports[kind], ssl=context, version=version)
        return await self.connected.get()

    async def subscribe(self, topic_filter: str, qos: int, **named: Any) -> tuple[int, ...]:
        """Subscribe and wait."""
        self.gmqtt.subscribe(topic_filter, qos, **named)
        return await self.subscribed.get()

    async def heard(self, count: int) -> list[tuple[str, bytes, int]]:
        """So many messages."""
        return [(await self.messages.get())[:3] for _ in range(count)]

    async def disconnect(self) -> None:
        """DISCONNECT, and wait until the connection is closed."""
        # What we still had under way, such as a PUBCOMP, is an error to asyncio's TLS once it
        # has begun to close.
        with contextlib.suppress(ssl.SSLError):
            await self.gmqtt.disconnect()


class GmqttTests(InteropTestCase):
    """What everybody does with it."""

    def test_publish_and_subscribe(self) -> None:
        """Over TCP and TLS and with each version, messages of each QoS come in order."""

        async def conversation(kind: str, version: int) -> None:
            topic, client = fresh("topic"), Client()
            self.assertEqual(await client.connect(self.gateway, version, kind), 0)
            self.assertEqual(await client.subscribe(f"{topic}/#", 2), (2,))
            for qos in (0, 1, 2):
                client.gmqtt.publish(f"{topic}/{qos}", b"live", qos)
            self.assertEqual(
                await client.heard(3), [(f"{topic}/{qos}", b"live", qos) for qos in (0, 1, 2)]
            )
            await client.disconnect()

        for kind in ("tcp", "tls"):
            for version in VERSIONS:
                run(conversation(kind, version))

    def test_properties(self) -> None:
        """MQTT 5.0's properties arrive as gmqtt sent them."""

        async def conversation() -> None:
            topic, client = fresh("topic"), Client()
            await client.connect(self.gateway, MQTTv50)
            await client.subscribe(topic, 1, subscription_identifier=7)
            client.gmqtt.publish(
                topic,
                b"live",
                1,
                content_type="json",
                response_topic="answers",
                correlation_data=b"\x00\xff",
                user_property=[("a", "1"), ("a", "2")],
            )
            properties = (await client.messages.get())[4]
            self.assertEqual(properties["content_type"], ["json"])
            self.assertEqual(properties["response_topic"], ["answers"])
            self.assertEqual(properties["correlation_data"], [b"\x00\xff"])
            self.assertEqual(properties["user_property"], [("a", "1"), ("a", "2")])
            self.assertEqual(properties["subscription_identifier"], [7])
            await client.disconnect()

        run(conversation())

    def test_a_will(self) -> None:
        """Its will comes when the connection is lost, and not when it comes back and leaves."""

        async def conversation() -> None:
            topic, client = fresh("topic"), Client()
            await client.connect(self.gateway, MQTTv50)
            await client.subscribe(topic, 1)
            lost = Client(will_message=gmqtt.Message(topic, b"gone", qos=1))
            await lost.connect(self.gateway, MQTTv50)
            lost.gmqtt._connection._transport.abort()
            self.assertEqual(await client.heard(1), [(topic, b"gone", 1)])
            await lost.connected.get()
            await lost.disconnect()
            client.gmqtt.publish(topic, b"end", 1)
            self.assertEqual(await client.heard(1), [(topic, b"end", 1)])
            await client.disconnect()

        run(conversation())

    def test_reconnecting(self) -> None:
        """When the gateway restarts, gmqtt comes back by itself and finds its session: it hears
        what is published, without subscribing again."""
        for version in VERSIONS:
            gateway = Gateway(("tcp",))
            self.addCleanup(gateway.stop)
            run(self.reconnects(gateway, version))

    async def reconnects(self, gateway: Gateway, version: int) -> None:
        """One version's part of the test."""
        kept = {"session_expiry_interval": 600} if version == MQTTv50 else {}
        client = Client(clean=False, client_id="meter", **kept)
        self.assertEqual(await client.connect(gateway, version), 0)
        await client.subscribe("a/#", 2)
        for _ in range(2):
            await asyncio.to_thread(gateway.restart)
            self.assertEqual(await client.connected.get(), 1)
            other = Client()
            await other.connect(gateway, version)
            for qos in (1, 2):
                other.gmqtt.publish("a/b", b"live", qos)
            self.assertEqual(await client.heard(2), [("a/b", b"live", 1), ("a/b", b"live", 2)])
            await other.disconnect()
        await client.disconnect()
