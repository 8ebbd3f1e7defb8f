"""What counts as a time: one NaN in the heap of an event loop would stop all its timers."""

from __future__ import annotations

from typing import Any

from superlearner.errors import InvalidSpec

#: A tuple, as ``int | float`` makes a new type each time, on the way of every call.
_NUMBERS = (int, float)


def is_seconds(value: Any) -> bool:
    """Tell whether `value` is a finite number of seconds above 0.

    >>> [is_seconds(value) for value in (0.5, 0, "5", True, float("nan"), float("inf"))]
    [True, False, False, False, False, False]
    """
    return is_wait(value) and 0 < value < float("inf")


def is_wait(value: Any) -> bool:
    """Tell whether one can wait for `value`: a number of seconds, 0 or more, infinity included.

    >>> [is_wait(value) for value in (0.5, 0, "5", True, float("nan"), float("inf"))]
    [True, True, False, False, False, True]
    """
    return isinstance(value, _NUMBERS) and not isinstance(value, bool) and value >= 0


def seconds(value: Any, option: str = "timeout") -> float:
    """Return `value` if one can wait for it, else raise `InvalidSpec`.

    >>> seconds(2.5)
    2.5
    >>> seconds("5")
    Traceback (most recent call last):
        ...
    superlearner.errors.InvalidSpec: timeout='5' must be a number of seconds, 0 or more; nothing was done.
    """
    if is_wait(value):
        return float(value)
    raise InvalidSpec(f"{option}={value!r} must be a number of seconds, 0 or more; nothing was done.")
