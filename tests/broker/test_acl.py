"""Access lists."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mop_twisted.broker.acl import AccessList, Everything
from mop_twisted.errors import ConfigError
from mop_twisted.interfaces import IAuthorizer
from mop_twisted.model import Identity

ANYBODY = Identity("c1", None)
ALICE = Identity("c1", "alice")
BOB = Identity("c2", "bob")


def access_list(*lines: str) -> AccessList:
    """An access list of these lines."""
    return AccessList.parse("".join(line + "\n" for line in lines).encode(), "acl")


class OpenTests(SynchronousTestCase):
    """Without an access list."""

    def test_everything_but_dollar(self) -> None:
        """Everybody may do everything and read C{$SYS}, but publish to no C{$} topic. H27"""
        everything = Everything()
        verifyObject(IAuthorizer, everything)
        self.assertTrue(everything.open)
        self.assertTrue(everything.may_publish(ANYBODY, "a/b"))
        self.assertTrue(everything.may_receive(ANYBODY, "$SYS/broker/uptime"))
        self.assertTrue(everything.may_subscribe(ANYBODY, "$SYS/#"))
        for topic in ("$SYS/broker/uptime", "$CONTROL/x", "$SYS/broker/connection/b/state"):
            self.assertFalse(everything.may_publish(ANYBODY, topic))


class RuleTests(SynchronousTestCase):
    """What lines allow."""

    def test_interface(self) -> None:
        """It is what the broker asks."""
        verifyObject(IAuthorizer, access_list())
        self.assertFalse(access_list().open)

    def test_empty_forbids_everything(self) -> None:
        """An empty file, or one of comments alone, forbids everything. H24"""
        for lines in ((), ("",), ("# topic readwrite #",)):
            rules = access_list(*lines)
            self.assertFalse(rules.may_publish(ANYBODY, "a"))
            self.assertFalse(rules.may_receive(ALICE, "a"))
            self.assertFalse(rules.may_subscribe(ALICE, "#"))
            self.assertFalse(rules.may_receive(ALICE, "$SYS/broker/uptime"))

    def test_types(self) -> None:
        """A line allows reading, writing, or both, which is meant when it does not say."""
        rules = access_list("topic read r/+", "topic write w", "topic readwrite b", "topic n")
        for topic, reads, writes in (
            ("r/1", True, False),
            ("w", False, True),
            ("b", True, True),
            ("n", True, True),
            ("x", False, False),
        ):
            self.assertEqual(reads, rules.may_receive(ANYBODY, topic), topic)
            self.assertEqual(writes, rules.may_publish(ANYBODY, topic), topic)

    def test_users(self) -> None:
        """Lines before any user are for anonymous clients alone, the others for their user, also
        when it is named twice."""
        rules = access_list(
            "topic a", "user alice", "topic b", "user bob", "topic c", "user alice", "topic d"
        )
        found = {
            name: "".join(topic for topic in "abcd" if rules.may_publish(identity, topic))
            for name, identity in (("-", ANYBODY), ("alice", ALICE), ("bob", BOB))
        }
        self.assertEqual({"-": "a", "alice": "bd", "bob": "c"}, found)

    def test_deny_first(self) -> None:
        """A deny line wins over whatever else matches, wherever it stands."""
        rules = access_list(
            "topic readwrite #", "topic deny secret/#", "pattern deny %c/own", "pattern read open"
        )
        self.assertTrue(rules.may_receive(ANYBODY, "a"))
        for topic in ("secret", "secret/x", "c1/own"):
            self.assertFalse(rules.may_receive(ANYBODY, topic))
            self.assertFalse(rules.may_publish(ANYBODY, topic))

    def test_lines_for_one_filter_add_up(self) -> None:
        """Two lines for one topic are both true."""
        rules = access_list("topic read a", "topic write a", "topic read b", "topic deny b")
        self.assertTrue(rules.may_receive(ANYBODY, "a") and rules.may_publish(ANYBODY, "a"))
        self.assertFalse(rules.may_receive(ANYBODY, "b"))

    def test_spaces(self) -> None:
        """A topic with spaces needs the type before it; spaces around words do not matter."""
        rules = access_list("topic read a b", "  topic   write   c d  ", "user  al ice", "topic e")
        self.assertTrue(rules.may_receive(ANYBODY, "a b"))
        self.assertTrue(rules.may_publish(ANYBODY, "c d"))
        self.assertTrue(rules.may_publish(Identity("c", "al ice"), "e"))
        self.assertRaises(ConfigError, access_list, "topic a b")

    def test_system_topics(self) -> None:
        """C{$SYS} is read where a line says so, which C{#} does not. H27"""
        rules = access_list("topic readwrite #", "user alice", "topic readwrite $SYS/#")
        self.assertFalse(rules.may_receive(ANYBODY, "$SYS/broker/uptime"))
        self.assertFalse(rules.may_subscribe(ANYBODY, "$SYS/#"))
        self.assertTrue(rules.may_receive(ALICE, "$SYS/broker/uptime"))
        self.assertFalse(rules.may_publish(ALICE, "$SYS/broker/uptime"))
        self.assertTrue(rules.may_publish(ALICE, "$SYS/broker/connection/b/state"))

    def test_bridge_state(self) -> None:
        """mosquitto's bridges may say whether they are up, where a line lets them."""
        rules = access_list("pattern write $SYS/broker/connection/%c/state")
        self.assertTrue(rules.may_publish(ALICE, "$SYS/broker/connection/c1/state"))
        self.assertFalse(rules.may_publish(ALICE, "$SYS/broker/connection/c2/state"))


class SubscribeTests(SynchronousTestCase):
    """Whether a filter may be subscribed to."""

    def test_some_topic(self) -> None:
        """A filter is allowed when some topic of it may be read, and refused when none is."""
        rules = access_list("topic read a/b", "topic read c/+/d", "topic write w")
        for topic_filter, allowed in (
            ("a/b", True),
            ("a/+", True),
            ("#", True),
            ("c/x/d", True),
            ("c/#", True),
            ("+/+/+", True),
            ("a", False),
            ("b/#", False),
            ("w", False),
            ("$SYS/#", False),
        ):
            self.assertEqual(allowed, rules.may_subscribe(ANYBODY, topic_filter), topic_filter)

    def test_deny(self) -> None:
        """A deny line refuses what it has all topics of; of a wider filter the rest comes."""
        rules = access_list("topic read #", "topic deny secret/#")
        for topic_filter, allowed in (
            ("secret/#", False),
            ("secret/+/x", False),
            ("secret", False),
            ("+/x", True),
            ("#", True),
        ):
            self.assertEqual(allowed, rules.may_subscribe(ANYBODY, topic_filter), topic_filter)

    def test_nothing_left(self) -> None:
        """What a deny line takes back altogether is no reason to allow a wider filter."""
        rules = access_list("topic read secret/a", "topic deny secret/#")
        self.assertFalse(rules.may_subscribe(ANYBODY, "#"))

    def test_shared_by_its_pattern(self) -> None:
        """The question is asked with what follows the share name: a rule for C{$share} could
        never match, and is an error. H17"""
        error = self.assertRaises(ConfigError, access_list, "topic deny $share/g/secret")
        self.assertEqual("acl:1", error.where)


class PatternTests(SynchronousTestCase):
    """C{%c} and C{%u}."""

    def test_substituted(self) -> None:
        """A pattern is for everybody, with their own names in it, also below a user."""
        rules = access_list("user bob", "pattern readwrite %u/%c/#", "pattern read to/%c")
        self.assertTrue(rules.may_publish(ALICE, "alice/c1/x"))
        self.assertFalse(rules.may_publish(ALICE, "bob/c1/x"))
        self.assertFalse(rules.may_publish(ALICE, "alice/c2/x"))
        self.assertTrue(rules.may_receive(BOB, "to/c2"))
        self.assertTrue(rules.may_subscribe(BOB, "to/+"))
        self.assertFalse(rules.may_subscribe(BOB, "to/c1"))

    def test_without_user_name(self) -> None:
        """A pattern with a user name says nothing of anonymous clients."""
        rules = access_list("pattern readwrite %u/#", "pattern read %c")
        self.assertFalse(rules.may_publish(ANYBODY, "/x"))
        self.assertTrue(rules.may_receive(ANYBODY, "c1"))

    def test_names_that_reach_out(self) -> None:
        """A name with a wildcard or a separator gains nothing by a pattern. H14"""
        rules = access_list("pattern readwrite in/%u/x", "pattern readwrite %c/#")
        for name in ("+", "#", "a/b", "a+", "x#"):
            hostile = Identity(name, name)
            for topic in ("in/alice/x", f"in/{name}/x", "in/a/b/x", f"{name}/y", "a/b/y"):
                self.assertFalse(rules.may_receive(hostile, topic), topic)
                self.assertFalse(rules.may_publish(hostile, topic), topic)
            for topic_filter in ("#", "in/#", "+/+/+"):
                self.assertFalse(rules.may_subscribe(hostile, topic_filter), topic_filter)

    def test_name_of_a_system_topic(self) -> None:
        """Nobody gets at C{$SYS} by calling themselves so. H14"""
        rules = access_list("pattern readwrite %c/#", "pattern read at/%c")
        hostile = Identity("$SYS", None)
        self.assertFalse(rules.may_receive(hostile, "$SYS/broker/uptime"))
        self.assertFalse(rules.may_subscribe(hostile, "$SYS/#"))
        self.assertTrue(rules.may_receive(hostile, "at/$SYS"))

    def test_names_do_not_escape_deny(self) -> None:
        """A name that cannot be substituted does not make a deny pattern void. H14"""
        rules = access_list(
            "topic readwrite #", "topic readwrite $SYS/#", "pattern deny x/%c/y", "pattern deny %c"
        )
        self.assertFalse(rules.may_publish(Identity("a/b", None), "x/a/b/y"))
        self.assertFalse(rules.may_publish(Identity("+", None), "x/q/y"))
        self.assertFalse(rules.may_receive(Identity("$SYS/a", None), "$SYS/a"))
        self.assertTrue(rules.may_publish(ANYBODY, "x/c2/y"))

    def test_for_everybody(self) -> None:
        """A pattern without a name in it is a line for everybody, and a warning."""
        rules = access_list("user bob", "pattern read a")
        self.assertTrue(rules.may_receive(ALICE, "a"))
        self.assertEqual(1, len(rules.warnings))
        self.assertIn("acl:2", rules.warnings[0])

    def test_many_clients(self) -> None:
        """What is remembered of clients is bounded, and right for each."""
        rules = access_list("pattern read %c")
        for number in range(10_010):
            self.assertTrue(rules.may_receive(Identity(f"c{number}", None), f"c{number}"))
        self.assertLessEqual(len(rules._substituted), 10_000)


class FileTests(SynchronousTestCase):
    """Reading a file."""

    def test_wrong_lines(self) -> None:
        """A wrong line is refused with its number: a deny that nobody understood would be a
        hole. H24"""
        for line in (
            "topics a",
            "topic",
            "topic deny",
            "topic read",
            "topic reads a",
            "topic a/#/b",
            "topic read a+",
            "topic\tread a",
            "user",
            "pattern",
            "pattern read x%c",
            "pattern read a/%u-x",
            " # no comment",
            "\ufefftopic a",
        ):
            error = self.assertRaises(ConfigError, access_list, "topic a", "", line)
            self.assertEqual("acl:3", error.where, line)

    def test_not_utf_8(self) -> None:
        """Bytes that are no text are refused with the number of their line."""
        error = self.assertRaises(ConfigError, AccessList.parse, b"topic a\ntopic \xff\n", "acl")
        self.assertEqual("acl:2", error.where)

    def test_windows_lines(self) -> None:
        """Lines may end as on Windows, and the last one without an end."""
        rules = AccessList.parse(b"topic a\r\n\r\n# x\r\ntopic b", "acl")
        self.assertTrue(rules.may_receive(ANYBODY, "a") and rules.may_receive(ANYBODY, "b"))

    def test_missing(self) -> None:
        """A file that is not there is an error that names it."""
        path = os.path.join(self.mktemp(), "acl")
        self.assertEqual(path, self.assertRaises(ConfigError, AccessList.read, path).where)
