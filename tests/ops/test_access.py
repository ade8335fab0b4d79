"""Who may ask the admin listener what."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http_headers import Headers

from mop_twisted.errors import ConfigError
from mop_twisted.ops.access import Access, Kind

TOKEN = "a-token-that-nobody-guesses"


def headers(**given: str) -> Headers:
    """Headers by name, underscores for hyphens; Host is ours unless it says otherwise."""
    found = {"Host": ["localhost:5680"]}
    found.update({name.replace("_", "-").title(): [value] for name, value in given.items()})
    return Headers(found)


def bearer(token: str = TOKEN) -> str:
    """The value of an Authorization header."""
    return "Bearer " + token


class LoopbackTests(SynchronousTestCase):
    """A listener that only this machine reaches."""

    def setUp(self) -> None:
        self.access = Access("127.0.0.1")
        self.guarded = Access("127.0.0.1", TOKEN)

    def status(self, access: Access, kind: Kind, given: Headers) -> int:
        """HTTP status of the refusal, 200 for none."""
        refusal = access.refusal(kind, given)
        return 200 if refusal is None else refusal.status

    def test_reads_need_no_token(self) -> None:
        """Whoever is on the machine may look, whether a token is configured or not."""
        self.assertEqual(200, self.status(self.access, Kind.READ, headers()))
        self.assertEqual(200, self.status(self.guarded, Kind.READ, headers()))

    def test_writes_need_the_token_when_there_is_one(self) -> None:
        """Without a token configured the machine's users may write; with one only its holder."""
        self.assertEqual(200, self.status(self.access, Kind.WRITE, headers()))
        self.assertEqual(401, self.status(self.guarded, Kind.WRITE, headers()))
        right = headers(authorization=bearer())
        self.assertEqual(200, self.status(self.guarded, Kind.WRITE, right))

    def test_wrong_token(self) -> None:
        """A wrong token is said to be wrong, also where none would have been needed."""
        for wrong in (bearer("x"), bearer(""), bearer(TOKEN + "x"), "Basic " + TOKEN, "Bearer"):
            given = headers(authorization=wrong)
            self.assertEqual(401, self.status(self.guarded, Kind.READ, given), wrong)

    def test_two_tokens(self) -> None:
        """Two Authorization headers are none."""
        given = headers(authorization=bearer())
        given.addRawHeader("authorization", bearer("x"))
        self.assertEqual(401, self.status(self.guarded, Kind.WRITE, given))

    def test_scheme_has_no_case(self) -> None:
        """ "bearer" is as good as "Bearer" (RFC 9110, 11.1)."""
        given = headers(authorization="bearer " + TOKEN)
        self.assertEqual(200, self.status(self.guarded, Kind.WRITE, given))

    def test_own_hosts(self) -> None:
        """localhost and loopback addresses, with or without a port, are what we are called."""
        for host in ("localhost", "LOCALHOST:5680", "127.0.0.1", "127.0.0.1:5680", "[::1]:5680"):
            self.assertEqual(200, self.status(self.access, Kind.READ, headers(host=host)), host)

    def test_rebound_name(self) -> None:
        """H26: a web page whose name was made to mean 127.0.0.1 reads nothing, not even with
        an open page, and neither does a name that only looks like ours."""
        for host in ("evil.example", "evil.example:5680", "localhost.evil.example",
                     "127.0.0.1.nip.io", "", "0x7f.1", "\u0661"):  # fmt: skip
            for kind in Kind:
                self.assertEqual(403, self.status(self.access, kind, headers(host=host)), host)

    def test_two_hosts(self) -> None:
        """Two Host headers, of which one is ours, are not ours."""
        given = headers()
        given.addRawHeader("host", "evil.example")
        self.assertEqual(403, self.status(self.access, Kind.READ, given))

    def test_no_host(self) -> None:
        """A probe that speaks HTTP/1.0 sends no Host; browsers always do."""
        self.assertEqual(200, self.status(self.access, Kind.READ, Headers()))

    def test_own_page_may_write(self) -> None:
        """The dashboard, being of the same origin, may disconnect a client."""
        given = headers(origin="http://localhost:5680", sec_fetch_site="same-origin")
        self.assertEqual(200, self.status(self.access, Kind.WRITE, given))

    def test_cross_site_writes(self) -> None:
        """H26: what another page makes a browser send is refused, even one of another port of
        this machine, and even with the token."""
        for given in (
            headers(sec_fetch_site="cross-site"),
            headers(sec_fetch_site="same-site"),
            headers(origin="http://evil.example"),
            headers(origin="http://localhost:3000"),
            headers(origin="null"),
            headers(origin="file://localhost:5680"),
            headers(origin=""),
        ):
            self.assertEqual(403, self.status(self.access, Kind.WRITE, given))
            given.addRawHeader("authorization", bearer())
            self.assertEqual(403, self.status(self.guarded, Kind.WRITE, given))

    def test_forwarded_is_not_local(self) -> None:
        """Through a proxy on this machine anybody may come: then the token is needed."""
        given = headers(x_forwarded_for="203.0.113.9")
        self.assertEqual(401, self.status(self.guarded, Kind.READ, given))
        self.assertEqual(401, self.status(self.access, Kind.READ, given))
        self.assertEqual(200, self.status(self.guarded, Kind.OPEN, given))


class BeyondLoopbackTests(SynchronousTestCase):
    """A listener that other machines reach."""

    def setUp(self) -> None:
        self.access = Access("0.0.0.0", TOKEN)

    def test_needs_a_token(self) -> None:
        """It refuses to start without one, as does one bound to a name."""
        for host in ("0.0.0.0", "::", "[::]", "192.0.2.1", "gateway.example"):
            self.assertRaises(ConfigError, Access, host)
            self.assertRaises(ConfigError, Access, host, "")

    def test_error_does_not_show_it(self) -> None:
        """H26: the token is in nobody's representation."""
        self.assertNotIn(TOKEN, repr(vars(self.access)))

    def test_only_probes_are_open(self) -> None:
        """Probes and the bare page are open under any name, everything else needs the token."""
        stranger = headers(host="gateway.example")
        self.assertIsNone(self.access.refusal(Kind.OPEN, stranger))
        self.assertFalse(self.access.may_read(stranger))
        for kind in (Kind.READ, Kind.WRITE):
            refusal = self.access.refusal(kind, stranger)
            assert refusal is not None
            self.assertEqual(401, refusal.status)

    def test_host_header_proves_nothing(self) -> None:
        """Calling us localhost does not make a stranger local."""
        self.assertFalse(self.access.may_read(headers(host="localhost")))

    def test_token(self) -> None:
        """Its holder may do everything."""
        given = headers(host="gateway.example", authorization=bearer())
        for kind in Kind:
            self.assertIsNone(self.access.refusal(kind, given))
        self.assertTrue(self.access.may_read(given))
