"""The arrows between the rooms, and other rules of the house that a machine can check.

Decision 1 and the design page, section 1, say what these tests enforce.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

CHECKOUT = Path(__file__).resolve().parents[1]
PACKAGE = CHECKOUT / "mop_twisted"

BOTTOM = {"", "errors", "reasons", "limits", "topics", "model", "interfaces"}
"""Modules beside the rooms; "" is the package itself, which holds the version."""

MAY_IMPORT = {
    "": set(),
    "reasons": set(),
    "limits": set(),
    "errors": {"reasons"},
    "topics": {"errors", "reasons"},
    # Packets are what messages are made of, so that the model may name them.
    "model": {"codec.packets"},
    "interfaces": {"errors", "model", "codec.packets"},
    "failpoints": set(),
    "codec": {"codec", "errors", "reasons", "topics", "limits"},
    "protocol": {"protocol", "codec", "errors", "reasons", "topics", "limits", "model"},
    "broker": BOTTOM | {"broker", "protocol", "codec", "failpoints"},
    "backends": BOTTOM | {"backends", "codec", "failpoints"},
    "net": BOTTOM | {"net", "protocol", "codec", "broker"},
    "ops": BOTTOM | {"ops", "net", "backends", "broker", "protocol", "codec", "failpoints"},
}
"""Room (or module beside them) → what it may import of us."""

PURE = {"codec", "protocol", "topics", "model", "reasons", "errors", "limits"}
"""Rooms and modules that are told the time and see no transport."""

PURE_FILES = {"broker/router.py", "broker/outbox.py", "broker/plan.py", "broker/counters.py"}

IMPURE = {"twisted", "zope", "time", "logging", "random", "secrets", "socket", "threading", "os"}

VERSION_FILES = {
    "reasons.py",
    "protocol/dialect.py",
}
"""Besides the codec, who may ask which version of MQTT a client speaks."""

LONGEST_FILE = 520


def sources(folder: Path = PACKAGE) -> Iterator[tuple[str, ast.Module]]:
    """Every module, by its path in the package."""
    for path in sorted(folder.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: str) -> tuple[str, ...]:
    """The parts of a module's name below the package."""
    parts = path.removesuffix(".py").split("/")
    return tuple(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: str, tree: ast.Module) -> Iterator[str]:
    """Absolute names of all that a module imports, wherever in it."""
    package = ("mop_twisted", *module_name(path))
    if not path.endswith("__init__.py"):
        package = package[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *((node.module,) if node.module else ())))
            for alias in node.names:
                # "from .. import limits" names a module, "from ..limits import Limits" does not.
                is_module = module.count(".") == 0 or node.module is None
                yield f"{module}.{alias.name}" if is_module and node.level else module


class ArrowsTests(SynchronousTestCase):
    """Nothing lower names anything higher."""

    def test_rooms_import_only_what_they_may_know(self) -> None:
        """Each room imports the rooms below it, and nobody imports ops."""
        wrong = []
        for path, tree in sources():
            room = (*module_name(path), "")[0]
            allowed = MAY_IMPORT.get(room)
            if allowed is None:
                wrong.append(f"{path}: {room} is no room")
                continue
            for name in imports(path, tree):
                if not name.startswith("mop_twisted"):
                    continue
                parts = name.split(".")[1:]
                target = parts[0] if parts else ""
                if target in ("__version__", room):
                    continue
                if target not in allowed and ".".join(parts[:2]) not in allowed:
                    wrong.append(f"{path} imports {name}")
        self.assertEqual(wrong, [])

    def test_backends_do_not_know_each_other(self) -> None:
        """The embedded log and Pulsar are two worlds."""
        for path, tree in sources(PACKAGE / "backends"):
            own = module_name(path)[1:2]
            for name in imports(path, tree):
                parts = name.split(".")
                if parts[:2] == ["mop_twisted", "backends"] and own and len(parts) > 3:
                    self.assertEqual(parts[2], own[0], f"{path} imports {name}")

    def test_pure_rooms_are_pure(self) -> None:
        """Pure code has no reactor, no clock, no log and no chance: time is an argument."""
        for path, tree in sources():
            if module_name(path)[:1] and (module_name(path)[0] in PURE or path in PURE_FILES):
                for name in imports(path, tree):
                    self.assertNotIn(name.partition(".")[0], IMPURE, f"{path} imports {name}")

    def test_only_net_and_ops_see_the_reactor(self) -> None:
        """The global reactor is imported by the composition root alone; others are given one."""
        for path, tree in sources():
            if module_name(path)[:1] == ("ops",):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom) and node.module == "twisted.internet":
                    self.assertNotIn("reactor", [a.name for a in node.names], path)

    def test_the_version_is_asked_for_in_few_places(self) -> None:
        """Outside the codec, the reason table and the dialect, everything is MQTT 5."""
        wrong = []
        for path, tree in sources():
            if path in VERSION_FILES or path.startswith("codec/"):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Compare):
                    for side in (node.left, *node.comparators):
                        name = side.attr if isinstance(side, ast.Attribute) else ""
                        name = side.id if isinstance(side, ast.Name) else name
                        if name in ("version", "protocol_version") and any(
                            isinstance(other, ast.Constant) and other.value in (3, 4, 5)
                            for other in (node.left, *node.comparators)
                        ):
                            wrong.append(f"{path}:{node.lineno}")
        self.assertEqual(wrong, [])


class HouseTests(SynchronousTestCase):
    """Other rules."""

    def test_the_plugin_folder_is_no_package(self) -> None:
        """An __init__.py below twisted/ would hide Twisted itself from who runs here."""
        self.assertEqual(list((CHECKOUT / "twisted").rglob("__init__.py")), [])

    def test_no_file_is_too_long(self) -> None:
        """A file that nobody reads to its end is two files."""
        for folder in (PACKAGE, CHECKOUT / "tests", CHECKOUT / "scripts"):
            for path in folder.rglob("*.py"):
                lines = len(path.read_text(encoding="utf-8").splitlines())
                self.assertLessEqual(lines, LONGEST_FILE, str(path))

    def test_every_module_says_what_it_is_for(self) -> None:
        """Each module has a docstring."""
        for path, tree in sources():
            self.assertTrue(ast.get_docstring(tree), path)

    def test_every_test_says_what_is_true(self) -> None:
        """Each test has a docstring, in a user's words."""
        for path in sorted((CHECKOUT / "tests").rglob("test_*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and re.match(
                    "test_", node.name
                ):
                    self.assertTrue(ast.get_docstring(node), f"{path}: {node.name}")

    def test_banned_names(self) -> None:
        """A class is named for what it is: no Manager, Handler, Processor, Engine, …"""
        banned = re.compile("(Manager|Handler|Processor|Engine|Helper|Utils|Data|Info)$")
        for path, tree in sources():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    self.assertIsNone(banned.search(node.name), f"{path}: {node.name}")
