"""A disk that forgets: a SQLite VFS that knows what was synced, and can cut the power.

Writes go to the real files at once, so that SQLite reads what it wrote; what each sector held
before is remembered until the file is synced. A power cut gives every sector that was not synced
one of the contents that it had since, or a torn one, and the file one of its lengths. The disk can
also be full, read-only, or fail to sync.
"""

from __future__ import annotations

import os
import threading
from itertools import count
from random import Random
from typing import Any

import apsw

SECTOR = 512
_names = count()


class Unsynced:
    """What one file held since its last sync."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = os.path.getsize(path) if os.path.exists(path) else 0
        self.lengths = [self.size]
        self.sectors: dict[int, list[bytes]] = {}
        """Sector → its contents in order; the first is what is safe."""


class Disk(apsw.VFS):  # type: ignore[misc]
    """One disk. Its C{name} is the VFS's."""

    def __init__(self, random: Random | None = None) -> None:
        self.name = f"disk-{next(_names)}"
        self.random = random or Random(0)
        self.lock = threading.RLock()
        self.files: dict[str, Unsynced] = {}
        self.operations = 0
        self.cut_at = -1
        """The write, truncation or sync at which the power goes; -1: never."""
        self.off = False
        self.capacity: int | None = None
        """Bytes of all files in a folder, if that is limited."""
        self.read_only = False
        self.bad_syncs = 0
        """So many syncs fail."""
        self.refused = 0
        super().__init__(self.name, "")

    def excepthook(self, kind: Any, error: Any, trace: Any) -> None:
        """Errors that SQLite has no use for are no news."""

    def xOpen(self, name: Any, flags: list[int]) -> DiskFile:
        """Open a file."""
        self.check()
        return DiskFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        """Deleting is at once and for ever: what SQLite deletes it does not need."""
        self.step()
        with self.lock:
            self.files.pop(filename, None)
        super().xDelete(filename, syncdir)

    def check(self) -> None:
        """Without power nothing goes."""
        if self.off:
            raise apsw.IOError("no power")

    def step(self) -> None:
        """Something that changes a file is about to happen."""
        self.check()
        self.operations += 1
        if self.operations == self.cut_at:
            self.off = True
            raise apsw.IOError("no power")

    def power_cut(self) -> None:
        """After everything was closed: leave of each file what a power cut leaves."""
        self.off = True
        for unsynced in self.files.values():
            if os.path.exists(unsynced.path):
                self._leave(unsynced)

    def _leave(self, unsynced: Unsynced) -> None:
        random = self.random
        with open(unsynced.path, "r+b") as file:
            for sector, contents in unsynced.sectors.items():
                found = random.choice(contents)
                if len(contents) > 1 and random.random() < 0.1:
                    found = torn(random, contents[0], contents[-1])
                file.seek(sector * SECTOR)
                file.write(found)
            file.truncate(random.choice(unsynced.lengths))

    def of(self, path: str) -> Unsynced:
        """The record of a file."""
        found = self.files.get(path)
        if found is None:
            found = self.files[path] = Unsynced(path)
        return found


def used(path: str) -> int:
    """Bytes of all files beside this one, itself included."""
    with os.scandir(os.path.dirname(path)) as files:
        return sum(file.stat().st_size for file in files if not file.name.endswith("-shm"))


def torn(random: Random, old: bytes, new: bytes) -> bytes:
    """A sector of which only some was written, and some of that wrong; what was not written is
    as it was, as SQLite may suppose (powersafe overwrite)."""
    old = old.ljust(len(new), b"\0")
    at = random.randrange(len(new) + 1)
    return b"".join(
        bytes([random.choice((new[i], random.randrange(256)))])
        if i < at and new[i] != old[i]
        else old[i : i + 1]
        for i in range(len(new))
    )


class DiskFile(apsw.VFSFile):  # type: ignore[misc]
    """One open file of a L{Disk}."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self.disk = disk
        self.path = name.filename() if isinstance(name, apsw.URIFilename) else name
        super().__init__("", name, flags)

    def excepthook(self, kind: Any, error: Any, trace: Any) -> None:
        """Errors that SQLite has no use for are no news."""

    def xLock(self, level: int) -> None:
        """What SQLite tries with a read-only file, and does not mind failing, is no error."""
        try:
            super().xLock(level)
        except apsw.IOError:
            raise apsw.BusyError("not with this file") from None

    def xRead(self, amount: int, offset: int) -> bytes:
        """Read."""
        self.disk.check()
        return super().xRead(amount, offset)  # type: ignore[no-any-return]

    def xWrite(self, data: bytes, offset: int) -> None:
        """Write, and remember what was there."""
        disk = self.disk
        with disk.lock:
            if disk.read_only:
                disk.refused += 1
                raise apsw.ReadOnlyError("read-only file system")
            size = self.xFileSize()
            grows = max(offset + len(data) - size, 0)
            if disk.capacity is not None and grows and used(self.path) + grows > disk.capacity:
                disk.refused += 1
                raise apsw.FullError("no space left on device")
            disk.step()
            unsynced = disk.of(self.path)
            first, last = offset // SECTOR, (offset + len(data) - 1) // SECTOR
            for sector in range(first, last + 1):
                if sector not in unsynced.sectors:
                    unsynced.sectors[sector] = [self.sector(sector)]
            super().xWrite(data, offset)
            for sector in range(first, last + 1):
                unsynced.sectors[sector].append(self.sector(sector))
            unsynced.lengths.append(self.xFileSize())

    def sector(self, number: int) -> bytes:
        """What a sector holds now."""
        size: int = self.xFileSize()
        length = min(SECTOR, size - number * SECTOR)
        if length <= 0:
            return b""
        return super().xRead(length, number * SECTOR)  # type: ignore[no-any-return]

    def xTruncate(self, size: int) -> None:
        """Cut it off, and remember what was there."""
        disk = self.disk
        with disk.lock:
            disk.step()
            unsynced = disk.of(self.path)
            for sector in range(size // SECTOR, (self.xFileSize() + SECTOR - 1) // SECTOR):
                unsynced.sectors.setdefault(sector, [self.sector(sector)])
            super().xTruncate(size)
            unsynced.lengths.append(size)

    def xSync(self, flags: int) -> None:
        """From here on it is safe. The real disk is not asked: it does not matter."""
        disk = self.disk
        with disk.lock:
            if disk.bad_syncs:
                disk.bad_syncs -= 1
                disk.refused += 1
                raise apsw.IOError("fsync failed")
            disk.step()
            disk.files[self.path] = Unsynced(self.path)
