"""C{mop bench} drives the gateway itself, over every transport and version."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.ops.bench.command import run
from mop_twisted.ops.bench.link import Frames, LinkLost, client_frame, mask
from mop_twisted.ops.bench.servers import Gateway, free_port, make_certificate


class DrivingTests(SynchronousTestCase):
    """Small loads on a gateway of our own, from beginning to end."""

    def setUp(self) -> None:
        folder = Path(self.mktemp()).resolve()
        folder.mkdir()
        self.gateway = Gateway(folder / "gateway", *make_certificate(folder))
        self.gateway.__enter__()
        self.addCleanup(self.gateway.__exit__)

    def bench(self, transport: str, *arguments: str) -> dict[str, Any]:
        """What a run reports; it must succeed."""
        output, errors = io.StringIO(), io.StringIO()
        options = {"tcp": (), "tls": ("--tls",), "ws": ("--ws",)}[transport]
        with redirect_stdout(output), redirect_stderr(errors):
            status = run([
                "--port", str(self.gateway.ports[transport]), *options, "--settle", "0",
                "--processes", "2", "--json", *arguments,
            ])  # fmt: skip
        self.assertEqual((status, errors.getvalue()), (0, ""))
        found: dict[str, Any] = json.loads(output.getvalue())
        return found

    def faultless(self, result: dict[str, Any], deliveries: int) -> None:
        """Everything came, once, in order."""
        self.assertEqual(
            {key: result[key] for key in ("delivered", "lost", "duplicates", "disorder", "stray")},
            {"delivered": deliveries, "lost": 0, "duplicates": 0, "disorder": 0, "stray": 0},
        )
        self.assertGreater(result["deliveries_per_s"], 0)
        self.assertGreater(result["latency_ms"]["max"], 0)

    def test_every_version_and_quality(self) -> None:
        """MQTT 3.1, 3.1.1 and 5 at QoS 0, 1 and 2: nothing lost, twice or out of order."""
        for protocol in ("3.1", "3.1.1", "5"):
            for qos in ("0", "1", "2"):
                result = self.bench(
                    "tcp", "--protocol", protocol, "--qos", qos, "--publishers", "2",
                    "--subscribers", "2", "--count", "500",
                )  # fmt: skip
                self.faultless(result, 2000)
                if qos != "0":
                    self.assertEqual(result["acked"], 1000)

    def test_over_tls(self) -> None:
        """The gateway's certificate is checked against --cafile."""
        result = self.bench(
            "tls", "--cafile", str(self.gateway.certificate), "--qos", "1", "--count", "3000"
        )
        self.faultless(result, 3000)
        self.assertEqual(result["transport"], "tls")

    def test_over_websocket(self) -> None:
        """Frames are masked and taken apart, also with payloads of every length class."""
        for size in ("100", "500", "70000"):
            result = self.bench("ws", "--qos", "2", "--count", "60", "--size", size)
            self.faultless(result, 60)

    def test_shared_groups_are_counted_together(self) -> None:
        """Each message goes to one member of a shared group."""
        result = self.bench(
            "tcp", "--qos", "1", "--subscribers", "3", "--filter", "share", "--count", "900"
        )
        self.faultless(result, 900)

    def test_persistent_sessions(self) -> None:
        """Sessions that outlive their connections are ended after the run."""
        for protocol in ("3.1.1", "5"):
            result = self.bench(
                "tcp", "--protocol", protocol, "--qos", "2", "--persistent", "all",
                "--count", "300",
            )  # fmt: skip
            self.faultless(result, 300)

    def test_a_rate_is_kept(self) -> None:
        """Pairs at 1,000 messages a second take as long as that takes."""
        result = self.bench("tcp", "--pairs", "10", "--rate", "1000", "--count", "30", "--qos", "1")
        self.faultless(result, 300)
        self.assertGreaterEqual(result["seconds"], 0.28)
        self.assertIn("late_ms", result)

    def test_for_some_time(self) -> None:
        """With --duration it publishes for so long, and everything still comes."""
        result = self.bench("tcp", "--duration", "0.3", "--qos", "1", "--window", "20")
        self.assertEqual(result["delivered"], result["sent"])
        self.assertGreater(result["sent"], 20)

    def test_idle_connections_are_weighed(self) -> None:
        """Connects a second and bytes a connection of the processes that --pids names."""
        pids = ",".join(map(str, self.gateway.pids))
        result = self.bench(
            "tcp", "--idle", "50", "--publishers", "0", "--subscribers", "0", "--pids", pids
        )
        self.assertEqual(result["idle"], 50)
        self.assertGreater(result["connects_per_s"], 0)
        self.assertIn("bytes_per_connection", result)

    def test_retained_messages_and_pings(self) -> None:
        """Retained messages all come to a new subscription, while PINGREQs are answered."""
        result = self.bench("tcp", "--retained", "3000", "--size", "20", "--publishers", "2")
        self.assertEqual((result["delivered"], result["lost"]), (3000, 0))
        self.assertGreater(result["pings"], 0)
        self.assertGreater(result["ping_ms"]["max"], 0)

    def test_sessions_that_are_offline(self) -> None:
        """Sessions with ten subscriptions are made and ended; new topics are acknowledged while
        subscriptions change."""
        result = self.bench("tcp", "--sessions", "40", "--count", "300")
        self.assertEqual((result["sessions"], result["sent"]), (40, 300))
        self.assertGreater(result["changes_per_s"], 0)
        self.assertGreater(result["ack_ms"]["max"], 0)

    def test_the_servers_cpu_is_reported(self) -> None:
        """With --pids, CPU time a message and memory are said."""
        pids = ",".join(map(str, self.gateway.pids))
        result = self.bench("tcp", "--pids", pids, "--count", "20000")
        self.assertGreater(result["cpu_us_per_message"], 0)
        self.assertGreater(result["rss_mib"], 1)


