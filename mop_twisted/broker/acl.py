"""Access control: mosquitto's C{acl_file}, and the rules that hold without one.

Lines are C{topic [read|write|readwrite|deny] FILTER} (before any C{user} line: for anonymous
clients), C{user NAME}, and C{pattern …} of the same form for all clients, in which C{%c} is
the client identifier and C{%u} the user name. A C{#} in column 1 begins a comment. Deny is first,
and what nothing allows is denied: an empty file denies everything (H24).

This is the one function that is asked on every way to a subscriber. It knows no session.
"""

from __future__ import annotations

from typing import Final, final

from zope.interface import implementer

from ..errors import ConfigError, TopicFilterInvalid
from ..interfaces import IAuthorizer
from ..model import Identity
from ..topics import check_topic_filter, covers, is_system, matches, overlaps

READ: Final = 1
WRITE: Final = 2
DENY: Final = 4
_ACCESS: Final = {"read": READ, "write": WRITE, "readwrite": READ | WRITE, "deny": DENY}
_BRIDGE_STATE: Final = "$SYS/broker/connection/+/state"
"""The one topic below $SYS that bridges of mosquitto write."""


@final
class Rule:
    """One line."""

    __slots__ = ("access", "topic_filter")

    def __init__(self, access: int, topic_filter: str) -> None:
        self.access = access
        self.topic_filter = topic_filter


def system_write(topic: str) -> bool:
    """Whether clients may ever publish to this C{$} topic. H27"""
    return matches(_BRIDGE_STATE, topic)


@final
@implementer(IAuthorizer)
class Everything:
    """No ACL: every client may do everything, but for what is the server's own."""

    version = 0
    open = True

    def may_publish(self, identity: Identity, topic: str) -> bool:
        """@see: L{IAuthorizer.may_publish}"""
        return not is_system(topic) or system_write(topic)

    def may_subscribe(self, identity: Identity, topic_filter: str) -> bool:
        """@see: L{IAuthorizer.may_subscribe}"""
        return True

    def may_receive(self, identity: Identity, topic: str) -> bool:
        """@see: L{IAuthorizer.may_receive}"""
        return True


@final
@implementer(IAuthorizer)
class AccessList:
    """An ACL file, read once.

    @raise ConfigError: (when made) it cannot be read, or a line is wrong.
    """

    version = 0
    open = False

    @classmethod
    def read(cls, path: str) -> AccessList:
        """Parse a file.

        @raise ConfigError: it cannot be read, or a line is wrong.
        """
        return cls(path)

    def __init__(self, path: str) -> None:
        self.warnings: list[str] = []
        self._anonymous: list[Rule] = []
        self._users: dict[str, list[Rule]] = {}
        self._patterns: list[Rule] = []
        try:
            with open(path, encoding="utf-8") as file:
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(path, f"cannot be read: {error}") from None
        rules = self._anonymous
        for number, line in enumerate(lines, 1):
            where = f"{path}:{number}"
            if not line.strip() or line.startswith("#"):
                continue
            word, _, rest = line.strip().partition(" ")
            rest = rest.strip()
            if word == "user" and rest:
                rules = self._users.setdefault(rest, [])
            elif word == "topic" and rest:
                rules.append(_rule(where, rest))
            elif word == "pattern" and rest:
                self._patterns.append(_rule(where, rest))
            else:
                raise ConfigError(where, "a line begins with topic, user or pattern")

    def may_publish(self, identity: Identity, topic: str) -> bool:
        """@see: L{IAuthorizer.may_publish}"""
        if is_system(topic) and not system_write(topic):
            return False
        return self._allows(identity, WRITE, topic)

    def may_receive(self, identity: Identity, topic: str) -> bool:
        """@see: L{IAuthorizer.may_receive}"""
        return self._allows(identity, READ, topic)

    def may_subscribe(self, identity: Identity, topic_filter: str) -> bool:
        """@see: L{IAuthorizer.may_subscribe}

        Each topic is asked for again when a message comes, so that a filter wider than what is
        allowed gets what is."""
        allowed = False
        for rule in self._of(identity):
            if rule.access == DENY:
                if covers(rule.topic_filter, topic_filter):
                    return False
            elif rule.access & READ and overlaps(rule.topic_filter, topic_filter):
                allowed = True
        return allowed

    def _allows(self, identity: Identity, access: int, topic: str) -> bool:
        allowed = False
        for rule in self._of(identity):
            if (rule.access == DENY or rule.access & access) and matches(rule.topic_filter, topic):
                if rule.access == DENY:
                    return False
                allowed = True
        return allowed

    def _of(self, identity: Identity) -> list[Rule]:
        """The rules for one client, patterns filled in."""
        user = identity.user_name
        rules = self._anonymous if user is None else self._users.get(user, [])
        if not self._patterns:
            return rules
        filled = list(rules)
        for pattern in self._patterns:
            topic_filter = _fill(pattern.topic_filter, identity.client_id, user)
            if topic_filter is not None:
                filled.append(Rule(pattern.access, topic_filter))
        return filled


def _rule(where: str, text: str) -> Rule:
    word, space, rest = text.partition(" ")
    access = _ACCESS.get(word) if space else None
    topic_filter = text if access is None else rest.strip()
    if access is None and space:
        raise ConfigError(where, f"{word!r} is none of read, write, readwrite, deny")
    try:
        check_topic_filter(topic_filter, 1000)
    except TopicFilterInvalid as error:
        raise ConfigError(where, str(error)) from None
    return Rule(access or READ | WRITE, topic_filter)


def _fill(pattern: str, client_id: str, user_name: str | None) -> str | None:
    """A pattern for one client; C{None} when it says nothing of it. A name with a wildcard or a
    level separator never goes into a filter (H14)."""
    filled = []
    for level in pattern.split("/"):
        name: str | None = level
        if level == "%c":
            name = client_id
        elif level == "%u":
            name = user_name
        if name is None or (name is not level and (not name or set(name) & set("+#/"))):
            return None
        filled.append(name)
    return "/".join(filled)
