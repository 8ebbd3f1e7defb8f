"""The event log on disk: an SQLite file that can be read while the cluster runs and after it has ended."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from superlearner.core.history import Event
from superlearner.errors import SuperlearnerError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY, at REAL NOT NULL, kind TEXT NOT NULL, sandbox TEXT, event TEXT NOT NULL
)"""

_INSERT = "INSERT INTO events VALUES (?, ?, ?, ?, ?)"


class Journal:
    """Appends events to an SQLite file that only its owner can read.

    A commit does not wait for the disk (``synchronous=NORMAL`` with a write-ahead log): the file survives
    the death of the process at any instant; the last moments before a power cut may be missing.
    """

    def __init__(self, path: str | Path) -> None:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._path = path
        self._identity = _identity(path)
        self._database = sqlite3.connect(path, isolation_level=None)
        try:
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=NORMAL")
            # Two control planes writing into one journal would interleave two histories.
            self._database.execute("PRAGMA locking_mode=NORMAL")
            self._database.execute(_SCHEMA)
        except sqlite3.Error:
            self._database.close()
            raise

    @property
    def last_seq(self) -> int:
        """The highest sequence number in the file, 0 when it is empty."""
        (last,) = self._database.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()
        return int(last)

    def newest(self, limit: int) -> list[Event]:
        """Return the newest events of the file, at most `limit`, oldest first."""
        rows = self._database.execute("SELECT event FROM events ORDER BY seq DESC LIMIT ?", (limit,))
        return [Event.from_dict(json.loads(text)) for (text,) in rows][::-1]

    def append(self, *events: Event) -> None:
        """Add numbered events, all or none.

        Raises
        ------
        sqlite3.Error, OSError
            They cannot be written, as on a full disk or when the file has been removed.
        """
        # SQLite itself would go on writing to a file that no name leads to any more.
        if _identity(self._path) != self._identity:
            raise FileNotFoundError(f"another file is at {self._path} now")
        if len(events) == 1:
            self._database.execute(_INSERT, _row(events[0]))
            return
        self._database.execute("BEGIN")
        with self._database:
            self._database.executemany(_INSERT, map(_row, events))

    def close(self) -> None:
        """Close the file."""
        self._database.close()


def _row(event: Event) -> tuple[int, float, str, str | None, str]:
    # What JSON cannot say is written as its text, or left out where it is a key.
    text = json.dumps(event.as_dict(), default=str, skipkeys=True)
    return event.seq, event.at, event.kind, event.sandbox, text


def _identity(path: str | Path) -> tuple[int, int]:
    found = os.stat(path)  # noqa: PTH116 - asked for each event: half the time
    return found.st_dev, found.st_ino


def read_journal(path: str | Path, *, sandbox: str | None = None, since: int = 0) -> Iterator[Event]:
    """Yield the events of a journal after `since`, oldest first, of one sandbox where it is named.

    Raises
    ------
    SuperlearnerError
        There is no journal at `path`.
    """
    if not Path(path).exists():
        raise SuperlearnerError(
            f"There is no journal at {path}: no cluster has run with this state directory yet."
        )
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        rows = database.execute(
            "SELECT event FROM events WHERE seq > ? AND (? IS NULL OR sandbox = ?) ORDER BY seq",
            (since, sandbox, sandbox),
        )
        for (text,) in rows:
            yield Event.from_dict(json.loads(text))
    finally:
        database.close()
