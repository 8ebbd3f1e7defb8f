"""Histories for the checkers: by an object that does one thing after the other, or by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

from hypothesis import strategies as st

from superlearner.core.linearizable import Counter, Model, Register
from superlearner.core.operations import Operation

VALUES = st.integers(0, 3)
KINDS = {
    "read": st.just(("read", None)),
    "write": VALUES.map(lambda value: ("write", value)),
    "cas": st.tuples(VALUES, VALUES).map(lambda pair: ("cas", pair)),
    "increment": st.just(("increment", None)),
}
REGISTER, COUNTER = ("read", "write", "cas"), ("read", "increment")
MODELS: dict[tuple[str, ...], Model] = {REGISTER: Register(), COUNTER: Counter()}


def answer(state: Any, kind: str, argument: Any) -> tuple[Any, Any]:
    """What a register or a counter does: its answer and its next state. (Not by the checker's own models.)"""
    if kind == "read":
        return state, state
    if kind == "write":
        return None, argument
    if kind == "increment":
        return state + 1, state + 1
    return (True, argument[1]) if state == argument[0] else (False, state)


@st.composite
def correct(draw: st.DrawFn, kinds: Sequence[str], most: int = 30) -> list[Operation]:
    """A history of an object at which each operation took effect at one moment; some answers got lost."""
    state = MODELS[tuple(kinds)].initial
    history = []
    for number in range(draw(st.integers(1, most))):
        kind, argument = draw(st.one_of([KINDS[kind] for kind in kinds]))
        fate = draw(st.sampled_from(["ok", "ok", "ok", "ok", "lost", "never", "failed"]))
        moment = number + 1.0
        invoked = moment - draw(st.floats(0.0, 3.0))
        if fate in {"never", "failed"}:
            outcome = "unknown" if fate == "never" else "failed"
            history.append(Operation(f"c{number}", kind, argument, invoked, None, outcome, number=number))
            continue
        value, state = answer(state, kind, argument)
        if fate == "lost":
            history.append(Operation(f"c{number}", kind, argument, invoked, None, "unknown", number=number))
        else:
            completed = moment + draw(st.floats(0.0, 3.0))
            history.append(
                Operation(f"c{number}", kind, argument, invoked, completed, "ok", value, number=number)
            )
    return draw(st.permutations(history))


@st.composite
def arbitrary(draw: st.DrawFn, kinds: Sequence[str], most: int = 5) -> list[Operation]:
    """A history with answers by chance: right or wrong."""
    history = []
    for number in range(draw(st.integers(1, most))):
        kind, argument = draw(st.one_of([KINDS[kind] for kind in kinds]))
        value = draw({"read": VALUES, "write": st.none(), "cas": st.booleans(), "increment": VALUES}[kind])
        outcome = draw(st.sampled_from(["ok", "ok", "ok", "unknown", "failed"]))
        invoked = draw(st.integers(0, 6))
        completed = invoked + draw(st.integers(0, 4)) if outcome == "ok" else None
        history.append(
            Operation(f"c{number}", kind, argument, invoked, completed, outcome, value, number=number)
        )
    return history


def brute(history: Sequence[Operation], kinds: Sequence[str]) -> bool:
    """Try every order of every choice of what happened."""
    certain = [o for o in history if o.outcome == "ok"]
    doubtful = [o for o in history if o.outcome == "unknown"]
    initial = MODELS[tuple(kinds)].initial
    return any(
        _fits(order, initial)
        for choice in range(2 ** len(doubtful))
        for order in permutations(certain + [o for n, o in enumerate(doubtful) if choice >> n & 1])
    )


def _fits(order: Sequence[Operation], state: Any) -> bool:
    for place, operation in enumerate(order):
        if any(o.completed is not None and o.completed < operation.invoked for o in order[place + 1 :]):
            return False
        value, state = answer(state, operation.kind, operation.argument)
        if operation.outcome == "ok" and value != operation.value:
            return False
    return True


def one_after_the_other(*asked: tuple[str, Any, Any]) -> list[Operation]:
    """A history without concurrency: ``(kind, argument, value)``, a second each, with a second between."""
    return [
        Operation("ann", kind, argument, 2.0 * n, 2.0 * n + 1, value=value, number=n)
        for n, (kind, argument, value) in enumerate(asked)
    ]


def changed(history: Sequence[Operation], number: int, **changes: Any) -> list[Operation]:
    """The history with one operation told otherwise."""
    return [replace(o, **changes) if o.number == number else o for o in history]
