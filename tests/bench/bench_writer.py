"""Four ways to write a group of messages while the reactor's thread never rests.

C{python -m tests.bench.bench_writer [ROWS] [SECONDS]}: the main thread does what a saturated
reactor does, a third of a millisecond of Python a turn, over and over; whenever the writer is
free it gets the next group. Docs/decisions/0002 quotes the figures.

- C{thread}: C{executemany} and COMMIT, all in a thread.
- C{split}: C{executemany} on the reactor, COMMIT in a thread.
- C{process}: the packed group goes through a pipe to a process of its own.
- C{array}: the group is a tuple of records, and one C{INSERT … SELECT … FROM carray(?)} in a
  thread stores it.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import apsw

TURN = 300e-6
PAYLOAD = b"x" * 100
ARRAY = (
    "INSERT INTO message SELECT ?1 + rowid, substr(value, 1, 4), substr(value, 5) FROM carray(?2)"
)
ROW = "INSERT INTO message VALUES (?, ?, ?)"


def database(folder: str) -> apsw.Connection:
    """An empty log."""
    connection = apsw.Connection(os.path.join(folder, "log"))
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=10000"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(
        "CREATE TABLE message (sequence INTEGER PRIMARY KEY, audience BLOB, record BLOB)"
    )
    return connection


def rows_of(first: int, records: tuple[bytes, ...]) -> list[tuple[int, bytes, bytes]]:
    """Records as C{executemany} wants them."""
    return [(first + i, r[:4], r[4:]) for i, r in enumerate(records)]


class Thread:
    """Everything in a thread."""

    def __init__(self, folder: str, done: Callable[[], None]) -> None:
        self.connection = database(folder)
        self._done = done
        self._groups: SimpleQueue[Any] = SimpleQueue()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def submit(self, first: int, records: tuple[bytes, ...]) -> None:
        """Start to write a group; on the reactor's thread."""
        self._groups.put((first, records))

    def write(self, group: Any) -> None:
        """In the thread."""
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(ROW, rows_of(*group))
        self.connection.execute("COMMIT")

    def _run(self) -> None:
        while (group := self._groups.get()) is not None:
            self.write(group)
            self._done()

    def stop(self) -> None:
        """End the thread."""
        self._groups.put(None)
        self._thread.join()


class Split(Thread):
    """Rows on the reactor."""

    def submit(self, first: int, records: tuple[bytes, ...]) -> None:
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(ROW, rows_of(first, records))
        self._groups.put(True)

    def write(self, group: Any) -> None:
        self.connection.execute("COMMIT")


class Array(Thread):
    """One statement a group."""

    def write(self, group: Any) -> None:
        first, records = group
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.execute(ARRAY, (first - 1, apsw.carray(records)))
        self.connection.execute("COMMIT")


def serve(folder: str, pipe: multiprocessing.connection.Connection) -> None:
    """The writer process."""
    connection = database(folder)
    while True:
        packed = pipe.recv_bytes()
        if not packed:
            return
        first = int.from_bytes(packed[:8], "big")
        size = int.from_bytes(packed[8:12], "big")
        records = [packed[i : i + size] for i in range(12, len(packed), size)]
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(ROW, rows_of(first, tuple(records)))
        connection.execute("COMMIT")
        pipe.send_bytes(b"1")


class Process:
    """A process; a thread only waits for what it says."""

    def __init__(self, folder: str, done: Callable[[], None]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=serve, args=(folder, other), daemon=True)
        self._process.start()
        other.close()
        self._done = done
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, first: int, records: tuple[bytes, ...]) -> None:
        """Start to write a group."""
        size = len(records[0]).to_bytes(4, "big")
        self._pipe.send_bytes(first.to_bytes(8, "big") + size + b"".join(records))

    def _run(self) -> None:
        try:
            while self._pipe.recv_bytes():
                self._done()
        except EOFError:
            pass

    def stop(self) -> None:
        """End the process."""
        self._pipe.send_bytes(b"")
        self._process.join()


def measure(way: Any, rows: int, seconds: float, busy: bool) -> tuple[float, float, float, float]:
    """Rows a second, a group's milliseconds (median, worst), and the reactor's µs a row."""
    finished: deque[float] = deque()
    with tempfile.TemporaryDirectory(dir=os.environ.get("MOP_BENCH_DIR")) as folder:
        writer = way(folder, lambda: finished.append(time.perf_counter()))
        time.sleep(0.5)
        first = 1
        records = tuple(i.to_bytes(4, "big") + PAYLOAD for i in range(rows))
        times: list[float] = []
        spent = 0.0
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            began = time.perf_counter()
            writer.submit(first, records)
            spent += time.perf_counter() - began
            while not finished:
                if busy:
                    turn = time.perf_counter() + TURN
                    while time.perf_counter() < turn:
                        pass
                else:
                    time.sleep(0.00005)
            finished.clear()
            times.append(time.perf_counter() - began)
            first += rows
        writer.stop()
    times.sort()
    return (
        rows * len(times) / sum(times),
        times[len(times) // 2] * 1000,
        times[-1] * 1000,
        spent / len(times) / rows * 1e6,
    )


def main() -> None:
    """Measure and print."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 3.0
    sys.setswitchinterval(0.0005)
    print(f"{rows} rows of {len(PAYLOAD) + 4} bytes a group; switch interval 0.5 ms")
    print(f"{'way':9}{'reactor':9}{'rows/s':>10}{'p50 ms':>9}{'max ms':>9}{'µs a row':>10}")
    for way in (Thread, Split, Process, Array):
        for busy in (False, True):
            rate, median, worst, spent = measure(way, rows, seconds, busy)
            name = "busy" if busy else "idle"
            print(
                f"{way.__name__.lower():9}{name:9}{rate:10.0f}{median:9.2f}{worst:9.1f}{spent:10.2f}"
            )


if __name__ == "__main__":
    main()
