"""Linearizability: is there one order of all operations, each at one moment between its beginning and its end?

The search is Wing and Gong's (*Testing and Verifying Concurrent Objects*, 1993), with Lowe's memoisation of
configurations (*Testing for Linearizability*, 2017), as in Porcupine and in Knossos' ``wgl``: place one
operation after the other; nothing may be placed that begins after the end of one that is not placed yet; on a
dead end go back, and never come to the same configuration twice.

Operations of unknown outcome make such searches long, since each may be placed anywhere later, or not at
all. Two observations keep it short. What was reached with fewer of them placed leaves more to choose from, so
a configuration that has placed more of them is not worth a look. And of two that do the same, the one that
began first can stand wherever the other can, so it is placed first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf
from typing import Any, Protocol

from superlearner.core.operations import Operation
from superlearner.core.verdicts import Verdict

LINEARIZABLE = "operations take effect one after the other, each between its beginning and its end"


class Model(Protocol):
    """What an object does when its operations come one after the other. States are hashable."""

    @property
    def initial(self) -> Any:
        """The state before the first operation."""

    def step(self, state: Any, operation: Operation) -> tuple[bool, Any]:
        """Tell whether the operation may do what it did in this state, and return the state after it."""


@dataclass(frozen=True, slots=True)
class Register:
    """A value that can be read, written, and set if it is what the caller expects.

    ``read()`` gives the value; ``write(value)``; ``cas(expected, new)`` gives whether it was set.

    >>> Register().step(3, Operation("ann", "cas", (3, 4), value=True))
    (True, 4)
    """

    initial: Any = None

    def step(self, state: Any, operation: Operation) -> tuple[bool, Any]:
        """See `Model`."""
        known = operation.outcome == "ok"
        match operation.kind:
            case "read":
                return not known or operation.value == state, state
            case "write":
                return True, operation.argument
            case "cas":
                expected, new = operation.argument
                hit = state == expected
                return not known or operation.value == hit, new if hit else state
        raise ValueError(f"A register has no operation {operation.kind!r}.")


@dataclass(frozen=True, slots=True)
class Counter:
    """A number that can be read and increased by one; ``increment()`` gives what it is then.

    >>> Counter().step(3, Operation("ann", "increment", value=4))
    (True, 4)
    """

    initial: int = 0

    def step(self, state: Any, operation: Operation) -> tuple[bool, Any]:
        """See `Model`."""
        known = operation.outcome == "ok"
        match operation.kind:
            case "read":
                return not known or operation.value == state, state
            case "increment":
                return not known or operation.value == state + 1, state + 1
        raise ValueError(f"A counter has no operation {operation.kind!r}.")


def linearizable(history: Iterable[Operation], model: Model, steps: int = 1_000_000) -> Verdict:
    """Judge whether a history of one object is linearizable.

    Parameters
    ----------
    history
        Its operations in any order. What begins at the very time at which another ends counts as concurrent.
    model
        What the object does.
    steps
        How many placements may be tried before the verdict is unknown.

    Returns
    -------
    Verdict
        A false one names an operation that cannot be placed: everything that ended before it can be, and no
        order has a place for it, too.

    >>> ann = Operation("ann", "write", 1, invoked=0.0, completed=1.0)
    >>> late = Operation("bob", "read", value=None, invoked=2.0, completed=3.0)
    >>> linearizable([ann, late], Register()).holds
    False
    >>> early = Operation("bob", "read", value=None, invoked=0.5, completed=3.0)
    >>> linearizable([ann, early], Register()).holds
    True
    """
    return _Search(history, model).run(steps)


@dataclass(frozen=True, slots=True)
class _Configuration:
    """How far a search has come: what is placed, and the state after it."""

    #: All answered operations before this one are placed, and this one is not.
    low: int
    #: Which of those from `low` on are placed, one bit for each.
    mask: int
    #: Which operations of unknown outcome are placed.
    used: int
    state: Any


@dataclass(slots=True)
class _Search:
    history: Iterable[Operation]
    model: Model
    #: Those that were answered, by their beginnings.
    _answered: list[Operation] = field(init=False)
    #: Those that may have happened, by their beginnings. A read that was not answered has no effect to place.
    _unknown: list[Operation] = field(init=False)
    #: The number of one of these -> that of the one before that does the same.
    _twin: dict[int, int] = field(init=False)
    #: What was reached already: what is placed and the state -> the least sets of `_unknown` that it took.
    _seen: dict[tuple[int, int, Any], list[int]] = field(init=False)
    #: The end of the operation that no configuration has got past yet, that operation, and the states before it.
    _furthest: tuple[float, Operation | None, set[Any]] = field(init=False)

    def __post_init__(self) -> None:
        ordered = sorted(self.history, key=lambda operation: operation.invoked)
        self._answered = [o for o in ordered if o.outcome == "ok"]
        self._unknown = [o for o in ordered if o.outcome == "unknown" and o.kind != "read"]
        latest: dict[tuple[str, str], int] = {}
        self._twin = {}
        for number, operation in enumerate(self._unknown):
            what = (operation.kind, repr(operation.argument))
            if what in latest:
                self._twin[number] = latest[what]
            latest[what] = number
        self._seen = {}
        self._furthest = (-inf, None, set())

    def run(self, steps: int) -> Verdict:
        start = _Configuration(0, 0, 0, self.model.initial)
        if not self._answered:
            return Verdict(LINEARIZABLE, holds=True, why="nothing was answered")
        self._is_new(start)
        stack = [self._next(start)]
        while stack:
            for following in stack[-1]:
                steps -= 1
                if steps < 0:
                    return Verdict(
                        LINEARIZABLE, holds=None, why="the search was given up: it took too many steps"
                    )
                if following is None:
                    continue
                if following.low == len(self._answered):
                    return Verdict(
                        LINEARIZABLE, holds=True, why=f"{len(self._answered)} operations have an order"
                    )
                if self._is_new(following):
                    stack.append(self._next(following))
                    break
            else:
                stack.pop()
        return Verdict(LINEARIZABLE, holds=False, why=self._unplaced())

    def _is_new(self, c: _Configuration) -> bool:
        """Tell whether a configuration is better than those that were reached; then it is kept."""
        least = self._seen.setdefault((c.low, c.mask, c.state), [])
        if any(used & c.used == used for used in least):
            return False
        least[:] = [used for used in least if used & c.used != c.used]
        least.append(c.used)
        return True

    def _next(self, c: _Configuration) -> Iterator[_Configuration | None]:
        """Place one more operation in each possible way; None for one whose answer does not fit."""
        open_, first_end = [], inf
        blocked: Operation | None = None
        for place in range(c.low, len(self._answered)):
            operation = self._answered[place]
            if operation.invoked > first_end:
                break
            if not c.mask >> (place - c.low) & 1:
                open_.append((place, operation))
                assert operation.completed is not None, f"{operation} was answered, so it has an end"
                if operation.completed < first_end:
                    first_end, blocked = operation.completed, operation
        self._note(first_end, blocked, c.state)
        # First what must be placed, by what ends first; what may be placed only where that has no place.
        for place, operation in sorted(open_, key=lambda both: both[1].completed or inf):
            fits, state = self.model.step(c.state, operation)
            yield self._placed(c, place, state) if fits else None
        for number, operation in enumerate(self._unknown):
            if operation.invoked > first_end:
                break
            twin = self._twin.get(number)
            if not c.used >> number & 1 and (twin is None or c.used >> twin & 1):
                fits, state = self.model.step(c.state, operation)
                used = c.used | 1 << number
                yield _Configuration(c.low, c.mask, used, state) if fits and state != c.state else None

    def _placed(self, c: _Configuration, place: int, state: Any) -> _Configuration:
        low, mask = c.low, c.mask | 1 << (place - c.low)
        while mask & 1:
            low, mask = low + 1, mask >> 1
        return _Configuration(low, mask, c.used, state)

    def _note(self, end: float, blocked: Operation | None, state: Any) -> None:
        if end > self._furthest[0]:
            self._furthest = (end, blocked, {state})
        elif end == self._furthest[0]:
            self._furthest[2].add(state)

    def _unplaced(self) -> str:
        _, operation, states = self._furthest
        told = sorted(map(repr, states))
        shown = ", ".join(told[:5]) + (", ..." if len(told) > 5 else "")
        return f"no order has a place for {operation}: by then the state can be {shown}"
