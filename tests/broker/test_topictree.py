"""The tree of retained topics, against the law of L{mop_twisted.topics.matches}."""

from __future__ import annotations

import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.broker.topictree import TopicTree
from mop_twisted.topics import matches

LEVELS = ("a", "b", "", "a!", "a0", "$s", "$", "%", "\x01", "é", "\U0010ffff")
TOPICS = st.lists(st.sampled_from(LEVELS), min_size=1, max_size=4).map("/".join).filter(bool)
FILTERS = (
    st.tuples(
        st.lists(st.sampled_from((*LEVELS, "+", "+", "+", "+")), max_size=4),
        st.sampled_from(((), ("#",))),
    )
    .map(lambda parts: "/".join((*parts[0], *parts[1])))
    .filter(bool)
)


def filled(topics: set[str] | list[str]) -> TopicTree[str]:
    tree: TopicTree[str] = TopicTree()
    for topic in topics:
        tree.set(topic, topic.upper())
    return tree


class MappingTests(SynchronousTestCase):
    """One value a topic."""

    def test_set(self) -> None:
        """A topic has the value that was set last, until it is discarded."""
        tree: TopicTree[int] = TopicTree()
        self.assertIsNone(tree.get("a/b"))
        tree.set("a/b", 1)
        tree.set("a", 2)
        tree.set("a/b", 3)
        self.assertEqual((3, 2, 2), (tree.get("a/b"), tree.get("a"), len(tree)))
        tree.discard("a/b")
        tree.discard("a/b")
        tree.discard("unknown")
        self.assertEqual((None, 2, 1), (tree.get("a/b"), tree.get("a"), len(tree)))

    def test_many(self) -> None:
        """Thousands of topics that come and go in any order leave nothing behind."""
        tree: TopicTree[int] = TopicTree()
        chance = random.Random(3)
        topics = [f"{number % 7}/{number}" for number in range(10_000)]
        chance.shuffle(topics)
        for number, topic in enumerate(topics):
            tree.set(topic, number)
        self.assertEqual(sorted(topics), sorted(topic for topic, _ in tree.matching("#")))
        chance.shuffle(topics)
        kept = topics[:100]
        for topic in topics[100:]:
            tree.discard(topic)
        self.assertEqual(sorted(kept), sorted(topic for topic, _ in tree.matching("#")))
        self.assertLess(len(tree._chunks), 10)
        for topic in kept:
            tree.discard(topic)
        self.assertEqual([], list(tree.matching("#")))
        self.assertEqual((0, [[]], [""]), (len(tree), tree._chunks, tree._beginnings))


class MatchingTests(SynchronousTestCase):
    """What a filter finds."""

    def found(self, tree: TopicTree[str], topic_filter: str) -> list[str]:
        return sorted(topic for topic, _ in tree.matching(topic_filter))

    def test_examples(self) -> None:
        """Filters find all that they match, with its value, in a tree with levels that sort
        around the separator."""
        tree = filled(["a", "a/b", "a/b/c", "a!", "a!/b", "a0/b", "/", "/a", "b/b", "$SYS/b"])
        self.assertEqual(["a", "a/b", "a/b/c"], self.found(tree, "a/#"))
        self.assertEqual(["a!/b", "a/b", "a0/b", "b/b"], self.found(tree, "+/b"))
        self.assertEqual(["/", "/a"], self.found(tree, "/+"))
        self.assertEqual(["a/b"], self.found(tree, "a/b"))
        self.assertEqual([], self.found(tree, "a/c"))
        self.assertEqual([("a", "A"), ("a!", "A!")], list(tree.matching("+")))

    def test_system_topics(self) -> None:
        """Filters that begin with a wildcard do not find C{$} topics.
        [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]"""
        tree = filled(["$SYS/a", "$SYS", "$", "#a"[1:], "%/a", "!/a"])
        self.assertEqual(["!/a", "%/a", "a"], self.found(tree, "#"))
        self.assertEqual(["!/a", "%/a"], self.found(tree, "+/a"))
        self.assertEqual(["$SYS", "$SYS/a"], self.found(tree, "$SYS/#"))

    @settings(max_examples=500, deadline=None)
    @given(st.sets(TOPICS, max_size=30), st.lists(FILTERS, min_size=1, max_size=5))
    def test_law(self, topics: set[str], filters: list[str]) -> None:
        """Any filter finds in any tree what the specification says, each topic once, in one
        go or in portions."""
        tree = filled(topics)
        for topic_filter in filters:
            expected = sorted(topic for topic in topics if matches(topic_filter, topic))
            self.assertEqual(expected, self.found(tree, topic_filter), topic_filter)
            self.assertEqual(
                expected,
                sorted(topic for part in tree.portions(topic_filter, 3) for topic, _ in part),
            )