class AloneTests(SynchronousTestCase):
    """Without a server."""

    def test_nobody_there_is_status_1(self) -> None:
        """Where nothing listens it says so and exits with 1."""
        errors = io.StringIO()
        with redirect_stderr(errors):
            self.assertEqual(run(["--port", str(free_port())]), 1)
        self.assertIn("refused", errors.getvalue())


class WebSocketTests(SynchronousTestCase):
    """The load generator's side of RFC 6455."""

    @given(st.binary(max_size=300), st.binary(min_size=4, max_size=4))
    def test_masking_twice_is_nothing(self, data: bytes, key: bytes) -> None:
        """A masked payload is each byte xor the key's, over and over."""
        self.assertEqual(mask(mask(data, key), key), data)
        self.assertEqual(mask(data, key), bytes(byte ^ key[i % 4] for i, byte in enumerate(data)))

    def test_frames_of_every_length_are_masked(self) -> None:
        """Lengths of 7, 16 and 64 bits, always with the mask bit."""
        for length, head in ((125, b"\x82\xfd"), (126, b"\x82\xfe\0\x7e"),
                             (65536, b"\x82\xff\0\0\0\0\0\1\0\0")):  # fmt: skip
            self.assertTrue(client_frame(bytes(length)).startswith(head))

    @given(st.lists(st.binary(max_size=200), max_size=6), st.integers(1, 7))
    def test_frames_come_in_pieces(self, payloads: list[bytes], step: int) -> None:
        """However the stream is cut, the payloads come out whole and joined."""
        stream = b"".join(
            (bytes((0x82, len(p))) if len(p) < 126 else b"\x82\x7e" + len(p).to_bytes(2, "big")) + p
            for p in payloads
        )
        frames = Frames()
        found = b"".join(frames.take(stream[at : at + step]) for at in range(0, len(stream), step))
        self.assertEqual(found, b"".join(payloads))

    def test_a_ping_is_answered(self) -> None:
        """A server's ping gets its pong with the same payload; a close ends the connection."""
        frames = Frames()
        self.assertEqual(frames.take(b"\x89\x02hi\x82\x01x"), b"x")
        reply = frames.replies
        self.assertEqual((reply[0], mask(reply[6:], reply[2:6])), (0x8A, b"hi"))
        self.assertRaises(LinkLost, frames.take, b"\x88\x02\x03\xe8")
        self.assertRaises(LinkLost, Frames().take, b"\x81\x01x")
