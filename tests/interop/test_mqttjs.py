"""MQTT.js, which is the client of web pages: in Node.js, over WebSocket as well as TCP."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.process import PATIENCE

from .gateway import HOST, Gateway, InteropTestCase, fresh, missing, program

SCRIPT = str(Path(__file__).with_name("mqttjs.js"))
VERSIONS = (4, 5)
SCHEMES = {"tcp": "mqtt", "tls": "mqtts", "ws": "ws", "wss": "wss"}


class MqttJsTestCase(InteropTestCase):
    """Running the script."""

    def setUp(self) -> None:
        super().setUp()
        self.node = program("node")
        found = subprocess.run(
            [self.node, "-e", "require.resolve('mqtt')"],
            cwd=tempfile.gettempdir(),
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
        )
        if found.returncode:
            missing("MQTT.js (npm's package mqtt, on NODE_PATH)")

    def start(
        self, name: str, gateway: Gateway, kind: str, **options: Any
    ) -> subprocess.Popen[str]:
        """Begin a conversation."""
        path = "/mqtt" if kind in ("ws", "wss") else ""
        options["url"] = f"{SCHEMES[kind]}://{HOST}:{gateway.ports[kind]}{path}"
        options["topic"] = fresh("topic")
        if kind in ("tls", "wss"):
            options["ca"] = gateway.files.authority
        process = subprocess.Popen(
            # It warns of many messages at once, which is what a test is about.
            [self.node, "--no-warnings", SCRIPT, name, json.dumps(options)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def finish(self, process: subprocess.Popen[str]) -> None:
        """See that it ends well."""
        _, errors = process.communicate(timeout=PATIENCE)
        self.assertEqual((process.returncode, errors), (0, ""))

    def converse(self, name: str, kind: str, **options: Any) -> None:
        """A whole conversation with the module's gateway."""
        self.finish(self.start(name, self.gateway, kind, **options))


class MqttJsTests(MqttJsTestCase):
    """What web pages and Node.js programs do with it."""

    def test_publish_and_subscribe(self) -> None:
        """Over TCP, TLS and both WebSockets, with MQTT 3.1.1 and 5.0, messages of each QoS, of
        700 kB, and retained ones come as they should. [MQTT311-7.1.1-1] [MQTT5-4.2-1]"""
        for kind in SCHEMES:
            for version in VERSIONS:
                self.converse("basics", kind, protocolVersion=version)

    def test_sessions_and_wills(self) -> None:
        """A destroyed connection's will comes; its session is found again, with what was
        missed."""
        for version in VERSIONS:
            self.converse("session", "ws", protocolVersion=version)

    def test_properties(self) -> None:
        """MQTT 5.0's properties, topic aliases and a small receive maximum work over
        WebSocket."""
        self.converse("properties", "ws", protocolVersion=5)

    def test_ten_thousand_messages(self) -> None:
        """Ten thousand messages over a WebSocket arrive in order, at QoS 0 and 1."""
        for version in VERSIONS:
            for qos in (0, 1):
                self.converse("many", "ws", protocolVersion=version, qos=qos)

    def test_reconnecting(self) -> None:
        """When the gateway restarts, MQTT.js comes back by itself and has its subscriptions
        again."""
        gateway = Gateway(("ws",))
        self.addCleanup(gateway.stop)
        for version in VERSIONS:
            process = self.start("reconnect", gateway, "ws", protocolVersion=version)
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), "connected\n")
            gateway.restart()
            self.finish(process)
