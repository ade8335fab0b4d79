"""The tree of subscriptions and its cache, against the law of L{mop_twisted.topics.matches}."""

from __future__ import annotations

import gc
import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.broker.router import Node, Router
from mop_twisted.model import Subscription
from mop_twisted.topics import matches, parse_shared

Names = frozenset[tuple[str, str, int]]


class Client:
    """A session, as far as a router is concerned: somebody."""

    def __init__(self, name: str) -> None:
        self.name = name


def subscribed(session: Client, topic_filter: str, qos: int = 0) -> Subscription:
    group, pattern = parse_shared(topic_filter) or ("", topic_filter)
    return Subscription(session, topic_filter, qos, group=group, pattern=pattern)


def named(subscriptions: list[Subscription]) -> Names:
    return frozenset((each.session.name, each.topic_filter, each.qos) for each in subscriptions)


def plan_of(topic: str, subscriptions: list[Subscription]) -> Names:
    return named(subscriptions)


def node_count(router: Router[Names]) -> int:
    """Nodes of the tree, the root not counted."""
    count = 0
    waiting: list[Node] = [router._root]
    while waiting:
        node = waiting.pop()
        below = [*(node.children or {}).values(), node.only, node.plus]
        found = [child for child in below if child is not None]
        count += len(found)
        waiting.extend(found)
    return count


LEVELS = ("a", "b", "", "$s", "c")
TOPICS = st.lists(st.sampled_from(LEVELS), min_size=1, max_size=4).map("/".join).filter(bool)
PATTERNS = (
    st.tuples(
        st.lists(st.sampled_from((*LEVELS, "+", "+")), max_size=4),
        st.sampled_from(((), (), ("#",))),
    )
    .map(lambda parts: "/".join((*parts[0], *parts[1])))
    .filter(bool)
)
FILTERS = st.tuples(st.sampled_from(("", "", "", "$share/g/", "$share/h/")), PATTERNS).map("".join)
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(("add", "add", "remove", "match")),
        st.integers(0, 2),
        FILTERS,
        st.integers(0, 2),
        TOPICS,
    ),
    max_size=40,
)


class MatchTests(SynchronousTestCase):
    """What a topic finds."""

    def setUp(self) -> None:
        self.router: Router[Names] = Router(plan_of)
        self.client = Client("c")

    def found(self, topic: str) -> list[str]:
        return sorted(each.topic_filter for each in self.router.find(topic))

    def test_every_matching_filter(self) -> None:
        """A topic finds all filters that match it, and only those. [MQTT5-3.3.4-2]"""
        for topic_filter in (
            "a/b",
            "a/+",
            "a/#",
            "a/b/#",
            "#",
            "+/b",
            "+/+/#",
            "a",
            "b/+",
            "a/b/c",
        ):
            self.router.add(subscribed(self.client, topic_filter))
        self.assertEqual(["#", "+/+/#", "+/b", "a/#", "a/+", "a/b", "a/b/#"], self.found("a/b"))
        self.assertEqual(["#", "a", "a/#"], self.found("a"))
        self.assertEqual(["#", "+/+/#", "a/#", "a/b/#", "a/b/c"], self.found("a/b/c"))
        self.assertEqual(["#"], self.found("z"))

    def test_system_topics(self) -> None:
        """Filters that begin with a wildcard get no C{$} topics, shared or not.
        [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]"""
        for topic_filter in ("#", "+", "+/b", "+/#", "$share/g/#", "$SYS/#", "$SYS/+", "$SYS/b"):
            self.router.add(subscribed(self.client, topic_filter))
        self.assertEqual(["$SYS/#"], self.found("$SYS"))
        self.assertEqual(["$SYS/#", "$SYS/+", "$SYS/b"], self.found("$SYS/b"))
        self.assertEqual([], self.found("$other/b"))

    def test_again_replaces(self) -> None:
        """Subscribing again with the same filter replaces; another session, or the same filter
        shared, is another subscription. [MQTT5-3.8.4-3] [MQTT311-3.8.4-3]"""
        other = Client("d")
        for topic_filter in ("a/b", "a/+", "a/#"):
            self.router.add(subscribed(self.client, topic_filter, 0))
            self.router.add(subscribed(self.client, topic_filter, 1))
            self.router.add(subscribed(other, topic_filter, 0))
            self.router.add(subscribed(self.client, f"$share/g/{topic_filter}", 0))
            self.router.add(subscribed(self.client, f"$share/g/{topic_filter}", 2))
            self.router.add(subscribed(self.client, f"$share/h/{topic_filter}", 0))
            self.router.add(subscribed(other, topic_filter, 2))
            self.assertEqual(
                {
                    ("c", topic_filter, 1),
                    ("d", topic_filter, 2),
                    ("c", f"$share/g/{topic_filter}", 2),
                    ("c", f"$share/h/{topic_filter}", 0),
                },
                named([each for each in self.router.find("a/b") if each.pattern == topic_filter]),
            )
        self.assertEqual((12, 8), (self.router.subscriptions, self.router.wildcards))

    def test_removing_nothing(self) -> None:
        """Removing what is not there changes nothing."""
        self.router.add(subscribed(self.client, "a/+"))
        self.router.add(subscribed(self.client, "a/b"))
        stranger = Client("s")
        for topic_filter in ("a/+", "a/b", "a/#", "a/+/#", "a/+/c", "b", "#", "b/+"):
            self.router.remove(subscribed(stranger, topic_filter))
        self.router.remove(subscribed(self.client, "$share/g/a/+"))
        self.assertEqual(["a/+", "a/b"], self.found("a/b"))
        self.assertEqual((2, 1), (self.router.subscriptions, self.router.wildcards))

    def test_many_wildcards(self) -> None:
        """Filters of 128 levels of wildcards over a wide tree cost a topic of 128 levels no
        more than the tree has matching levels."""
        for width in range(300):
            self.router.add(subscribed(self.client, f"{width}/" * 20 + "#"))
        for depth in range(127):
            self.router.add(subscribed(self.client, "+/" * depth + "#"))
            self.router.add(subscribed(self.client, "+/" * depth + "x/#"))
        topic = "x/" * 127 + "x"
        began = time.perf_counter()
        for _ in range(10):
            self.assertEqual(254, len(self.router.find(topic)))
        self.assertLess(time.perf_counter() - began, 0.5)

    def test_longest_topic(self) -> None:
        """A topic of 65,535 separators is matched without recursion, in linear time."""
        self.router.add(subscribed(self.client, "+/" * 32767 + "#"))
        self.assertEqual(1, len(self.router.find("/" * 65535)))
        self.router.remove(subscribed(self.client, "+/" * 32767 + "#"))
        self.assertEqual(0, node_count(self.router))


