"""The admin listener, asked over HTTP."""

from __future__ import annotations

import json
from collections.abc import Generator
from http.client import HTTPResponse
from io import BytesIO
from typing import Any, cast

import treq
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, inlineCallbacks, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import Agent

from mop_twisted import __version__
from mop_twisted.broker.counters import Counters, DropReason
from mop_twisted.broker.shown import (
    ShownClient,
    ShownListener,
    ShownRetained,
    ShownSubscription,
)
from mop_twisted.errors import StoreFull, TopicFilterInvalid, TopicNameInvalid
from mop_twisted.ops.access import Access
from mop_twisted.ops.admin import AdminPages, BrokerView
from mop_twisted.ops.observed import Observed
from mop_twisted.ops.readiness import Readiness, is_true
from mop_twisted.ops.web import BODY_LIMIT, http_factory

TOKEN = "a-token-that-nobody-guesses"
HOSTILE = '<script>alert(1)</script>"/../%2e\u202e'
"""A client identifier that MQTT allows."""


class SmallBroker:
    """A broker with a few sessions, and a memory of what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.failing: Exception | None = None
        self.pending: Deferred[None] | None = None
        self.all_clients = [
            ShownClient("pump", True, "alice", "192.0.2.7:1234", "tcp:1883", 5),
            ShownClient("valve"),
            ShownClient(HOSTILE, True),
        ]

    def clients(self, offset: int, limit: int) -> tuple[list[ShownClient], int]:
        return self.all_clients[offset : offset + limit], len(self.all_clients)

    def client(self, client_id: str) -> ShownClient | None:
        found = [c for c in self.all_clients if c.client_id == client_id]
        return found[0] if found else None

    def subscriptions(
        self, client_id: str | None, offset: int, limit: int
    ) -> tuple[list[ShownSubscription], int]:
        subscriptions = [
            ShownSubscription("pump", "a/#", 1),
            ShownSubscription("valve", "a/#", 2),
            ShownSubscription("valve", "$share/g/b", 0, share_name="g"),
        ]
        found = [s for s in subscriptions if client_id in (None, s.client_id)]
        return found[offset : offset + limit], len(found)

    def retained(
        self, topic_filter: str, offset: int, limit: int
    ) -> tuple[list[ShownRetained], int]:
        if topic_filter == "a#":
            raise TopicFilterInvalid("a#")
        self.told.append(("retained", topic_filter, offset, limit))
        return [ShownRetained("a/b", 1, 4)], 1

    def listeners(self) -> list[ShownListener]:
        return [ShownListener("tcp:1883", "tcp", "127.0.0.1:1883", 2)]

    def kick(self, client_id: str) -> bool:
        self.told.append(("kick", client_id))
        client = self.client(client_id)
        return client is not None and client.connected

    def publish(self, topic: str, payload: bytes, qos: int, retain: bool) -> Deferred[None]:
        self.told.append(("publish", topic, payload, qos, retain))
        if self.pending is not None:
            return self.pending
        return succeed(None) if self.failing is None else fail(self.failing)

    def delete_retained(self, topic: str) -> Deferred[bool]:
        self.told.append(("delete_retained", topic))
        return succeed(topic == "a/b c")


class Reply:
    """A response, read."""

    def __init__(self, raw: bytes, method: str) -> None:
        class Socket:
            def makefile(self, mode: str) -> BytesIO:
                return BytesIO(raw)

        response = HTTPResponse(cast(Any, Socket()), method=method)
        response.begin()
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class AdminTestCase(SynchronousTestCase):
    """The whole of twisted.web's server, and no network."""

    host = "127.0.0.1"
    token: str | None = None

    def setUp(self) -> None:
        self.clock = Clock()
        self.broker = SmallBroker()
        view: BrokerView = self.broker
        self.counters = Counters()
        self.observed = Observed(self.clock.seconds)
        self.readiness = Readiness()
        self.healthy = True
        self.readiness.add("log", is_true(lambda: self.healthy, "appends fail"))
        pages = AdminPages(
            view, self.counters, self.observed, self.readiness, Access(self.host, self.token)
        )
        self.factory = http_factory(pages.answer, self.clock)

    def connect(self) -> tuple[Any, StringTransport]:
        """A connection."""
        protocol = self.factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5))
        assert protocol is not None
        transport = StringTransport()
        protocol.makeConnection(transport)
        return protocol, transport

    def send(self, raw: bytes, method: str = "GET") -> Reply:
        """What is answered to these bytes."""
        protocol, transport = self.connect()
        protocol.dataReceived(raw)
        return Reply(transport.value(), method)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """What is answered to a request of a well-behaved client."""
        lines = {"Host": "localhost:5680"}
        if body is not None:
            lines.update({"Content-Type": "application/json", "Content-Length": str(len(body))})
        lines.update({name.replace("_", "-").title(): text for name, text in headers.items()})
        head = f"{method} {path} HTTP/1.1\r\n"
        head += "".join(f"{name}: {text}\r\n" for name, text in lines.items())
        return self.send(head.encode() + b"\r\n" + (body or b""), method)

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)