class ChangeTests(SynchronousTestCase):
    """Walks that go on while topics come and go."""

    @settings(max_examples=300, deadline=None)
    @given(
        st.sets(TOPICS, max_size=20),
        FILTERS,
        st.lists(st.tuples(st.booleans(), TOPICS), max_size=30),
    )
    def test_law(
        self, topics: set[str], topic_filter: str, changes: list[tuple[bool, str]]
    ) -> None:
        """Whatever changes between two steps: what is there all the time is found once, what
        is there some time at most once, nothing else ever."""
        tree = filled(topics)
        always = set(topics)
        ever = set(topics)
        found: list[str] = []
        walk = tree.portions(topic_filter, 1)
        for added, topic in changes:
            for each, value in next(walk, []):
                found.append(each)
                self.assertEqual(each.upper(), value)
            if added:
                tree.set(topic, topic.upper())
                ever.add(topic)
            else:
                tree.discard(topic)
                always.discard(topic)
        found.extend(topic for part in walk for topic, _ in part)
        self.assertEqual(len(set(found)), len(found))
        for topic in always:
            self.assertEqual(matches(topic_filter, topic), topic in found, topic)
        self.assertTrue(all(topic in ever and matches(topic_filter, topic) for topic in found))

    def test_values_are_read_late(self) -> None:
        """A value that is replaced before the walk gets there is the new one."""
        tree = filled([f"t/{number}" for number in range(2000)])
        walk = tree.matching("t/+")
        next(walk)
        for number in range(2000):
            tree.set(f"t/{number}", "new")
        self.assertEqual({"new"}, {value for _, value in walk})

    def test_chunks_move(self) -> None:
        """Thousands of topics that come and go around the place of a walk do not disturb it."""
        stay = [f"s/{number:05}" for number in range(0, 20000, 7)]
        tree = filled(stay)
        chance = random.Random(5)
        found = []
        for topic, _ in tree.matching("s/#"):
            found.append(topic)
            for _ in range(4):
                number = chance.randrange(20000)
                if number % 7:
                    if chance.random() < 0.6:
                        tree.set(f"s/{number:05}", "")
                    else:
                        tree.discard(f"s/{number:05}")
        self.assertEqual(stay, [topic for topic in found if int(topic[2:]) % 7 == 0])
        self.assertEqual(len(set(found)), len(found))


class CostTests(SynchronousTestCase):
    """A filter costs what it could match."""

    def setUp(self) -> None:
        self.tree = filled(
            [f"site/{site}/device/{device}" for site in range(50) for device in range(1000)]
        )

    def steps(self, topic_filter: str) -> int:
        return sum(1 for _ in self.tree._walk(topic_filter))

    def test_literal_beginning(self) -> None:
        """A filter that names its first levels does not look at other topics."""
        self.assertLess(self.steps("site/7/device/+"), 1010)
        self.assertLess(self.steps("site/7/device/8/#"), 5)
        self.assertLess(self.steps("site/7/nothing/+"), 5)

    def test_literal_end(self) -> None:
        """A wildcard in the middle leaps from one of its levels to the next."""
        self.assertLess(self.steps("site/+/device/8"), 50 * 4)
        self.assertLess(self.steps("+/+/nothing/#"), 50 * 4)

    def test_portions(self) -> None:
        """A portion ends after its steps, although nothing was found."""
        for topic_filter in ("+/+/+/nothing", "+/+/+/+/+"):
            portions = list(self.tree.portions(topic_filter, 10))
            self.assertGreater(len(portions), 4)
            self.assertEqual([], [each for part in portions for each in part])
        self.assertEqual(10, len(next(self.tree.portions("#", 10))))

    def test_hostile_filters(self) -> None:
        """Long filters over deep topics cost a step a topic, not their combinations."""
        tree = filled(["x/" * depth + "x" for depth in range(127)])
        began = time.perf_counter()
        for topic_filter in ("+/" * 127 + "#", "+/" * 126 + "y", "+/x/" * 63 + "z", "#"):
            self.assertLess(sum(1 for _ in tree._walk(topic_filter)), 400)
        self.assertLess(time.perf_counter() - began, 0.5)
