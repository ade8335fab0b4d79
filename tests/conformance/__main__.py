"""Write docs/reference/conformance.md, or with C{--check} see that it is true and complete.

Every normative statement of MQTT 5.0 and 3.1.1 is named by its number in the code that carries
it out, as C{[MQTT5-3.3.1-4]}, and in the docstring (or the table row) of a test that shows it.
The check fails when a statement that binds servers lacks either, when a tag names no statement,
and when the page is not what these sources say.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "conformance.md"
STATEMENTS = Path(__file__).with_name("statements.txt")
TAG = re.compile(r"MQTT(?:5|311)-\d+\.\d+(?:\.\d+)?-\d+")
SHOWN = 3
"""Places named for one statement; the rest is a number."""


def read_statements() -> dict[str, str]:
    """Number → "" for the server's, else "client" or "n/a …"."""
    statements = {}
    for line in STATEMENTS.read_text().splitlines():
        if line and not line.startswith("#"):
            number, _, mark = line.partition(" ")
            statements[number] = mark
    return statements


def code_places() -> dict[str, list[str]]:
    """Number → file:line of every tag in the package."""
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "mop_twisted").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        for at, line in enumerate(path.read_text().splitlines(), 1):
            # Tags in brackets: an error's clause alone is no claim.
            for number in re.findall(rf"\[({TAG.pattern})\]", line):
                places.setdefault(number, []).append(f"{name}:{at}")
    return places


def test_places() -> dict[str, list[str]]:
    """Number → names of the tests whose lines carry the tag, or file:line of a table row."""
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path.parent.name == "conformance":
            continue
        name = path.relative_to(ROOT).as_posix()
        text = path.read_text()
        owners: dict[int, str] = {}
        module = name.removesuffix(".py").replace("/", ".")
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ClassDef):
                continue
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name.startswith("test_"):
                    for at in range(method.lineno, (method.end_lineno or method.lineno) + 1):
                        owners[at] = f"{module}.{node.name}.{method.name}"
        for at, line in enumerate(text.splitlines(), 1):
            for number in TAG.findall(line):
                place = owners.get(at, f"{name}:{at}")
                if place not in places.setdefault(number, []):
                    places[number].append(place)
    return places


def listed(places: list[str]) -> str:
    """Some of the places, and how many more there are."""
    text = "<br>".join(f"`{place}`" for place in places[:SHOWN])
    return text + (f"<br>and {len(places) - SHOWN} more" if len(places) > SHOWN else "")


def without_lines(text: str) -> str:
    """The page but for line numbers, which move with every edit above them."""
    return re.sub(r"\.py:\d+", ".py", text)


def page(
    statements: dict[str, str], code: dict[str, list[str]], tests: dict[str, list[str]]
) -> str:
    """The whole page."""
    lines = [
        "# Conformance",
        "",
        "Made by `python -m tests.conformance` from the tags in code and tests; do not edit.",
        "Statements are named by the numbers of the OASIS standards MQTT 5.0 and MQTT 3.1.1.",
    ]
    for prefix, title in (("MQTT5", "MQTT 5.0"), ("MQTT311", "MQTT 3.1.1")):
        lines += ["", f"## {title}", "", "| statement | where | test |", "|---|---|---|"]
        for number, mark in statements.items():
            if not number.startswith(prefix + "-"):
                continue
            where, test = listed(code.get(number, [])), listed(tests.get(number, []))
            if mark == "client":
                where = where or "binds clients alone"
            elif mark:
                where = where or f"never met: {mark.removeprefix('n/a ')}"
            lines.append(f"| {number.split('-', 1)[1]} | {where} | {test} |")
    return "\n".join(lines) + "\n"


def complaints(
    statements: dict[str, str], code: dict[str, list[str]], tests: dict[str, list[str]]
) -> list[str]:
    """What is missing or wrong."""
    found = [
        f"{place}: no such statement: {number}"
        for places in (code, tests)
        for number, named in places.items()
        if number not in statements
        for place in named
    ]
    for number, mark in statements.items():
        if not mark:
            if number not in code:
                found.append(f"{number}: nowhere in the code")
            if number not in tests:
                found.append(f"{number}: no test")
    return found


def main() -> int:
    """Write or check; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if untrue")
    options = parser.parse_args()
    statements, code, tests = read_statements(), code_places(), test_places()
    text = page(statements, code, tests)
    found = complaints(statements, code, tests)
    if not options.check:
        PAGE.write_text(text)
    elif not PAGE.exists() or without_lines(PAGE.read_text()) != without_lines(text):
        found.append(f"{PAGE.relative_to(ROOT)} is not up to date: python -m tests.conformance")
    for complaint in found:
        print(complaint, file=sys.stderr)
    servers = sum(1 for mark in statements.values() if not mark)
    print(f"{servers} statements bind the server, {len(found)} complaints")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
