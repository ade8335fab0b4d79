"""Topic names and filters, by the letter of the specification and by brute force."""

from __future__ import annotations

import itertools
import time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mop_twisted.errors import PeerError, TopicFilterInvalid, TopicNameInvalid
from mop_twisted.topics import (
    check_topic_filter,
    check_topic_name,
    covers,
    has_control_characters,
    is_system,
    is_wildcard,
    levels,
    matches,
    overlaps,
    parse_shared,
)


def all_filters(depth: int) -> list[str]:
    """Every valid filter of at most C{depth} levels over a small alphabet."""
    return [
        "/".join(chosen)
        for count in range(1, depth + 1)
        for chosen in itertools.product(("a", "b", "", "$s", "+", "#"), repeat=count)
        if "#" not in chosen[:-1] and chosen != ("",)
    ]


def all_topics(depth: int) -> list[str]:
    """Every topic of at most C{depth} levels over the same alphabet and one level more, which
    no filter names."""
    return [
        "/".join(chosen)
        for count in range(1, depth + 1)
        for chosen in itertools.product(("a", "b", "", "$s", "z"), repeat=count)
        if chosen != ("",)
    ]


class MatchingTests(SynchronousTestCase):
    """Which filters match which topics."""

    def assert_matches(self, topic_filter: str, *topics: str) -> None:
        for topic in topics:
            self.assertTrue(matches(topic_filter, topic), f"{topic_filter} {topic}")

    def assert_misses(self, topic_filter: str, *topics: str) -> None:
        for topic in topics:
            self.assertFalse(matches(topic_filter, topic), f"{topic_filter} {topic}")

    def test_exact(self) -> None:
        """A filter without wildcards matches the topic that is the same, character by
        character, and nothing else. [MQTT5-4.7.3-4] [MQTT311-4.7.3-4]"""
        self.assert_matches("a/b", "a/b")
        self.assert_misses("a/b", "a", "a/b/", "/a/b", "A/b", "a/b/c", "a/c")
        # The same letter, composed and decomposed, is two topics.
        self.assert_misses("caf\u00e9", "cafe\u0301")
        self.assert_matches("\ufeffa", "\ufeffa")
        self.assert_misses("\ufeffa", "a")

    def test_multi_level(self) -> None:
        """C{#} matches any number of levels, and the level above it."""
        self.assert_matches(
            "sport/tennis/player1/#",
            "sport/tennis/player1",
            "sport/tennis/player1/ranking",
            "sport/tennis/player1/score/wimbledon",
        )
        self.assert_matches("sport/#", "sport", "sport/")
        self.assert_misses("sport/#", "sports", "spor")
        self.assert_matches("#", "a", "/", "a/b/c", "/a")

    def test_single_level(self) -> None:
        """C{+} matches exactly one level, which may be empty."""
        self.assert_matches("sport/tennis/+", "sport/tennis/player1", "sport/tennis/")
        self.assert_misses("sport/tennis/+", "sport/tennis/player1/ranking", "sport/tennis")
        self.assert_matches("sport/+", "sport/")
        self.assert_misses("sport/+", "sport")
        self.assert_matches("+/+", "/finance")
        self.assert_matches("/+", "/finance")
        self.assert_misses("+", "/finance")
        self.assert_matches("+/tennis/#", "sport/tennis", "/tennis/x/y")
        self.assert_matches("+/#", "a", "a/b")
        self.assert_misses("a/+/#", "a")

    def test_system_topics(self) -> None:
        """A filter that begins with a wildcard does not match topics that begin with C{$}; one
        that names the first level does. [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]"""
        self.assert_misses("#", "$SYS", "$SYS/uptime")
        self.assert_misses("+", "$SYS")
        self.assert_misses("+/monitor/Clients", "$SYS/monitor/Clients")
        self.assert_matches("$SYS/#", "$SYS", "$SYS/uptime")
        self.assert_matches("$SYS/monitor/+", "$SYS/monitor/Clients")
        self.assert_matches("+/#", "a/$SYS")

    def test_system_topics_shared(self) -> None:
        """Sharing a subscription does not bring C{$} topics within a leading wildcard's reach.
        [MQTT5-4.7.2-1]"""
        for shared in ("$share/g/#", "$share/g/+/uptime"):
            parsed = parse_shared(shared)
            assert parsed is not None
            self.assert_misses(parsed[1], "$SYS/uptime")

    def test_linear(self) -> None:
        """The longest topics and the worst filters are matched in a moment."""
        topic = "/" * 65535
        began = time.perf_counter()
        self.assert_matches("#", topic)
        self.assert_matches("+/" * 32767 + "#", topic)
        self.assert_misses("+/" * 32767 + "a", topic)
        self.assertTrue(covers("+/" * 32767 + "#", topic))
        self.assertTrue(overlaps("+/" * 32767 + "#", "+/" * 30000 + "#"))
        self.assertLess(time.perf_counter() - began, 1.0)


