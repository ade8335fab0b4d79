"""What every L{mop_twisted.interfaces.IStateStore} must do; subclasses say which one."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks
from zope.interface.verify import verifyObject

from mop_twisted.interfaces import IStateStore
from mop_twisted.model import Change

from .log import Yields, told


class StateContract:
    """Mixed with a C{TestCase} whose C{opened_store} opens stores on one place, empty at first,
    and whose C{closed_store} closes them."""

    def opened_store(self) -> Deferred[Any]:
        """A store that is open."""
        raise NotImplementedError

    def closed_store(self, store: Any) -> Deferred[None]:
        """Close it."""
        raise NotImplementedError

    def put(self, store: Any, *changes: tuple[str, str, bytes | None]) -> Deferred[None]:
        """Put, and fire when it is confirmed."""
        done, completed = told()
        store.put([Change(*change) for change in changes], completed)
        return done

    @inlineCallbacks
    def records(
        self, store: Any, kind: str
    ) -> Generator[Deferred[Any], Any, list[tuple[str, bytes]]]:
        """All records of a kind, in the order in which they come."""
        found: list[tuple[str, bytes]] = []
        count = yield store.load(kind, found.extend)
        self.assertEqual(count, len(found))
        return found

    @inlineCallbacks
    def test_put_and_load(self) -> Yields:
        """What was confirmed is found after a restart, kind by kind, in order of the keys."""
        store = yield self.opened_store()
        verifyObject(IStateStore, store)
        yield self.put(store, ("x", "b", b"2"), ("x", "a", b"1"), ("y", "a", b"\0\xff"))
        yield self.put(store, ("x", "c\0d/ü", b""))
        for _ in range(2):
            found = yield self.records(store, "x")
            self.assertEqual(found, [("a", b"1"), ("b", b"2"), ("c\0d/ü", b"")])
            found = yield self.records(store, "y")
            self.assertEqual(found, [("a", b"\0\xff")])
            found = yield self.records(store, "z")
            self.assertEqual(found, [])
            yield self.closed_store(store)
            store = yield self.opened_store()

    @inlineCallbacks
    def test_last_wins(self) -> Yields:
        """Puts of one key count in the order of the calls, within one too; C{None} deletes."""
        store = yield self.opened_store()
        waiting = [self.put(store, ("x", "a", b"%d" % n), ("x", "b", b"b")) for n in range(20)]
        waiting.append(self.put(store, ("x", "b", None), ("x", "c", b"1"), ("x", "c", b"2")))
        waiting.append(self.put(store, ("x", "nothing", None)))
        yield from waiting
        yield self.closed_store(store)
        store = yield self.opened_store()
        found = yield self.records(store, "x")
        self.assertEqual(found, [("a", b"19"), ("c", b"2")])

    @inlineCallbacks
    def test_many(self) -> Yields:
        """Thousands of records come in portions, each once."""
        store = yield self.opened_store()
        records = [("x", f"{n:05}", b"%d" % n) for n in range(5001)]
        yield self.put(store, *records)
        portions: list[Any] = []
        count = yield store.load("x", portions.append)
        self.assertEqual(count, 5001)
        self.assertGreater(len(portions), 1)
        found = [record for portion in portions for record in portion]
        self.assertEqual(found, [(key, value) for _, key, value in records])

    @inlineCallbacks
    def test_watch_is_not_told_of_our_own(self) -> Yields:
        """What this node puts is no news to it."""
        store = yield self.opened_store()
        heard: list[Any] = []
        store.watch("x", heard.append)
        yield self.put(store, ("x", "a", b"1"))
        self.assertEqual(heard, [])
