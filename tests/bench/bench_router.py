"""A million subscriptions: what they weigh, and what matching, adding and removing cost.

C{python -m tests.bench.bench_router [SESSIONS]}: ten filters a session (60 % exact, 30 % with
C{+}, 10 % with C{#}; five levels), over topics that belong to a session and over random ones.
"""

from __future__ import annotations

import gc
import os
import random
import sys
import time
from collections.abc import Callable

from mop_twisted.broker.router import Router
from mop_twisted.model import Subscription

Plan = int


class Client:
    """A session of a few bytes, so that the router's own are seen."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


def resident() -> int:
    """Bytes resident now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fleet_filters(number: int) -> list[str]:
    """What a device of a fleet subscribes to: mostly its own topics."""
    own = f"fleet/site{number % 500}/device{number}"
    return [
        *(f"{own}/command/c{index}" for index in range(6)),
        f"{own}/config/+",
        f"fleet/site{number % 500}/+/alarm/a{number % 97}",
        f"{own}/+/state",
        f"{own}/#",
    ]


def scattered_filters(number: int) -> list[str]:
    """Random filters over random trees: nothing is common but chance."""
    chance = random.Random(number)
    made = []
    for index in range(10):
        levels = [f"l{chance.randrange(40)}" for _ in range(4)]
        levels.append(f"d{chance.randrange(20000)}")
        if index in (6, 7, 8):
            levels[chance.randrange(1, 5)] = "+"
        if index == 9:
            levels[4] = "#"
        made.append("/".join(levels))
    return made


def per_call(calls: int, began: float) -> str:
    return f"{(time.perf_counter() - began) / calls * 1e6:8.2f} µs"


def measure(name: str, filters: Callable[[int], list[str]], sessions: int) -> None:
    gc.collect()
    before = resident()
    router: Router[Plan] = Router(lambda topic, found: len(found))
    made = []
    gc.disable()
    began = time.perf_counter()
    for number in range(sessions):
        client = Client(number)
        made.extend(Subscription(client, topic_filter, 1) for topic_filter in filters(number))
    creation = time.perf_counter() - began
    began = time.perf_counter()
    for subscription in made:
        router.add(subscription)
    adding = per_call(len(made), began)
    gc.enable()
    gc.collect()
    held = resident() - before - sys.getsizeof(made)
    print(
        f"{name}: {len(made)} subscriptions, {held / 1e6:.0f} MB resident with them"
        f" (made in {creation:.1f} s)"
    )
    print(f"  add                     {adding}")

    chance = random.Random(1)
    topics = []
    for _ in range(50_000):
        levels = chance.choice(made).pattern.split("/")
        topics.append("/".join(f"x{chance.randrange(99)}" if x in "+#" else x for x in levels))
    began = time.perf_counter()
    found = sum(len(router.find(topic)) for topic in topics)
    spent = per_call(len(topics), began)
    print(f"  find, cold              {spent} ({found / len(topics):.1f} found)")
    began = time.perf_counter()
    for topic in topics:
        router.match(topic)
    print(f"  match, cold             {per_call(len(topics), began)}")
    began = time.perf_counter()
    for turn in range(50_000):
        if turn % 33 == 0:  # 1,000 SUBSCRIBEs a second at 33,000 messages a second
            subscription = chance.choice(made)
            router.remove(subscription)
            router.add(subscription)
        router.match(topics[turn])
    print(f"  cached, under churn     {per_call(50_000, began)}")
    hot = topics[:64]
    for topic in hot:
        router.match(topic)
    match = router.match
    began = time.perf_counter()
    for _ in range(5000):
        for topic in hot:
            match(topic)
    print(f"  match, hot              {per_call(5000 * len(hot), began)}")
    began = time.perf_counter()
    for number in range(200_000):
        match(f"hostile/{number}")
    print(f"  match, ever new topics  {per_call(200_000, began)}")
    chance.shuffle(made)
    began = time.perf_counter()
    for subscription in made:
        router.remove(subscription)
    print(f"  remove                  {per_call(len(made), began)}")


def main() -> None:
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    for name, filters in (("fleet", fleet_filters), ("scattered", scattered_filters)):
        # In a process of its own: memory that was used once is not given back.
        if (child := os.fork()) == 0:
            measure(name, filters, sessions)
            sys.stdout.flush()
            os._exit(0)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
