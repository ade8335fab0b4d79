"""Who may not, and how it is said to them: hostile requests to the admin listener."""

from __future__ import annotations

import re

from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from mop_twisted import __version__
from mop_twisted.ops.web import BODY_LIMIT, CONNECTIONS, DISCARD_LIMIT, IDLE_SECONDS

from .test_admin import TOKEN, AdminTestCase


class HostileTests(AdminTestCase):
    """H26: what must not work."""

    def test_no_server_name(self) -> None:
        """No answer names the server or its version, errors neither."""
        for reply in (self.get("/livez"), self.get("/nothing"), self.ask("BREW", "/"),
                      self.send(b"GARBAGE\r\n\r\n")):  # fmt: skip
            self.assertNotIn("Server", reply.headers)
            self.assertNotIn(b"Twisted", reply.body)

    def test_common_headers(self) -> None:
        """Every answer forbids caches, sniffing, framing and reading from other origins."""
        for path in ("/", "/livez", "/api/v1/clients", "/nothing"):
            headers = self.get(path).headers
            self.assertEqual("no-store", headers["Cache-Control"])
            self.assertEqual("nosniff", headers["X-Content-Type-Options"])
            self.assertEqual("DENY", headers["X-Frame-Options"])
            self.assertEqual("same-origin", headers["Cross-Origin-Resource-Policy"])
            self.assertIn("default-src 'none'", headers["Content-Security-Policy"])
            self.assertNotIn("Access-Control-Allow-Origin", headers)

    def test_no_files(self) -> None:
        """There are no files behind paths, so there is nothing to walk to."""
        for path in ("/../admin.py", "/dashboard/index.html", "/..%2f..%2fetc/passwd",
                     "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/livez/", "/livez/..", "*",
                     "http://evil.example/livez", "/api/v1/",
                     "/api/v1/clients/../broker"):  # fmt: skip
            self.assertEqual(404, self.get(path).status, path)

    def test_other_methods(self) -> None:
        """A path that exists says what may be done with it; OPTIONS grants nobody anything."""
        for method, path, allowed in [
            ("POST", "/api/v1/clients", "GET"),
            ("DELETE", "/metrics", "GET"),
            ("POST", "/", "GET"),
            ("GET", "/api/v1/publish", "POST"),
            ("POST", "/api/v1/clients/pump", "GET, DELETE"),
            ("GET", "/api/v1/retained/a", "DELETE"),
            ("OPTIONS", "/api/v1/publish", "POST"),
        ]:
            reply = self.ask(method, path)
            self.assertEqual((405, allowed), (reply.status, reply.headers["Allow"]), path)
            self.assertNotIn("Access-Control-Allow-Origin", reply.headers)
        self.assertEqual([], self.broker.told)

    def test_rebound_name(self) -> None:
        """A web page that made its name mean 127.0.0.1 reads nothing."""
        for path in ("/", "/livez", "/api/v1/clients", "/metrics"):
            self.assertEqual(403, self.get(path, host="evil.example").status)

    def test_cross_site(self) -> None:
        """A web page of another origin disconnects nobody."""
        reply = self.ask("DELETE", "/api/v1/clients/pump", origin="http://evil.example")
        self.assertEqual(403, reply.status)
        reply = self.ask("POST", "/api/v1/publish", b'{"topic":"a"}', sec_fetch_site="cross-site")
        self.assertEqual(403, reply.status)
        self.assertEqual([], self.broker.told)

    def test_large_body(self) -> None:
        """A body over the limit is 413, whether its length was told or it came in chunks, and
        is never kept."""
        large = b'{"topic":"a","payload":"' + b"x" * BODY_LIMIT + b'"}'
        self.assertEqual(413, self.ask("POST", "/api/v1/publish", large).status)
        head = (
            b"POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        chunks = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        self.assertEqual(413, self.send(head + chunks * 17 + b"0\r\n\r\n", "POST").status)
        self.assertEqual([], self.broker.told)

    def test_endless_body(self) -> None:
        """One that goes on and on is cut off."""
        protocol, transport = self.connect()
        protocol.dataReceived(
            b"POST /api/v1/publish HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        for _ in range(DISCARD_LIMIT // 0x10000 + 1):
            protocol.dataReceived(chunk)
        self.assertTrue(transport.disconnecting)

    def test_large_header(self) -> None:
        """Headers over 16 KiB, in one line or in many, end the connection."""
        for lines in (b"X: " + b"x" * 20_000 + b"\r\n", b"X: x\r\n" * 5000):
            protocol, transport = self.connect()
            protocol.dataReceived(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + lines)
            self.assertTrue(transport.disconnecting)
            self.assertNotIn(b"200 OK", transport.value())

    def test_idle(self) -> None:
        """A connection that says nothing is closed."""
        _, transport = self.connect()
        self.clock.advance(IDLE_SECONDS)
        self.assertTrue(transport.disconnecting)

    def test_many_connections(self) -> None:
        """There are at most so many; when one goes another may come."""
        connections = [self.connect() for _ in range(CONNECTIONS)]
        address = IPv4Address("TCP", "127.0.0.1", 5)
        self.assertIsNone(self.factory.buildProtocol(address))
        connections[0][0].connectionLost(Failure(ConnectionDone()))
        self.assertIsNotNone(self.factory.buildProtocol(address))

    def test_one_after_the_other(self) -> None:
        """Requests of one connection are answered in their order."""
        protocol, transport = self.connect()
        request = b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n"
        protocol.dataReceived(request % b"/livez" + request % b"/nothing" + request % b"/livez")
        statuses = re.findall(rb"HTTP/1.1 (\d+)", transport.value())
        self.assertEqual([b"200", b"404", b"200"], statuses)


class GuardedTests(AdminTestCase):
    """Beyond loopback."""

    host = "0.0.0.0"
    token = TOKEN

    def test_stranger(self) -> None:
        """Without the token there are probes, without details, and the bare page; that
        anything else exists, or does not, is not said."""
        self.assertEqual(200, self.get("/livez").status)
        self.assertEqual({"ready": True}, self.get("/readyz").json)
        self.assertEqual(200, self.get("/").status)
        for path in ("/metrics", "/mop/stats", "/api/v1/broker", "/api/v1/openapi.json",
                     "/api/v1/clients/pump", "/nothing"):  # fmt: skip
            reply = self.get(path)
            self.assertEqual((401, "Bearer"), (reply.status, reply.headers["WWW-Authenticate"]))
            self.assertNotIn(__version__.encode(), reply.body)
        self.assertEqual(401, self.ask("DELETE", "/api/v1/clients/pump").status)
        self.assertEqual([], self.broker.told)

    def test_holder(self) -> None:
        """With it everything is there."""
        authorization = f"Bearer {TOKEN}"
        for path in ("/metrics", "/mop/stats", "/api/v1/broker", "/api/v1/clients/pump"):
            self.assertEqual(200, self.get(path, authorization=authorization).status, path)
        reply = self.get("/readyz", authorization=authorization)
        self.assertIn("checks", reply.json)
        reply = self.ask("DELETE", "/api/v1/clients/pump", authorization=authorization)
        self.assertEqual(200, reply.status)

    def test_token_in_query(self) -> None:
        """A token in the address, where logs would keep it, opens nothing."""
        reply = self.get(f"/metrics?token={TOKEN}&access_token={TOKEN}")
        self.assertEqual(401, reply.status)

    def test_large_body_of_a_stranger(self) -> None:
        """A stranger's bytes are not even parsed."""
        body = b"[" * 1000
        self.assertEqual(401, self.ask("POST", "/api/v1/publish", body).status)
