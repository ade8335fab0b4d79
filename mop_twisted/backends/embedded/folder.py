"""The log's folder: whose it is, who may read it, and what is kept free in it.

It knows no database, only the names of its files.
"""

from __future__ import annotations

import fcntl
import os
from typing import Final, final

from ...errors import StoreUnavailable

FILE: Final = "log.sqlite"
LOCK: Final = "lock"
ROOM: Final = "room"
ROOM_BYTES: Final = 1024 * 1024
"""What is given up when the disk is full."""


@final
class Folder:
    """One folder, for one process at a time, and for nobody else's eyes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.database = os.path.join(path, FILE)
        self._lock: int | None = None

    @property
    def taken(self) -> bool:
        """Whether it is ours now."""
        return self._lock is not None

    def take(self) -> None:
        """Make it ours: 0700, and nobody else's process in it. H32

        @raise StoreUnavailable: another process has it, or other files are in it.
        @raise OSError: it cannot be made or written to.
        """
        os.makedirs(self.path, mode=0o700, exist_ok=True)
        if os.stat(self.path).st_mode & 0o077:
            # A folder that others use as well is not taken from them.
            there = os.listdir(self.path)
            if there and LOCK not in there and FILE not in there:
                raise StoreUnavailable(
                    f"{self.path}: holds other files and is open to other users; "
                    "give the log a folder of its own"
                )
            os.chmod(self.path, 0o700)
        lock = os.open(os.path.join(self.path, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise StoreUnavailable(f"{self.path}: another process has this log open") from None
        self._lock = lock

    def leave(self) -> None:
        """Somebody else may have it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def protect(self) -> None:
        """Files that SQLite made are for their owner alone. H32"""
        for name in (FILE, f"{FILE}-wal", f"{FILE}-shm"):
            try:
                os.chmod(os.path.join(self.path, name), 0o600)
            except FileNotFoundError:
                pass
            except OSError:
                # A read-only file system says so again when it is written to.
                pass

    def make_room(self, give_up: bool) -> bool:
        """Keep a file that can be given up when the disk is full, so that deletes can go on.
        Whether that went."""
        path = os.path.join(self.path, ROOM)
        try:
            if give_up:
                os.truncate(path, 0)
            elif not os.path.exists(path) or os.path.getsize(path) < ROOM_BYTES:
                with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
                    os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
        except OSError:
            # A full disk has no room to keep; the writer knows what that means.
            return False
        return True
