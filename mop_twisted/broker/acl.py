"""Access lists: what a client may publish and receive, in the format of mosquitto's C{acl_file}.

A line is C{topic}, C{pattern} or C{user}; C{topic} and C{pattern} take C{read}, C{write},
C{readwrite} (when nothing is said) or C{deny}, and a topic filter. Lines before the first C{user}
are for anonymous clients, lines after it for that user, C{pattern} lines for everybody. What no
line allows is forbidden, so that an empty file forbids everything; any C{deny} that matches wins.
Topics that begin with C{$} nobody publishes to, but for the state of mosquitto's bridges.

This module knows topics and identities. It does not know how an identity was proved.

Design 3.8; the hostile cases H14, H17, H24 and H27.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple, final

from zope.interface import implementer

from ..errors import ConfigError, TopicFilterInvalid
from ..interfaces import IAuthorizer
from ..model import Identity
from ..topics import (
    check_topic_filter,
    covers,
    has_control_characters,
    is_system,
    is_wildcard,
    matches,
    overlaps,
)

BRIDGE_STATE: Final = "$SYS/broker/connection/+/state"
"""Where mosquitto's bridges say whether they are up."""

READ: Final = 1
WRITE: Final = 2
DENY: Final = 4

_ACCESS: Final = {"read": READ, "write": WRITE, "readwrite": READ | WRITE, "deny": DENY}

_LEVELS: Final = 65536
"""No limit of its own: what clients may use is limited elsewhere."""

_REMEMBERED: Final = 10_000
"""Identities whose substituted patterns are remembered."""


class _Pattern(NamedTuple):
    access: int
    levels: tuple[str, ...]


@final
class Rules:
    """Filters by what they allow. Those without wildcards are looked up, the others tried."""

    __slots__ = ("_exact", "_wild")

    def __init__(self) -> None:
        self._exact: dict[str, int] = {}
        self._wild: dict[str, int] = {}

    def add(self, access: int, topic_filter: str) -> None:
        """Another line; lines for one filter add up."""
        rules = self._wild if is_wildcard(topic_filter) else self._exact
        rules[topic_filter] = rules.get(topic_filter, 0) | access

    def access(self, topic: str) -> int:
        """All that the lines say of a topic name, C{DENY} among it."""
        found = self._exact.get(topic, 0)
        for topic_filter, access in self._wild.items():
            if access & ~found and matches(topic_filter, topic):
                found |= access
        return found

    def denied(self) -> Iterable[str]:
        """Filters of C{deny} lines."""
        for rules in (self._exact, self._wild):
            for topic_filter, access in rules.items():
                if access & DENY:
                    yield topic_filter

    def readable(self, topic_filter: str) -> Iterable[str]:
        """Filters of C{read} lines that have a topic in common with C{topic_filter}."""
        for rules in (self._exact, self._wild):
            for rule, access in rules.items():
                if access & READ and overlaps(topic_filter, rule):
                    yield rule


_NONE: Final = Rules()


@final
@implementer(IAuthorizer)
class Everything:
    """Without an access list: all may do all, but nobody publishes to C{$} topics."""

    open = True

    def __init__(self, version: int = 1) -> None:
        self.version = version

    def may_publish(self, identity: Identity, topic: str) -> bool:
        """H27: what C{$SYS} says must be the broker's own."""
        return not is_system(topic)

    def may_subscribe(self, identity: Identity, topic_filter: str) -> bool:
        """Yes."""
        return True

    def may_receive(self, identity: Identity, topic: str) -> bool:
        """Yes."""
        return True


