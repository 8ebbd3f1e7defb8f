"""Locks between the processes of one person: who holds one is named, and the end of its holder frees it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
from collections.abc import Iterator
from pathlib import Path

from superlearner.errors import SuperlearnerError

#: Seconds between two tries: a file lock tells nobody when it is freed.
_TRY_AGAIN = 0.05


class LockHeld(SuperlearnerError):
    """Another process holds the lock.

    Parameters
    ----------
    path
        The file that is locked.
    holder
        The pid of its holder, where it is known.
    """

    code = "lock_held"

    def __init__(self, path: str, holder: int | None = None) -> None:
        super().__init__(path, holder)
        self.path = path
        self.holder = holder

    def what(self) -> str:
        """Say what happened."""
        return f"{self.path} is in use by {who(self.holder)}."


def who(holder: int | None) -> str:
    """Name a holder."""
    return "another process" if holder is None else f"process {holder}"


@contextlib.contextmanager
def locked(
    path: Path, *, wait: bool = False, abort: int | None = None, holder: int | None = None
) -> Iterator[None]:
    """Hold the lock at `path` within the block; raise `LockHeld` when another process holds it.

    Parameters
    ----------
    path
        A file that is made if need be and stays: removing it would let two hold it.
    wait
        Whether to wait for it.
    abort
        A descriptor that becomes readable when the waiting is called off, which raises `LockHeld`.
    holder
        The process to be named as its holder; by default this one.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        while not _take(descriptor):
            called_off = wait and abort is not None and select.select([abort], [], [], _TRY_AGAIN)[0]
            if not wait or called_off:
                raise LockHeld(str(path), _holder(descriptor))
            if abort is None:
                select.select([], [], [], _TRY_AGAIN)
        with contextlib.suppress(OSError):  # on a full disk the lock holds, and its holder has no name
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(holder or os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).decode(errors="replace")
    return int(text) if text.isdecimal() else None
