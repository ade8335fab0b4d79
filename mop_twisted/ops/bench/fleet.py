"""The parent of the workers: starts them, leads them through a load, adds up what they saw."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Callable, Sequence
from typing import Any, Final
from zlib import decompress

import msgspec

from .histogram import Histogram
from .load import Load, Share, shares
from .sequence import surplus
from .system import child_environment
from .usage import Usage, usage

_AFTER: Final = 0.1
"""How long surplus duplicates are waited for."""


class Fault(Exception):
    """The load could not be driven: the server refused, vanished, or did not answer."""


Progress = Callable[[str, float], None]
"""Told what is done now and which part of it (0 to 1)."""


class Fleet:
    """The workers of one run. Use it as a context manager: they do not outlive it."""

    def __init__(self, parts: Sequence[Share]) -> None:
        self._workers: list[subprocess.Popen[bytes]] = []
        self._selector = selectors.DefaultSelector()
        self._partial: dict[int, bytes] = {}
        self._stopped: set[int] = set()
        for index, part in enumerate(parts):
            worker = subprocess.Popen(
                [sys.executable, "-m", "mop_twisted.ops.bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=child_environment(),
            )
            self._workers.append(worker)
            assert worker.stdout is not None
            self._selector.register(worker.stdout, selectors.EVENT_READ, index)
            self._partial[index] = b""
            self._write(index, msgspec.json.encode(part))

    @property
    def size(self) -> int:
        """How many workers there are."""
        return len(self._workers)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for worker in self._workers:
            for pipe in (worker.stdin, worker.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            try:
                worker.wait(5)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()

    def _write(self, index: int, line: bytes) -> None:
        pipe = self._workers[index].stdin
        assert pipe is not None
        try:
            pipe.write(line + b"\n")
            pipe.flush()
        except OSError:
            raise Fault("a worker process has died") from None

    def tell(self, **words: Any) -> None:
        """Say the same to all."""
        line = json.dumps(words).encode()
        for index in range(len(self._workers)):
            self._write(index, line)

    def hear(self, timeout: float) -> list[tuple[int, dict[str, Any]]]:
        """What workers have said, waited for at most so long: (which, words).

        @raise Fault: one has failed.
        """
        heard = []
        for key, _ in self._selector.select(timeout):
            data = os.read(key.fd, 1 << 20)
            if not data:
                if key.data not in self._stopped:
                    raise Fault("a worker process has died")
                self._selector.unregister(key.fileobj)
                continue
            *lines, self._partial[key.data] = (self._partial[key.data] + data).split(b"\n")
            for line in lines:
                words = json.loads(line)
                if "fault" in words:
                    raise Fault(words["fault"])
                if words.get("done") == "stop":
                    self._stopped.add(key.data)
                heard.append((key.data, words))
        return heard

    def ask(self, timeout: float, **words: Any) -> list[dict[str, Any]]:
        """Say something and wait until all have done it; returns their answers.

        @raise Fault: one failed, or it takes longer than C{timeout}.
        """
        self.tell(**words)
        until = time.monotonic() + timeout
        answers: dict[int, dict[str, Any]] = {}
        while len(answers) < len(self._workers):
            left = until - time.monotonic()
            if left <= 0:
                raise Fault(f"no end of {words['do']!r} within {timeout:.0f} s")
            answers.update(
                (index, heard)
                for index, heard in self.hear(left)
                if heard.get("done") == words["do"]
            )
        return [answers[index] for index in sorted(answers)]


def workers_for(load: Load) -> int:
    """How many processes drive a load: one a core, at most eight, never more than clients."""
    clients = load.publishers + load.subscribers + load.idle
    wanted = load.processes or min(8, os.cpu_count() or 1)
    return max(1, min(wanted, clients))


def drive(load: Load, pids: Sequence[int], progress: Progress) -> dict[str, Any]:
    """Run a load; returns what L{report} prints.

    @raise Fault: it could not be driven.
    """
    run = secrets.token_hex(4)
    tag = int(run[:4], 16)
    parts = shares(load, run, tag, workers_for(load))
    with Fleet(parts) as fleet:
        result = describe(load, len(parts))
        if load.idle:
            hold_idle(fleet, load, pids, progress, result)
        if load.publishers or load.subscribers:
            exchange(fleet, load, pids, progress, result)
        else:
            fleet.ask(60.0, do="stop")
    return result


def describe(load: Load, workers: int) -> dict[str, Any]:
    """What was asked for."""
    scheme = ("wss" if load.tls else "ws") if load.websocket else ("tls" if load.tls else "tcp")
    return {
        "transport": scheme, "protocol": load.protocol, "qos": load.qos,
        "publishers": load.publishers, "subscribers": load.subscribers, "topics": load.topics,
        "filter": load.filter, "size": load.size, "window": load.window, "rate": load.rate,
        "persistent": load.persistent, "processes": workers,
    }  # fmt: skip


def hold_idle(
    fleet: Fleet, load: Load, pids: Sequence[int], progress: Progress, result: dict[str, Any]
) -> None:
    """Make the idle connections, and see what they weigh."""
    before = usage(pids)
    progress("connecting", 0.0)
    answers = fleet.ask(60.0 + load.idle / 100, do="idle")
    seconds = max(answer["seconds"] for answer in answers)
    time.sleep(load.settle)
    after = usage(pids)
    result["idle"] = load.idle
    result["connects_per_s"] = round(load.idle / seconds) if seconds else 0
    if pids:
        result["bytes_per_connection"] = (after.resident - before.resident) // load.idle
        result["connect_cpu_us"] = round((after.cpu - before.cpu) * 1e6 / load.idle, 1)


def exchange(
    fleet: Fleet, load: Load, pids: Sequence[int], progress: Progress, result: dict[str, Any]
) -> None:
    """Connect publishers and subscribers, have them at it, and count."""
    progress("connecting", 0.0)
    clients = load.publishers + load.subscribers
    answers = fleet.ask(60.0 + clients / 100, do="connect")
    seconds = max(answer["seconds"] for answer in answers)
    result["client_connects_per_s"] = round(clients / seconds) if seconds else 0
    time.sleep(load.settle)
    before = usage(pids)
    start = time.monotonic_ns() + 20_000_000
    fleet.tell(do="go", at=start)
    after = follow(fleet, load, pids, progress, start)
    time.sleep(_AFTER)
    progress("counting", 1.0)
    add_up(load, fleet.ask(60.0, do="stop"), start, result)
    if pids:
        messages = max(1, result["sent"], result["delivered"])
        cpu = after.cpu - before.cpu
        result["cpu_s"] = round(cpu, 3)
        result["cpu_us_per_message"] = round(cpu * 1e6 / messages, 3)
        result["rss_mib"] = round(after.resident / 1048576, 1)


def follow(fleet: Fleet, load: Load, pids: Sequence[int], progress: Progress, start: int) -> Usage:
    """Wait until everything that was published has come, or nothing moves any more; returns
    what the server had used by then."""
    told: dict[int, dict[str, Any]] = {}
    whole = load.count * load.publishers
    before = -1
    moved = time.monotonic()
    expected_of_all = load.expected([load.count] * load.publishers)
    while True:
        told.update((index, words) for index, words in fleet.hear(1.0) if "sent" in words)
        sent = sum(words["sent"] for words in told.values())
        acked = sum(words["acked"] for words in told.values())
        received = sum(words["received"] for words in told.values())
        published = len(told) == fleet.size and all(words["published"] for words in told.values())
        now = time.monotonic()
        if sent + acked + received != before:
            before = sent + acked + received
            moved = now
        if load.duration:
            passed = (time.monotonic_ns() - start) / 1e9
            progress(f"{received} delivered", min(1.0, passed / load.duration))
            expected = sent * expected_of_all // max(1, whole)
            if not load.publishers and passed >= load.duration:
                return usage(pids)
        else:
            expected = expected_of_all
            part = received / expected if expected else sent / max(1, whole)
            progress(f"{received} of {expected} delivered", min(1.0, part))
        if published and received >= expected:
            return usage(pids)
        # QoS 0 may be lost: when all is sent there is nothing to wait long for.
        patience = load.timeout
        if published and load.qos == 0:
            patience = min(patience, 3.0)
        if now - moved > patience:
            return usage(pids)


def add_up(load: Load, answers: list[dict[str, Any]], start: int, result: dict[str, Any]) -> None:
    """The workers' counts together."""
    published = [0] * load.publishers
    latency = Histogram()
    late = Histogram()
    seen: dict[str, list[bytes]] = {}
    for answer in answers:
        for number, count in answer["published"].items():
            published[int(number)] = count
        latency.merge(Histogram.load(answer["latency"]))
        late.merge(Histogram.load(answer["late"]))
        for number, packed in answer["seen"].items():
            seen.setdefault(number, []).extend(decompress(b64decode(part)) for part in packed)
    unique = sum(answer["unique"] for answer in answers)
    duplicates = sum(answer["duplicates"] for answer in answers)
    if load.filter == "share":
        counted = [surplus(parts) for parts in seen.values()]
        unique = sum(count for count, _ in counted)
        duplicates += sum(twice for _, twice in counted)
    sent = sum(published)
    expected = load.expected(published)
    last_at = max(answer["last_at"] for answer in answers)
    published_at = max(answer["published_at"] for answer in answers)
    seconds = max(0, last_at - start) / 1e9
    publishing = max(0, published_at - start) / 1e9
    result.update(
        sent=sent,
        acked=sum(answer["acked"] for answer in answers),
        expected=expected,
        delivered=unique,
        lost=expected - unique if load.publishers else 0,
        duplicates=duplicates,
        disorder=sum(answer["disorder"] for answer in answers),
        stray=sum(answer["stray"] for answer in answers),
        seconds=round(seconds, 3),
        deliveries_per_s=round(unique / seconds) if seconds else 0,
        publishes_per_s=round(sent / publishing) if publishing else 0,
        latency_ms=latency.milliseconds(),
    )
    if load.rate:
        result["late_ms"] = late.milliseconds()
