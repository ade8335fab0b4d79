"""Password files, and verifying passwords without keeping the reactor waiting."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mop_twisted.broker.passwords import (
    METHODS,
    REMEMBERED,
    WAITING,
    PasswordFile,
    Users,
    hash_password,
    parse_hash,
    scram_line,
)
from mop_twisted.broker.scram import make_credential
from mop_twisted.errors import ConfigError, Refused
from mop_twisted.interfaces import IAuthenticator
from mop_twisted.reasons import ReasonCode

# What mosquitto_passwd 2.0.11 has written, with -H sha512 and without.
AL = (
    "al:$6$OO1+EC0mTll3azM/$K/2trAve3A7ETRzsg5eWKjD83uE0nt0K0JQnZ7SdJKSAmW3xxUXBrvVLak/"
    "GDAFgz2OYChX4EwcRGlP+9QFq9Q=="
)
BO = (
    "bo:$7$101$nelwu7ttzM9T197J$mVL/V2rracaWpXHDCYhlt0/R3h1bDS50QufZ9fSTpWbv+MqVfRARDICtdFyv12Yw"
    "FGiGxRd9KpA42tGJS+o7ZQ=="
)
SCRAM_AL = "al:" + scram_line(make_credential("al", "secret", 4096, b"0123456789abcdef"))


def users(*lines: str) -> Users:
    """What a file of these lines holds."""
    return Users.parse("".join(line + "\n" for line in lines).encode(), "pw")


class HashTests(SynchronousTestCase):
    """The formats of a hash."""

    def test_mosquitto_wrote_them(self) -> None:
        """What mosquitto_passwd has written lets in whoever it was written for."""
        found = users(AL, BO).hashes
        self.assertTrue(found["al"].fits(b"secret"))
        self.assertTrue(found["bo"].fits("p\u00e4sswort".encode()))
        for known in found.values():
            for wrong in (b"", b"Secret", b"secret ", b"x" * 1000):
                self.assertFalse(known.fits(wrong))

    def test_own(self) -> None:
        """What we write we read, in each of the methods, and no two hashes are alike."""
        for method in METHODS:
            written = [hash_password(method, b"pa\x00ss\xff", 500) for _ in range(2)]
            self.assertNotEqual(*written)
            known = parse_hash(written[0])
            self.assertTrue(known.fits(b"pa\x00ss\xff"))
            self.assertFalse(known.fits(b"pa"))

    def test_mosquitto_can_read_them(self) -> None:
        """Ours have the lengths that mosquitto 2.0 demands: 12 bytes of salt, 64 of hash."""
        for method, parts in (("sha512", 4), ("sha512-pbkdf2", 5)):
            written = hash_password(method, b"x", 101).split("$")
            self.assertEqual(parts, len(written))
            self.assertEqual((16, 88), (len(written[-2]), len(written[-1])))

    def test_wrong(self) -> None:
        """A hash that is cut off, unknown, asks for too much, or is a password, is refused; the
        message does not repeat it."""
        salt, digest = BO.split("$")[3:]
        argon2id = hash_password("argon2id", b"x")
        for text in (
            "",
            "letmein",
            "$",
            "$6$",
            f"$6${salt}",
            f"$6${salt}$",
            f"$6${salt}${digest[:-4]}",
            f"$6$?{salt}${digest}",
            f"$7$0${salt}${digest}",
            f"$7$-1${salt}${digest}",
            f"$7$+101${salt}${digest}",
            f"$7$1_01${salt}${digest}",
            f"$7$99999999${salt}${digest}",
            f"$7$101$${digest}",
            f"$7$101${salt}${digest}$x",
            f"$5$101${salt}${digest}",
            argon2id[:-10],
            argon2id.rpartition("$")[0],
            argon2id.replace("m=19456", "m=99999999"),
            argon2id.replace("m=19456,", ""),
            argon2id.replace("argon2id", "argon2i"),
            argon2id[:-1] + "!",
            "$argon2id$",
            "$argon2id$v=19$m=8,t=1,p=1$\u00e4$\u00e4",
        ):
            error = self.assertRaises(ValueError, parse_hash, text)
            if len(text) > 3:
                self.assertNotIn(text[3:], str(error))


class FileTests(SynchronousTestCase):
    """Reading a file."""

    def test_broken_lines(self) -> None:
        """A blank or broken line, or a user twice, is refused with its number and without what
        it holds: such lines once let people in. H24"""
        for line in (
            "",
            "   ",
            "nocolon",
            ":",
            f":{AL[3:]}",
            "user:",
            "user:topsecret",
            AL,
            SCRAM_AL,
            "a\x07b:" + AL[3:],
            "a\x85b:" + AL[3:],
            "u:$scram-sha-256$4095$c2FsdA==$" + "$".join(SCRAM_AL.split("$")[4:]),
            "u:$scram-sha-256$4096$c2FsdA==$c2FsdA==$c2FsdA==",
            "u:$scram-sha-256$4096$c2FsdA==",
            "\ue000:" + SCRAM_AL[3:],
        ):
            error = self.assertRaises(ConfigError, users, AL, SCRAM_AL, line, BO)
            self.assertEqual("pw:3", error.where, line)
            self.assertNotIn("topsecret", str(error))

    def test_not_utf_8(self) -> None:
        """Bytes that are no text are refused with the number of their line."""
        error = self.assertRaises(ConfigError, Users.parse, b"\xff:x\n", "pw")
        self.assertEqual(("pw:1", "not UTF-8"), (error.where, error.why))

    def test_comments_and_ends(self) -> None:
        """Comments are allowed, as for mosquitto; lines may end as on Windows, the last one
        without an end; a file may be empty."""
        found = Users.parse(f"# users\r\n{AL}\r\n{BO}".encode(), "pw")
        self.assertEqual({"al", "bo"}, set(found.hashes))
        self.assertEqual({}, Users.parse(b"", "pw").hashes)

    def test_password_and_scram(self) -> None:
        """A user may have a line of each kind."""
        found = users(AL, SCRAM_AL)
        self.assertEqual(({"al"}, {"al"}), (set(found.hashes), set(found.scram)))

    def write(self, mode: int) -> str:
        """A file with this mode."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write(AL + "\n")
        os.chmod(path, mode)
        return path

    def test_modes(self) -> None:
        """That everybody may read the file is a warning; that everybody may write to it is
        refused. H32"""
        for mode in (0o600, 0o640, 0o400):
            self.assertEqual([], Users.read(self.write(mode)).warnings)
        path = self.write(0o644)
        self.assertIn(path, Users.read(path).warnings[0])
        path = self.write(0o666)
        self.assertEqual(path, self.assertRaises(ConfigError, Users.read, path).where)

    def test_links(self) -> None:
        """A link is followed, as secrets are mounted by links; what it leads to is judged. H32"""
        link = self.mktemp()
        os.symlink(os.path.abspath(self.write(0o644)), link)
        self.assertEqual(1, len(Users.read(link).warnings))
        dangling = self.mktemp()
        os.symlink("nowhere", dangling)
        self.assertRaises(ConfigError, Users.read, dangling)

    def test_no_file(self) -> None:
        """What is missing, a folder, or a pipe that would be waited for, is refused."""
        folder, pipe = self.mktemp(), self.mktemp()
        os.mkdir(folder)
        os.mkfifo(pipe)
        for path in (self.mktemp(), folder, pipe):
            self.assertEqual(path, self.assertRaises(ConfigError, Users.read, path).where)


