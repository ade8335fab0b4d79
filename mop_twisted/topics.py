"""Topic names and topic filters: what is valid, what matches what.

Pure functions over strings. Nothing here knows a session, a subscription or a version.
L{matches} is the law by which the faster structures (L{mop_twisted.broker.router},
L{mop_twisted.broker.topictree}) are tested; the others serve where a filter meets a filter:
access rules, and the topic map.

Everything is iterative and linear in the length of its arguments: a topic may be 65,535 bytes
of nothing but separators. Characters are compared as they come, never normalised.
[MQTT5-4.7.3-4] [MQTT311-4.7.3-4]

MQTT 5.0 sections 4.7 and 4.8.2; MQTT 3.1.1 section 4.7.
"""

from __future__ import annotations

from typing import Final

from .errors import TopicFilterInvalid, TopicNameInvalid

MAXIMUM_BYTES: Final = 65535
"""What the length prefix of an MQTT string can say."""

SHARE: Final = "$share"
"""The first level of a shared subscription's topic filter [MQTT 5.0, 4.8.2]."""

_SHARE_PREFIX: Final = "$share/"
_WIDEST: Final = 4
"""Bytes that one character takes at most in UTF-8."""


def levels(topic: str) -> list[str]:
    """The levels of a topic name or filter, of which there is always one; any may be empty."""
    return topic.split("/")


def is_system(topic: str) -> bool:
    """Whether a topic begins with C{$}: no leading wildcard matches it [MQTT 5.0, 4.7.2]."""
    return topic.startswith("$")


def is_wildcard(topic_filter: str) -> bool:
    """Whether a valid filter can match more than one topic."""
    return "+" in topic_filter or "#" in topic_filter


def has_control_characters(text: str) -> bool:
    """Whether C{text} holds a control character (U+0000 to U+001F, U+007F to U+009F) or a lone
    surrogate.

    MQTT 5.0 section 1.5.4 lets a receiver take these for malformed. Topics may carry them
    here, but what names somebody (client identifiers, user names) may not: it is seen in logs
    and becomes part of other names.
    """
    if text.isprintable():
        return False
    for character in text:
        code = ord(character)
        if code < 0x20 or 0x7F <= code <= 0x9F or 0xD800 <= code <= 0xDFFF:
            return True
    return False


def _is_too_long(topic: str) -> bool:
    # Nearly every topic is short enough whatever it is made of, and is not encoded to know.
    if len(topic) * _WIDEST <= MAXIMUM_BYTES:
        return False
    return len(topic.encode("utf-8", "surrogatepass")) > MAXIMUM_BYTES


def check_topic_name(topic: str, maximum_levels: int) -> None:
    """Accept a name that may be published to.

    @raise TopicNameInvalid: it is empty, too long, has a wildcard or a null character, or more
        than C{maximum_levels} levels.
    """
    if not topic:
        # [MQTT5-4.7.3-1] [MQTT311-4.7.3-1]
        raise TopicNameInvalid("a topic name is empty", "MQTT5-4.7.3-1")
    if "+" in topic or "#" in topic:
        # [MQTT5-4.7.0-1] [MQTT5-3.3.2-2] [MQTT311-4.7.1-1] [MQTT311-3.3.2-2]
        raise TopicNameInvalid("a topic name has a wildcard character", "MQTT5-4.7.0-1")
    if "\0" in topic:
        # [MQTT5-4.7.3-2] [MQTT311-4.7.3-2]
        raise TopicNameInvalid("a topic name has a null character", "MQTT5-4.7.3-2")
    if _is_too_long(topic):
        # [MQTT5-4.7.3-3] [MQTT311-4.7.3-3]
        raise TopicNameInvalid(f"a topic name is over {MAXIMUM_BYTES} bytes", "MQTT5-4.7.3-3")
    if topic.count("/") >= maximum_levels:
        raise TopicNameInvalid(
            f"a topic name has {topic.count('/') + 1} levels, the limit is {maximum_levels}"
        )


