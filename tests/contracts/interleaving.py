"""What every log must do however its calls fall together: a session against a model of it."""

from __future__ import annotations

from random import Random
from typing import Any

from twisted.internet.defer import Deferred, inlineCallbacks

from mop_twisted.model import Audience

from .follower import Follower, message
from .log import LogBase, Yields, turn


class InterleavingContract(LogBase):
    """Anything, in any order, by chance."""

    @inlineCallbacks
    def interleave(self, seed: int, reopen: bool) -> Yields:
        """Anything, in any order, by chance."""
        random = Random(seed)
        log = yield self.opened()
        names = ["a", "b"]
        for name in names:
            cursor = yield log.cursor(f"{name}{seed}")
            self.followers.append(Follower(cursor))
        audiences = [Audience(tuple(f.cursor for f in fs)) for fs in self._subsets()]
        published = 0
        pending: list[Deferred[Any]] = []
        fetches: list[Deferred[Any]] = []
        for _ in range(random.randrange(20, 70)):
            follower = random.choice(self.followers)
            what = random.random()
            if what < 0.35:
                batch = []
                for _ in range(random.choice((1, 1, 2, 5, 20))):
                    audience = random.choice([None, *audiences])
                    batch.append(message(published, audience=audience))
                    for one in self.followers:
                        if audience is not None and one.cursor in audience.cursors:
                            one.wanted.append(published)
                    published += 1
                pending.append(self.publish(log, *batch))
            elif what < 0.6:
                if not (follower.live or follower.fetching):
                    limit_bytes = random.choice((1, 100, 1 << 20))
                    fetches.append(follower.fetch(random.choice((1, 3, 50)), limit_bytes))
            elif what < 0.75:
                count = random.randrange(len(follower.held) + 1)
                follower.acknowledge(random.sample(follower.held, count))
            elif what < 0.82:
                if follower.live:
                    follower.pause(random)
            elif what < 0.87:
                if not follower.fetching:
                    follower.rewind()
            elif what < 0.9 and reopen:
                for fetch in fetches:
                    yield fetch
                for done in pending:
                    yield done
                yield log.stop()
                followers = self.followers
                log = yield self.opened()
                self.followers = followers
                for name, one in zip(names, followers, strict=True):
                    one.forget_flights()
                    one.cursor = yield log.cursor(f"{name}{seed}")
                audiences = [Audience(tuple(f.cursor for f in fs)) for fs in self._subsets()]
            else:
                yield turn()
        for fetch in fetches:
            yield fetch
        for done in pending:
            yield done
        for follower in self.followers:
            while not follower.live:
                yield follower.fetch()
            follower.check()
            follower.acknowledge(list(follower.held))
            self.assertEqual(follower.cursor.backlog_messages, 0)
        yield log.stop()

    def _subsets(self) -> list[list[Follower]]:
        first, second = self.followers
        return [[first], [second], [first, second]]

    @inlineCallbacks
    def test_interleaved(self) -> Yields:
        """However publishing, fetching, taking, acknowledging and lost connections fall
        together, nothing is lost, doubled or out of order. [MQTT5-4.6.0-1] [MQTT5-4.6.0-5]"""
        for seed in range(40):
            try:
                yield self.interleave(seed, False)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error

    @inlineCallbacks
    def test_interleaved_with_restarts(self) -> Yields:
        """The same with restarts in between. [MQTT5-4.4.0-1]"""
        for seed in range(1000, 1025):
            try:
                yield self.interleave(seed, True)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}: {error}") from error
