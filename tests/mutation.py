"""Does a test notice when a tagged line is taken out?

C{python -m tests.mutation} picks statements that follow a comment with an MQTT statement's number,
in a copy of the checkout disables one at a time (the condition of an C{if} becomes false, anything
else C{pass}), and runs the tests that carry the same number. A tag whose tests stay green shows
either a line that does nothing or a test that shows nothing. It prints JSON; the exit status is 1
when a change went unnoticed, 2 when tests fail without any.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.conformance.__main__ import ROOT, TAG, test_places

PATIENCE = 120
"""Seconds after which a test hangs, which is to notice."""
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", "__pycache__", "_trial_temp*", "*.egg-info", "node_modules"
)


@dataclass(frozen=True)
class Site:
    """One tagged statement."""

    path: str
    line: int
    """Of the statement."""
    numbers: tuple[str, ...]
    text: str
    """The file with the statement disabled."""
    before: str
    """The statement's first line."""


def sites() -> Iterator[Site]:
    """Every tagged statement that can be disabled."""
    for path in sorted((ROOT / "mop_twisted").rglob("*.py")):
        yield from sites_of(path.relative_to(ROOT).as_posix(), path.read_text())


def sites_of(name: str, source: str) -> Iterator[Site]:
    """Those of one file."""
    lines = source.splitlines(keepends=True)
    statements = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for inner in ast.walk(node):
                if isinstance(inner, ast.stmt) and inner is not node:
                    # The outermost that begins on a line.
                    statements.setdefault(inner.lineno, inner)
    tagged: dict[int, list[str]] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        numbers = re.findall(rf"\[({TAG.pattern})\]", token.string)
        if not numbers:
            continue
        line = token.start[0]
        if not token.line[: token.start[1]].strip():
            # A comment of its own: the statement follows, perhaps below more comment.
            line += 1
            while line <= len(lines) and lines[line - 1].lstrip().startswith("#"):
                line += 1
        tagged.setdefault(line, []).extend(numbers)
    for line, numbers in tagged.items():
        statement = statements.get(line)
        if statement is None or isinstance(
            statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Pass)
        ):
            continue
        changed = disabled(lines, statement)
        yield Site(name, line, tuple(dict.fromkeys(numbers)), changed, lines[line - 1].strip())


def disabled(lines: list[str], statement: ast.stmt) -> str:
    """The file without a statement's effect."""
    changed: ast.stmt | ast.expr = statement
    instead = "pass"
    if isinstance(statement, (ast.If, ast.While)):
        changed = statement.test
        instead = "False"
    begin, end = changed.lineno - 1, (changed.end_lineno or changed.lineno) - 1
    # Columns of the syntax tree count bytes.
    head = lines[begin].encode()[: changed.col_offset].decode()
    tail = lines[end].encode()[changed.end_col_offset :].decode()
    return "".join([*lines[:begin], head + instead + tail, *lines[end + 1 :]])


def imports(module: str, source: str) -> Iterator[str]:
    """What a module imports, by whole names; a name that is no module does no harm."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


@cache
def users_of(module: str) -> list[str]:
    """The test modules that use what is no test module itself: tables of rows, contracts."""
    uses: dict[str, set[str]] = {}
    for path in (ROOT / "tests").rglob("*.py"):
        name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        uses[name] = set(imports(name, path.read_text()))
    found = {module}
    while more := {name for name in uses if uses[name] & found} - found:
        found |= more
    return sorted(name for name in found if name.rpartition(".")[2].startswith("test_"))


def tests_of(numbers: tuple[str, ...], places: dict[str, list[str]]) -> list[str]:
    """What trial shall run: the tests that carry one of the numbers, or who uses the table or the
    contract that does. Crash campaigns only where nothing else is there."""
    found: dict[str, None] = {}
    for number in numbers:
        for place in places.get(number, []):
            name, _, line = place.partition(":")
            if line:
                module = name.removesuffix(".py").replace("/", ".")
                found.update(dict.fromkeys(users(module)))
            elif not name.rsplit(".", 3)[1].startswith("test_"):
                found.update(dict.fromkeys(users(name.rsplit(".", 2)[0])))
            else:
                found[name] = None
    quick = [name for name in found if not name.startswith("tests.crash")]
    return quick or list(found)


def users(module: str) -> list[str]:
    """The module itself if it has tests, else who uses it."""
    if module.rpartition(".")[2].startswith("test_"):
        return [module]
    return users_of(module)


def green(folder: Path, names: list[str]) -> bool:
    """Whether these tests pass in a copy."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    temporary = tempfile.mkdtemp(prefix="trial-", dir=folder)
    command = [
        sys.executable, "-m", "twisted.trial", f"--temp-directory={temporary}/run", *names,
    ]  # fmt: skip
    try:
        ended = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


def main() -> int:
    """Pick, change, run; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--count", type=int, default=30, help="statements (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=None, help="default: another each time")
    parser.add_argument("--jobs", type=int, default=1, help="at once (default: %(default)s)")
    parser.add_argument("--only", default="", help="files whose path contains this")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    began = time.monotonic()
    places = test_places()
    candidates = [s for s in sites() if options.only in s.path and tests_of(s.numbers, places)]
    chosen = random.Random(seed).sample(candidates, min(options.count, len(candidates)))
    done = 0

    with tempfile.TemporaryDirectory(prefix="mop-mutation-") as scratch:

        def copy(name: str) -> Path:
            folder = Path(scratch, name)
            shutil.copytree(ROOT, folder, ignore=LEFT_OUT)
            return folder

        needed = sorted({name for s in chosen for name in tests_of(s.numbers, places)})
        print(f"{len(needed)} tests unchanged first", file=sys.stderr)
        if not green(copy("unchanged"), needed):
            print("tests fail without any change: nothing can be learnt", file=sys.stderr)
            return 2

        def noticed(numbered: tuple[int, Site]) -> bool:
            nonlocal done
            at, site = numbered
            folder = copy(str(at))
            (folder / site.path).write_text(site.text)
            result = not green(folder, tests_of(site.numbers, places))
            shutil.rmtree(folder, ignore_errors=True)
            done += 1
            bar = "#" * (done * 40 // len(chosen))
            print(
                f"\r[{bar:.<40}] {done}/{len(chosen)} {site.path}:{site.line}\x1b[K",
                end="", file=sys.stderr, flush=True,
            )  # fmt: skip
            return result

        with ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(noticed, enumerate(chosen)))
    print(file=sys.stderr)
    unnoticed = [
        {"place": f"{s.path}:{s.line}", "line": s.before, "statements": list(s.numbers),
         "tests": tests_of(s.numbers, places)}
        for s, result in zip(chosen, results, strict=True)
        if not result
    ]  # fmt: skip
    summary = {
        "seed": seed,
        "candidates": len(candidates),
        "changed": len(chosen),
        "noticed": sum(results),
        "seconds": round(time.monotonic() - began, 1),
        "unnoticed": unnoticed,
    }
    print(json.dumps(summary, indent=2))
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
