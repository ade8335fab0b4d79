"""The writer: whatever waits is one transaction, synced by one thread.

Inserts are made on the reactor's thread and only COMMIT, with the statements that take a single
step, in the writer's thread: SQLite's binding lets go of the interpreter at every step, and a
thread that makes a thousand of them beside a busy reactor waits a thousand times for it (decision
2 has the figures). While a commit is under way the next group collects; there is no timer.

It knows no messages: jobs tell it what to execute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, final

import apsw

from ...errors import BackendError, StoreCorrupt, StoreFull, StoreUnavailable
from ...failpoints import reach

Work = Callable[[apsw.Connection], None]
"""Executes statements; on the reactor's thread, inside the transaction."""

REOPEN_SECONDS: Final = 1.0
"""After a failure the file is tried again at most this often."""


def backend_error(error: Exception) -> BackendError:
    """What SQLite's error is to those above."""
    if isinstance(error, BackendError):
        return error
    if isinstance(error, apsw.FullError):
        return StoreFull(f"no room for the log: {error}")
    if isinstance(error, (apsw.CorruptError, apsw.NotADBError)):
        return StoreCorrupt(f"the log is damaged: {error}")
    return StoreUnavailable(f"the log cannot be written: {type(error).__name__}: {error}")


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
    C{failed} when a transaction failed.
    """

    def __init__(
        self,
        reactor: Any,
        seconds: Callable[[], float],
        connect: Callable[[], apsw.Connection],
        finish: Callable[[apsw.Connection], list[tuple[str, tuple[Any, ...]]]],
        make_room: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._connect = connect
        self._finish = finish
        self._make_room = make_room
        self._database: apsw.Connection | None = None
        self._waiting: list[Job] = []
        self._busy = False
        self._scheduled = False
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopped: Callable[[], None] | None = None
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
    def idle(self) -> bool:
        """Whether nothing is being written or waits."""
        return not (self._busy or self._waiting)

    def start(self) -> apsw.Connection:
        """Open the database and start the thread; the connection is for loading."""
        self._database = self._connect()
        self._thread = threading.Thread(target=self._run, name="embedded log", daemon=True)
        self._thread.start()
        return self._database

    def add(self, job: Job) -> None:
        """Have a job done with the next group."""
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
        refused, group = self._refusable(group)
        for job in refused:
            assert self.failure is not None
            job.ended(self.failure)
        database = self._database or self._reopen()
        if database is None:
            failure = self.failure or StoreUnavailable("the log is not open")
            for job in group:
                job.ended(failure)
            self._next()
            return
        self._busy = True
        try:
            database.execute("BEGIN IMMEDIATE")
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
        if not self.full or self._seconds() >= self._retry_at:
            return [], group
        return [job for job in group if job.growing], [job for job in group if not job.growing]

    def _reopen(self) -> apsw.Connection | None:
        now = self._seconds()
        if now < self._retry_at:
            return None
        self._retry_at = now + REOPEN_SECONDS
        try:
            self._database = self._connect()
        except BackendError as error:
            self.failure = error
        return self._database

    def _committed(self, group: list[Job], began: float) -> None:
        reach("after-commit")
        self._busy = False
        if self.failure is not None and (not self.full or any(job.growing for job in group)):
            self.failure = None
            self._make_room()
        self.commit_seconds = self._seconds() - began
        self.committed(len(group), self.commit_seconds)
        for job in group:
            job.ended(None)
        self._next()

    def _next(self) -> None:
        self._busy = False
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
        if isinstance(failure, StoreFull):
            self._make_room()
            # Deletes and acknowledgements need no growing file: they go on at once.
            try:
                self._database = self._connect()
            except BackendError:
                self._database = None
        behind, self._waiting = self._waiting, []
        for job in [*group, *behind]:
            job.ended(failure)
        self._next()

    def _close(self) -> None:
        def ended() -> None:
            stopped, self._stopped = self._stopped, None
            if self._thread is not None:
                self._thread.join()
                self._thread = None
            if self._database is not None:
                self._database.close()
                self._database = None
            if stopped is not None:
                stopped()

        self._busy = True
        self._orders.put(None)
        self._reactor.callLater(0, ended)

    def idle_work(self, statement: str) -> None:
        """Execute one statement in the thread, outside a transaction, if nothing waits."""
        database = self._database
        if not self.idle or database is None or self._stopped is not None:
            return
        self._busy = True

        def work() -> None:
            try:
                database.execute(statement).fetchall()
            except apsw.Error as error:
                caught = error
                self._reactor.callFromThread(lambda: self._failed([], caught))
                return
            self._reactor.callFromThread(self._next)

        self._orders.put(work)

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