@final
@implementer(IAuthorizer)
class AccessList:
    """What an access list says."""

    open = False

    def __init__(self, version: int = 1) -> None:
        self.version = version
        self.warnings: list[str] = []
        """Lines that are right but cannot be meant."""
        self._anonymous = Rules()
        self._users: dict[str, Rules] = {}
        self._patterns: list[_Pattern] = []
        self._substituted: dict[tuple[str, str | None], Rules] = {}

    # Reading

    @classmethod
    def read(cls, path: str) -> AccessList:
        """Parse a file.

        @raise ConfigError: it cannot be read, or a line of it is wrong: C{FILE:LINE}.
        """
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError as error:
            raise ConfigError(path, f"cannot be read: {error.strerror}") from None
        return cls.parse(content, path)

    @classmethod
    def parse(cls, content: bytes, where: str) -> AccessList:
        """Parse what a file called C{where} holds.

        @raise ConfigError: a line is wrong. Nothing is skipped: a line that is not understood
            might have been a C{deny}.
        """
        access_list = cls()
        rules = access_list._anonymous
        for number, raw in enumerate(content.split(b"\n"), 1):
            try:
                line = raw.decode().rstrip(" \t\r\v\f")
                if line and not line.startswith("#"):
                    rules = access_list._line(line.lstrip(" "), rules, f"{where}:{number}")
            except UnicodeDecodeError:
                raise ConfigError(f"{where}:{number}", "not UTF-8") from None
            except ValueError as error:
                raise ConfigError(f"{where}:{number}", str(error)) from None
        return access_list

    def _line(self, line: str, rules: Rules, where: str) -> Rules:
        """Take one line; returns the rules that the next C{topic} line belongs to."""
        keyword, _, rest = line.partition(" ")
        rest = rest.lstrip(" ")
        if has_control_characters(line):
            raise ValueError("has control characters (words are separated by spaces, not tabs)")
        if keyword == "user":
            if not rest:
                raise ValueError("the user name is missing")
            return self._users.setdefault(rest, Rules())
        if keyword not in ("topic", "pattern"):
            raise ValueError(f"begins with {keyword!r}, not with topic, pattern, user or #")
        access, topic_filter = _rule(rest)
        if keyword == "topic":
            rules.add(access, topic_filter)
            return rules
        levels = tuple(topic_filter.split("/"))
        for level in levels:
            if level not in ("%c", "%u") and ("%c" in level or "%u" in level):
                raise ValueError(f"%c and %u must be a whole level, not a part as in {level!r}")
        if "%c" not in levels and "%u" not in levels:
            self.warnings.append(
                f"{where}: a pattern without %c and %u is a topic line for everybody"
            )
        self._patterns.append(_Pattern(access, levels))
        return rules

    # Asking

    def may_publish(self, identity: Identity, topic: str) -> bool:
        """Whether a C{write} line allows it and no C{deny} line matches."""
        if is_system(topic) and not matches(BRIDGE_STATE, topic):
            return False  # H27
        return self._access(identity, topic) & (WRITE | DENY) == WRITE

    def may_receive(self, identity: Identity, topic: str) -> bool:
        """Whether a C{read} line allows it and no C{deny} line matches."""
        return self._access(identity, topic) & (READ | DENY) == READ

    def may_subscribe(self, identity: Identity, topic_filter: str) -> bool:
        """Whether a topic that the filter matches may be received: a C{read} line has one in
        common with it, no C{deny} line has them all."""
        if not is_wildcard(topic_filter):
            return self.may_receive(identity, topic_filter)
        both = self._both(identity)
        denied = [rule for rules in both for rule in rules.denied()]
        if any(covers(rule, topic_filter) for rule in denied):
            return False
        return any(
            not any(covers(rule, readable) for rule in denied)
            for rules in both
            for readable in rules.readable(topic_filter)
        )

    def _access(self, identity: Identity, topic: str) -> int:
        own, patterns = self._both(identity)
        return own.access(topic) | patterns.access(topic)

    def _both(self, identity: Identity) -> tuple[Rules, Rules]:
        name = identity.user_name
        own = self._anonymous if name is None else self._users.get(name, _NONE)
        if not self._patterns:
            return own, _NONE
        key = (identity.client_id, name)
        patterns = self._substituted.get(key)
        if patterns is None:
            if len(self._substituted) >= _REMEMBERED:
                self._substituted.clear()
            patterns = self._substituted[key] = self._substitute(identity)
        return own, patterns

    def _substitute(self, identity: Identity) -> Rules:
        rules = Rules()
        for pattern in self._patterns:
            topic_filter = _substituted(pattern, identity)
            if topic_filter is not None:
                rules.add(pattern.access, topic_filter)
        return rules


def _rule(rest: str) -> tuple[int, str]:
    """Access and topic filter of what follows C{topic} or C{pattern}.

    As in mosquitto: the type may be left out, and then the filter cannot have a space. A type
    alone mosquitto takes for a topic of that name; here it is refused, because C{topic deny}
    would allow something.
    """
    word, space, topic_filter = rest.partition(" ")
    topic_filter = topic_filter.lstrip(" ")
    if not space:
        if not word or word in _ACCESS:
            raise ValueError("the topic is missing")
        access, topic_filter = READ | WRITE, word
    elif word in _ACCESS:
        access = _ACCESS[word]
    else:
        raise ValueError(
            f"access is {word!r}, not read, write, readwrite or deny "
            "(which a topic with spaces needs before it)"
        )
    if topic_filter.startswith("$share/"):
        # H17: subscriptions are judged by the filter behind it, so that this would never match.
        raise ValueError("rules are for topics: leave out $share and the share name")
    try:
        check_topic_filter(topic_filter, _LEVELS)
    except TopicFilterInvalid as error:
        raise ValueError(str(error)) from None
    return access, topic_filter


def _substituted(pattern: _Pattern, identity: Identity) -> str | None:
    """A pattern with the identity's names in it; C{None} when it says nothing of this client.

    A name with a wildcard or a separator in it would reach beyond its level, and one that
    begins with C{$} at the first level into the broker's own topics: such a name is never
    allowed anything by a pattern (H14, CVE-2017-7650). To forbid it all the same, what it is
    forbidden is everything from that level on.
    """
    levels: list[str] = []
    for place, level in enumerate(pattern.levels):
        if level not in ("%c", "%u"):
            levels.append(level)
            continue
        name = identity.client_id if level == "%c" else identity.user_name
        if not name:
            return None
        if "+" in name or "#" in name or "/" in name:
            if pattern.access != DENY:
                return None
            if place == 0 and is_system(name):
                return name.split("/")[0] + "/#"  # which "#" would not match
            return "/".join([*levels, "#"])
        if place == 0 and is_system(name) and pattern.access != DENY:
            return None
        levels.append(name)
    return "/".join(levels)
