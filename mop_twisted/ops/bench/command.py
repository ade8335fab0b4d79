"""C{mop bench}: its options, its progress bar, what it prints.

Exit statuses: 0 done, 1 it could not be driven or something was lost that must not be, 2 wrong
arguments.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from . import retained, sessions
from .fleet import Fault, Progress, drive
from .frames import HEADER
from .load import LEVELS, SCENARIOS, Load
from .report import text

_BAR = 30


class Bar:
    """A progress bar on a terminal; silence elsewhere."""

    def __init__(self, on: bool) -> None:
        self._on = on
        self._drawn_at = 0.0

    def __call__(self, what: str, part: float) -> None:
        now = time.monotonic()
        if self._on and (now - self._drawn_at > 0.1 or part >= 1):
            self._drawn_at = now
            filled = int(part * _BAR)
            line = f"\r[{'#' * filled}{'.' * (_BAR - filled)}] {part:4.0%} {what}\x1b[K"
            sys.stderr.write(line)
            sys.stderr.flush()

    def clear(self) -> None:
        """Take it away."""
        if self._on and self._drawn_at:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def parser() -> argparse.ArgumentParser:
    """The options. What is not given is left to the scenario, and then to L{Load}."""
    made = argparse.ArgumentParser(
        prog="mop bench",
        description="Drive an MQTT server and measure: deliveries and publishes a second, "
        "latency from publisher to subscriber, what was lost, came twice or out of order, "
        "connects a second, and with --pids the server's CPU time a message and its memory.",
        epilog="Scenarios: "
        + "; ".join(f"{name}: {what}" for name, (what, _) in SCENARIOS.items())
        + ". Exit status: 0 done, 1 not, or messages of QoS 1 or 2 are missing, "
        "2 wrong arguments.",
        argument_default=argparse.SUPPRESS,
    )
    add = made.add_argument
    add("--scenario", metavar="NAME", choices=sorted(SCENARIOS), help="start from this load")
    add("--host", help="server (127.0.0.1)")
    add("--port", type=int, help="port (1883; 8883 with --tls, 8083 with --ws, 8084 with both)")
    add("--tls", action="store_true", help="over TLS")
    add("--cafile", metavar="FILE", help="PEM with who signed the server's certificate")
    add("--insecure", action="store_true", help="take any certificate")
    add("--certificate", metavar="FILE", help="PEM with the clients' certificate")
    add("--key", metavar="FILE", help="PEM with its key, when it is not in the same file")
    add("--ws", dest="websocket", action="store_true", help="over WebSocket")
    add("--path", help="WebSocket path (/mqtt)")
    add("--protocol", choices=sorted(LEVELS), help="MQTT version (3.1.1)")
    add("--user", help="user name")
    add("--password", help="password")
    add("--publishers", type=int, metavar="N", help="publishers (1)")
    add("--subscribers", type=int, metavar="N", help="subscribers (1)")
    add("--pairs", type=int, metavar="N", help="N publishers, each with a subscriber and topic")
    add("--topics", type=int, metavar="N", help="publisher i writes to topic i modulo N (1)")
    add("--topic", metavar="PREFIX", help="the topics' common beginning (a fresh one)")
    add(
        "--filter",
        choices=["all", "one", "share"],
        help="what subscribers take: all topics, one each, or all as one shared group (all)",
    )
    add("--count", type=int, metavar="N", help="messages a publisher (10000)")
    add("--duration", type=float, metavar="S", help="publish for S seconds instead")
    add("--rate", type=float, metavar="R", help="messages a second, all publishers (flat out)")
    add(
        "--phase",
        choices=["even", "together"],
        help="with --rate: publishers spread over the interval, or all at once (even)",
    )
    add("--size", type=int, metavar="BYTES", help=f"payload (100), at least {HEADER}")
    add("--qos", type=int, choices=[0, 1, 2], help="of what is published (0)")
    add(
        "--subscribe-qos",
        dest="subscribe_qos",
        type=int,
        choices=[0, 1, 2],
        help="of the subscriptions (as --qos)",
    )
    add("--window", type=int, metavar="N", help="unacknowledged messages a publisher (100)")
    add("--retain", action="store_true", help="publish with RETAIN")
    add(
        "--persistent",
        nargs="?",
        const="subscribers",
        choices=["none", "subscribers", "publishers", "all"],
        help="sessions outlive connections: of subscribers (when nothing is said), … (none)",
    )
    add("--idle", type=int, metavar="N", help="connections with a subscription that do nothing")
    add(
        "--retained",
        type=int,
        metavar="N",
        help="set N retained messages, have them delivered to # while another client pings",
    )
    add(
        "--sessions",
        type=int,
        metavar="N",
        help="make N persistent sessions of ten subscriptions, then publish to new topics while "
        "1,000 subscriptions a second change",
    )
    add("--keep", action="store_true", help="with --sessions: leave them there")
    add("--timeout", type=float, metavar="S", help="give up when nothing moves (60)")
    add("--settle", type=float, metavar="S", help="pause before publishing (0.5)")
    add("--processes", type=int, metavar="N", help="worker processes (one a core)")
    add("--pids", metavar="PID,PID", help="the server's processes: CPU and memory are reported")
    add("--json", action="store_true", help="print one JSON object instead of text")
    add("--label", help="copied into the JSON")
    add("--no-progress", dest="no_progress", action="store_true", help="no bar")
    return made  # fmt: skip


def load_of(given: dict[str, Any]) -> Load:
    """The load that options describe.

    @raise ValueError: they contradict each other or are out of range.
    """
    words: dict[str, Any] = {}
    if "scenario" in given:
        words.update(SCENARIOS[given["scenario"]][1])
    if "pairs" in given:
        number = given["pairs"]
        words.update(publishers=number, subscribers=number, topics=number, filter="one")
    words.update((key, value) for key, value in given.items() if key in Load.__struct_fields__)
    if "port" not in words:
        words["port"] = {
            (False, False): 1883, (True, False): 8883, (False, True): 8083, (True, True): 8084,
        }[bool(words.get("tls")), bool(words.get("websocket"))]  # fmt: skip
    load = Load(**words)
    for name in (
        "publishers",
        "subscribers",
        "idle",
        "retained",
        "sessions",
        "rate",
        "duration",
        "processes",
    ):
        if getattr(load, name) < 0:
            raise ValueError(f"--{name} is negative")
    for name in ("topics", "count", "window"):
        if getattr(load, name) < 1:
            raise ValueError(f"--{name} is less than 1")
    if load.size < HEADER:
        raise ValueError(f"--size is less than {HEADER}")
    if load.publishers > 65535 or load.window > 65535:
        raise ValueError("--publishers and --window go up to 65535")
    if load.persistent != "none" and load.level == 3:
        raise ValueError("--persistent needs 3.1.1 or 5")
    if not load.publishers and load.subscribers and not load.duration:
        raise ValueError("subscribers without publishers need --duration")
    if load.filter == "share" and load.level == 3:
        raise ValueError("--filter share needs 3.1.1 or 5")
    return load


def parse_pids(text: str) -> list[int]:
    """Process identifiers.

    @raise ValueError: one is no number.
    """
    return [int(word) for word in text.split(",") if word.strip()]


def perform(load: Load, pids: Sequence[int], progress: Progress) -> dict[str, Any]:
    """Run a load of any kind.

    @raise Fault: it could not be driven.
    """
    if load.retained:
        return retained.measure(load, pids, progress)
    if load.sessions:
        return sessions.measure(load, pids, progress)
    return drive(load, pids, progress)


def run(arguments: Sequence[str]) -> int:
    """The command; returns its exit status."""
    options = parser()
    try:
        given = vars(options.parse_args(list(arguments)))
    except SystemExit as left:
        return int(left.code or 0)
    try:
        load = load_of(given)
        pids = parse_pids(given.get("pids", ""))
    except ValueError as error:
        print(f"mop bench: {error}", file=sys.stderr)
        return 2
    bar = Bar(sys.stderr.isatty() and not given.get("no_progress"))
    try:
        result = perform(load, pids, bar)
    except (Fault, OSError) as error:
        bar.clear()
        print(f"mop bench: {error}", file=sys.stderr)
        return 1
    bar.clear()
    if "scenario" in given:
        result = {"scenario": given["scenario"], **result}
    if "label" in given:
        result = {"label": given["label"], **result}
    if given.get("json"):
        print(json.dumps(result))
    else:
        print(text(result))
    missing = load.qos > 0 and load.granted > 0 and result.get("lost", 0) > 0
    return 1 if missing else 0
