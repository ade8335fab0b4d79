"""aiomqtt: asyncio's way to Paho, which fails loudly and is entered again to reconnect."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.process import PATIENCE

from .gateway import HOST, Gateway, InteropTestCase, fresh

VERSIONS = (aiomqtt.ProtocolVersion.V31, aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5)


def run(conversation: Coroutine[Any, Any, None]) -> None:
    """Run it in an event loop of its own; it hangs when it takes too long."""
    asyncio.run(asyncio.wait_for(conversation, PATIENCE))


def client_of(
    gateway: Gateway,
    version: aiomqtt.ProtocolVersion,
    kind: str = "tcp",
    client_id: str | None = None,
    **named: Any,
) -> aiomqtt.Client:
    """A client to be entered; one with a client id keeps its session."""
    if client_id is not None and version == aiomqtt.ProtocolVersion.V5:
        kept = Properties(PacketTypes.CONNECT)
        kept.SessionExpiryInterval = 600
        named |= {"properties": kept, "clean_start": False}
    elif client_id is not None:
        named["clean_session"] = False
    if kind in ("tls", "wss"):
        named["tls_params"] = aiomqtt.TLSParameters(ca_certs=gateway.files.authority)
    return aiomqtt.Client(
        HOST,
        gateway.ports[kind],
        identifier=client_id or fresh("aiomqtt"),
        protocol=version,
        transport="websockets" if kind in ("ws", "wss") else "tcp",
        websocket_path="/mqtt" if kind in ("ws", "wss") else None,
        timeout=PATIENCE,
        **named,
    )


async def heard(client: aiomqtt.Client, count: int) -> list[tuple[str, bytes, int, bool]]:
    """So many messages."""
    came = [await anext(client.messages) for _ in range(count)]
    return [(str(m.topic), m.payload, m.qos, m.retain) for m in came]


class AiomqttTests(InteropTestCase):
    """What everybody does with it."""

    def test_publish_and_subscribe(self) -> None:
        """Over each transport and with each version, messages of each QoS come back, and the
        retained one comes first. [MQTT311-7.1.1-1] [MQTT5-4.2-1]"""

        async def conversation(kind: str, version: aiomqtt.ProtocolVersion) -> None:
            topic = fresh("topic")
            async with client_of(self.gateway, version, kind) as client:
                await client.publish(f"{topic}/kept", b"kept", 1, retain=True)
                await client.subscribe(f"{topic}/+", 2)
                for qos in (0, 1, 2):
                    await client.publish(f"{topic}/{qos}", b"live", qos)
                expected = [(f"{topic}/kept", b"kept", 1, True)]
                expected += [(f"{topic}/{qos}", b"live", qos, False) for qos in (0, 1, 2)]
                self.assertEqual(await heard(client, 4), expected)

        for kind in ("tcp", "tls", "ws", "wss"):
            for version in VERSIONS:
                run(conversation(kind, version))

    def test_many_at_once(self) -> None:
        """Fifty clients that connect at the same time hear each other."""

        async def one(topic: str, everyone: asyncio.Barrier) -> list[bytes]:
            async with client_of(self.gateway, aiomqtt.ProtocolVersion.V5) as client:
                await client.subscribe(topic, 1)
                await everyone.wait()
                await client.publish(topic, b"here", 1)
                return [message[1] for message in await heard(client, 50)]

        async def conversation() -> None:
            topic, everyone = fresh("topic"), asyncio.Barrier(50)
            every = await asyncio.gather(*(one(topic, everyone) for _ in range(50)))
            self.assertEqual(every, [[b"here"] * 50] * 50)

        run(conversation())

    def test_reconnecting(self) -> None:
        """When the gateway restarts, a client that enters again finds its session: what it
        subscribed to, and what came while it was away."""
        for version in VERSIONS:
            gateway = Gateway(("tcp",))
            self.addCleanup(gateway.stop)
            run(self.reconnects(gateway, version))

    async def reconnects(self, gateway: Gateway, version: aiomqtt.ProtocolVersion) -> None:
        """One version's part of the test."""
        client = client_of(gateway, version, client_id="meter")
        async with client:
            await client.subscribe("a/#", 2)
            await client.publish("a/b", b"first", 1)
            self.assertEqual(await heard(client, 1), [("a/b", b"first", 1, False)])
        async with client_of(gateway, version) as other:
            await other.publish("a/b", b"missed", 1)
            await other.publish("a/b", b"missed as well", 2)
        with self.assertRaises(aiomqtt.MqttError):
            async with client_of(gateway, version) as other:
                await asyncio.to_thread(gateway.restart)
                await heard(other, 1)
        async with client:
            self.assertEqual(
                await heard(client, 2),
                [("a/b", b"missed", 1, False), ("a/b", b"missed as well", 2, False)],
            )
            await client.publish("a/c", b"live", 2)
            self.assertEqual(await heard(client, 1), [("a/c", b"live", 2, False)])