class FilterAlgebraTests(SynchronousTestCase):
    """Filters against filters, as access rules need them."""

    def test_covers(self) -> None:
        """One filter covers another if it matches every topic that the other matches."""
        for wide, narrow in (
            ("#", "a/+/b"),
            ("#", "+/#"),
            ("+/#", "#"),
            ("a/#", "a"),
            ("a/#", "a/+/#"),
            ("a/+", "a/b"),
            ("$s/#", "$s/+"),
        ):
            self.assertTrue(covers(wide, narrow), f"{wide} {narrow}")
        for wide, narrow in (
            ("#", "$s/a"),
            ("a/+", "a/#"),
            ("a/+/#", "a/#"),
            ("+", "#"),
            ("$s", "+"),
            ("a/b", "a/+"),
        ):
            self.assertFalse(covers(wide, narrow), f"{wide} {narrow}")

    def test_overlaps(self) -> None:
        """Two filters overlap if some topic matches both."""
        for one, other in (
            ("a/+", "+/b"),
            ("a/#", "a"),
            ("#", "a/b"),
            ("a/+/c", "a/b/#"),
            ("a/+/#", "a/#"),
        ):
            self.assertTrue(overlaps(one, other), f"{one} {other}")
            self.assertTrue(overlaps(other, one), f"{other} {one}")
        for one, other in (
            ("#", "$s/a"),
            ("+", "$s"),
            ("a/+", "a"),
            ("a/b", "+/c"),
            ("a/+/#", "a"),
        ):
            self.assertFalse(overlaps(one, other), f"{one} {other}")
            self.assertFalse(overlaps(other, one), f"{other} {one}")

    def test_by_brute_force(self) -> None:
        """For every pair of short filters both answers are what trying all topics says."""
        topics = all_topics(4)
        filters = [*all_filters(2), "a/+/#", "+/+/#", "+/a/+", "a/b/a", "a//#", "a/$s/+", "+/+/+"]
        matched = {
            each: frozenset(topic for topic in topics if matches(each, topic)) for each in filters
        }
        for one in filters:
            for other in filters:
                pair = f"{one} {other}"
                self.assertEqual(matched[one] >= matched[other], covers(one, other), pair)
                self.assertEqual(bool(matched[one] & matched[other]), overlaps(one, other), pair)


class ValidityTests(SynchronousTestCase):
    """Which names and filters are let in."""

    def assert_clause(self, clause: str, error: PeerError) -> None:
        self.assertEqual(clause, error.clause)

    def test_names(self) -> None:
        """Anything else than the forbidden is a topic name: spaces, separators alone, C{$}."""
        for topic in ("a", "/", "//", "a b/c", "$SYS/a", "\u00e9", "a/\x01", "x" * 65535):
            check_topic_name(topic, 128)

    def test_bad_names(self) -> None:
        """A topic name is not empty, has no wildcard and no null character, and fits its
        length prefix. [MQTT5-4.7.3-1] [MQTT5-4.7.0-1] [MQTT5-4.7.3-2] [MQTT5-4.7.3-3]
        [MQTT5-3.3.2-2] [MQTT311-4.7.3-1] [MQTT311-4.7.1-1] [MQTT311-4.7.3-2]
        [MQTT311-4.7.3-3] [MQTT311-3.3.2-2]"""
        for topic, clause in (
            ("", "MQTT5-4.7.3-1"),
            ("a/+", "MQTT5-4.7.0-1"),
            ("a#", "MQTT5-4.7.0-1"),
            ("a\0", "MQTT5-4.7.3-2"),
            ("x" * 65536, "MQTT5-4.7.3-3"),
            ("\u20ac" * 21846, "MQTT5-4.7.3-3"),
        ):
            self.assert_clause(
                clause, self.assertRaises(TopicNameInvalid, check_topic_name, topic, 128)
            )
        check_topic_name("\u20ac" * 21845, 128)

    def test_levels(self) -> None:
        """More levels than the limit are refused; a share's own two levels are not counted."""
        check_topic_name("/" * 127, 128)
        self.assertRaises(TopicNameInvalid, check_topic_name, "/" * 128, 128)
        check_topic_filter("+/" * 127 + "#", 128)
        self.assertRaises(TopicFilterInvalid, check_topic_filter, "+/" * 128 + "#", 128)
        check_topic_filter("$share/g/" + "+/" * 127 + "#", 128)
        self.assertRaises(TopicFilterInvalid, check_topic_filter, "$share/g/" + "/" * 128, 128)
        self.assertEqual(["", "a", ""], levels("/a/"))

    def test_filters(self) -> None:
        """Wildcards may stand for whole levels. [MQTT5-4.7.1-1] [MQTT5-4.7.1-2]
        [MQTT311-4.7.1-2] [MQTT311-4.7.1-3]"""
        for topic_filter in ("#", "+", "a/#", "/#", "+/+", "/+/", "a/+/#", "$share/g/a/#"):
            check_topic_filter(topic_filter, 128)

    def test_bad_filters(self) -> None:
        """A filter is not empty, has no null character, fits its length prefix, and its
        wildcards fill their levels, C{#} the last. [MQTT5-4.7.1-1] [MQTT5-4.7.1-2]
        [MQTT5-4.7.3-1] [MQTT5-4.7.3-2] [MQTT5-4.7.3-3] [MQTT311-4.7.1-2] [MQTT311-4.7.1-3]
        [MQTT311-4.7.3-1] [MQTT311-4.7.3-2] [MQTT311-4.7.3-3]"""
        for topic_filter, clause in (
            ("", "MQTT5-4.7.3-1"),
            ("a/\0", "MQTT5-4.7.3-2"),
            ("x" * 65536, "MQTT5-4.7.3-3"),
            ("sport/tennis#", "MQTT5-4.7.1-1"),
            ("sport/tennis/#/ranking", "MQTT5-4.7.1-1"),
            ("#/a", "MQTT5-4.7.1-1"),
            ("##", "MQTT5-4.7.1-1"),
            ("#/#", "MQTT5-4.7.1-1"),
            ("+#", "MQTT5-4.7.1-1"),
            ("sport+", "MQTT5-4.7.1-2"),
            ("a/+b/c", "MQTT5-4.7.1-2"),
            ("++", "MQTT5-4.7.1-2"),
            ("+a/#", "MQTT5-4.7.1-2"),
        ):
            self.assert_clause(
                clause,
                self.assertRaises(TopicFilterInvalid, check_topic_filter, topic_filter, 128),
            )

    def test_wildcards(self) -> None:
        """Filters that may match many topics are told from those that match one."""
        self.assertEqual(
            [True, True, False], [is_wildcard("a/+"), is_wildcard("#"), is_wildcard("a/b")]
        )

    def test_system(self) -> None:
        """A topic is the server's own when it begins with a dollar sign."""
        self.assertEqual([True, False], [is_system("$SYS/a"), is_system("a/$SYS")])

    def test_control_characters(self) -> None:
        """Control characters and lone surrogates are found; other rare characters are not
        taken for them."""
        for text in ("a\0", "\x01", "a\x1fb", "\x7f", "x\x80", "\x9f", "\ud800", "\udfffx"):
            self.assertTrue(has_control_characters(text), repr(text))
        for text in (
            "",
            "client 1",
            "\u00e9",
            "\u00a0",
            "\ufeff",
            "\ufdd0",
            "\U0001f600",
            "\u200b",
        ):
            self.assertFalse(has_control_characters(text), repr(text))


