"""The long crash campaigns; C{scripts/chaos} calls this.

Progress goes to standard error, one summary in JSON to standard output. The exit status is 0 when
nothing was found, else 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from .campaign import Campaign
from .million import Million

LENGTH = 50
"""Rounds on one folder."""
MESSAGES = 10_000
"""Acknowledged in a round of C{kill}."""
WIDTH = 40
POWER = "tests.backends.test_embedded_power"


def show(done: int, of: int, what: str) -> None:
    """A progress bar."""
    bar = "#" * (done * WIDTH // max(of, 1))
    print(
        f"\r[{bar:.<{WIDTH}}] {done}/{of} {what}\x1b[K", end="", file=sys.stderr, flush=True
    )  # fmt: skip


def kill(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """SIGKILL under load: C{--rounds} times, some rounds on each folder."""
    rounds = options.rounds or 200
    summaries: list[dict[str, object]] = []
    for begun in range(0, rounds, LENGTH):
        folder = tempfile.mkdtemp(prefix="mop-chaos-")

        def progress(campaign: Campaign, begun: int = begun) -> None:
            show(begun + campaign.round, rounds, f"kills, {campaign.acknowledged} acknowledged")

        campaign = Campaign(
            folder, seed + begun, min(LENGTH, rounds - begun), options.messages or MESSAGES,
            progress=progress,
        )  # fmt: skip
        campaign.run()
        summary = campaign.summary()
        if campaign.complaints:
            summary["folder"] = folder
        else:
            shutil.rmtree(folder, ignore_errors=True)
        summaries.append(summary)
    return {"passed": not any(s["complaints"] for s in summaries), "campaigns": summaries}


def million(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """A million messages for a client that is away."""
    folder = tempfile.mkdtemp(prefix="mop-chaos-")
    shown = 0.0

    def progress(done: int, of: int, what: str) -> None:
        nonlocal shown
        if time.monotonic() > shown + 0.2:
            shown = time.monotonic()
            show(done, of, what)

    run = Million(folder, seed, options.messages or 1_000_000, progress)
    complaints = run.run()
    if not complaints:
        shutil.rmtree(folder, ignore_errors=True)
    return {"passed": not complaints, "complaints": complaints, **run.figures}


def trial(*names: str, **environment: str) -> dict[str, Any]:
    """Tests that are a campaign by themselves."""
    ended = subprocess.run(
        [sys.executable, "-m", "twisted.trial", "--temp-directory",
         tempfile.mkdtemp(prefix="mop-chaos-") + "/trial", *names],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    print(ended.stdout, file=sys.stderr)
    return {"passed": ended.returncode == 0, "tests": ended.stdout.splitlines()[-1]}


def points(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """A death at every step of an exchange, and signals under load."""
    return trial("tests.crash.test_points", "tests.crash.test_signals")


def module(name: str, *arguments: str) -> dict[str, Any]:
    """A campaign that is a program, with JSON on its standard output."""
    ended = subprocess.run(
        [sys.executable, "-m", name, *arguments], stdout=subprocess.PIPE, text=True
    )
    summary: dict[str, Any] = {"passed": ended.returncode == 0}
    try:
        summary.update(json.loads(ended.stdout))
    except ValueError:
        summary["output"] = ended.stdout[-2000:]
    return summary


def power(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Power cuts: what the disk had not been told to keep is gone. Cut n is always the same."""
    return trial(POWER, MOP_POWER_CUTS=str(options.rounds or 300))


def mutation(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Tagged lines taken out: does a test notice?"""
    arguments = ["--seed", str(seed)]
    if options.rounds:
        arguments += ["--count", str(options.rounds)]
    return module("tests.mutation", *arguments)


CAMPAIGNS: dict[str, Callable[[argparse.Namespace, int], dict[str, Any]]] = {
    "kill": kill,
    "points": points,
    "power": power,
    "million": million,
    "mutation": mutation,
}


def main() -> int:
    """Run what is named, or everything; the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Long crash campaigns: all of them, or those that are named.",
        epilog="\n".join(f"  {name:9} {each.__doc__}" for name, each in CAMPAIGNS.items()),
    )
    parser.add_argument("campaigns", nargs="*", metavar="CAMPAIGN", help=", ".join(CAMPAIGNS))
    parser.add_argument(
        "--rounds", type=int, help="kills (200), power cuts, or lines taken out (30)"
    )
    parser.add_argument(
        "--messages", type=int, help=f"acknowledged a kill ({MESSAGES}); size of the million"
    )
    parser.add_argument("--seed", type=int, help="to repeat a run; else another each time")
    options = parser.parse_args()
    names = options.campaigns or list(CAMPAIGNS)
    unknown = sorted(set(names) - set(CAMPAIGNS))
    if unknown:
        parser.error(f"no such campaign: {', '.join(unknown)}")
    if not options.campaigns and importlib.util.find_spec(POWER) is None:
        names.remove("power")
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 31)
    results: dict[str, Any] = {"seed": seed}
    for name in names:
        print(f"== {name} (seed {seed})", file=sys.stderr, flush=True)
        began = time.monotonic()
        results[name] = CAMPAIGNS[name](options, seed)
        results[name]["seconds"] = round(time.monotonic() - began, 1)
        print(file=sys.stderr)
    print(json.dumps(results, indent=2))
    return 0 if all(results[name]["passed"] for name in names) else 1


if __name__ == "__main__":
    sys.exit(main())
