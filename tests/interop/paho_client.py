"""Paho's client, with what its callbacks bring as queues, for tests that wait in their thread."""

from __future__ import annotations

import contextlib
import queue
import socket
from typing import Any

from paho.mqtt.client import CallbackAPIVersion, MQTTMessage, MQTTv5
from paho.mqtt.client import Client as Paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from tests.process import PATIENCE

from .gateway import HOST, Gateway, fresh


def properties(kind: int, **named: Any) -> Properties:
    """Paho's properties, by its own names."""
    made = Properties(kind)
    for name, value in named.items():
        setattr(made, name, value)
    return made


class Client:
    """A Paho client with its thread, and what its callbacks brought as queues."""

    def __init__(
        self,
        gateway: Gateway,
        version: int = MQTTv5,
        transport: str = "tcp",
        client_id: str | None = None,
        clean: bool = True,
        manual_ack: bool = False,
        in_flight: int = 20,
        certificate: bool = False,
        trust: Gateway | None = None,
        connect: Properties | None = None,
        will: tuple[str, bytes, int, bool, Properties | None] | None = None,
    ) -> None:
        web = transport in ("ws", "wss")
        self.client_id = client_id or fresh("paho")
        self.version = version
        self.paho = Paho(
            CallbackAPIVersion.VERSION2,
            self.client_id,
            protocol=version,
            clean_session=None if version == MQTTv5 else clean,
            transport="websockets" if web else "unix" if transport == "unix" else "tcp",
            reconnect_on_failure=False,
            manual_ack=manual_ack,
        )
        if web:
            self.paho.ws_set_options("/mqtt")
        if transport in ("tls", "wss"):
            files = gateway.files
            shown = (files.client_certificate, files.client_key) if certificate else (None, None)
            self.paho.tls_set((trust or gateway).files.authority, *shown)
        self.paho.max_inflight_messages_set(in_flight)
        if will:
            self.paho.will_set(*will)
        self._came: dict[str, queue.Queue[Any]] = {}
        self.paho.on_connect = lambda c, u, flags, reason, p: self.put(
            "connect", (flags.session_present, reason, p)
        )
        self.paho.on_disconnect = lambda c, u, flags, reason, p: self.put("disconnect", reason)
        self.paho.on_message = lambda c, u, message: self.put("message", message)
        self.paho.on_subscribe = lambda c, u, number, reasons, p: self.put("subscribe", reasons)
        self.paho.on_unsubscribe = lambda c, u, number, reasons, p: self.put("unsubscribe", reasons)
        self.paho.on_publish = lambda c, u, number, reason, p: self.put("publish", reason)
        options = {"clean_start": clean, "properties": connect} if version == MQTTv5 else {}
        host = gateway.socket if transport == "unix" else HOST
        self.paho.connect(host, gateway.ports.get(transport, 1883), keepalive=60, **options)
        self.paho.loop_start()
        self.session_present, self.reason, self.properties = self.take("connect")

    def _queue(self, kind: str) -> queue.Queue[Any]:
        # setdefault is atomic: this thread and Paho's may both be the first.
        return self._came.setdefault(kind, queue.Queue())

    def put(self, kind: str, what: Any) -> None:
        """Called by Paho's thread."""
        self._queue(kind).put(what)

    def take(self, kind: str) -> Any:
        """The next thing of a kind; fails when none comes."""
        try:
            return self._queue(kind).get(timeout=PATIENCE)
        except queue.Empty:
            raise AssertionError(f"{self.client_id}: no {kind} came") from None

    def subscribe(self, *filters: Any, **named: Any) -> list[int]:
        """Subscribe to filters with QoS or options, and wait. What the SUBACK says."""
        self.paho.subscribe(list(filters), **named)
        return [reason.value for reason in self.take("subscribe")]

    def unsubscribe(self, topic_filter: str) -> list[int]:
        """Unsubscribe and wait."""
        self.paho.unsubscribe(topic_filter)
        return [reason.value for reason in self.take("unsubscribe")]

    def publish(self, topic: str, payload: bytes, qos: int = 0, **named: Any) -> ReasonCode:
        """Publish, and wait until the flight has ended."""
        self.paho.publish(topic, payload, qos, **named)
        return self.take("publish")

    def message(self) -> MQTTMessage:
        """The next message."""
        message: MQTTMessage = self.take("message")
        return message

    def messages(self, count: int) -> list[tuple[str, bytes, int, bool]]:
        """So many messages: topic, payload, QoS, retain."""
        return [
            (message.topic, message.payload, message.qos, message.retain)
            for message in (self.message() for _ in range(count))
        ]

    def nothing_before(self, topic: str, payload: bytes = b"the end") -> list[bytes]:
        """Send oneself a message, and return what came before it."""
        self.subscribe((topic, 1) if self.version != MQTTv5 else (topic, SubscribeOptions(1)))
        self.publish(topic, payload, 1)
        came = []
        while (message := self.message()).topic != topic:
            came.append(message.payload)
        return came

    def disconnect(self) -> None:
        """DISCONNECT, and the thread ends."""
        self.paho.disconnect()
        self.paho.loop_stop()

    def lose(self) -> None:
        """The connection ends without DISCONNECT."""
        with contextlib.suppress(OSError):
            network: Any = self.paho.socket()
            # Under WebSocket and TLS alike: the socket itself.
            socket.socket.shutdown(getattr(network, "_socket", network), socket.SHUT_RDWR)
        self.take("disconnect")
        self.paho.loop_stop()
