"""The power goes while the embedded log writes, and what is there when it comes back."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from random import Random
from typing import Any

import apsw
from twisted.internet import reactor
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.trial.unittest import TestCase

from mop_twisted.backends.embedded import schema
from mop_twisted.backends.embedded.log import EmbeddedLog
from mop_twisted.codec.packets import Publish
from mop_twisted.errors import BackendError
from mop_twisted.limits import Limits
from mop_twisted.model import Audience, Change, Entry, Origin
from tests.contracts.log import Yields, turn

from .power import Disk

CUTS = int(os.environ.get("MOP_POWER_CUTS", "60"))


def payload(number: int) -> bytes:
    """Of any length, and none like another."""
    return b"%d:" % number + Random(number).randbytes(Random(-number).choice((1, 50, 3000, 9000)))


class Life:
    """What was published, and what was confirmed of it."""

    def __init__(self) -> None:
        self.published = 0
        self.confirmed: set[int] = set()
        self.acknowledged: set[int] = set()
        self.origins: set[int] = set()
        self.released: set[int] = set()
        self.values = [0, 0]
        """Of two records that are put together: what was confirmed."""
        self.put = 0


class PowerTests(TestCase):
    """Nothing that was acknowledged is lost by a power cut."""

    timeout = 120

    @inlineCallbacks
    def live(self, folder: str, disk: Disk, random: Random) -> Generator[Deferred[Any], Any, Life]:
        """Use a log until the power goes."""
        life = Life()
        log = EmbeddedLog(folder, reactor, Limits(), vfs=disk.name)
        held: list[Entry] = []
        live: list[Entry] = []
        try:
            yield log.start(live.extend, lambda: None)
            cursor = yield log.cursor("a")
            other = yield log.cursor("b")
        except BackendError:
            yield log.stop()
            return life
        both, alone = Audience((cursor, other)), Audience((cursor,))
        for _ in range(10_000):
            if disk.off:
                break
            what = random.random()
            if what < 0.5:
                self.publish(log, life, random, both, alone)
            elif what < 0.6:
                life.put += 1
                self.put(log, life, life.put)
            elif what < 0.7:
                batch = yield cursor.fetch(5, 10_000).addErrback(lambda f: None)
                if batch is not None:
                    held += batch.entries
                    cursor.pause(None)
            elif what < 0.75 and held:
                self.release(cursor, life, held[: random.randrange(4)])
            elif what < 0.8:
                gone, held = held[:2], held[2:]
                life.acknowledged.update(map(number, gone))
                cursor.acknowledge(gone)
            elif what < 0.83:
                log.cleaning.checkpoint()
            else:
                yield turn()
        yield log.stop()
        return life

    def publish(
        self, log: EmbeddedLog, life: Life, random: Random, both: Audience, alone: Audience
    ) -> None:
        """Some messages."""
        entries = []
        numbers = []
        origin = random.random() < 0.3
        for _ in range(random.choice((1, 1, 3, 8))):
            number = life.published = life.published + 1
            numbers.append(number)
            entry = Entry(Publish("t", payload(number), 1), random.choice((both, alone)))
            if origin:
                entry.origin = Origin("publisher", 1, number)
            entries.append(entry)

        def ended(error: BackendError | None) -> None:
            if error is None:
                life.confirmed.update(numbers)
                if origin:
                    life.origins.update(numbers)

        log.publish(entries, ended)

    def put(self, log: EmbeddedLog, life: Life, value: int) -> None:
        """Two records, which are always the same."""

        def ended(error: BackendError | None) -> None:
            if error is None:
                life.values = [value, value]

        log.put([Change("x", "a", b"%d" % value), Change("x", "b", b"%d" % value)], ended)

    def release(self, cursor: Any, life: Life, entries: list[Entry]) -> None:
        """PUBREC came for these."""

        def ended(error: BackendError | None) -> None:
            if error is None:
                life.released.update(map(number, entries))

        cursor.release(entries, ended)

    @inlineCallbacks
    def examine(self, folder: str, life: Life) -> Generator[Deferred[Any], Any, list[str]]:
        """What is wrong after the power came back."""
        wrong: list[str] = []
        log = EmbeddedLog(folder, reactor, Limits())
        yield log.start(lambda entries: None, lambda: None)
        cursor = yield log.cursor("a")
        entries: list[Entry] = []
        live = False
        while not live:
            batch = yield cursor.fetch(50, 1 << 20)
            entries += batch.entries
            live = batch.live
        found = [number(entry) for entry in entries]
        if found != sorted(set(found)):
            wrong.append(f"out of order: {found}")
        wrong += [f"{n} is torn" for e, n in zip(entries, found, strict=True)
                  if e.publish is None or e.publish.payload != payload(n)]  # fmt: skip
        lost = life.confirmed - life.acknowledged - set(found)
        if lost:
            wrong.append(f"lost: {sorted(lost)}")
        if found:
            expected = {n for n in range(1, max(found)) if n not in life.acknowledged}
            if expected - set(found):
                wrong.append(f"a hole: {sorted(expected - set(found))}")
        released = {number(entry) for entry in entries if entry.released}
        if life.released - life.acknowledged - released:
            wrong.append("a release is lost")
        origins = yield log.origins("publisher", 1)
        if life.origins - set(origins):
            wrong.append("an origin is lost")
        records: list[tuple[str, bytes]] = []
        yield log.load("x", records.extend)
        values = [int(value) for _, value in records] or [0, 0]
        if values[0] != values[1] or values[0] < life.values[0]:
            wrong.append(f"records {values}, confirmed {life.values}")
        if log.reading.corrupt_records:
            wrong.append("damaged records")
        yield log.stop()
        return wrong

    @inlineCallbacks
    def cut(self, seed: int) -> Generator[Deferred[Any], Any, list[str]]:
        """Live, cut, examine."""
        random = Random(seed)
        disk = Disk(random)
        disk.cut_at = random.choice((random.randrange(1, 60), random.randrange(60, 1200)))
        folder = os.path.abspath(f"{self.mktemp()}-{seed}")
        life = yield self.live(folder, disk, random)
        self.confirmed += len(life.confirmed)
        while any(thread.name == "checkpoint" for thread in threading.enumerate()):
            yield turn()
        disk.power_cut()
        for name in os.listdir(folder):
            if name.endswith("-shm"):
                os.unlink(os.path.join(folder, name))
        wrong = yield self.examine(folder, life)
        database = apsw.Connection(os.path.join(folder, "log.sqlite"))
        check = database.execute("PRAGMA integrity_check").fetchall()
        database.close()
        if check != [("ok",)]:
            wrong.append(f"integrity: {check}")
        disk.unregister()
        return wrong

    @inlineCallbacks
    def test_nothing_confirmed_is_lost(self) -> Yields:
        """Whenever the power goes: what was acknowledged is there, in order and whole; what was
        not is there as if the power had gone a little earlier or later. [MQTT5-4.3.2-4]"""
        self.confirmed = 0
        for seed in range(CUTS):
            wrong = yield self.cut(seed)
            self.assertEqual(wrong, [], f"seed {seed}")
        self.assertGreater(self.confirmed, 10 * CUTS)

    @inlineCallbacks
    def test_without_syncs_it_is_seen(self) -> Yields:
        """The same with PRAGMA synchronous = OFF loses: these tests would notice."""
        pragmas = tuple(
            p.replace("synchronous = FULL", "synchronous = OFF") for p in schema.PRAGMAS
        )
        self.assertNotEqual(pragmas, schema.PRAGMAS)
        self.patch(schema, "PRAGMAS", pragmas)
        self.confirmed = 0
        lost = 0
        for seed in range(20):
            try:
                wrong = yield self.cut(seed)
            except (BackendError, apsw.Error):
                wrong = ["it cannot be opened any more"]
            lost += bool(wrong)
        self.assertGreater(lost, 0)


def number(entry: Entry) -> int:
    """What L{payload} was made from."""
    assert entry.publish is not None
    return int(entry.publish.payload.partition(b":")[0])