class CacheTests(SynchronousTestCase):
    """Plans that are made once, and again only when they have to be."""

    def setUp(self) -> None:
        self.built: list[str] = []
        self.router: Router[Names] = Router(self.build, cache_size=1000)
        self.client = Client("c")

    def build(self, topic: str, subscriptions: list[Subscription]) -> Names:
        self.built.append(topic)
        return named(subscriptions)

    def rebuilt(self, *topics: str) -> list[str]:
        """Which of the topics had no fresh plan."""
        self.built.clear()
        for topic in topics:
            self.router.match(topic)
        return self.built

    def test_once(self) -> None:
        """A topic is matched once, also where nothing matches."""
        self.assertEqual(["a/b"], self.rebuilt("a/b", "a/b", "a/b"))

    def test_exact(self) -> None:
        """A filter without wildcards concerns its own topic alone."""
        self.rebuilt("a", "a/b", "a/b/c")
        for change in (self.router.add, self.router.touch, self.router.remove):
            change(subscribed(self.client, "a/b"))
            self.assertEqual(["a/b"], self.rebuilt("a", "a/b", "a/b/c"))

    def test_wildcard(self) -> None:
        """A filter with wildcards concerns what begins as it does: two levels where it names
        two, one where it names one, everything where it begins with a wildcard."""
        topics = ("a", "a/b", "a/b/c", "a/d", "e/b", "$s/x")
        self.rebuilt(*topics)
        for topic_filter, concerned in (
            ("a/b/#", ("a/b", "a/b/c")),
            ("a/b/+", ("a/b", "a/b/c")),
            ("a/#", ("a", "a/b", "a/b/c", "a/d")),
            ("a/+/c", ("a", "a/b", "a/b/c", "a/d")),
            ("+/b", topics),
            ("#", topics),
            ("$share/g/a/d/#", ("a/d",)),
        ):
            for change in (self.router.add, self.router.touch, self.router.remove):
                change(subscribed(self.client, topic_filter))
                self.assertEqual(list(concerned), self.rebuilt(*topics), topic_filter)

    def test_nothing_becomes_something(self) -> None:
        """That nobody wants a topic is forgotten when the first wildcard under a first level
        arrives that no filter had."""
        self.assertEqual(frozenset(), self.router.match("new/topic"))
        self.router.add(subscribed(self.client, "new/#"))
        self.assertEqual({("c", "new/#", 0)}, self.router.match("new/topic"))

    def test_forget_all(self) -> None:
        """All plans are made anew when access rules change."""
        self.rebuilt("a", "b")
        self.router.forget_all()
        self.assertEqual(["a", "b"], self.rebuilt("a", "b"))

    def test_bounded(self) -> None:
        """Topics that are made up push each other out, and cost little."""
        began = time.perf_counter()
        for number in range(20000):
            self.router.match(f"t/{number}")
        self.assertLess(time.perf_counter() - began, 2.0)
        self.assertLessEqual(len(self.router._cache), 1000)
        self.assertEqual([], self.rebuilt("t/19999"))
        self.assertEqual(["t/0"], self.rebuilt("t/0"))

    def test_bounded_bytes(self) -> None:
        """Long topics and large plans are fewer in the cache."""
        router: Router[Names] = Router(plan_of, cache_bytes=1_000_000)
        for number in range(200):
            router.match("x" * 60000 + str(number))
        self.assertLess(len(router._cache), 20)
        for number in range(1000):
            router.add(subscribed(Client(str(number)), "#"))
        for number in range(300):
            router.match(f"t/{number}")
        self.assertLess(len(router._cache), 10)
        self.assertEqual(1000, len(router.match("t/0")))
        router.forget_all()
        self.assertEqual((0, 0), (len(router._cache), router._cached_bytes))

    def test_heavier_than_the_cache(self) -> None:
        """A plan that is larger than the whole cache is made and given all the same."""
        router: Router[Names] = Router(plan_of, cache_bytes=10)
        self.assertEqual(frozenset(), router.match("a"))
        self.assertEqual(frozenset(), router.match("b"))
        self.assertEqual(["b"], list(router._cache))


