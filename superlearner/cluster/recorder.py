"""The control plane's memory of what happened: the event log, and its journal as far as the disk allows.

A journal that cannot be written (the disk is full, the file was removed) must not hurt the cluster: events
stay in the log, ``journal_failed`` tells it once, and the file is tried again each second. When it can be
written again it gets what the log still holds, and ``journal_recovered`` tells how much is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Callable

from superlearner.cluster.journal import Journal
from superlearner.core.history import Event, EventLog

#: Seconds between two tries to write a journal again.
RETRY = 1.0


class Recorder:
    """Numbers events, keeps them, publishes them, and journals them.

    Parameters
    ----------
    path
        The journal's file; None: the events are kept in memory only.
    limit
        How many of the newest events are kept in memory.
    publish
        Called with each event once it is numbered.
    recall
        Whether the log begins with the newest events of the file, which are then this cluster's own.
    """

    def __init__(
        self, path: str | None, limit: int, publish: Callable[[Event], None], *, recall: bool = False
    ) -> None:
        self._path = path
        self._publish = publish
        self._journal: Journal | None = None
        self._retry: asyncio.TimerHandle | None = None
        #: The newest event that is in the file.
        self._written = 0
        failure = None
        earlier: list[Event] = []
        if path is not None:
            try:
                self._journal = Journal(path)
                self._written = self._journal.last_seq
                earlier = self._journal.newest(limit) if recall else []
            except (sqlite3.Error, OSError) as error:
                failure = error
        self.log = EventLog(limit, self._written + 1, earlier)
        if failure is not None:
            self._fail(failure)

    def record(self, event: Event) -> None:
        """Append an event to the log, publish it, and write it down."""
        event = self.log.append(event)
        self._publish(event)
        if self._journal is None:
            return  # there is none, or it is tried again soon
        try:
            self._journal.append(event)
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
        else:
            self._written = event.seq

    def close(self) -> None:
        """Write what can be written, and close the file."""
        if self._retry is not None:
            self._retry.cancel()
            with contextlib.suppress(sqlite3.Error, OSError):  # it was told that it failed
                self._reopen()
        self._drop()

    def _fail(self, error: Exception) -> None:
        self._drop()
        self._retry = asyncio.get_running_loop().call_later(RETRY, self._try_again)
        self.record(Event("journal_failed", at=time.time(), reason=str(error), detail={"path": self._path}))

    def _try_again(self) -> None:
        try:
            detail = self._reopen()
        except (sqlite3.Error, OSError):
            self._drop()
            self._retry = asyncio.get_running_loop().call_later(RETRY, self._try_again)
        else:
            self._retry = None
            self.record(Event("journal_recovered", at=time.time(), detail={"path": self._path, **detail}))

    def _reopen(self) -> dict[str, int]:
        """Open the file and add what it lacks; return how many events were ``written`` and how many are ``missing``."""
        assert self._path is not None
        self._journal = journal = Journal(self._path)
        last = journal.last_seq
        newest = self._written if not len(self.log) else list(self.log)[-1].seq
        # An empty one is new. Numbers that this log did not give belong to a history that must not be mixed with it.
        if last and not (self._written and self._written <= last <= newest):
            raise sqlite3.DataError("the file holds the events of another cluster")
        kept = self.log.since(last)
        journal.append(*kept)
        self._written = newest
        return {"written": len(kept), "missing": newest - last - len(kept)}

    def _drop(self) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            with contextlib.suppress(sqlite3.Error):  # on a full disk not even that works
                journal.close()
