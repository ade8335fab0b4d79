"""What is measured without a network: what the parts can do at best.

Each measure runs in a process of its own (C{python -m mop_twisted.ops.bench.inside NAME …}) and
prints one line of JSON: memory that was used once is not given back.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from ...backends.embedded.rows import encode_entry
from ...backends.embedded.schema import connect
from ...broker.router import Router
from ...codec.packets import Publish
from ...model import Entry, Subscription
from .histogram import Histogram
from .system import child_environment

_CHURN_EVERY: Final = 0.001
_TOPICS: Final = 200_000


class Device:
    """A session of a few bytes."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


def resident() -> int:
    """Bytes of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def filters_of(number: int) -> list[str]:
    """Ten filters of five levels of a device: 60 % exact, 30 % with +, 10 % with #."""
    site = f"fleet/site{number % 500:03}"
    own = f"{site}/device{number:06}"
    return [
        *(f"{own}/command/c{index}" for index in range(6)),
        f"{own}/config/+",
        f"{site}/+/alarm/a{number % 97:02}",
        f"{own}/+/state",
        f"{own}/command/#",
    ]


def million_subscriptions(sessions: int = 100_000) -> dict[str, Any]:
    """A router with ten subscriptions a session: what it weighs, and what a match of a random
    topic that was not asked for before costs while 1,000 SUBSCRIBEs a second change it."""
    gc.collect()
    before = resident()
    router: Router[int] = Router(lambda topic, found: len(found))
    made: list[Subscription] = []
    gc.disable()
    began = time.perf_counter()
    for number in range(sessions):
        device = Device(number)
        for topic_filter in filters_of(number):
            subscription = Subscription(device, topic_filter, 1)
            made.append(subscription)
            router.add(subscription)
    adding = time.perf_counter() - began
    held = resident() - before
    gc.enable()
    gc.collect()
    gc.freeze()
    chance = random.Random(1)
    topics = [
        f"fleet/site{device % 500:03}/device{device:06}/"
        f"{chance.choice(('command', 'config', 'alarm', 'x'))}/"
        f"{chance.choice(('c1', 'a07', 'state', 'y'))}{turn % 7 or ''}"
        for turn, device in enumerate(chance.choices(range(sessions), k=_TOPICS))
    ]
    times = Histogram()
    changes = 0
    clock = time.perf_counter_ns
    due = time.perf_counter()
    started = due
    for topic in topics:
        now = time.perf_counter()
        while now >= due:
            due += _CHURN_EVERY
            changed = made[chance.randrange(len(made))]
            router.remove(changed)
            router.add(changed)
            changes += 1
        asked = clock()
        router.match(topic)
        times.add(clock() - asked)
    return {
        "subscriptions": len(made),
        "rss_mb": round(held / 1e6, 1),
        "add_us": round(adding / len(made) * 1e6, 2),
        "match_us": round(times.mean() / 1e3, 2),
        "match_p99_us": round(times.percentile(0.99) / 1e3, 2),
        "changes_per_s": round(changes / (time.perf_counter() - started)),
    }


def bare_log(folder: str, messages: int, group: int, size: int) -> dict[str, Any]:
    """The rows that the embedded log writes for QoS 1 messages of one persistent session, in
    groups of C{group}, into its own tables with its own pragmas, and nothing else: what apsw and
    the disk can do. The rows are made beforehand."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    database = connect(str(path / "bare.sqlite"))
    publish = Publish("bench/0123abcd/t0", os.urandom(size), 1)
    publish.publisher = "bench-0123abcd-p0"
    record, crc = encode_entry(Entry(publish), 1, 0.0)
    stored = time.time()
    groups = [
        [
            (sequence, 1, publish.topic, record, crc, 0, stored)
            for sequence in range(first, first + group)
        ]
        for first in range(1, messages + 1, group)
    ]
    began = time.perf_counter()
    for rows in groups:
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
        database.execute("COMMIT")
    seconds = time.perf_counter() - began
    written = group * len(groups)
    database.close()
    return {"messages": written, "group": group, "messages_per_s": round(written / seconds)}


def ask(name: str, *arguments: object) -> dict[str, Any]:
    """Run a measure in its own process.

    @raise OSError: it failed.
    """
    command = [sys.executable, "-m", "mop_twisted.ops.bench.inside", name, *map(str, arguments)]
    finished = subprocess.run(
        command, env=child_environment(), stdout=subprocess.PIPE, text=True, check=False
    )
    if finished.returncode:
        raise OSError(f"{name} failed with status {finished.returncode}")
    found: dict[str, Any] = json.loads(finished.stdout)
    return found


def main(words: list[str]) -> int:
    """One measure by its name; returns the exit status."""
    if words[:1] == ["million-subscriptions"]:
        result = million_subscriptions(*map(int, words[1:]))
    elif words[:1] == ["bare-log"] and len(words) == 5:
        result = bare_log(words[1], *map(int, words[2:]))
    else:
        print("inside: million-subscriptions [SESSIONS] | bare-log FOLDER MESSAGES GROUP SIZE",
              file=sys.stderr)  # fmt: skip
        return 2
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