class Threads:
    """Threads that run when a test says so."""

    def __init__(self) -> None:
        self.jobs: list[tuple[Callable[[], bool], Deferred[bool]]] = []
        self.done = 0

    def call(self, function: Callable[[], bool]) -> Deferred[bool]:
        """Remember the call."""
        found: Deferred[bool] = Deferred()
        self.jobs.append((function, found))
        return found

    def run(self, count: int = 1_000_000) -> None:
        """Do up to C{count} of the calls, those included that come meanwhile."""
        while self.jobs and count:
            function, found = self.jobs.pop(0)
            count -= 1
            self.done += 1
            try:
                found.callback(function())
            except Exception:
                found.errback(Failure())


class AuthenticateTests(SynchronousTestCase):
    """Asking a password file."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.threads = Threads()
        self.passwords = self.make(AL, BO, SCRAM_AL.replace("al:", "cy:"))

    def make(self, *lines: str) -> PasswordFile:
        """An authenticator on a file of these lines."""
        return PasswordFile(users(*lines), self.threads.call, self.clock.seconds)

    def ask(self, user_name: str, password: bytes) -> Deferred[bool]:
        """Ask as a client would."""
        return self.passwords.authenticate("client", user_name, password)

    def answer(self, user_name: str, password: bytes) -> Any:
        """Ask, let threads run, and return the verdict."""
        asked = self.ask(user_name, password)
        self.threads.run()
        return self.successResultOf(asked)

    def test_verdicts(self) -> None:
        """The right password is right, anything else is wrong; who has SCRAM alone does not get
        in with a password that is sent."""
        verifyObject(IAuthenticator, self.passwords)
        for user_name, password, verdict in (
            ("al", b"secret", True),
            ("al", b"Secret", False),
            ("al", b"", False),
            ("bo", "p\u00e4sswort".encode(), True),
            ("AL", b"secret", False),
            ("", b"secret", False),
            ("cy", b"secret", False),
        ):
            self.assertEqual(verdict, self.answer(user_name, password), user_name)

    def test_empty_file(self) -> None:
        """A file without users lets nobody in."""
        self.passwords = self.make()
        self.assertFalse(self.answer("al", b"secret"))

    def test_unknown_user_costs_the_same(self) -> None:
        """An unknown user's password is hashed as well, so that the time says nothing."""
        self.answer("nobody", b"x")
        self.assertEqual(1, self.threads.done)

    def test_remembered_for_a_minute(self) -> None:
        """Right and wrong passwords are not hashed again within a minute."""
        for password, verdict in ((b"secret", True), (b"wrong", False)):
            done = self.threads.done
            self.assertEqual(verdict, self.answer("al", password))
            self.clock.advance(59)
            self.assertEqual(verdict, self.successResultOf(self.ask("al", password)))
            self.assertEqual(done + 1, self.threads.done)
            self.clock.advance(2)
            self.answer("al", password)
            self.assertEqual(done + 2, self.threads.done)

    def test_user_and_password_are_apart(self) -> None:
        """What is remembered of one user says nothing of another whose name and password join
        to the same characters."""
        self.assertTrue(self.answer("al", b"secret"))
        self.assertFalse(self.answer("als", b"ecret"))

    def test_asked_once_for_many(self) -> None:
        """A fleet that comes back with one password is one verification."""
        asked = [self.ask("al", b"secret") for _ in range(50)]
        self.threads.run()
        self.assertEqual(1, self.threads.done)
        self.assertEqual([True] * 50, [self.successResultOf(each) for each in asked])

    def test_few_at_a_time(self) -> None:
        """Two are verified at a time; those that wait come in order, and too many are refused
        as busy, at once."""
        asked = [self.ask("al", b"%d" % number) for number in range(2 + WAITING)]
        self.assertEqual(2, len(self.threads.jobs))
        failure = self.failureResultOf(self.ask("al", b"late"), Refused)
        self.assertEqual(ReasonCode.SERVER_BUSY, failure.value.reason)
        self.threads.run(3)
        self.assertEqual([False] * 3, [self.successResultOf(each) for each in asked[:3]])
        self.assertNoResult(asked[3])
        self.threads.run()
        self.assertFalse(self.successResultOf(asked[-1]))
        self.assertTrue(self.answer("al", b"secret"))

    def test_remembers_within_bounds(self) -> None:
        """Guesses push out older guesses, and never the passwords that are right."""
        self.assertTrue(self.answer("al", b"secret"))
        for number in range(REMEMBERED + 5):
            self.answer("al", b"%d" % number)
        self.assertEqual(REMEMBERED, len(self.passwords._wrong))
        done = self.threads.done
        self.assertTrue(self.answer("al", b"secret"))
        self.assertEqual(done, self.threads.done)

    def test_trouble(self) -> None:
        """When a verification fails, the answer is no; the log says so once a minute, without
        the password, and the next is verified again."""
        for _ in range(3):
            asked = self.ask("al", b"secret")
            _, job = self.threads.jobs.pop()
            job.errback(Failure(MemoryError("secret")))
            self.assertFalse(self.successResultOf(asked))
        self.assertTrue(self.answer("al", b"secret"))
        # Logged as text, so that no failure's frames are kept.
        self.assertEqual([], self.flushLoggedErrors())