class ProbesTests(AdminTestCase):
    """What an orchestrator asks."""

    def test_live(self) -> None:
        """/livez says ok as long as the reactor turns."""
        reply = self.get("/livez")
        self.assertEqual((200, b"ok"), (reply.status, reply.body))

    def test_ready(self) -> None:
        """/readyz is 200, with every check by name."""
        reply = self.get("/readyz")
        self.assertEqual(200, reply.status)
        self.assertEqual({"ready": True, "checks": {"log": {"ok": True}}}, reply.json)

    def test_not_ready(self) -> None:
        """It is 503 when one check fails, and says which and why."""
        self.healthy = False
        reply = self.get("/readyz")
        self.assertEqual(503, reply.status)
        self.assertEqual({"ok": False, "why": "appends fail"}, reply.json["checks"]["log"])

    def test_head(self) -> None:
        """HEAD answers as GET would, without a body."""
        reply = self.ask("HEAD", "/livez")
        self.assertEqual(
            (200, b"", "2"), (reply.status, reply.body, reply.headers["Content-Length"])
        )

    def test_metrics(self) -> None:
        """/metrics is what Prometheus scrapes."""
        self.counters.connections = 7
        reply = self.get("/metrics")
        self.assertEqual(200, reply.status)
        self.assertTrue(reply.headers["Content-Type"].startswith("text/plain"))
        self.assertIn(b"\nmop_connections 7.0\n", reply.body)
        reply = self.get("/metrics", accept="application/openmetrics-text;version=1.0.0")
        self.assertIn("openmetrics", reply.headers["Content-Type"])