def check_topic_filter(topic_filter: str, maximum_levels: int) -> None:
    """Accept a filter that may be subscribed to. The two levels that C{$share/group/} takes do
    not count; what else a shared subscription must keep to, L{parse_shared} checks.

    @raise TopicFilterInvalid: it is empty, too long, has a null character, a wildcard that is
        not a level of its own, a C{#} that is not its end, or more than C{maximum_levels}.
    """
    if not topic_filter:
        # [MQTT5-4.7.3-1] [MQTT311-4.7.3-1]
        raise TopicFilterInvalid("a topic filter is empty", "MQTT5-4.7.3-1")
    if "\0" in topic_filter:
        # [MQTT5-4.7.3-2] [MQTT311-4.7.3-2]
        raise TopicFilterInvalid("a topic filter has a null character", "MQTT5-4.7.3-2")
    if _is_too_long(topic_filter):
        # [MQTT5-4.7.3-3] [MQTT311-4.7.3-3]
        raise TopicFilterInvalid(f"a topic filter is over {MAXIMUM_BYTES} bytes", "MQTT5-4.7.3-3")
    separators = topic_filter.count("/")
    if topic_filter.startswith(_SHARE_PREFIX):
        separators -= 2
    if separators >= maximum_levels:
        raise TopicFilterInvalid(
            f"a topic filter has {separators + 1} levels, the limit is {maximum_levels}"
        )
    if "#" in topic_filter and (
        topic_filter.index("#") != len(topic_filter) - 1
        or not (topic_filter == "#" or topic_filter.endswith("/#"))
    ):
        # [MQTT5-4.7.1-1] [MQTT311-4.7.1-2]
        raise TopicFilterInvalid("'#' is not the last level, alone", "MQTT5-4.7.1-1")
    if "+" in topic_filter:
        for level in topic_filter.split("/"):
            if level != "+" and "+" in level:
                # [MQTT5-4.7.1-2] [MQTT311-4.7.1-3]
                raise TopicFilterInvalid("'+' does not fill its level", "MQTT5-4.7.1-2")


def parse_shared(topic_filter: str) -> tuple[str, str] | None:
    """Share name and pattern of C{$share/group/pattern}; C{None} for any other filter.

    The pattern is what topics are matched with; it still has to pass L{check_topic_filter},
    by itself or as part of C{topic_filter}.

    @raise TopicFilterInvalid: it begins with the level C{$share} and the share name is missing,
        empty or has a wildcard, or no filter follows.
    """
    if not topic_filter.startswith(SHARE):
        return None
    if not topic_filter.startswith(_SHARE_PREFIX):
        if topic_filter == SHARE:
            # [MQTT5-4.8.2-1]
            raise TopicFilterInvalid("a shared subscription has no share name", "MQTT5-4.8.2-1")
        return None
    end = topic_filter.find("/", len(_SHARE_PREFIX))
    group = topic_filter[len(_SHARE_PREFIX) : end if end >= 0 else len(topic_filter)]
    if not group:
        # [MQTT5-4.8.2-1]
        raise TopicFilterInvalid("a share name is empty", "MQTT5-4.8.2-1")
    if "+" in group or "#" in group:
        # [MQTT5-4.8.2-2]
        raise TopicFilterInvalid("a share name has a wildcard character", "MQTT5-4.8.2-2")
    if end < 0 or end + 1 == len(topic_filter):
        # [MQTT5-4.8.2-2]
        raise TopicFilterInvalid("no topic filter follows a share name", "MQTT5-4.8.2-2")
    return group, topic_filter[end + 1 :]


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a valid topic filter matches a valid topic name [MQTT 5.0, 4.7].

    For a shared subscription ask with its pattern: the rule for C{$} then holds for what
    follows the share name, too.
    """
    # [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]
    if topic.startswith("$") and topic_filter.startswith(("+", "#")):
        return False
    asked = topic_filter.split("/")
    given = topic.split("/")
    count = len(given)
    place = 0
    for level in asked:
        if level == "#":
            return True  # also of no level at all: "a/#" matches "a"
        if place == count or (level != "+" and level != given[place]):
            return False
        place += 1
    return place == count


def _is_apart(first: str, second: str) -> bool:
    """Whether one of two first levels is a wildcard and the other a C{$} level."""
    if second.startswith("$"):
        return first in ("+", "#")
    return first.startswith("$") and second in ("+", "#")


def covers(topic_filter: str, other: str) -> bool:
    """Whether C{topic_filter} matches every topic that C{other} matches. Either may be a topic
    name."""
    wide = topic_filter.split("/")
    # No topic is empty, so that these two demand a level more than they say.
    if other == "#":
        other = "+/#"
    elif other == "/#":
        other = "/+/#"
    narrow = other.split("/")
    if _is_apart(wide[0], narrow[0]):
        return False
    count = len(narrow)
    place = 0
    for level in wide:
        if level == "#":
            return True
        if place == count:
            return False
        opposite = narrow[place]
        if opposite == "#" or (level != "+" and level != opposite):
            return False
        place += 1
    return place == count


def overlaps(topic_filter: str, other: str) -> bool:
    """Whether there is a topic that both filters match. Either may be a topic name."""
    first = topic_filter.split("/")
    second = other.split("/")
    if _is_apart(first[0], second[0]):
        return False
    for level, opposite in zip(first, second, strict=False):
        if level == "#" or opposite == "#":
            return True
        if level != opposite and level != "+" and opposite != "+":
            return False
    if len(first) == len(second):
        return True
    # The longer one may still be at the end of what they share: "a/#" matches "a".
    longer, shared = (first, len(second)) if len(first) > len(second) else (second, len(first))
    # Of "+" and "/#" that would be the empty topic, and there is none.
    return longer[shared] == "#" and (shared > 1 or longer[0] != "")
