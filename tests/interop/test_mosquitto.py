"""mosquitto's command line clients, and a mosquitto broker that bridges to us."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.process import PATIENCE

from .gateway import HOST, Gateway, InteropTestCase, fresh, program

VERSIONS = ("mqttv31", "mqttv311", "mqttv5")
FORMAT = "%t %p %q %r"
"""Topic, payload, QoS, retain."""


class Running:
    """A mosquitto client, with what it prints."""

    def __init__(self, command: list[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors
        )
        self._pending = b""

    def line(self) -> str:
        """The next line of its output."""
        assert self.process.stdout is not None
        end = time.monotonic() + PATIENCE
        while b"\n" not in self._pending:
            left = max(0.0, end - time.monotonic())
            piece = b""
            if select.select([self.process.stdout], [], [], left)[0]:
                piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                raise AssertionError(f"no line came: {self.complaints()}")
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode()

    def lines(self, count: int) -> list[str]:
        """So many lines."""
        return [self.line() for _ in range(count)]

    def rest(self) -> str:
        """What it printed beyond the lines that were read; it has ended."""
        assert self.process.stdout is not None
        return (self._pending + self.process.stdout.read()).decode()

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(PATIENCE)

    def complaints(self) -> str:
        """Its standard error so far."""
        return os.pread(self._errors.fileno(), 65536, 0).decode()

    def close(self) -> None:
        """Leave nothing running."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.communicate(timeout=PATIENCE)
        self._errors.close()


class MosquittoTestCase(InteropTestCase):
    """Running the clients."""

    def arguments(self, version: str, kind: str) -> list[str]:
        """Where to connect, and how."""
        found = ["-h", HOST, "-p", str(self.gateway.ports[kind]), "-V", version]
        return [*found, "--cafile", self.gateway.files.authority] if kind == "tls" else found

    def start(self, name: str, *more: str, version: str = "mqttv5", kind: str = "tcp") -> Running:
        """Start C{name}, and wait for nothing."""
        running = Running([program(name), *self.arguments(version, kind), *more])
        self.addCleanup(running.close)
        return running

    def run_client(
        self, name: str, *more: str, version: str = "mqttv5", kind: str = "tcp", text: str = ""
    ) -> str:
        """Run C{name} to its end, which must be a good one. What it printed."""
        finished = subprocess.run(
            [program(name), *self.arguments(version, kind), *more],
            input=text.encode(),
            capture_output=True,
            timeout=PATIENCE,
        )
        self.assertEqual((finished.returncode, finished.stderr), (0, b""))
        return finished.stdout.decode()

    def publish(self, topic: str, message: str, qos: int = 1, *more: str, **named: str) -> None:
        """mosquitto_pub."""
        arguments = ["-t", topic, "-q", str(qos), *(["-m", message] if message else ["-n"])]
        self.run_client("mosquitto_pub", *arguments, *more, **named)

    def subscriber(
        self,
        topic_filter: str,
        *more: str,
        version: str = "mqttv5",
        kind: str = "tcp",
        form: str = FORMAT,
    ) -> Running:
        """A mosquitto_sub that has subscribed: a retained message has come to it."""
        mark = fresh("mark")
        self.publish(mark, "subscribed", 1, "-r")
        arguments = ["-t", topic_filter, "-t", mark, "-q", "2", "-F", form, *more]
        running = self.start("mosquitto_sub", *arguments, version=version, kind=kind)
        self.assertTrue(running.line().startswith(f"{mark} subscribed"))
        self.publish(mark, "", 0, "-r")
        self.assertTrue(running.line().startswith(f"{mark} "))
        return running