class RoomTests(SynchronousTestCase):
    """What subscriptions cost, and that it is given back."""

    def test_one_filter_of_many(self) -> None:
        """A hundred thousand subscribers of one filter come and go in any order, each in a
        moment."""
        for topic_filter in ("a/b", "a/+"):
            router: Router[Names] = Router(plan_of)
            subscriptions = [
                subscribed(Client(str(number)), topic_filter) for number in range(100_000)
            ]
            began = time.perf_counter()
            for subscription in subscriptions:
                router.add(subscription)
            self.assertEqual(100_000, len(router.find("a/b")))
            random.Random(1).shuffle(subscriptions)
            for subscription in subscriptions:
                router.remove(subscription)
            self.assertLess(time.perf_counter() - began, 5.0)
            self.assertEqual([], router.find("a/b"))
            self.assertEqual((0, 0), (router.subscriptions, router.wildcards))
            self.assertEqual((0, 0), (len(router._exact), node_count(router)))

    def test_nothing_stays(self) -> None:
        """After a hundred thousand subscriptions have come and gone the tree is as large as
        before, and nothing waits for the garbage collector."""
        router: Router[Names] = Router(plan_of)
        client = Client("c")
        router.add(subscribed(client, "f/+/x/#"))
        before = node_count(router)
        gc.collect()
        gc.disable()
        try:
            for number in range(25_000):
                made = [
                    subscribed(client, f"f/{number}/+/x"),
                    subscribed(client, f"f/{number}/+/#"),
                    subscribed(client, f"{number}/+"),
                    subscribed(client, f"e/{number}"),
                ]
                for each in made:
                    router.add(each)
                for each in made:
                    router.remove(each)
            self.assertLess(gc.collect(), 100)
        finally:
            gc.enable()
        self.assertEqual(before, node_count(router))
        self.assertEqual((1, 1), (router.subscriptions, router.wildcards))
        self.assertLessEqual(len(router._names), 1 << 13)


class LawTests(SynchronousTestCase):
    """Any sequence of changes leaves the router saying what the specification says."""

    @settings(max_examples=300, deadline=None)
    @given(CHANGES, st.lists(TOPICS, min_size=1, max_size=6))
    def test_law(self, changes: list[tuple[str, int, str, int, str]], topics: list[str]) -> None:
        """Found is what matches, counted is what is there, cached is what would be found."""
        router: Router[Names] = Router(plan_of, cache_size=3)
        clients = [Client(str(number)) for number in range(3)]
        expected: dict[tuple[int, str], Subscription] = {}
        for what, number, topic_filter, qos, topic in changes:
            subscription = subscribed(clients[number], topic_filter, qos)
            if what == "add":
                router.add(subscription)
                expected[number, topic_filter] = subscription
            elif what == "remove":
                router.remove(subscription)
                expected.pop((number, topic_filter), None)
            for each in (*topics, topic):
                want = named([sub for sub in expected.values() if matches(sub.pattern, each)])
                found = router.find(each)
                self.assertEqual(want, named(found))
                self.assertEqual(len(want), len(found))
                self.assertEqual(want, router.match(each))
            self.assertEqual(len(expected), router.subscriptions)
            self.assertEqual(
                sum("+" in sub.pattern or "#" in sub.pattern for sub in expected.values()),
                router.wildcards,
            )
        fresh: Router[Names] = Router(plan_of)
        for subscription in expected.values():
            fresh.add(subscription)
        self.assertEqual(node_count(fresh), node_count(router))
        for subscription in expected.values():
            router.remove(subscription)
        self.assertEqual((0, 0), (node_count(router), len(router._exact)))