class ApiTests(AdminTestCase):
    """/api/v1."""

    def test_broker(self) -> None:
        """The node at a glance: counters, log, lateness."""
        self.counters.publishes_received[1] = 5
        self.counters.drop(DropReason.QUEUE_FULL, 2)
        self.counters.connack[0x87] = 3
        self.observed.backlog_messages = lambda: 9
        self.clock.advance(61)
        node = self.get("/api/v1/broker").json
        self.assertEqual(__version__, node["version"])
        self.assertEqual(61, node["uptime_seconds"])
        self.assertEqual(5, node["received"]["publishes"])
        self.assertEqual(2, node["dropped"]["queue_full"])
        self.assertEqual(3, node["refused"])
        self.assertEqual((True, 9), (node["log"]["healthy"], node["log"]["backlog_messages"]))

    def test_clients_in_pages(self) -> None:
        """A page says where the next one begins, and the last one that there is none."""
        page = self.get("/api/v1/clients?limit=2").json
        self.assertEqual(["pump", "valve"], [c["client_id"] for c in page["items"]])
        self.assertEqual((3, 2), (page["total"], page["next"]))
        page = self.get("/api/v1/clients?limit=2&offset=2").json
        self.assertEqual([HOSTILE], [c["client_id"] for c in page["items"]])
        self.assertIsNone(page["next"])
        page = self.get("/api/v1/clients?offset=99").json
        self.assertEqual(([], None), (page["items"], page["next"]))

    def test_page_out_of_range(self) -> None:
        """Limits and offsets that are no small numbers are refused, not guessed at."""
        for query in ("limit=0", "limit=1001", "limit=-1", "offset=-1", "offset=1e3", "limit=",
                      "offset=99999999999", "limit=0x10",
                      "limit=%D9%A3", "offset=%ff"):  # fmt: skip
            self.assertEqual(400, self.get("/api/v1/clients?" + query).status, query)

    def test_one_client(self) -> None:
        """A session by its identifier, whatever that is made of."""
        self.assertEqual("alice", self.get("/api/v1/clients/pump").json["user_name"])
        path = "/api/v1/clients/" + "".join(f"%{byte:02x}" for byte in HOSTILE.encode())
        self.assertEqual(HOSTILE, self.get(path).json["client_id"])
        self.assertEqual(404, self.get("/api/v1/clients/nobody").status)
        self.assertEqual(404, self.get("/api/v1/clients/").status)
        self.assertEqual(400, self.get("/api/v1/clients/%ff").status)

    def test_subscriptions(self) -> None:
        """All of them, or those of one client."""
        self.assertEqual(3, self.get("/api/v1/subscriptions").json["total"])
        page = self.get("/api/v1/subscriptions?client_id=valve").json
        self.assertEqual(["a/#", "$share/g/b"], [s["topic_filter"] for s in page["items"]])

    def test_retained(self) -> None:
        """Topics that match a filter, without payloads."""
        page = self.get("/api/v1/retained?filter=a/%23&limit=5").json
        self.assertEqual([("retained", "a/#", 0, 5)], self.broker.told)
        self.assertEqual(
            {"topic": "a/b", "qos": 1, "payload_bytes": 4, "expires_in": None}, page["items"][0]
        )
        self.assertEqual(400, self.get("/api/v1/retained?filter=a%23").status)

    def test_listeners(self) -> None:
        """Where clients may connect."""
        self.assertEqual("127.0.0.1:1883", self.get("/api/v1/listeners").json[0]["address"])

    def test_disconnect_a_client(self) -> None:
        """DELETE ends its connection; a client without one is not found."""
        reply = self.ask("DELETE", "/api/v1/clients/pump")
        self.assertEqual((200, {"disconnected": True}), (reply.status, reply.json))
        self.assertEqual(404, self.ask("DELETE", "/api/v1/clients/valve").status)
        self.assertEqual([("kick", "pump"), ("kick", "valve")], self.broker.told)

    def test_publish(self) -> None:
        """A message as text, or as bytes in base 64."""
        body = b'{"topic": "a/b", "payload": "\\u00fc", "qos": 1, "retain": true}'
        reply = self.ask("POST", "/api/v1/publish", body)
        self.assertEqual((200, {"published": True}), (reply.status, reply.json))
        body = b'{"topic": "a", "payload_base64": "/wA="}'
        self.assertEqual(200, self.ask("POST", "/api/v1/publish", body).status)
        self.assertEqual(
            [("publish", "a/b", b"\xc3\xbc", 1, True), ("publish", "a", b"\xff\x00", 0, False)],
            self.broker.told,
        )

    def test_publish_waits_for_the_log(self) -> None:
        """The answer comes when the message is safe; a client that went does no harm."""
        self.broker.pending = Deferred()
        protocol, transport = self.connect()
        raw = (
            b"POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: 13\r\n\r\n"
            b'{"topic":"a"}'
        )
        protocol.dataReceived(raw)
        self.assertEqual(b"", transport.value())
        gone, other = self.connect()
        first, self.broker.pending = self.broker.pending, Deferred()
        gone.dataReceived(raw)
        gone.connectionLost(Failure(ConnectionDone()))
        first.callback(None)
        self.broker.pending.callback(None)
        self.assertEqual(200, Reply(transport.value(), "POST").status)
        self.assertEqual(b"", other.value())

    def test_publish_nonsense(self) -> None:
        """What is no publication is refused, with where it is wrong, and reaches nobody."""
        for body in (
            b"",
            b"[]",
            b"{",
            b'{"topic": 1}',
            b'{"topic": "a", "qos": 3}',
            b'{"topic": "a", "qos": true}',
            b'{"topic": "a", "unknown": 1}',
            b'{"topic": "a", "payload_base64": "!"}',
            b'{"topic": "a", "payload": "\\ud800"}',
            b'{"topic": "\xff"}',
            b'{"topic": "$SYS/broker/version"}',
            b"[" * 100_000,
        ):
            reply = self.ask("POST", "/api/v1/publish", body)
            self.assertEqual(400, reply.status, body[:60])
        self.assertEqual([], self.broker.told)

    def test_publish_is_json(self) -> None:
        """H26: a body that a form of another page can send is refused before it is read."""
        for content_type in ("text/plain", "application/x-www-form-urlencoded",
                             "multipart/form-data; boundary=x", "application/jsonx"):  # fmt: skip
            reply = self.ask("POST", "/api/v1/publish", b'{"topic":"a"}', content_type=content_type)
            self.assertEqual(415, reply.status, content_type)
        self.assertEqual([], self.broker.told)
        fine = "application/json; charset=utf-8"
        reply = self.ask("POST", "/api/v1/publish", b'{"topic":"a"}', content_type=fine)
        self.assertEqual(200, reply.status)

    def test_publish_fails(self) -> None:
        """What the broker refuses is the client's fault; what the log cannot do is 503. Both say
        the reason of MQTT."""
        for error, status, reason in [
            (TopicNameInvalid("a/+"), 400, "topic_name_invalid"),
            (StoreFull("disk is full"), 503, "quota_exceeded"),
        ]:
            self.broker.failing = error
            reply = self.ask("POST", "/api/v1/publish", b'{"topic":"a/+"}')
            self.assertEqual((status, reason), (reply.status, reply.json["error"]))

    def test_bug(self) -> None:
        """An error of ours is 500, and only the log learns what it was."""
        self.broker.failing = RuntimeError("/secret/path")
        reply = self.ask("POST", "/api/v1/publish", b'{"topic":"a"}')
        self.assertEqual((500, {"error": "internal error"}), (reply.status, reply.json))

        def kick(client_id: str) -> bool:
            raise RuntimeError("/secret/path")

        self.patch(self.broker, "kick", kick)
        reply = self.ask("DELETE", "/api/v1/clients/pump")
        self.assertEqual((500, {"error": "internal error"}), (reply.status, reply.json))
        self.assertEqual(2, len(self.flushLoggedErrors(RuntimeError)))

    def test_delete_retained(self) -> None:
        """A topic's slashes may be encoded or not."""
        for path in ("/api/v1/retained/a/b%20c", "/api/v1/retained/a%2Fb%20c"):
            reply = self.ask("DELETE", path)
            self.assertEqual((200, {"deleted": True}), (reply.status, reply.json))
        self.assertEqual(404, self.ask("DELETE", "/api/v1/retained/z").status)

    def test_mop_stats(self) -> None:
        """/mop/stats has MoP's fields, and its meaning of send and received."""
        c = self.counters
        c.connections, c.connections_total, c.connections_maximum = 2, 9, 5
        c.publishes_received, c.publishes_sent = [1, 2, 3], [0, 7, 0]
        c.publish_bytes_received, c.publish_bytes_sent = 60, 70
        self.clock.advance(46.5)
        reply = self.get("/mop/stats")
        self.assertTrue(reply.headers["Content-Type"].startswith("text/plain"))
        self.assertEqual(
            {
                "version": __version__,
                "uptime": "46 seconds",
                "cluster": "standalone",
                "tenant": "public",
                "namespace": "default",
                "clients": {
                    "total": 9,
                    "maximum": 5,
                    "active": 2,
                    "active_clients": ["pump", HOSTILE],
                },
                "subscriptions": {"count": 3, "subs": ["$share/g/b", "a/#"]},
                "messages": {
                    "send_count": 6,
                    "send_bytes": 60,
                    "received_count": 7,
                    "received_bytes": 70,
                },
            },
            reply.json,
        )

    def test_openapi(self) -> None:
        """The description names every path that there is, and every reference in it leads
        somewhere."""
        described = self.get("/api/v1/openapi.json").json
        for path, operations in described["paths"].items():
            for method in operations:
                filled = path.replace("{client_id}", "pump").replace("{topic}", "a/b c")
                filled = filled.replace(" ", "%20")
                body = b'{"topic":"a"}' if method == "post" else None
                reply = self.ask(method.upper(), filled, body)
                self.assertEqual(200, reply.status, (method, path))
        text = json.dumps(described)
        for name in text.split('"$ref": "#/components/schemas/')[1:]:
            self.assertIn(name.partition('"')[0], described["components"]["schemas"])


