"""The writer: whatever waits is one transaction, synced by one thread.

Inserts are made on the reactor's thread and only COMMIT, with the statements that take a single
step, in the writer's thread: SQLite's binding lets go of the interpreter at every step, and a
thread that makes a thousand of them beside a busy reactor waits a thousand times for it (decision
2 has the figures). While a commit is under way the next group collects; there is no timer.

A transaction that failed is over for all that was in it and behind it: its connection is closed,
and whoever keeps in memory what it had changed is told to take it back. When it was the disk that
was full, only what needs room fails.

It knows no messages: jobs tell it what to execute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, final

import apsw
from twisted.logger import Logger

from ...errors import BackendError, StoreCorrupt, StoreFull, StoreUnavailable
from ...failpoints import reach

Work = Callable[[apsw.Connection], None]
"""Executes statements; on the reactor's thread, inside the transaction."""

BUSY_MILLISECONDS: Final = 10
"""So long the reactor's thread may wait for another process that has the file locked."""
BUSY_SECONDS: Final = 0.01
"""After that it is tried again."""
REOPEN_SECONDS: Final = 1.0
"""After a failure the file is tried again at most this often."""


def backend_error(error: Exception, path: str = "the log") -> BackendError:
    """What SQLite's error is to those above."""
    if isinstance(error, BackendError):
        return error
    if isinstance(error, apsw.FullError):
        return StoreFull(f"{path} has no room: {error}")
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return StoreCorrupt(f"{path} is damaged: {error}")
    return StoreUnavailable(f"{path} cannot be used: {type(error).__name__}: {error}")


@final
class Job:
    """One thing to be made durable. C{ended} is called in the order of the jobs, after the
    commit, with the error if there was one; C{growing} jobs are refused while the disk is full."""

    __slots__ = ("ended", "growing", "work")

    def __init__(
        self, work: Work | None, ended: Callable[[BackendError | None], None], growing: bool
    ) -> None:
        self.work = work
        self.ended = ended
        self.growing = growing


