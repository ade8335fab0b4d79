"""The database file: its pragmas, its tables, its version.

MIGRATIONS is an ordered list; each runs in a transaction of its own and raises C{user_version} by
one. A file of a newer release is not touched.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any, Final

import apsw

from ...errors import SchemaTooNew, StoreCorrupt, StoreUnavailable

PRAGMAS: Final = (
    # Before the first table: else a drained backlog never gives its pages back.
    "PRAGMA auto_vacuum = INCREMENTAL",
    # Readers do not wait for the writer, nor it for them.
    "PRAGMA journal_mode = WAL",
    # A commit is on the disk when it returns: what PUBACK stands for.
    "PRAGMA synchronous = FULL",
    # Checkpoints are made by a thread of our own, off the way of acknowledgements.
    "PRAGMA wal_autocheckpoint = 0",
    # Pages that are damaged are noticed when they are read.
    "PRAGMA cell_size_check = ON",
    # The file's schema is data: it may not call functions.
    "PRAGMA trusted_schema = OFF",
    # Large enough for the hot end of the log.
    "PRAGMA cache_size = -16384",
    # The floors of a sweep need no file, least of all on a full disk.
    "PRAGMA temp_store = MEMORY",
)

LEAST_BYTES: Final = 512
"""No database is smaller."""

MIGRATIONS: Final = (
    (
        "messages, cursors, origins and state",
        """
        CREATE TABLE message (
            sequence INTEGER PRIMARY KEY,
            audience INTEGER NOT NULL,
            topic TEXT NOT NULL,
            record BLOB NOT NULL,
            crc INTEGER NOT NULL,
            kept INTEGER NOT NULL,
            stored REAL NOT NULL
        );
        CREATE INDEX message_kept ON message (kept, stored) WHERE kept > 0;
        CREATE TABLE audience (id INTEGER PRIMARY KEY, members BLOB NOT NULL);
        CREATE TABLE cursor (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            place BLOB NOT NULL
        );
        CREATE TABLE origin (
            session TEXT NOT NULL,
            epoch INTEGER NOT NULL,
            packet_id INTEGER NOT NULL,
            PRIMARY KEY (session, epoch, packet_id)
        ) WITHOUT ROWID;
        CREATE TABLE state (
            kind TEXT NOT NULL,
            key TEXT NOT NULL,
            value BLOB NOT NULL,
            crc INTEGER NOT NULL,
            PRIMARY KEY (kind, key)
        ) WITHOUT ROWID;
        CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
        """,
    ),
    (
        "numbers that are not given twice: of sets of cursors, of retention rules",
        # Until now a rule had the number of its place in the configuration: the first start
        # after this gives them the same again.
        """
        CREATE TABLE retention (id INTEGER PRIMARY KEY, filter TEXT NOT NULL UNIQUE);
        INSERT OR REPLACE INTO meta
            SELECT 'audience', max(audience) FROM message HAVING max(audience) > 0;
        """,
    ),
)


def connect(path: str, vfs: str | None = None) -> apsw.Connection:
    """Open the database for writing, and bring it to our version.

    @raise SchemaTooNew: a newer release wrote it.
    @raise StoreCorrupt: it is no database, or a damaged one.
    @raise StoreUnavailable: it cannot be opened.
    """
    try:
        if os.path.exists(path):
            if 0 < os.path.getsize(path) < LEAST_BYTES:
                # SQLite would take it for an empty one.
                raise StoreCorrupt(f"{path} was cut off")
            refuse_newer(path, vfs)
        database = apsw.Connection(path, vfs=vfs)
        try:
            for pragma in PRAGMAS:
                database.execute(pragma).fetchall()
            migrate(database, path)
        except BaseException:
            # What is damaged may not close either.
            with suppress(apsw.Error):
                database.close(True)
            raise
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise StoreCorrupt(f"{path}: {error}") from None
    except apsw.Error as error:
        raise StoreUnavailable(f"{path}: {error}") from None
    return database


def refuse_newer(path: str, vfs: str | None) -> None:
    """Look before anything is touched.

    @raise SchemaTooNew: the file is ahead of us.
    """
    reader = connect_reader(path, vfs)
    try:
        check_version(reader, path)
    except (apsw.ReadOnlyError, apsw.CantOpenError):
        # Power went before the file was in WAL mode: only who may write can roll that back.
        pass
    finally:
        reader.close(True)


def rows(database: apsw.Connection, statement: str, bindings: tuple[Any, ...] = ()) -> list[Any]:
    """All rows of a query; short, since an open read pins the file of changes."""
    return database.execute(statement, bindings).fetchall()


def check_version(database: apsw.Connection, path: str) -> int:
    """The version of a file.

    @raise SchemaTooNew: the file is ahead of us.
    """
    version = int(rows(database, "PRAGMA user_version")[0][0])
    if version > len(MIGRATIONS):
        raise SchemaTooNew(f"{path} has version {version}, this release knows {len(MIGRATIONS)}")
    return version


def migrate(database: apsw.Connection, path: str) -> None:
    """Run what is missing.

    @raise SchemaTooNew: the file is ahead of us.
    """
    version = check_version(database, path)
    for number, (_, statements) in enumerate(MIGRATIONS[version:], version + 1):
        with database:
            database.execute(statements)
            database.execute(f"PRAGMA user_version = {number}")


def connect_reader(path: str, vfs: str | None = None) -> apsw.Connection:
    """A connection that only reads, for what must not wait for the writer."""
    reader = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs)
    reader.set_busy_timeout(1000)
    return reader