class DashboardTests(AdminTestCase):
    """The page for people."""

    def test_policy_lets_only_its_own_script_run(self) -> None:
        """The page works under its own policy: one script and one style, known by their hashes,
        no attribute that the policy would stop, and nothing from elsewhere."""
        reply = self.get("/")
        self.assertEqual("text/html; charset=utf-8", reply.headers["Content-Type"])
        policy = reply.headers["Content-Security-Policy"]
        self.assertNotIn("unsafe", policy)
        self.assertEqual(2, policy.count("'sha256-"))
        page = reply.body.decode()
        self.assertEqual((1, 1), (page.count("<script>"), page.count("<style>")))
        for stopped in (" style=", " onclick=", "<script src", "https://", "innerHTML", "eval("):
            self.assertNotIn(stopped, page, stopped)

    def test_asks_for_what_there_is(self) -> None:
        """Every path that the page fetches is answered."""
        page = self.get("/").body.decode()
        paths = {part.partition('"')[0] for part in page.split('"/api/v1/')[1:]}
        self.assertIn("broker", paths)
        for path in paths - {"clients/"}:
            self.assertEqual(200, self.get("/api/v1/" + path).status, path)


class NetworkTests(TestCase):
    """The same over a real port of loopback."""

    @inlineCallbacks
    def test_over_tcp(self) -> Generator[Deferred[Any], Any, None]:
        """A client reads a page of clients, publishes, and is refused across sites."""
        broker = SmallBroker()
        counters, observed = Counters(), Observed(lambda: 0.0)
        pages = AdminPages(broker, counters, observed, Readiness(), Access("127.0.0.1"))
        port = cast(Any, reactor).listenTCP(0, http_factory(pages.answer), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        client = treq.client.HTTPClient(Agent(reactor))
        base = f"http://127.0.0.1:{port.getHost().port}"

        response = yield client.get(base + "/api/v1/clients?limit=1")
        page = yield response.json()
        self.assertEqual((200, 3), (response.code, page["total"]))
        self.assertFalse(response.headers.hasHeader("server"))

        response = yield client.post(base + "/api/v1/publish", json={"topic": "a", "payload": "x"})
        self.assertEqual({"published": True}, (yield response.json()))
        self.assertEqual([("publish", "a", b"x", 0, False)], broker.told)

        response = yield client.delete(
            base + "/api/v1/clients/pump", headers={"Origin": "http://evil.example"}
        )
        self.assertEqual(403, response.code)
        yield response.content()

        large = b"x" * (BODY_LIMIT + 1)
        response = yield client.post(base + "/api/v1/publish", data=large)
        self.assertEqual(413, response.code)
        yield response.content()

        response = yield client.get(base + "/readyz")
        self.assertEqual({"ready": False, "checks": {}}, (yield response.json()))