class ClientTests(MosquittoTestCase):
    """mosquitto_pub, mosquitto_sub and mosquitto_rr."""

    def test_publish_and_subscribe(self) -> None:
        """With each version, over TCP and TLS, what mosquitto_pub sends at each QoS is what
        mosquitto_sub prints. [MQTT311-7.1.1-1] [MQTT5-4.2-1]"""
        for kind in ("tcp", "tls"):
            for version in VERSIONS:
                topic = fresh("topic")
                listening = self.subscriber(f"{topic}/#", version=version, kind=kind)
                for qos in (0, 1, 2):
                    self.publish(f"{topic}/{qos}", f"grüße {qos}", qos, version=version, kind=kind)
                    self.assertEqual(listening.line(), f"{topic}/{qos} grüße {qos} {qos} 0")

    def test_many_lines(self) -> None:
        """A thousand lines piped into mosquitto_pub come out of mosquitto_sub in order, at each
        QoS."""
        for qos in (0, 1, 2):
            topic = fresh("topic")
            listening = self.subscriber(topic)
            text = "".join(f"line {number}\n" for number in range(1000))
            self.run_client("mosquitto_pub", "-t", topic, "-q", str(qos), "-l", text=text)
            self.assertEqual(
                listening.lines(1000), [f"{topic} line {number} {qos} 0" for number in range(1000)]
            )

    def test_a_subscriber_that_stands_still(self) -> None:
        """A subscriber that is stopped holds nobody up, and gets everything at QoS 1 and 2 when
        it goes on: with a session that stays as with one that does not."""
        topic = fresh("topic")
        kept = ["-c", "-i", fresh("sub"), "-x", "600"]
        stopped = [self.subscriber(topic), self.subscriber(topic, *kept)]
        other = self.subscriber(topic)
        for running in stopped:
            running.process.send_signal(signal.SIGSTOP)
        # 4 MB: more than sockets hold.
        texts = [f"{number} {'x' * 2000}" for number in range(2000)]
        text = "".join(line + "\n" for line in texts)
        for qos in ("1", "2"):
            self.run_client("mosquitto_pub", "-t", topic, "-q", qos, "-l", text=text)
            expected = [f"{topic} {line} {qos} 0" for line in texts]
            self.assertEqual(other.lines(2000), expected)
        for running in stopped:
            running.process.send_signal(signal.SIGCONT)
        for running in stopped:
            for qos in ("1", "2"):
                expected = [f"{topic} {line} {qos} 0" for line in texts]
                self.assertEqual(running.lines(2000), expected)

    def test_retained(self) -> None:
        """mosquitto_sub gets what is retained, can ask for that alone, and can remove it."""
        topic = fresh("topic")
        self.publish(f"{topic}/a", "kept", 1, "-r")
        self.publish(f"{topic}/b", "kept too", 2, "-r", version="mqttv31")
        arguments = ["-t", f"{topic}/#", "-q", "1", "-F", FORMAT]
        for version in VERSIONS:
            printed = self.run_client("mosquitto_sub", *arguments, "-C", "2", version=version)
            self.assertEqual(
                sorted(printed.splitlines()), [f"{topic}/a kept 1 1", f"{topic}/b kept too 1 1"]
            )
        self.publish(f"{topic}/c", "not kept", 1)
        for printed in (2, 0):
            removing = self.start(
                "mosquitto_sub", *arguments, "--remove-retained", "--retained-only", "-W", "1"
            )
            removing.lines(printed)
            self.assertEqual(removing.wait(), 27)  # MOSQ_ERR_TIMEOUT
            self.assertEqual(removing.rest(), "")

    def test_a_will(self) -> None:
        """The will of a mosquitto_sub that is killed is published; that of one that has got what
        it wanted is not."""
        for version in VERSIONS:
            topic = fresh("topic")
            listening = self.subscriber(f"{topic}/+", version=version)
            for name in ("left", "lost"):
                will = ["--will-topic", f"{topic}/{name}", "--will-payload", "gone"]
                # The first has had its two messages, and leaves.
                more = ["-C", "2"] if name == "left" else []
                leaving = self.subscriber(
                    fresh("other"), *will, "--will-qos", "2", *more, version=version
                )
                if not more:
                    leaving.process.kill()
                leaving.wait()
            self.assertEqual(listening.line(), f"{topic}/lost gone 2 0")

    def test_a_session_is_resumed(self) -> None:
        """mosquitto_sub -c finds what came while it was away."""
        for version in VERSIONS:
            topic, client_id = fresh("topic"), fresh("sub")
            session = ["-c", "-i", client_id, "-t", topic, "-q", "2", "-F", FORMAT]
            if version == "mqttv5":
                session += ["-x", "600"]
            self.run_client("mosquitto_sub", *session, "-E", version=version)
            for qos in (1, 2):
                self.publish(topic, f"missed {qos}", qos, version=version)
            printed = self.run_client("mosquitto_sub", *session, "-C", "2", version=version)
            self.assertEqual(
                printed.splitlines(), [f"{topic} missed 1 1 0", f"{topic} missed 2 2 0"]
            )

    def test_system_topics(self) -> None:
        """What dashboards for mosquitto read under $SYS is there."""
        for topic, start in (
            ("version", "mop_twisted "),
            ("uptime", ""),
            ("clients/connected", ""),
            ("messages/received", ""),
            ("load/messages/received/1min", ""),
        ):
            printed = self.run_client("mosquitto_sub", "-t", f"$SYS/broker/{topic}", "-C", "1")
            self.assertTrue(printed.startswith(start), printed)
            if not start:
                self.assertTrue(float(printed.split()[0]) >= 0)

    def test_properties(self) -> None:
        """User properties, content type and correlation data are what mosquitto_sub prints."""
        topic = fresh("topic")
        listening = self.subscriber(topic, form="%t %p %C %D %R %P")
        self.run_client(
            "mosquitto_pub",
            *("-t", topic, "-m", "x", "-D", "publish", "content-type", "json"),
            *("-D", "publish", "correlation-data", "c1", "-D", "publish", "response-topic", "r"),
            *("-D", "publish", "user-property", "a", "1"),
        )
        self.assertEqual(listening.line(), f"{topic} x json c1 r a:1")

    def test_request_and_response(self) -> None:
        """mosquitto_rr gets the answer to its request."""
        for version in ("mqttv311", "mqttv5"):
            topic, answers = fresh("topic"), fresh("answers")
            listening = self.subscriber(topic, form="%t %p")
            asking = self.start(
                "mosquitto_rr", "-t", topic, "-e", answers, "-m", "how much?", version=version
            )
            self.assertEqual(listening.line(), f"{topic} how much?")
            self.publish(answers, "42")
            self.assertEqual(asking.line(), "42")
            self.assertEqual(asking.wait(), 0)

    def test_errors_are_told(self) -> None:
        """A client that does not trust our certificate says so; one that speaks to the wrong
        port does not hang."""
        other = Gateway(("tcp",))
        self.addCleanup(other.stop)
        port = str(self.gateway.ports["tls"])
        command = [program("mosquitto_pub"), "-h", HOST, "-p", port, "-t", "a", "-n"]
        distrustful = Running([*command, "--cafile", other.files.authority])
        self.addCleanup(distrustful.close)
        self.assertNotEqual(distrustful.wait(), 0)
        self.assertIn("TLS error", distrustful.complaints())
        plain = Running(command)
        self.addCleanup(plain.close)
        self.assertNotEqual(plain.wait(), 0)


