"""Verdicts over what was recorded: true, false, or unknown, each with its reason as a sentence.

The checkers are pure functions of histories (`superlearner.core.operations`) and of events
(`superlearner.core.history`); nothing here knows how a history was made.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from statistics import median
from typing import Any

from superlearner.core.history import Event
from superlearner.core.operations import Operation

ONE_OWNER = "a name has one owner at a time, and its epochs never go down"
NOTHING_LOST = "no acknowledged write is lost"
ONCE = "no effect is doubled"
DEFINITE = "what was said not to have happened did not happen"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a checker found.

    >>> print(Verdict(NOTHING_LOST, holds=False, why="the final state lacks write(3)"))
    FALSE    no acknowledged write is lost: the final state lacks write(3)
    """

    #: What was judged, as a sentence.
    promise: str
    #: None: it could not be found out.
    holds: bool | None
    #: Why.
    why: str = ""

    @property
    def word(self) -> str:
        """``true``, ``false`` or ``unknown``."""
        return {True: "true", False: "false", None: "unknown"}[self.holds]

    def __str__(self) -> str:
        word = self.word if self.holds else self.word.upper()
        return f"{word:<8} {self.promise}" + (f": {self.why}" if self.why else "")


def together(verdicts: Iterable[Verdict]) -> bool | None:
    """Return whether all hold: one that is false decides, else one that is unknown.

    >>> together([Verdict("a", holds=True), Verdict("b", holds=None)])
    >>> together([Verdict("a", holds=False), Verdict("b", holds=None)])
    False
    """
    found = {verdict.holds for verdict in verdicts}
    return False if False in found else None if None in found else True


# -- Owners -----------------------------------------------------------------------------------------


def one_owner(operations: Iterable[Operation], events: Iterable[Event] = ()) -> Verdict:
    """Judge whether each subject had one owner at a time.

    By the answers: once an incarnation has answered a request, no other one answers a request that is made
    later, unless the first never answers again. By the events: the epochs of what started never go down, and
    none is on two nodes. An owner that is cut off may go on for as long as its lease holds; an answer of it
    that overlaps with the next owner's in time is no fault, one that is asked for after it is.

    >>> first = Operation("ann", "read", invoked=0.0, completed=1.0, by="alpha 1")
    >>> other = Operation("ann", "read", invoked=2.0, completed=3.0, by="beta 1")
    >>> again = Operation("ann", "read", invoked=4.0, completed=5.0, by="alpha 1")
    >>> one_owner([first, other]).holds, one_owner([first, other, again]).holds
    (True, False)
    """
    answered: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in operations:
        if operation.outcome == "ok" and operation.by is not None:
            answered[operation.subject].append(operation)
    for subject, theirs in answered.items():
        if why := _two_owners(subject, theirs):
            return Verdict(ONE_OWNER, holds=False, why=why)
    if why := _epochs_go_down(events):
        return Verdict(ONE_OWNER, holds=False, why=why)
    incarnations = sum(len({o.by for o in theirs}) for theirs in answered.values())
    return Verdict(
        ONE_OWNER, holds=True, why=f"{incarnations} incarnations of {len(answered)} answered in turn"
    )


def _two_owners(subject: str, operations: Sequence[Operation]) -> str | None:
    first: dict[str, Operation] = {}
    last: dict[str, Operation] = {}
    for o in operations:
        by = str(o.by)
        if by not in first or _end(o) < _end(first[by]):
            first[by] = o
        if by not in last or o.invoked > last[by].invoked:
            last[by] = o
    for o in operations:
        for by, before in first.items():
            after = last[by]
            if by != o.by and _end(before) < o.invoked and _end(o) < after.invoked:
                turns = f"{by} ({before}), then by {o.by} ({o}), then by {by} again ({after})"
                return f"{subject} was answered for by {turns}"
    return None


def _end(operation: Operation) -> float:
    assert operation.completed is not None, f"{operation} was answered, so it has an end"
    return operation.completed


_STARTS = frozenset({"sandbox_started", "sandbox_restarted", "sandbox_moved"})


def _epochs_go_down(events: Iterable[Event]) -> str | None:
    newest: dict[str, int] = {}
    homes: dict[tuple[str, int], str | None] = {}
    for event in sorted(events, key=lambda event: event.seq):
        if event.kind in _STARTS and event.sandbox is not None and event.epoch is not None:
            if event.epoch < (before := newest.get(event.sandbox, 0)):
                return f"epoch {event.epoch} of {event.sandbox} began on {event.node} after epoch {before}"
            newest[event.sandbox] = event.epoch
            home = homes.setdefault((event.sandbox, event.epoch), event.node)
            if home != event.node:
                return f"epoch {event.epoch} of {event.sandbox} began on {event.node} and on {home}"
    return None


# -- Effects ----------------------------------------------------------------------------------------


