"""C{scripts/bench}: this gateway and a yardstick, the same loads in turn, and the ratio.

Machines are noisy, so that only ratios within one run mean something: both servers are started
anew for every measure, take turns, and the median of the rounds counts.

Exit statuses: 0 every bar was reached, 1 one was not or something failed, 2 wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Final

import apsw

from ...backends.embedded.schema import PRAGMAS
from .command import Bar, load_of, perform
from .fleet import Fault
from .inside import ask
from .measures import MEASURES, Measure
from .servers import Gateway, Mosquitto, Server, ServerFailed, make_certificate
from .table import Row, markdown, plain, row

BEGIN: Final = "<!-- bench: begin -->"
END: Final = "<!-- bench: end -->"


def file_system(folder: Path) -> str:
    """The kind of file system that a folder lies on, as /proc/mounts calls it."""
    device = os.stat(folder).st_dev
    found = "unknown"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        words = line.split()
        major, _, minor = words[2].partition(":")
        if os.makedev(int(major), int(minor)) == device:
            found = words[words.index("-") + 1]
    return found


def surroundings(folder: Path) -> dict[str, Any]:
    """What the figures depend on."""
    model = platform.processor()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": apsw.sqlite_lib_version(),
        "pragmas": "; ".join(pragma.removeprefix("PRAGMA ") for pragma in PRAGMAS),
        "file_system": file_system(folder),
        "load_average": os.getloadavg()[0],
    }


class Comparison:
    """The measures of one run."""

    def __init__(self, folder: Path, rounds: int, mqload: str | None, bar: Bar) -> None:
        certificate, key = make_certificate(folder)
        self.gateway: Server = Gateway(folder / "gateway", certificate, key)
        program = Mosquitto.find()
        self.yardstick: Server | None = None
        if program is not None:
            self.yardstick = Mosquitto(folder / "mosquitto", certificate, key, program)
        self._folder = folder
        self._rounds = rounds
        self._mqload = mqload
        self._bar = bar
        self._results: dict[tuple[str, str], dict[str, Any]] = {}

    def measure(self, measure: Measure) -> list[Row]:
        """The rows of one measure.

        @raise Fault: it could not be taken.
        """
        if measure.inside == "million-subscriptions":
            return [row(measure, figure, ask(measure.inside), None, "")
                    for figure in measure.figures]  # fmt: skip
        servers = [self.gateway]
        against = self.yardstick
        if measure.beside or measure.alone:
            against = None
        if against is not None and measure.transport in against.transports():
            servers.append(against)
        rounds: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
        for turn in range(self._rounds):
            for server in servers if turn % 2 == 0 else reversed(servers):
                self._bar(f"{measure.name}: {server.name}", turn / self._rounds)
                rounds[server.name].append(self._run(measure, server))
        for name, results in rounds.items():
            self._results[measure.name, name] = middle(results)
        ours = self._results[measure.name, self.gateway.name]
        theirs: dict[str, Any] | None = None
        beside = ""
        if len(servers) > 1:
            beside = servers[1].name
            theirs = self._results[measure.name, beside]
        elif measure.beside == "bare log":
            theirs, beside = self._bare(measure), "bare apsw loop"
        elif measure.beside:
            theirs = self._results.get((measure.beside, self.gateway.name))
            beside = measure.beside if theirs is not None else ""
        return [row(measure, figure, ours, theirs, beside) for figure in measure.figures]

    def _run(self, measure: Measure, server: Server) -> dict[str, Any]:
        with server:
            if self._mqload and measure.mqload and measure.transport in ("tcp", "tls"):
                return self._run_mqload(measure, server)
            words = {
                "scenario": measure.scenario,
                "port": server.ports[measure.transport],
                "tls": measure.transport == "tls",
                "websocket": measure.transport == "ws",
                "insecure": True,
                **measure.options,
            }
            load = load_of(words)
            result = perform(load, server.pids, self._bar)
            if "sent" in result and isinstance(server, Gateway) and (commits := server.commits()):
                result["messages_per_commit"] = round(result["sent"] / commits, 1)
            return result

    def _run_mqload(self, measure: Measure, server: Server) -> dict[str, Any]:
        command = [
            str(self._mqload), "-addr", f"127.0.0.1:{server.ports[measure.transport]}",
            "-pids", ",".join(map(str, server.pids)), *measure.mqload,
        ]  # fmt: skip
        if measure.transport == "tls":
            command.append("-tls")
        finished = subprocess.run(command, capture_output=True, text=True, check=False)
        try:
            told = json.loads(finished.stdout)
        except ValueError:
            raise Fault(f"{self._mqload}: {finished.stderr.strip()}") from None
        told["deliveries_per_s"] = told.pop("delivery_per_s", 0)
        return dict(told)

    def _bare(self, measure: Measure) -> dict[str, Any]:
        """In groups as large as the gateway made them. The best of some runs: what disturbs is
        never what makes it quicker."""
        ours = self._results[measure.name, self.gateway.name]
        group = max(1, round(ours.get("messages_per_commit", 1000)))
        folder = self._folder / "bare"
        found = []
        for _ in range(max(2, self._rounds)):
            shutil.rmtree(folder, ignore_errors=True)
            found.append(ask("bare-log", folder, 100_000, group, 100))
        best = max(found, key=lambda result: int(result["messages_per_s"]))
        self._results[measure.name, "bare apsw loop"] = best
        return {"deliveries_per_s": best["messages_per_s"]}

    def as_json(self) -> dict[str, Any]:
        """All results, by measure and server."""
        return {f"{name}: {server}": result for (name, server), result in self._results.items()}


def middle(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of every number of some results, also of those one level down; of what is lost
    the worst."""
    found: dict[str, Any] = {}
    for name, value in results[0].items():
        values = [result[name] for result in results if name in result]
        if isinstance(value, dict):
            found[name] = middle(values)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            found[name] = value
        elif name in ("lost", "duplicates", "disorder"):
            found[name] = max(values)
        else:
            found[name] = median(values)
    return found


