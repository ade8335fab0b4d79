"""Which subscriptions a topic has: the tree of filters, and the cache of what became of them.

Filters without wildcards lie in one dictionary; only the others make nodes of a tree. A topic
asks the dictionary once and walks the tree level by level, so that a match visits each stored
prefix that matches the topic once, and nothing else: no recursion, no scan.

What is made of a match (L{Router} is told how) is cached by topic. A change without wildcards
drops its own topic; one with wildcards raises a counter of the part of the tree where it lies,
and a look-up compares integers. Nothing here knows a session, a connection or a verdict; what
it is given is kept until it is removed.

MQTT 5.0 sections 3.3.4, 3.8.4 and 4.7.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, Final, Generic, TypeVar, final

from ..model import Subscription

Plan = TypeVar("Plan")

_BUCKETS: Final = 1 << 14
"""Counters of beginnings of topics. They are shared by hash, so that they need no room for
topics that are made up; a collision costs a match that was not needed."""

_EVICTED: Final = 256
"""Plans that leave a full cache together: few enough not to be felt, enough to make the walk
over what a dictionary has lost at its front cheap."""

_NAMES: Final = 1 << 13
"""Names of levels that are kept to be shared."""

_SLOT_BYTES: Final = 320
_TARGET_BYTES: Final = 160
"""What a plan is taken to hold for one subscription that it is made of."""

Held = Subscription | dict[Any, Subscription] | None
"""The subscriptions of one filter. Nearly always it is one, and a dictionary is 232 bytes."""


@final
class Node:
    """A level of filters with wildcards. It refers to what is below it and to nothing above:
    no cycle for the garbage collector to look for."""

    __slots__ = ("children", "here", "level", "only", "plus", "rest")

    def __init__(self) -> None:
        self.here: Held = None
        """Filters that end here."""
        self.rest: Held = None
        """Filters that end in C{#} below here."""
        self.plus: Node | None = None
        # One child is kept by itself: most nodes have no more.
        self.level: str | None = None
        self.only: Node | None = None
        self.children: dict[str, Node] | None = None

    def find(self, level: str) -> Node | None:
        """The child named C{level}."""
        if self.level is not None:
            return self.only if self.level == level else None
        if self.children is not None:
            return self.children.get(level)
        return None

    def put(self, level: str, child: Node) -> None:
        """Take in a child that is not there yet."""
        if self.level is not None and self.only is not None:
            self.children = {self.level: self.only, level: child}
            self.level = self.only = None
        elif self.children is not None:
            self.children[level] = child
        else:
            self.level = level
            self.only = child

    def drop(self, level: str) -> None:
        """Give up the child named C{level}, or the one of C{+}."""
        if level == "+":
            self.plus = None
        elif self.level is not None:
            self.level = self.only = None
        elif self.children is not None:
            del self.children[level]
            if len(self.children) == 1:
                self.level, self.only = self.children.popitem()
                self.children = None

    def is_empty(self) -> bool:
        """Whether nothing would be lost with it."""
        return (
            self.here is None
            and self.rest is None
            and self.plus is None
            and self.level is None
            and self.children is None
        )


@final
class Slot(Generic[Plan]):
    """A plan, and the counters by which it is known to be fresh."""

    __slots__ = ("first", "plan", "second", "stamp", "weight")

    def __init__(self, plan: Plan, first: int, second: int, stamp: int, weight: int) -> None:
        self.plan = plan
        self.first = first
        self.second = second
        # The sum of its three counters. They only rise: equal sums mean equal counters.
        self.stamp = stamp
        self.weight = weight


@final
class Router(Generic[Plan]):
    """The subscriptions of a node, and a plan for each topic.

    C{build} makes the plan of a topic from all subscriptions that match it; it must not change
    the router. The cache holds at most C{cache_size} plans, and fewer when topics are long or
    plans large: about C{cache_bytes} together, by estimate.
    """

    def __init__(
        self,
        build: Callable[[str, list[Subscription]], Plan],
        cache_size: int = 65536,
        cache_bytes: int = 128 * 1024 * 1024,
    ) -> None:
        self.subscriptions = 0
        """Subscriptions that it holds."""
        self.wildcards = 0
        """Those of them whose pattern has a wildcard."""
        self._build = build
        self._cache_size = cache_size
        self._cache_bytes = cache_bytes
        self._cache: dict[str, Slot[Plan]] = {}
        self._cached_bytes = 0
        # [0] counts changes of filters that begin with a wildcard; each other wildcard filter
        # raises the counter of its first two levels, or of its first if its second is a
        # wildcard: fleets have a common first level, and a device each at the second.
        self._counters = [0] * (_BUCKETS + 1)
        self._exact: dict[str, Subscription | dict[Any, Subscription]] = {}
        self._root = Node()
        self._names: dict[str, str] = {}

    # Changes

    def add(self, subscription: Subscription) -> None:
        """Match C{subscription.pattern} from now on. It takes the place of what the same
        session had with the same topic filter. [MQTT5-3.8.4-3] [MQTT311-3.8.4-3]"""
        pattern = subscription.pattern
        if "+" in pattern or "#" in pattern:
            node = self._root
            levels = pattern.split("/")
            if levels[-1] == "#":
                levels.pop()
                node = self._grow(node, levels)
                node.rest = self._join(node.rest, subscription, 1)
            else:
                node = self._grow(node, levels)
                node.here = self._join(node.here, subscription, 1)
        else:
            self._exact[pattern] = self._join(self._exact.get(pattern), subscription, 0)
        self.touch(subscription)

    def remove(self, subscription: Subscription) -> None:
        """Forget what the session has with this topic filter, if anything. [MQTT5-3.10.4-1]
        [MQTT311-3.10.4-1]"""
        pattern = subscription.pattern
        if "+" in pattern or "#" in pattern:
            self._prune(pattern.split("/"), subscription)
        else:
            held = self._exact.get(pattern)
            if held is not None:
                left = self._leave(held, subscription, 0)
                if left is None:
                    del self._exact[pattern]
                else:
                    self._exact[pattern] = left
        self.touch(subscription)

    def touch(self, subscription: Subscription) -> None:
        """Forget the plans that this subscription may be part of."""
        pattern = subscription.pattern
        if "+" in pattern or "#" in pattern:
            self._counters[_counter_of_filter(pattern)] += 1
        else:
            slot = self._cache.pop(pattern, None)
            if slot is not None:
                self._cached_bytes -= slot.weight

    def forget_all(self) -> None:
        """Forget every plan, as when access rules change."""
        self._counters[0] += 1
        self._cache.clear()
        self._cached_bytes = 0

    # Questions

    def match(self, topic: str) -> Plan:
        """The plan for C{topic}: the cached one while no subscription that it may be made of
        has changed, else a new one."""
        slot = self._cache.get(topic)
        if slot is not None:
            counters = self._counters
            if slot.stamp == counters[0] + counters[slot.first] + counters[slot.second]:
                return slot.plan
        return self._renew(topic, slot)

    def find(self, topic: str) -> list[Subscription]:
        """Every subscription that matches C{topic}, in no order. [MQTT5-3.3.4-2]"""
        found: list[Subscription] = []
        held = self._exact.get(topic)
        if held is not None:
            _collect(held, found)
        if not self.wildcards:
            return found
        nodes = [self._root]
        levels = topic.split("/")
        if topic[0:1] == "$":
            # A leading wildcard does not match it. [MQTT5-4.7.2-1] [MQTT311-4.7.2-1]
            child = self._root.find(levels.pop(0))
            nodes = [] if child is None else [child]
        for level in levels:
            below: list[Node] = []
            for node in nodes:
                if node.rest is not None:
                    _collect(node.rest, found)
                if node.level is not None:
                    if node.level == level and node.only is not None:
                        below.append(node.only)
                elif node.children is not None:
                    child = node.children.get(level)
                    if child is not None:
                        below.append(child)
                if node.plus is not None:
                    below.append(node.plus)
            if not below:
                return found
            nodes = below
        for node in nodes:
            if node.here is not None:
                _collect(node.here, found)
            if node.rest is not None:  # "a/#" matches "a"
                _collect(node.rest, found)
        return found

    # The cache

    def _renew(self, topic: str, stale: Slot[Plan] | None) -> Plan:
        first, second = _counters_of_topic(topic)
        counters = self._counters
        stamp = counters[0] + counters[first] + counters[second]
        found = self.find(topic)
        weight = _SLOT_BYTES + len(topic) + _TARGET_BYTES * len(found)
        plan = self._build(topic, found)
        self._cached_bytes += weight
        if stale is not None:
            self._cached_bytes -= stale.weight
        cache = self._cache
        cache[topic] = Slot(plan, first, second, stamp, weight)
        if len(cache) > self._cache_size:
            self._evict()
        # The newest one stays, whatever it weighs.
        while self._cached_bytes > self._cache_bytes and len(cache) > 1:
            self._evict()
        return plan

    def _evict(self) -> None:
        cache = self._cache
        spared = max(1, self._cache_size - _EVICTED) if len(cache) > self._cache_size else 1
        for topic in list(islice(cache, min(_EVICTED, len(cache) - spared))):
            self._cached_bytes -= cache.pop(topic).weight

    # The tree

    def _grow(self, node: Node, levels: list[str]) -> Node:
        """The node at C{levels}, made where it is missing."""
        for level in levels:
            if level == "+":
                child = node.plus
                if child is None:
                    child = node.plus = Node()
            else:
                child = node.find(level)
                if child is None:
                    child = Node()
                    node.put(self._name(level), child)
            node = child
        return node

    def _prune(self, levels: list[str], subscription: Subscription) -> None:
        """Take a subscription out, and the nodes that nothing needs any more."""
        ends_in_rest = levels[-1] == "#"
        if ends_in_rest:
            levels.pop()
        node = self._root
        path = [node]
        for level in levels:
            child = node.plus if level == "+" else node.find(level)
            if child is None:
                return
            node = child
            path.append(node)
        if ends_in_rest:
            if node.rest is not None:
                node.rest = self._leave(node.rest, subscription, 1)
        elif node.here is not None:
            node.here = self._leave(node.here, subscription, 1)
        place = len(levels)
        while place and path[place].is_empty():
            place -= 1
            path[place].drop(levels[place])

    def _name(self, level: str) -> str:
        """C{level}, as the string that other nodes use for it already where that is known.
        (Interned strings live for ever in some Pythons, and clients choose these.)"""
        names = self._names
        if len(names) >= _NAMES:
            names.clear()
        return names.setdefault(level, level)

    # The subscriptions of a filter

    def _join(
        self, held: Held, subscription: Subscription, wildcard: int
    ) -> Subscription | dict[Any, Subscription]:
        if held is None:
            self.subscriptions += 1
            self.wildcards += wildcard
            return subscription
        key = _key(subscription)
        if isinstance(held, Subscription):
            if _key(held) == key:
                return subscription
            held = {_key(held): held}
        before = len(held)
        held[key] = subscription
        if len(held) != before:
            self.subscriptions += 1
            self.wildcards += wildcard
        return held

    def _leave(
        self,
        held: Subscription | dict[Any, Subscription],
        subscription: Subscription,
        wildcard: int,
    ) -> Held:
        key = _key(subscription)
        left: Held = held
        if isinstance(held, Subscription):
            if _key(held) != key:
                return held
            left = None
        else:
            if held.pop(key, None) is None:
                return held
            if len(held) == 1:
                left = held.popitem()[1]
        self.subscriptions -= 1
        self.wildcards -= wildcard
        return left


def _key(subscription: Subscription) -> Any:
    """What makes it another one among those of the same pattern: its session, and its share
    name where it is shared."""
    if subscription.group:
        return (subscription.session, subscription.group)
    return subscription.session


def _collect(held: Subscription | dict[Any, Subscription], found: list[Subscription]) -> None:
    if isinstance(held, Subscription):
        found.append(held)
    else:
        found.extend(held.values())


def _bucket(beginning: str) -> int:
    return 1 + (hash(beginning) & (_BUCKETS - 1))


def _counters_of_topic(topic: str) -> tuple[int, int]:
    """The counters of its first level and of its first two (the same one, if it has one)."""
    end = topic.find("/")
    if end < 0:
        bucket = _bucket(topic)
        return bucket, bucket
    second = topic.find("/", end + 1)
    return _bucket(topic[:end]), _bucket(topic if second < 0 else topic[:second])


def _counter_of_filter(pattern: str) -> int:
    """The counter that plans of all topics that the wildcard filter matches depend on."""
    end = pattern.find("/")
    if pattern[0] in "+#":
        return 0
    if pattern[end + 1 : end + 2] in ("+", "#"):
        return _bucket(pattern[:end])
    second = pattern.find("/", end + 1)
    return _bucket(pattern[:second])