@final
class Writer:
    """Groups jobs into transactions.

    C{connect} opens the database; C{finish} is called on the reactor's thread with the
    connection before each commit, and returns statements that the thread executes in it;
    C{settled} is told whether that transaction was committed, before the jobs are; C{make_room}
    gives up (C{True}) or takes back what is kept free for a full disk, and tells whether that
    went; C{closing} is called before the database is closed for good.
    """

    logger = Logger()

    def __init__(
        self,
        reactor: Any,
        seconds: Callable[[], float],
        connect: Callable[[], apsw.Connection],
        finish: Callable[[apsw.Connection], list[tuple[str, tuple[Any, ...]]]],
        settled: Callable[[bool], None],
        make_room: Callable[[bool], bool],
        closing: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._connect = connect
        self._finish = finish
        self._settled = settled
        self._make_room = make_room
        self._closing = closing
        self._database: apsw.Connection | None = None
        self._waiting: list[Job] = []
        self._busy = False
        self._scheduled = False
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped: Callable[[], None] | None = None
        self._closed = False
        self._between: Callable[[apsw.Connection, Callable[[], bool]], None] | None = None
        """What is to be done in the thread before the next group."""
        self._retry_at = 0.0
        self.failure: BackendError | None = None
        """Why nothing is appended right now."""
        self.commit_seconds = 0.0
        """How long the last commit took."""
        self.committed: Callable[[int, float], None] = lambda jobs, seconds: None
        """Told of each commit: jobs and seconds."""

    @property
    def full(self) -> bool:
        """Whether the disk is, so that only what makes room is written."""
        return isinstance(self.failure, StoreFull)

    @property
    def running(self) -> bool:
        """Whether it was started and not told to stop."""
        return self._thread is not None and self._stopped is None

    @property
    def idle(self) -> bool:
        """Whether nothing is being written or waits."""
        return not (self._busy or self._waiting)

    def start(self) -> apsw.Connection:
        """Open the database and start the thread; the connection is for loading."""
        self._database = self._connect()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="embedded log", daemon=True)
        self._thread.start()
        return self._database

    def abandon(self) -> None:
        """End before anything was added: what was opened is no log."""
        self._orders.put(None)
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._database is not None:
            with suppress(apsw.Error):
                self._database.close(True)
            self._database = None
        self._orders = SimpleQueue()

    def add(self, job: Job) -> None:
        """Have a job done with the next group; once closed, it ends with L{StoreUnavailable}."""
        if self._closed:
            closed = StoreUnavailable("the log is closed")
            self._reactor.callLater(0, self._end, [job], closed)
            return
        self._waiting.append(job)
        if not (self._busy or self._scheduled):
            # At the end of this turn, so that what comes in it is one group.
            self._scheduled = True
            self._reactor.callLater(0, self._begin)

    def stop(self, stopped: Callable[[], None]) -> None:
        """Finish what waits, close the database, end the thread, call C{stopped}."""
        self._stopped = stopped
        if not self._busy and not self._scheduled:
            self._scheduled = True
            self._reactor.callLater(0, self._begin)

    # On the reactor's thread

    def _begin(self) -> None:
        self._scheduled = False
        group, self._waiting = self._waiting, []
        if not group and self._stopped is not None:
            self._close()
            return
        # From here on: who is told of an end may add what comes next.
        self._busy = True
        refused, group = self._refusable(group)
        if refused:
            assert self.failure is not None
            self._end(refused, self.failure)
        database = self._database or self._reopen()
        if database is None:
            self._end(group, self.failure or StoreUnavailable("the log is not open"))
            self._next()
            return
        if not group:
            self._next()
            return
        try:
            database.execute("BEGIN IMMEDIATE")
        except apsw.BusyError:
            # Somebody else is in the file, who makes a copy perhaps: nothing has failed.
            self._waiting[:0] = group
            self._busy, self._scheduled = False, True
            self._reactor.callLater(BUSY_SECONDS, self._begin)
            return
        except Exception as error:
            self._failed(group, error)
            return
        try:
            for job in group:
                if job.work is not None:
                    job.work(database)
            last = self._finish(database)
        except Exception as error:
            self._failed(group, error)
            return
        reach("before-commit")
        self._orders.put(lambda: self._commit(database, group, last))

    def _refusable(self, group: list[Job]) -> tuple[list[Job], list[Job]]:
        """With a full disk: those that need room, and those that make some."""
        if not self.full:
            return [], group
        now = self._seconds()
        if now >= self._retry_at and any(job.growing for job in group):
            # What is kept free for deletes must be free again, or messages would eat it.
            if self._make_room(False):
                return [], group
            self._retry_at = now + REOPEN_SECONDS
        return [job for job in group if job.growing], [job for job in group if not job.growing]

    def _reopen(self) -> apsw.Connection | None:
        now = self._seconds()
        if now < self._retry_at and self._stopped is None:
            return None
        self._retry_at = now + REOPEN_SECONDS
        try:
            self._database = self._connect()
        except BackendError as error:
            self.failure = error
        return self._database

    def _committed(self, group: list[Job], began: float) -> None:
        reach("after-commit")
        if self.failure is not None and (not self.full or any(job.growing for job in group)):
            self.failure = None
            self._make_room(False)
        self.commit_seconds = self._seconds() - began
        self.committed(len(group), self.commit_seconds)
        self._settled(True)
        self._end(group, None)
        self._next()

    def _end(self, group: list[Job], error: BackendError | None) -> None:
        for job in group:
            try:
                job.ended(error)
            except Exception:
                # Somebody's fault, but nobody else's loss.
                self.logger.failure("told of its end, a job failed", event="job_end_failed")

    def _next(self) -> None:
        self._busy = False
        work, self._between = self._between, None
        if work is not None and self._database is not None and self._stopped is None:
            self._order(self._database, work)
            return
        if (self._waiting or self._stopped is not None) and not self._scheduled:
            self._scheduled = True
            self._begin_again()

    def _begin_again(self) -> None:
        if self.failure is None:
            self._begin()
        else:
            # Not in a loop with those who try again at once.
            self._reactor.callLater(0, self._begin)

    def _failed(self, group: list[Job], error: Exception) -> None:
        """A failed commit is never tried again on the same connection: what the kernel has
        thrown away it does not report twice. Close, and open anew before the next one."""
        self.failure = failure = backend_error(error)
        self._retry_at = self._seconds() + REOPEN_SECONDS
        database, self._database = self._database, None
        if database is not None:
            # It is gone either way; what it held is rolled back by whoever opens next.
            with suppress(apsw.Error):
                database.close(True)
        self._settled(False)
        behind, self._waiting = self._waiting, []
        ended = [*group, *behind]
        if isinstance(failure, StoreFull):
            self._make_room(True)
            try:
                self._database = self._connect()
            except BackendError:
                self._database = None
            if any(job.growing for job in group):
                # Deletes and acknowledgements need no growing file: alone they may well succeed.
                self._waiting = [job for job in ended if not job.growing]
                ended = [job for job in ended if job.growing]
        self._end(ended, failure)
        self._next()

    def _close(self) -> None:
        def ended() -> None:
            stopped, self._stopped = self._stopped, None
            if self._thread is not None:
                self._thread.join()
                self._thread = None
            self._closing()
            if self._database is not None:
                # It is the last: what was committed is moved into the file itself now, or else
                # at the next start.
                with suppress(apsw.Error):
                    self._database.close()
                self._database = None
            if stopped is not None:
                stopped()

        self._busy = self._closed = True
        self._orders.put(None)
        self._reactor.callLater(0, ended)

    def probe(self) -> None:
        """See whether what failed goes again, when nobody else tries."""
        if self.failure is not None and self.idle and self._seconds() >= self._retry_at:
            self.add(Job(None, lambda error: None, True))

    def idle_work(
        self, work: Callable[[apsw.Connection, Callable[[], bool]], None], soon: bool = False
    ) -> None:
        """Do something in the thread, outside a transaction, if nothing waits; else, if it must
        be C{soon}, before the next group. It is to ask the function that it gets whether
        somebody waits meanwhile, and stop then."""
        database = self._database
        if database is None or self._stopped is not None:
            return
        if self.idle:
            self._order(database, work)
        elif soon:
            self._between = work

    def _order(
        self,
        database: apsw.Connection,
        work: Callable[[apsw.Connection, Callable[[], bool]], None],
    ) -> None:
        self._busy = True

        def ordered() -> None:
            try:
                work(database, lambda: bool(self._waiting))
            except Exception as error:
                caught = error
                self._reactor.callFromThread(lambda: self._failed([], caught))
                return
            self._reactor.callFromThread(self._next)

        self._orders.put(ordered)

    # On the writer's thread

    def _run(self) -> None:
        while True:
            order = self._orders.get()
            if order is None:
                return
            order()

    def _commit(
        self, database: apsw.Connection, group: list[Job], last: list[tuple[str, tuple[Any, ...]]]
    ) -> None:
        began = self._seconds()
        try:
            for statement, bindings in last:
                database.execute(statement, bindings).fetchall()
            database.execute("COMMIT")
        except Exception as error:
            caught = error
            self._reactor.callFromThread(lambda: self._failed(group, caught))
            return
        self._reactor.callFromThread(self._committed, group, began)
