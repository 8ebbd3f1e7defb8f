"""What a client was told by a ledger, and what that obliges the ledger to: nothing lost, nothing twice, one owner.

The obligations are checked on the client's own records, with its own clock; nothing here asks the cluster.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Answer(NamedTuple):
    """One acknowledged write."""

    entry: str
    #: The OS process that answered.
    os_pid: int
    #: When it was asked and when it was answered, on the monotonic clock.
    began: float
    ended: float


@dataclass(slots=True)
class Record:
    """All answers of one ledger. Several threads may write to it."""

    answers: list[Answer] = field(default_factory=list)
    #: The entries that were acknowledged before a checkpoint that was acknowledged as stored.
    stored: set[str] = field(default_factory=set)
    #: What calls failed with.
    failed: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, answer: Answer) -> None:
        """Note an answer."""
        with self.changed:
            self.answers.append(answer)
            self.changed.notify_all()

    def fail(self, reason: str) -> None:
        """Note that a call was not answered."""
        with self.changed:
            self.failed.append(reason)
            self.changed.notify_all()

    @property
    def acknowledged(self) -> list[str]:
        """The entries that were acknowledged, in the order of the answers."""
        return [answer.entry for answer in self.answers]


def lost(promised: Iterable[str], entries: Sequence[str]) -> list[str]:
    """Return what was promised to be there and is not, sorted.

    >>> lost({"a", "b"}, ["b", "c"])
    ['a']
    """
    return sorted(set(promised) - set(entries))


def doubled(entries: Sequence[str]) -> list[str]:
    """Return what is there more than once, sorted.

    >>> doubled(["a", "b", "a"])
    ['a']
    """
    return sorted(entry for entry, times in Counter(entries).items() if times > 1)


def disordered(entries: Sequence[str]) -> list[str]:
    """Return the callers whose entries, written as ``caller-number``, do not stand in their order, sorted.

    >>> disordered(["a-1", "b-1", "a-2", "b-3", "b-2"])
    ['b']
    """
    last: dict[str, int] = {}
    found = set()
    for entry in entries:
        caller, _, number = entry.rpartition("-")
        if int(number) <= last.get(caller, 0):
            found.add(caller)
        last[caller] = int(number)
    return sorted(found)


def two_owners(answers: Iterable[Answer]) -> list[tuple[int, int]]:
    """Return the pairs of OS processes that answered at the same time: neither had ended before the other began.

    One of two owners is over for good when the other has answered: a call that begins after that must not be
    answered by the earlier one.

    >>> first, second = Answer("a", 1, 0.0, 1.0), Answer("b", 2, 2.0, 3.0)
    >>> two_owners([first, second]), two_owners([first, second, Answer("c", 1, 4.0, 5.0)])
    ([], [(1, 2)])
    """
    last_began: dict[int, float] = {}
    first_ended: dict[int, float] = {}
    for answer in answers:
        pid = answer.os_pid
        last_began[pid] = max(answer.began, last_began.get(pid, answer.began))
        first_ended[pid] = min(answer.ended, first_ended.get(pid, answer.ended))
    pids = sorted(last_began)
    return [
        (a, b)
        for at, a in enumerate(pids)
        for b in pids[at + 1 :]
        if last_began[a] > first_ended[b] and last_began[b] > first_ended[a]
    ]