def effects(
    operations: Iterable[Operation], applied: Mapping[str, Sequence[int]], changes: Iterable[str]
) -> list[Verdict]:
    """Judge by a final state that remembers the number of every operation that changed it.

    Parameters
    ----------
    operations
        What was asked, each with its ``subject`` and ``number``; a ``cas`` that answered False changed nothing.
    applied
        Subject -> the numbers of the operations that changed it, as its final state has them.
    changes
        The kinds of operations that change the state.

    Returns
    -------
    list of Verdict
        That no acknowledged write is lost, that none took effect twice, and that none of those which were
        refused took effect.

    >>> write = Operation("ann", "write", 3, invoked=0.0, completed=1.0, subject="shop", number=1)
    >>> [verdict.holds for verdict in effects([write], {"shop": [1]}, ["write"])]
    [True, True, True]
    >>> [verdict.holds for verdict in effects([write], {"shop": []}, ["write"])]
    [False, True, True]
    """
    kinds = frozenset(changes)
    counts = {subject: Counter(numbers) for subject, numbers in applied.items()}
    asked = [o for o in operations if o.kind in kinds and o.subject in counts]

    def times(o: Operation) -> int:
        return counts[o.subject][o.number]

    acknowledged = [o for o in asked if o.outcome == "ok" and not (o.kind == "cas" and o.value is False)]
    refused = [o for o in asked if o.outcome == "failed" or (o.kind == "cas" and o.value is False)]
    return [
        _none(
            NOTHING_LOST, acknowledged, [o for o in acknowledged if not times(o)], "is not in the final state"
        ),
        _none(ONCE, asked, [o for o in asked if times(o) > 1], "took effect more than once"),
        _none(DEFINITE, refused, [o for o in refused if times(o)], "took effect all the same"),
    ]


def _none(promise: str, judged: Sequence[Operation], broken: Sequence[Operation], what: str) -> Verdict:
    if not broken:
        return Verdict(promise, holds=True, why=f"none of {len(judged)}")
    more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
    return Verdict(promise, holds=False, why=f"{broken[0]} {what}{more}")


# -- Figures ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long it took after one fault until a request of somebody was answered."""

    #: What was broken, as the event tells it.
    fault: str
    #: Seconds, by the clock of the operations.
    at: float
    subject: str
    #: Seconds from the fault to the end of the first operation that was begun after it and answered; None when
    #: none was.
    seconds: float | None


def recoveries(operations: Iterable[Operation], faults: Iterable[tuple[float, str]]) -> list[Recovery]:
    """Return how long each subject took, after each fault ``(at, what)``, until it answered.

    >>> read = Operation("ann", "read", invoked=1.5, completed=1.75, subject="shop")
    >>> [recovery.seconds for recovery in recoveries([read], [(1.0, "kill_node"), (2.0, "cut")])]
    [0.75, None]
    """
    answered = [o for o in operations if o.outcome == "ok"]
    found = []
    for at, fault in faults:
        for subject in sorted({o.subject for o in answered}):
            ends = [_end(o) for o in answered if o.subject == subject and o.invoked >= at]
            found.append(Recovery(fault, at, subject, min(ends) - at if ends else None))
    return found


def median_and_worst(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    """Return the median and the largest of those that are known.

    >>> median_and_worst([0.25, None, 1.25])
    (0.75, 1.25)
    >>> median_and_worst([None])
    (None, None)
    """
    known = [value for value in values if value is not None]
    return (median(known), max(known)) if known else (None, None)


@dataclass(frozen=True, slots=True)
class Window:
    """How many of the operations that began in one stretch of time were answered."""

    #: Seconds, by the clock of the operations.
    begin: float
    asked: int
    answered: int

    @property
    def share(self) -> float:
        """The share that was answered."""
        return self.answered / self.asked


def availability(operations: Iterable[Operation], window: float = 1.0) -> list[Window]:
    """Return the share of operations that were answered, for each `window` of seconds in which some began.

    >>> done = Operation("ann", "read", invoked=0.25, completed=0.5)
    >>> lost = Operation("ann", "read", invoked=0.75, outcome="unknown")
    >>> [found.share for found in availability([done, lost])]
    [0.5]
    """
    asked: Counter[int] = Counter()
    answered: Counter[int] = Counter()
    for operation in operations:
        number = floor(operation.invoked / window)
        asked[number] += 1
        answered[number] += operation.outcome == "ok"
    return [Window(number * window, asked[number], answered[number]) for number in sorted(asked)]


def faults_in(events: Iterable[Event]) -> list[tuple[float, str]]:
    """Return what was broken on purpose, and when, from an event log.

    >>> faults_in([Event("fault_injected", at=2.0, node="beta", detail={"signal": "SIGKILL"})])
    [(2.0, 'SIGKILL of beta')]
    """
    return [(event.at, _fault(event)) for event in events if event.kind == "fault_injected"]


def _fault(event: Event) -> str:
    what: Any = event.detail.get("fault") or event.detail.get("signal") or "fault"
    where = event.sandbox or event.node
    ends = [event.detail[end] for end in ("a", "b") if end in event.detail]
    if ends:
        return f"{what} between {ends[0]} and {ends[-1]}"
    return f"{what} of {where}" if where else str(what)