def put_into(page: Path, text: str) -> None:
    """Replace what lies between the markers of a page.

    @raise ValueError: it has none.
    """
    content = page.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}\n.*{re.escape(END)}", re.DOTALL)
    if not pattern.search(content):
        raise ValueError(f"{page} has no {BEGIN} … {END}")
    page.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{text}\n\n{END}", content), encoding="utf-8")


def parser() -> argparse.ArgumentParser:
    """The options of C{scripts/bench}."""
    made = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure this gateway and, where it is installed, mosquitto: the same loads "
        "in turn, their ratio, and the bar that it is held to.",
        epilog="Loads: "
        + "; ".join(f"{measure.name}: {measure.what}" for measure in MEASURES)
        + ". Without names: "
        + " ".join(m.name for m in MEASURES if m.usual)
        + ". MQLOAD names a program that is used instead of mop bench where it can; MOSQUITTO "
        "names mosquitto's program. Exit status: 0 all bars reached, 1 not, 2 wrong arguments.",
    )
    add = made.add_argument
    add("loads", nargs="*", metavar="LOAD", help="what to measure; all: everything")
    add("--rounds", type=int, default=2, metavar="N", help="of each the median counts (2)")
    add("--output", type=Path, metavar="FILE", help="where the JSON goes (build/bench.json)")
    add("--folder", type=Path, metavar="DIR", help="where the servers keep data (build/bench)")
    add("--write", action="store_true", help="put the table into docs/reference/performance.md")
    add("--page", type=Path, metavar="FILE", help="into another page than that")
    add("--allow-tmpfs", action="store_true", help="measure although nothing reaches a disk")
    add("--no-yardstick", action="store_true", help="this gateway alone")
    return made  # fmt: skip


def chosen(names: list[str]) -> list[Measure]:
    """The measures with these names, in their own order; those that others are compared with
    come along.

    @raise ValueError: there is no such measure.
    """
    known = {measure.name: measure for measure in MEASURES}
    if not names:
        wanted = {measure.name for measure in MEASURES if measure.usual}
    elif names == ["all"]:
        wanted = set(known)
    else:
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"there is no load {', '.join(unknown)}")
        wanted = set(names)
    wanted |= {known[name].beside for name in wanted if known[name].beside in known}
    return [measure for measure in MEASURES if measure.name in wanted]


def run(arguments: list[str], checkout: Path) -> int:
    """The script; returns its exit status."""
    options = parser().parse_args(arguments)
    # However we end, the servers end with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    folder: Path = options.folder or checkout / "build" / "bench"
    output: Path = options.output or checkout / "build" / "bench.json"
    page: Path = options.page or checkout / "docs" / "reference" / "performance.md"
    try:
        measures = chosen(options.loads)
        if options.rounds < 1:
            raise ValueError("--rounds is less than 1")
    except ValueError as error:
        print(f"scripts/bench: {error}", file=sys.stderr)
        return 2
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    where = surroundings(folder)
    if where["file_system"] in ("tmpfs", "ramfs") and not options.allow_tmpfs:
        print(f"scripts/bench: {folder} is in memory ({where['file_system']}): an fsync costs "
              "nothing there. Give --folder, or --allow-tmpfs.", file=sys.stderr)  # fmt: skip
        return 2
    bar = Bar(sys.stderr.isatty())
    mqload = os.environ.get("MQLOAD") or None
    comparison = Comparison(folder, options.rounds, mqload, bar)
    if options.no_yardstick:
        comparison.yardstick = None
    where["gateway"] = comparison.gateway.version
    where["yardstick"] = comparison.yardstick.version if comparison.yardstick else "none"
    where["generator"] = mqload or "mop bench"
    where["rounds"] = options.rounds
    for name, value in where.items():
        print(f"{name:<14}{value}")
    print(flush=True)
    rows: list[Row] = []
    failed = False
    began = time.monotonic()
    for measure in measures:
        try:
            new = comparison.measure(measure)
        except (Fault, OSError, ServerFailed) as error:
            bar.clear()
            failed = True
            print(f"{measure.name}: {error}", file=sys.stderr)
            continue
        bar.clear()
        for line in plain(new, heading=not rows):
            print(line, flush=True)
        rows += new
    where["seconds"] = round(time.monotonic() - began)
    output.parent.mkdir(parents=True, exist_ok=True)
    written = {
        "surroundings": where,
        "rows": [made.as_json() for made in rows],
        "results": comparison.as_json(),
    }
    output.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {output}")
    if options.write:
        put_into(page, markdown(rows, where))
        print(f"table in {page}")
    return 1 if failed or any(made.ok is False for made in rows) else 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[2:], Path(sys.argv[1])))
