"""Which listeners may be opened, and who may be anonymous where."""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.errors import ConfigError
from mop_twisted.ops.config import load
from mop_twisted.ops.rules import (
    admin_place,
    admin_token,
    anonymous_allowed,
    check,
    listeners,
    need_restart,
)


class RulesTests(SynchronousTestCase):
    """What of a configuration goes together."""

    def check(self, **keys: Any) -> list[str]:
        """The warnings of a configuration of these keys."""
        return check(load(None, {}, keys))

    def refused(self, **keys: Any) -> ConfigError:
        """The reason why not."""
        return self.assertRaises(ConfigError, self.check, **keys)

    def test_wrong_specifications(self) -> None:
        """Anything else is refused, with the reason."""
        for text in ("", "1883", "udp:1883", "tcp:", "tcp:host:70000", "tcp:::1:1883", "unix:"):
            error = self.refused(listen=[text])
            self.assertEqual(error.where, "--listen")

    def test_defaults(self) -> None:
        """Without a listener: TCP and WebSocket on loopback, with a certificate TLS as well."""
        self.assertEqual(
            listeners(load(None, {}, {}).settings), ("tcp:127.0.0.1:1883", "ws:127.0.0.1:8083")
        )
        self.assertIn(
            "tls:127.0.0.1:8883", listeners(load(None, {}, {"certificate": "/c"}).settings)
        )
        self.assertEqual(self.check(), [])

    def test_beyond_loopback_without_authentication(self) -> None:
        """A listener that others reach, and where nobody need say who they are, is refused."""
        for listener in ("tcp:0.0.0.0:1883", "ws:[::]:8083", "tcp:example.org:1"):
            error = self.refused(listen=[listener])
            self.assertIn("allow_anonymous", error.why)
            self.check(listen=[listener], allow_anonymous=True)
            self.check(listen=[listener], passwords="/p")
            self.check(listen=[listener], allow_anonymous=False, passwords="/p")

    def test_a_client_ca_is_for_tls_alone(self) -> None:
        """A client CA lets a TLS listener be opened, but no plain one beside it."""
        keys = {"certificate": "/c", "client_ca": "/ca"}
        self.check(listen=["tls:0.0.0.0:8883", "wss:[::]:8884"], **keys)
        self.refused(listen=["tls:0.0.0.0:8883", "tcp:0.0.0.0:1883"], **keys)

    def test_loopback(self) -> None:
        """What only this machine reaches needs no authentication."""
        self.check(listen=["tcp:127.0.0.1:1", "tcp:127.1.2.3:1", "ws:[::1]:2", "tcp:localhost:3"])
        self.check(listen=["unix:/run/mop", "tcp:1884"])

    def test_who_may_be_anonymous(self) -> None:
        """By default on loopback and only without passwords; else as allow_anonymous says."""
        local, remote = "tcp:127.0.0.1:1883", "tcp:0.0.0.0:1883"
        for keys, expected in (
            ({}, (True, False)),
            ({"passwords": "/p"}, (False, False)),
            ({"passwords": "/p", "allow_anonymous": True}, (True, True)),
            ({"allow_anonymous": True}, (True, True)),
            ({"allow_anonymous": False}, (False, False)),
        ):
            allowed = anonymous_allowed(load(None, {}, keys).settings)
            self.assertEqual((allowed(local), allowed(remote)), expected)

    def test_tls_needs_a_certificate(self) -> None:
        """A tls or wss listener without a certificate is refused."""
        self.assertIn("certificate", self.refused(listen=["tls:127.0.0.1:8883"]).why)

    def test_twice_the_same(self) -> None:
        """The same place twice is a mistake that is told before a port is found busy."""
        self.refused(listen=["tcp:127.0.0.1:1883", "tcp:1883"])

    def test_keys_without_their_partners(self) -> None:
        """A key that would be ignored is refused instead."""
        for keys in (
            {"key": "/k"},
            {"client_ca": "/c"},
            {"crl": "/c", "certificate": "/c"},
            {"certificate_name": "san-dns"},
        ):
            self.refused(**keys)

    def test_what_this_build_cannot_do(self) -> None:
        """Pulsar and several workers are refused with a clear reason, not ignored."""
        self.assertIn("embedded log", self.refused(pulsar="pulsar://localhost:6650").why)
        self.assertIn("embedded log", self.refused(pulsar_admin="http://localhost").why)
        self.assertIn("embedded log", self.refused(workers="2").why)

    def test_admin(self) -> None:
        """The admin server is on loopback, elsewhere with a token, or off."""
        self.assertIsNone(admin_place(load(None, {}, {"admin": "off"})))
        self.assertEqual(admin_place(load(None, {}, {"admin": "9000"})), ("127.0.0.1", 9000))
        self.assertEqual(admin_place(load(None, {}, {})), ("127.0.0.1", 5680))
        self.assertIn("admin_token", self.refused(admin="0.0.0.0:5680").why)
        self.check(admin="0.0.0.0:5680", admin_token="t")
        self.refused(admin="on")
        self.refused(admin_token="t", admin_token_file="/f")

    def test_admin_token_of_a_file(self) -> None:
        """A token file's first line is the token; an empty or missing one is refused."""
        path = os.path.abspath(self.mktemp())
        configuration = load(None, {}, {"admin_token_file": path})
        self.assertRaises(ConfigError, admin_token, configuration)
        with open(path, "w") as opened:
            opened.write("\n")
        self.assertRaises(ConfigError, admin_token, configuration)
        with open(path, "w") as opened:
            opened.write("hush\n")
        self.assertEqual(admin_token(configuration), "hush")

    def test_a_readable_password_file_is_warned_of(self) -> None:
        """A password file that everyone may read is warned of. H32"""
        path = os.path.abspath(self.mktemp())
        with open(path, "w"):
            pass
        os.chmod(path, 0o644)
        self.assertIn(path, self.check(passwords=path)[0])
        os.chmod(path, 0o600)
        self.assertEqual(self.check(passwords=path), [])

    def test_nobody_gets_in(self) -> None:
        """Anonymous forbidden and no way to say who one is: allowed, but warned of."""
        self.assertIn("nobody", self.check(allow_anonymous=False)[0])

    def test_what_needs_a_restart(self) -> None:
        """A reload takes some keys over; the others that have changed are named."""
        old = load(None, {}, {"data": "/a"}).settings
        same = load(None, {}, {"data": "/a", "acl": "/acl", "log_level": "debug"}).settings
        self.assertEqual(need_restart(old, same), [])
        new = load(None, {}, {"data": "/b", "certificate": "/c"}).settings
        self.assertEqual(need_restart(old, new), ["data", "certificate"])
