"""C{mop passwd}."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.broker.passwords import Users
from mop_twisted.ops.passwd import run

from ..broker.test_passwords import AL, BO


class PasswdTestCase(SynchronousTestCase):
    """Runs the command."""

    def setUp(self) -> None:
        folder = self.mktemp()
        os.mkdir(folder)
        self.path = os.path.join(os.path.abspath(folder), "passwords")
        self.output, self.errors = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.output)
        self.patch(sys, "stderr", self.errors)

    def write(self, *lines: str) -> None:
        """Make the file, of these lines."""
        with open(os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write("".join(line + "\n" for line in lines))

    def lines(self) -> list[str]:
        """What the file holds."""
        with open(self.path) as file:
            return file.read().splitlines()

    def passwd(self, *arguments: str, typed: tuple[str, ...] = ()) -> int:
        """Run it on the file; C{typed} is what a person types when asked."""
        answers = list(typed)
        return run(list(arguments), lambda prompt: answers.pop(0))

    def fits(self, user_name: str, password: str) -> bool:
        """Whether the file has this password for a user."""
        return Users.read(self.path).hashes[user_name].fits(password.encode())


class ChangeTests(PasswdTestCase):
    """What it does to the file."""

    def test_create(self) -> None:
        """C{-c} makes a file that only its owner may read, with argon2id."""
        self.assertEqual(0, self.passwd("-c", "-b", self.path, "al", "secret"))
        self.assertEqual(0o600, os.stat(self.path).st_mode & 0o777)
        self.assertTrue(self.lines()[0].startswith("al:$argon2id$v=19$m=19456,t=2,p=1$"))
        self.assertTrue(self.fits("al", "secret"))
        self.assertFalse(self.fits("al", "Secret"))

    def test_create_anew(self) -> None:
        """C{-c} on a file that is there replaces it, as mosquitto_passwd does."""
        self.write(BO)
        self.passwd("-c", "-b", "-H", "sha512", self.path, "al", "x")
        self.assertEqual({"al"}, set(Users.read(self.path).hashes))

    def test_methods(self) -> None:
        """C{-H} chooses the hash, C{-I} the iterations."""
        self.write()
        self.passwd("-b", "-H", "sha512", self.path, "al", "x")
        self.passwd("-b", "-H", "sha512-pbkdf2", "-I", "500", self.path, "bo", "y")
        self.assertTrue(self.lines()[0].startswith("al:$6$"))
        self.assertTrue(self.lines()[1].startswith("bo:$7$500$"))
        self.assertTrue(self.fits("al", "x") and self.fits("bo", "y"))

    def test_change(self) -> None:
        """A user's line is changed where it stands; comments and the others' lines stay as they
        are."""
        self.write("# users", AL, BO)
        self.assertEqual(0, self.passwd("-b", "-H", "sha512", self.path, "al", "new"))
        self.assertEqual(["# users", BO], [self.lines()[0], self.lines()[2]])
        self.assertTrue(self.fits("al", "new"))
        self.assertIn("changed al (sha512)", self.output.getvalue())

    def test_remove(self) -> None:
        """C{-D} removes a user with all lines; one who is not there is an error."""
        self.write(AL, BO)
        self.passwd("-b", "--scram", self.path, "al", "secret")
        self.assertEqual(0, self.passwd("-D", self.path, "al"))
        self.assertEqual([BO], self.lines())
        self.assertEqual(1, self.passwd("-D", self.path, "al"))
        self.assertEqual([BO], self.lines())

    def test_scram(self) -> None:
        """C{--scram} adds a line of its own, beside the password, and changes or removes only
        that."""
        self.write(AL)
        for iterations in ("4096", "5000"):
            self.assertEqual(
                0, self.passwd("-b", "--scram", "-I", iterations, self.path, "al", "secret")
            )
            self.assertEqual(int(iterations), Users.read(self.path).scram["al"].iterations)
        self.assertEqual((2, AL), (len(self.lines()), self.lines()[0]))
        self.assertEqual(0, self.passwd("-D", "--scram", self.path, "al"))
        self.assertEqual([AL], self.lines())

    def test_mode_and_link(self) -> None:
        """A file that a group may read stays so, others lose what they had, and a link stays a
        link."""
        self.write(AL)
        os.chmod(self.path, 0o644)
        link = self.path + ".link"
        os.symlink("passwords", link)
        self.assertEqual(0, self.passwd("-b", "-H", "sha512", link, "bo", "x"))
        self.assertTrue(os.path.islink(link))
        self.assertEqual(0o640, os.stat(self.path).st_mode & 0o777)
        self.assertIn("everybody may read it", self.errors.getvalue())
        self.assertEqual(
            ["passwords", "passwords.link"], sorted(os.listdir(os.path.dirname(self.path)))
        )

    def test_json(self) -> None:
        """C{--json} says what was done, for programs."""
        self.passwd("-c", "-b", "--json", "-H", "sha512", self.path, "j\u00f6rg", "x")
        expected: dict[str, Any] = {
            "file": self.path, "user": "j\u00f6rg", "action": "added", "method": "sha512"
        }  # fmt: skip
        self.assertEqual(expected, json.loads(self.output.getvalue()))


class AskTests(PasswdTestCase):
    """Where the password comes from."""

    def test_typed_twice(self) -> None:
        """A person types it twice."""
        self.write()
        self.assertEqual(
            0, self.passwd("-H", "sha512", self.path, "al", typed=("secret", "secret"))
        )
        self.assertTrue(self.fits("al", "secret"))

    def test_typed_differently(self) -> None:
        """Two that do not agree, or an empty one, change nothing."""
        self.write(AL)
        for typed in (("one", "two"), ("", "")):
            self.assertEqual(1, self.passwd(self.path, "al", typed=typed))
        self.assertEqual([AL], self.lines())

    def test_from_standard_input(self) -> None:
        """A program gives it as a line on standard input."""
        self.write()
        self.patch(sys, "stdin", io.StringIO("secret\n"))
        self.assertEqual(0, run(["-H", "sha512", self.path, "al"]))
        self.assertTrue(self.fits("al", "secret"))


class RefusalTests(PasswdTestCase):
    """What it does not do."""

    def test_wrong_arguments(self) -> None:
        """Arguments that contradict each other are exit status 2, and change nothing."""
        self.write(AL)
        for arguments in (
            (),
            ("-b", self.path, "al"),
            (self.path, "al", "secret"),
            ("-c", "-D", self.path, "al"),
            ("-D", "-b", self.path, "al", "x"),
            ("-H", "md5", self.path, "al"),
            ("-b", "-I", "5", self.path, "al", "x"),
            ("-b", "-H", "sha512-pbkdf2", "-I", "0", self.path, "al", "x"),
            ("-b", "--scram", "-I", "100", self.path, "al", "x"),
            ("-b", "-H", "sha512-pbkdf2", "-I", "99999999999", self.path, "al", "x"),
        ):
            self.assertEqual(2, self.passwd(*arguments), arguments)
        self.assertEqual([AL], self.lines())

    def test_help(self) -> None:
        """C{--help} explains, with exit status 0."""
        self.assertEqual(0, self.passwd("--help"))
        self.assertIn("SIGHUP", self.output.getvalue())

    def test_user_names(self) -> None:
        """A user name that the file could not have is refused. H13"""
        self.write(AL)
        for user_name in ("", "a:b", "a\nb", "a\x00", "#a"):
            self.assertEqual(1, self.passwd("-b", self.path, user_name, "x"))
        self.assertEqual(1, self.passwd("-b", "--scram", self.path, "\ue000", "x"))
        self.assertEqual([AL], self.lines())

    def test_missing_file(self) -> None:
        """Without C{-c} a file that is not there is an error, before a password is asked for."""
        self.assertEqual(1, self.passwd(self.path, "al"))
        self.assertIn("-c", self.errors.getvalue())
        self.assertEqual(1, self.passwd("-c", "-b", self.path + "/no/where", "al", "x"))

    def test_broken_file(self) -> None:
        """A file with a broken line is not touched; the line is named. H24"""
        self.write(AL, "", BO)
        self.assertEqual(1, self.passwd("-b", self.path, "cy", "x"))
        self.assertIn(":2: a blank line", self.errors.getvalue())
        self.assertEqual([AL, "", BO], self.lines())

    def test_no_regular_file(self) -> None:
        """A folder is no password file."""
        folder = os.path.dirname(self.path)
        for arguments in (("-b", folder), ("-c", "-b", folder)):
            self.assertEqual(1, self.passwd(*arguments, "al", "x"))
        self.assertEqual([], os.listdir(folder))
