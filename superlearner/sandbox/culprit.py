"""Finds what it is, inside a value, that cannot be serialised."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

#: Parts that are looked at before the search is given up.
_MOST_LOOKS = 500
#: Steps of a way that are shown.
_MOST_STEPS = 20


def culprit(value: Any, dump: Callable[[Any], object]) -> str:
    """Return where in `value` the part sits that `dump` cannot take, or nothing when that is `value` itself.

    >>> import pickle, threading
    >>> culprit({"stock": [1, threading.Lock()]}, pickle.dumps)
    "['stock'][1]"
    """
    path, looks, seen = "", 0, {id(value)}
    while len(seen) <= _MOST_STEPS:
        for step, part in _parts(value):
            looks += 1
            if looks > _MOST_LOOKS:
                return path
            if id(part) not in seen and not _goes(part, dump):
                seen.add(id(part))
                path = _named(value, path, step)
                value = part
                break
        else:
            return path
    return f"{path}..."


def _goes(part: Any, dump: Callable[[Any], object]) -> bool:
    try:
        dump(part)
    except Exception:
        return False  # that it fails, not how, is what is asked
    return True


def _named(value: Any, path: str, step: str) -> str:
    # A class or a function is known by its own name, however it was reached.
    if inspect.isclass(value) or inspect.isfunction(value):
        return f"{value.__qualname__.rpartition('<locals>.')[2]}{step}"
    return path + step


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what `value` is made of, each with the way to it."""
    if isinstance(value, dict):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{number}]", part) for number, part in enumerate(value))
    elif inspect.isfunction(value):
        yield from _of_function(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value))
    elif hasattr(value, "__dict__") and not _speaks_for_itself(type(value)):
        yield from ((f".{name}", part) for name, part in vars(value).items() if not name.startswith("__"))


def _of_function(function: Any) -> Iterator[tuple[str, Any]]:
    try:
        used = inspect.getclosurevars(function)
    except ValueError:  # a cell of its closure is still empty
        return
    for name, part in {**used.nonlocals, **used.globals}.items():
        yield f"'s variable {name}", part


def _speaks_for_itself(kind: type) -> bool:
    """Tell whether a class says itself what of it travels: then its own words are the reason."""
    return any("__reduce__" in vars(base) for base in kind.__mro__[:-1])
