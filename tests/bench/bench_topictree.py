"""A million retained topics: what they weigh, and what changes and filters cost.

C{python -m tests.bench.bench_topictree [TOPICS]}
"""

from __future__ import annotations

import os
import random
import sys
import time

from mop_twisted.broker.topictree import TopicTree


def resident() -> int:
    """Bytes resident now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(name: str, template: str, count: int) -> None:
    numbers = list(range(count))
    random.Random(1).shuffle(numbers)
    value = object()
    before = resident()
    tree: TopicTree[object] = TopicTree()
    began = time.perf_counter()
    for number in numbers:
        tree.set(template.format(site=number % 1000, device=number), value)
    spent = time.perf_counter() - began
    print(
        f"{name}: {(resident() - before) / count:.0f} bytes a topic,"
        f" set {spent / count * 1e6:.2f} µs"
    )
    for topic_filter in ("#", "+/#", "fleet/+/state", "fleet/site7/+/state", "+/+/+/+/nothing"):
        steps = found = 0
        worst = 0.0
        began = time.perf_counter()
        turn = began
        for portion in tree.portions(topic_filter, 128):
            now = time.perf_counter()
            worst = max(worst, now - turn)
            turn = now
            found += len(portion)
            steps += 1
        spent = time.perf_counter() - began
        print(
            f"  {topic_filter:24} {found:8} found in {spent * 1e3:8.1f} ms,"
            f" {steps} portions of 128 steps, the longest {worst * 1e3:.2f} ms"
        )
    began = time.perf_counter()
    for number in numbers[: count // 10]:
        tree.discard(template.format(site=number % 1000, device=number))
    print(
        f"  discard                  {(time.perf_counter() - began) / (count // 10) * 1e6:.2f} µs"
    )


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    for name, template in (
        ("fleet", "fleet/site{site}/device{device}/state"),
        ("one level wide", "fleet/{device}"),
    ):
        if (child := os.fork()) == 0:
            measure(name, template, count)
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
