"""C{mop passwd}: add users to a password file, change their passwords, remove them.

Takes the arguments of mosquitto's C{mosquitto_passwd}. The file is replaced in one step, so that a
gateway that reads it meanwhile finds the old or the new one; it keeps its owner and is closed to
others. What the lines mean, L{mop_twisted.broker.passwords} knows.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import getpass
import json
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Final

from ..broker.passwords import (
    MAXIMUM_ITERATIONS,
    METHODS,
    PBKDF2_ITERATIONS,
    SCRAM,
    Users,
    hash_password,
    scram_line,
    user_name_fault,
)
from ..broker.scram import ITERATIONS, MINIMUM_ITERATIONS, make_credential
from ..errors import ConfigError

_EPILOG: Final = """\
Without -b the password is asked for twice, or read from standard input (one line) when that is no
terminal. A running gateway reads the file again at SIGHUP.

mosquitto reads argon2id from its version 2.1 on, sha512-pbkdf2 from 1.6 on, and no file with a
SCRAM line."""


def parser() -> argparse.ArgumentParser:
    """The arguments, as C{--help} explains them."""
    found = argparse.ArgumentParser(
        "mop passwd",
        description="Add a user to a password file, change a password, or remove a user.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument(
        "-c",
        dest="create",
        action="store_true",
        help="make a new file; what is in an old one is lost",
    )
    found.add_argument(
        "-D",
        dest="delete",
        action="store_true",
        help="remove the user (with --scram: only from SCRAM)",
    )
    found.add_argument(
        "-b",
        dest="batch",
        action="store_true",
        help="take the password from the command line, where others can see it",
    )
    found.add_argument(
        "-H",
        dest="method",
        choices=METHODS,
        default=METHODS[0],
        help=f"how to hash the password (default: {METHODS[0]})",
    )
    found.add_argument(
        "-I",
        dest="iterations",
        type=int,
        help="iterations of sha512-pbkdf2 (default: "
        f"{PBKDF2_ITERATIONS}) or of --scram ({ITERATIONS})",
    )
    found.add_argument(
        "--scram",
        action="store_true",
        help="let the user log in with SCRAM-SHA-256; a password of the same user stays as it is",
    )
    found.add_argument("--json", action="store_true", help="report as JSON")
    found.add_argument("file", metavar="FILE")
    found.add_argument("user", metavar="USER")
    found.add_argument("password", metavar="PASSWORD", nargs="?", help="with -b")
    return found  # fmt: skip


def run(arguments: list[str], ask: Callable[[str], str] = getpass.getpass) -> int:
    """C{mop passwd}; returns the exit status. C{ask} asks a person for a password."""
    words = parser()
    try:
        options = words.parse_args(arguments)
        _check(words, options)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 2
    try:
        fault = user_name_fault(options.user)
        if fault:
            raise ConfigError(repr(options.user), fault)
        if not options.create and not os.path.lexists(options.file):
            raise ConfigError(options.file, "there is no such file (-c makes one)")
        password = None if options.delete else _password(options, ask)
        with _locked(options.file):
            action = _change(options, password)
    except (ConfigError, OSError) as error:
        print(f"mop passwd: {error}", file=sys.stderr)
        return 1
    method = "scram-sha-256" if options.scram else options.method
    if options.json:
        report = {"file": options.file, "user": options.user, "action": action}
        if not options.delete:
            report["method"] = method
        print(json.dumps(report, ensure_ascii=False))
    else:
        how = "" if options.delete else f" ({method})"
        print(f"{action} {options.user}{how} in {options.file}")
    return 0


def _check(words: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.delete and options.create:
        words.error("-c and -D exclude each other")
    if options.delete and options.password is not None:
        words.error("-D takes no password")
    if options.batch and options.password is None and not options.delete:
        words.error("-b needs a PASSWORD")
    if options.password is not None and not options.batch:
        words.error("a PASSWORD on the command line needs -b")
    if options.iterations is not None:
        if options.delete or not (options.scram or options.method == "sha512-pbkdf2"):
            words.error("-I is for sha512-pbkdf2 and --scram")
        least = MINIMUM_ITERATIONS if options.scram else 1
        if not least <= options.iterations <= MAXIMUM_ITERATIONS:
            words.error(f"-I must be {least} to {MAXIMUM_ITERATIONS}")


def _password(options: argparse.Namespace, ask: Callable[[str], str]) -> str:
    if options.batch:
        password: str = options.password
    elif ask is getpass.getpass and not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        try:
            password = ask("Password: ")
            again = ask("Password again: ")
        except EOFError:
            raise ConfigError("the password", "none was given") from None
        if password != again:
            raise ConfigError("the password", "the two do not agree")
    if not password:
        raise ConfigError("the password", "it is empty")
    return password


@contextlib.contextmanager
def _locked(path: str) -> Iterator[None]:
    """Two at once would each write what the other does not know of. The folder is what is
    locked: the file itself is replaced."""
    folder = os.open(os.path.dirname(os.path.realpath(path)), os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _change(options: argparse.Namespace, password: str | None) -> str:
    """Write the file anew; returns what was done."""
    # A link stays one: what it leads to is replaced.
    path = os.path.realpath(options.file)
    if options.create:
        lines: list[str] = []
        if os.path.exists(path) and not os.path.isfile(path):
            raise ConfigError(options.file, "no regular file")
    else:
        users = Users.read(options.file)
        for warning in users.warnings:
            print(f"mop passwd: {warning}: done with this change", file=sys.stderr)
        with open(path, encoding="utf-8", newline="\n") as file:
            lines = file.read().split("\n")
        if not lines[-1]:
            lines.pop()
    place = _place(lines, options)
    if password is None:
        if not place:
            raise ConfigError(options.file, f"has no user {options.user!r}")
        kept = [line for at, line in enumerate(lines) if at not in place]
        _write(path, kept)
        return "removed"
    line = f"{options.user}:{_hashed(options, password)}"
    if place:
        lines[place[0]] = line
    else:
        lines.append(line)
    Users.parse("\n".join(lines).encode(), options.file)  # what we write, we can read
    _write(path, lines)
    return "changed" if place else "added"


def _place(lines: list[str], options: argparse.Namespace) -> list[int]:
    """Where the lines are that go or change."""
    found = []
    for at, line in enumerate(lines):
        user_name, _, rest = line.partition(":")
        if line.startswith("#") or user_name != options.user:
            continue
        is_scram = rest.startswith(SCRAM)
        if is_scram == options.scram or (options.delete and not options.scram):
            found.append(at)
    return found


def _hashed(options: argparse.Namespace, password: str) -> str:
    if not options.scram:
        iterations = options.iterations or PBKDF2_ITERATIONS
        encoded = password.encode("utf-8", "surrogateescape")
        return hash_password(options.method, encoded, iterations)
    try:
        credential = make_credential(options.user, password, options.iterations or ITERATIONS)
    except ValueError as error:
        raise ConfigError("user name or password", f"SCRAM does not take it: {error}") from None
    return scram_line(credential)


def _write(path: str, lines: list[str]) -> None:
    """Replace a file in one step, durably. A new one is 0600; an old one keeps its owner, and
    of its mode what is not for others."""
    mode, owner = 0o600, None
    with contextlib.suppress(FileNotFoundError):
        old = os.stat(path)
        mode = stat.S_IMODE(old.st_mode) & 0o660 | 0o600
        owner = (old.st_uid, old.st_gid)
    folder = os.path.dirname(path)
    handle, temporary = tempfile.mkstemp(prefix=".mop-passwd-", dir=folder)
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(line + "\n" for line in lines)
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                # Before the mode: a gateway of another user must be able to read it.
                os.fchown(handle, *owner)
            os.fchmod(handle, mode)
            file.flush()
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    directory = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
