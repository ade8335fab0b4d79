"""Where a key may be said, which one wins, and what an error names."""

from __future__ import annotations

import os
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.errors import ConfigError
from mop_twisted.limits import Limits
from mop_twisted.ops.config import NOT_CONFIGURATION, Configuration, default_data, load
from mop_twisted.ops.settings import LIMITS


class ConfigTests(SynchronousTestCase):
    """Reading a configuration."""

    def file(self, text: str) -> str:
        """A TOML file with this text."""
        folder = os.path.abspath(self.mktemp())
        os.makedirs(folder)
        path = os.path.join(folder, "mop.toml")
        with open(path, "w", encoding="utf-8") as opened:
            opened.write(text)
        return path

    def load(self, text: str = "", environment: Any = None, **command_line: Any) -> Configuration:
        """A configuration of all three."""
        return load(self.file(text), environment or {}, command_line)

    def refused(self, text: str = "", environment: Any = None, **command_line: Any) -> ConfigError:
        """The reason why not."""
        return self.assertRaises(ConfigError, self.load, text, environment, **command_line)

    def test_nothing_said(self) -> None:
        """Without a file, environment and options there are the documented defaults."""
        configuration = load(None, {}, {})
        settings = configuration.settings
        self.assertEqual(settings.listen, ())
        self.assertEqual(settings.admin, "127.0.0.1:5680")
        self.assertEqual(settings.workers, 1)
        self.assertIsNone(settings.allow_anonymous)
        for name in LIMITS:
            self.assertEqual(getattr(configuration.limits, name), getattr(Limits(), name))

    def test_the_later_wins(self) -> None:
        """The environment overrides the file, and the command line overrides both."""
        text = 'admin = "off"\nlog_level = "debug"\nworkers = 1'
        configuration = self.load(text, {"MOP_ADMIN": "5000"}, workers="3")
        self.assertEqual(configuration.settings.admin, "5000")
        self.assertEqual(configuration.settings.log_level, "debug")
        self.assertEqual(configuration.settings.workers, 3)
        again = self.load(text, {"MOP_ADMIN": "5000"}, admin="6000")
        self.assertEqual(again.settings.admin, "6000")

    def test_every_limit_is_a_key(self) -> None:
        """Each limit can be set in the file and in the environment, and is reached there."""
        for name in LIMITS:
            value = 17
            self.assertEqual(getattr(self.load(f"{name} = {value}").limits, name), value)
            environment = {f"MOP_{name.upper()}": str(value)}
            self.assertEqual(getattr(self.load("", environment).limits, name), value)

    def test_limits_with_units(self) -> None:
        """Sizes and times may be written with units."""
        limits = self.load('session_bytes = "256MiB"\nconnect_timeout = "500ms"').limits
        self.assertEqual(limits.session_bytes, 256 * 1024 * 1024)
        self.assertEqual(limits.connect_timeout, 0.5)

    def test_a_limit_out_of_range(self) -> None:
        """A limit that MQTT or sense forbids is refused with the range."""
        error = self.refused("receive_maximum = 65536")
        self.assertIn("receive_maximum", error.where)
        self.assertIn("65535", error.why)
        self.refused("receive_maximum = 0")
        self.refused("connections = 0")

    def test_lists_by_commas(self) -> None:
        """In the environment a list is separated by commas; on the command line it is not."""
        configuration = self.load("", {"MOP_LISTEN": "tcp:1883, ws:8083"})
        self.assertEqual(configuration.settings.listen, ("tcp:1883", "ws:8083"))
        configuration = self.load("", {}, listen=["unix:/a,b"])
        self.assertEqual(configuration.settings.listen, ("unix:/a,b",))

    def test_an_unknown_key_in_the_file(self) -> None:
        """A misspelt key in the file is an error that names file, key and what was meant."""
        error = self.refused('pasword = "x"')
        self.assertIn("mop.toml: pasword", error.where)
        self.assertIn("passwords", error.why)

    def test_an_unknown_name_in_the_environment(self) -> None:
        """A MOP_ name that is no key (containers inject such) is warned of, never an error."""
        configuration = self.load("", {"MOP_PORT_1883_TCP": "tcp://10.0.0.1:1883"})
        self.assertEqual(len(configuration.warnings), 1)
        self.assertIn("MOP_PORT_1883_TCP", configuration.warnings[0])

    def test_names_that_are_not_configuration(self) -> None:
        """The scripts' own names are not even warned of."""
        configuration = self.load("", dict.fromkeys(NOT_CONFIGURATION, "1"))
        self.assertEqual(configuration.warnings, [])

    def test_the_file_by_environment(self) -> None:
        """MOP_CONFIG names the file where no --config does."""
        path = self.file('admin = "off"')
        self.assertEqual(load(None, {"MOP_CONFIG": path}, {}).settings.admin, "off")

    def test_no_file(self) -> None:
        """A file that is not there is named."""
        error = self.assertRaises(ConfigError, load, "/nowhere/mop.toml", {}, {})
        self.assertIn("/nowhere/mop.toml", str(error))

    def test_no_toml(self) -> None:
        """What is no TOML is refused with its file and the reason."""
        error = self.refused("listen = [")
        self.assertIn("mop.toml", error.where)
        self.assertIn("TOML", error.why)

    def test_wrong_types(self) -> None:
        """A value of the wrong type is refused where it stands."""
        self.assertIn("array", self.refused('listen = "tcp:1883"').why)
        self.assertIn("str", self.refused("admin = 5680").why)
        self.assertIn("MOP_WORKERS", self.refused("", {"MOP_WORKERS": "two"}).where)
        self.assertIn("--workers", self.refused("", {}, workers="two").where)
        self.assertIn("true or false", self.refused("", {"MOP_ALLOW_ANONYMOUS": "maybe"}).why)
        self.assertIn("debug", self.refused('log_level = "loud"').why)

    def test_switches_in_the_environment(self) -> None:
        """A switch may be written as people write it."""
        for text, value in (("true", True), ("1", True), ("No", False), ("off", False)):
            configuration = self.load("", {"MOP_ALLOW_ANONYMOUS": text})
            self.assertIs(configuration.settings.allow_anonymous, value)

    def test_paths(self) -> None:
        """A path in the file is meant from the file's folder, others from where one is."""
        path = self.file('passwords = "users"\nacl = "/etc/acl"')
        settings = load(path, {}, {"certificate": "server.pem"}).settings
        self.assertEqual(settings.passwords, os.path.join(os.path.dirname(path), "users"))
        self.assertEqual(settings.acl, "/etc/acl")
        self.assertEqual(settings.certificate, os.path.join(os.getcwd(), "server.pem"))
        self.refused('acl = ""')

    def test_retention(self) -> None:
        """History is kept by filter, age and bytes, in the file and in the environment."""
        settings = self.load('[[retention]]\nfilter = "a/#"\nage = "7d"\nbytes = "1GiB"').settings
        rule = settings.retention[0]
        self.assertEqual((rule.filter, rule.age, rule.bytes), ("a/#", 604800, 1024**3))
        environment = {"MOP_RETENTION": "a/#=7d,b=1MB,c=1h/5kB,d"}
        rules = self.load("", environment).settings.retention
        self.assertEqual(
            [(r.filter, r.age, r.bytes) for r in rules],
            [
                ("a/#", 604800, None),
                ("b", None, 10**6),
                ("c", 3600, 5000),
                ("d", None, None),
            ],
        )

    def test_wrong_retention(self) -> None:
        """A misspelt field of a rule, or a wrong unit, is refused."""
        self.assertIn("agee", self.refused('[[retention]]\nfilter = "a"\nagee = "7d"').why)
        self.assertIn("unit", self.refused('[[retention]]\nfilter = "a"\nage = "7 years"').why)

    def test_data_folder(self) -> None:
        """The log lies under XDG_STATE_HOME, or where that would be."""
        self.assertEqual(default_data({"XDG_STATE_HOME": "/var/state"}), "/var/state/mop-data")
        at_home = os.path.expanduser("~/.local/state/mop-data")
        self.assertEqual(default_data({}), at_home)
        self.assertEqual(default_data({"XDG_STATE_HOME": "relative"}), at_home)
