"""The command mop."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted import __version__
from mop_twisted.ops.cli import COMMANDS, main


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of C{mop}."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(list(arguments))
    return status, out.getvalue(), err.getvalue()


class CommandTests(SynchronousTestCase):
    """What a person types and gets."""

    def test_help(self) -> None:
        """mop --help lists every command and exits with 0."""
        status, out, _ = run("--help")
        self.assertEqual(status, 0)
        for name in COMMANDS:
            self.assertIn(f"  {name} ", out)

    def test_nothing(self) -> None:
        """mop alone says how it is used, as an error."""
        status, out, err = run()
        self.assertEqual((status, out), (2, ""))
        self.assertIn("usage:", err)

    def test_unknown(self) -> None:
        """An unknown command is named, with exit status 2."""
        status, _, err = run("frobnicate")
        self.assertEqual(status, 2)
        self.assertIn("'frobnicate'", err)

    def test_version(self) -> None:
        """mop --version says which this is."""
        self.assertEqual(run("--version")[1], f"mop_twisted {__version__}\n")

    def test_every_command_has_help(self) -> None:
        """Each command answers --help with how it is used, and exit status 0."""
        for name in COMMANDS:
            try:
                status, out, _ = run(name, "--help")
            except SystemExit as left:  # pragma: no cover
                self.fail(f"mop {name} --help left by itself: {left}")
            self.assertEqual(status, 0, name)
            self.assertIn("sage:", out, name)

    def test_an_interrupt(self) -> None:
        """Ctrl-C ends a command with status 130 and no traceback."""

        def interrupted(arguments: list[str]) -> int:
            raise KeyboardInterrupt

        self.patch(sys.modules["mop_twisted.ops.check"], "run", interrupted)
        self.assertEqual(run("check")[0], 130)


class CheckTests(SynchronousTestCase):
    """mop check: whether a configuration is right."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.makedirs(self.folder)

    def write(self, name: str, text: str) -> str:
        """A file in the test's folder."""
        path = os.path.join(self.folder, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as opened:
            opened.write(text)
        return path

    def check(self, *arguments: Any) -> tuple[int, str, str]:
        """mop check with these arguments."""
        return run("check", *arguments)

    def test_right(self) -> None:
        """A right configuration is said to be one, with exit status 0; nothing is made."""
        data = os.path.join(self.folder, "data")
        status, out, err = self.check("--data", data)
        self.assertEqual((status, err), (0, ""))
        self.assertIn("right", out)
        self.assertFalse(os.path.exists(data))

    def test_wrong_key(self) -> None:
        """An error names file, key and reason, with exit status 1."""
        path = self.write("mop.toml", 'receive_maximum = "lots"')
        status, out, err = self.check("-c", path)
        self.assertEqual((status, out), (1, ""))
        self.assertIn(f"{path}: receive_maximum:", err)

    def test_wrong_option(self) -> None:
        """A wrong option is an error too; twistd by itself would exit with 0."""
        status, _, err = self.check("--frobnicate")
        self.assertEqual(status, 1)
        self.assertIn("frobnicate", err)

    def test_surplus_arguments(self) -> None:
        """What is no option is refused."""
        self.assertEqual(self.check("surplus")[0], 1)

    def test_missing_files(self) -> None:
        """A file that is named and not there is an error that names key and file."""
        for key in ("passwords", "acl", "certificate"):
            path = os.path.join(self.folder, "missing")
            status, _, err = self.check(f"--{key}", path)
            self.assertEqual(status, 1, key)
            self.assertIn(path, err)
            self.assertIn(key, err)

    def test_broken_files(self) -> None:
        """A line that is none of a password file's, or of an ACL, is found before starting. H24"""
        passwords = self.write("passwords", "alice:$7$not-a-hash\n")
        self.assertEqual(self.check("--passwords", passwords)[0], 1)
        acl = self.write("acl", "topic frobnicate a/b c\nnonsense\n")
        self.assertEqual(self.check("--acl", acl)[0], 1)

    def test_what_is_not_built_yet(self) -> None:
        """An option that this build cannot carry out is refused, not ignored."""
        for option in (["-p", "pulsar://localhost"], ["--workers", "2"]):
            status, _, err = self.check(*option)
            self.assertEqual(status, 1)
            self.assertIn("embedded log", err)

    def test_listeners_beyond_loopback(self) -> None:
        """An open listener for everyone has to be asked for by name."""
        self.assertEqual(self.check("-l", "tcp:0.0.0.0:1883")[0], 1)
        self.assertEqual(self.check("-l", "tcp:0.0.0.0:1883", "--allow-anonymous")[0], 0)

    def test_warnings(self) -> None:
        """What hinders nothing is said as a warning."""
        passwords = self.write("passwords", "")
        os.chmod(passwords, 0o644)
        status, _, err = self.check("--passwords", passwords)
        self.assertEqual(status, 0)
        self.assertIn("warning", err)