class SharedTests(SynchronousTestCase):
    """Topic filters of shared subscriptions."""

    def test_parsed(self) -> None:
        """Share name and filter are taken apart at the second separator.
        [MQTT5-4.8.2-1] [MQTT5-4.8.2-2]"""
        for topic_filter, expected in (
            ("$share/g/a", ("g", "a")),
            ("$share/g/a/+/#", ("g", "a/+/#")),
            ("$share/g//a", ("g", "/a")),
            ("$share/$g/$SYS/#", ("$g", "$SYS/#")),
            ("a/$share/g/a", None),
            ("$shared/g/a", None),
            ("$SHARE/g/a", None),
            ("#", None),
        ):
            self.assertEqual(expected, parse_shared(topic_filter), topic_filter)

    def test_bad(self) -> None:
        """Without a share name, with a wildcard in it, or with nothing behind it, it is no
        filter. [MQTT5-4.8.2-1] [MQTT5-4.8.2-2]"""
        for topic_filter, clause in (
            ("$share", "MQTT5-4.8.2-1"),
            ("$share/", "MQTT5-4.8.2-1"),
            ("$share//a", "MQTT5-4.8.2-1"),
            ("$share/g", "MQTT5-4.8.2-2"),
            ("$share/g/", "MQTT5-4.8.2-2"),
            ("$share/+/a", "MQTT5-4.8.2-2"),
            ("$share/g#/a", "MQTT5-4.8.2-2"),
            ("$share/#", "MQTT5-4.8.2-2"),
        ):
            error = self.assertRaises(TopicFilterInvalid, parse_shared, topic_filter)
            self.assertEqual(clause, error.clause, topic_filter)


class AnythingTests(SynchronousTestCase):
    """Whatever a client may send."""

    @settings(max_examples=200, deadline=None)
    @given(st.text("a/+#$\0\u20ac", max_size=12), st.text("a/$\u20ac", max_size=12))
    def test_total(self, topic_filter: str, topic: str) -> None:
        """Nothing but the documented errors comes out, and what is accepted as a topic matches
        itself."""
        try:
            check_topic_name(topic, 5)
        except TopicNameInvalid:
            pass
        else:
            self.assertTrue(matches(topic, topic))
            check_topic_filter(topic, 5)
        try:
            check_topic_filter(topic_filter, 5)
            parse_shared(topic_filter)
        except TopicFilterInvalid:
            pass
        matches(topic_filter, topic)
        self.assertEqual(overlaps(topic_filter, topic), overlaps(topic, topic_filter))
        covers(topic_filter, topic)