class CertificateTests(MosquittoTestCase):
    """Certificates of clients."""

    def setUp(self) -> None:
        self.gateway = Gateway(("tls",), client_certificates=True, acl="user meter\ntopic a/#\n")
        self.addCleanup(self.gateway.stop)

    def test_a_client_certificate(self) -> None:
        """mosquitto_pub with a certificate of the client CA publishes as its common name; without
        one it cannot connect."""
        files = self.gateway.files
        shown = ["--cert", files.client_certificate, "--key", files.client_key]
        self.publish("a/b", "kept", 1, "-r", *shown, kind="tls")
        printed = self.run_client("mosquitto_sub", "-t", "a/b", "-C", "1", *shown, kind="tls")
        self.assertEqual(printed, "kept\n")
        for more, why in (([], "error"), (shown, "not authori")):
            topic = "b" if more else "a/b"
            refused = self.start("mosquitto_pub", "-t", topic, "-q", "1", "-n", *more, kind="tls")
            refused.wait()
            self.assertIn(why, refused.complaints().lower())


class BridgeTests(MosquittoTestCase):
    """A mosquitto broker that is our client."""

    def test_a_bridge(self) -> None:
        """A mosquitto broker bridges topics both ways, in each of its versions, and its messages
        do not come back to it."""
        for version in ("mqttv31", "mqttv311", "mqttv50"):
            self.bridge(version)

    def bridge(self, version: str) -> None:
        """One version's part of the test."""
        folder, topic, client_id = Path(self.mktemp()), fresh("topic"), fresh("bridge")
        folder.mkdir(parents=True)
        with socket.create_server((HOST, 0)) as free:
            port = free.getsockname()[1]
        folder.joinpath("mosquitto.conf").write_text(
            f"listener {port} {HOST}\nallow_anonymous true\nuser root\n"
            f"connection ours\naddress {HOST}:{self.gateway.ports['tcp']}\n"
            f"bridge_protocol_version {version}\nremote_clientid {client_id}\n"
            f"cleansession true\nrestart_timeout 1\ntopic {topic}/# both 2\n"
            f"notification_topic {topic}-state\n"
        )
        ours = self.subscriber(f"{topic}/#", "-t", f"{topic}-state")
        broker = Running([program("mosquitto"), "-c", str(folder / "mosquitto.conf")])
        self.addCleanup(broker.close)
        self.assertEqual(ours.line(), f"{topic}-state 1 1 0")
        there = ["-h", HOST, "-p", str(port), "-V", "mqttv5"]
        filters = ["-t", f"{topic}/#", "-t", f"{topic}-state", "-q", "2"]
        theirs = Running([program("mosquitto_sub"), *there, *filters, "-F", FORMAT])
        self.addCleanup(theirs.close)
        self.assertEqual(theirs.line(), f"{topic}-state 1 1 1")
        subprocess.run(
            [program("mosquitto_pub"), *there, "-t", f"{topic}/up", "-m", "hello", "-q", "2"],
            check=True,
            timeout=PATIENCE,
        )
        self.assertEqual(ours.line(), f"{topic}/up hello 2 0")
        self.assertEqual(theirs.line(), f"{topic}/up hello 2 0")
        self.publish(f"{topic}/down", "hello", 2)
        self.assertEqual(ours.line(), f"{topic}/down hello 2 0")
        self.assertEqual(theirs.line(), f"{topic}/down hello 2 0")
        broker.process.terminate()
        self.assertEqual(ours.line(), f"{topic}-state 0 1 0")
