"""User values as JSON and back: what JSON knows as it is, a tuple as ``{"tuple": [...]}``, all else in words. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from superlearner.arsenal.failures import told
from superlearner.otp.messages import one_line

#: The one key of the object that stands for a tuple.
TUPLE = "tuple"
#: How deep a value may be, and how many places are named that were told in words.
_DEEPEST, _MOST = 64, 20

#: For the description of parameters that carry user values.
SPELLING = (
    'Any JSON. An object whose only key is "tuple", with a list, stands for a tuple, at any depth: '
    '{"tuple": ["add", 5]} is ("add", 5).'
)
#: The same of results.
TOLD = 'As JSON; a tuple is told as {"tuple": [...]}, and what JSON does not know in words.'


def meant(value: Any) -> Any:
    """Return the value that a JSON value stands for.

    >>> meant({"tuple": ["add", {"tuple": []}, {"by": [1, 2]}]})
    ('add', (), {'by': [1, 2]})
    """
    if isinstance(value, list):
        return [meant(item) for item in value]
    if isinstance(value, dict):
        if set(value) == {TUPLE} and isinstance(value[TUPLE], list):
            return tuple(meant(item) for item in value[TUPLE])
        return {key: meant(item) for key, item in value.items()}
    return value


@dataclass(frozen=True, slots=True)
class Spelled:
    """A value as JSON."""

    value: Any
    #: The places of what is told in words, such as ``$.log[0]``; empty: `meant` gives the same value again.
    in_words: list[str] = field(default_factory=list)


def spelled(value: Any) -> Spelled:
    """Return a value as JSON knows it.

    >>> spelled({"pair": (1, 2), "set": {3}})
    Spelled(value={'pair': {'tuple': [1, 2]}, 'set': '{3}'}, in_words=['$.set'])
    """
    words: list[str] = []
    return Spelled(_spell(value, "$", _DEEPEST, words), words[:_MOST])


def _spell(value: Any, place: str, depth: int, words: list[str]) -> Any:
    kind = type(value)
    if depth == 0:
        return _say(value, place, words)
    if value is None or kind is bool or kind is int or (kind is float and math.isfinite(value)):
        return value
    if kind is str and value.isascii():
        return value
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError:  # half a surrogate
            return _say(value, place, words)
        return value
    if kind is list or kind is tuple:
        items = [_spell(item, f"{place}[{n}]", depth - 1, words) for n, item in enumerate(value)]
        return items if kind is list else {TUPLE: items}
    if kind is dict and all(type(key) is str for key in value) and not _reads_as_tuple(value):
        return {key: _spell(item, f"{place}.{key}", depth - 1, words) for key, item in value.items()}
    return _say(value, place, words)


def _reads_as_tuple(value: dict[str, Any]) -> bool:
    return set(value) == {TUPLE} and type(value[TUPLE]) is list


def _say(value: Any, place: str, words: list[str]) -> str:
    words.append(place[:200])
    return told(one_line(value)).encode(errors="backslashreplace").decode()
