"""What the event log tells of a call: who, what, how long, how it ended; never a secret. Pure."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr

from superlearner.arsenal.access import MOST_CALLERS, Caller, Rate
from superlearner.arsenal.operation import Operation

#: The kind of these events.
KIND = "operation_called"
HIDDEN = "<hidden>"
#: Names whose values are nobody's business.
_SECRET = re.compile(r"passw|secret|token|credential|api_?key|private|authorization|cookie", re.IGNORECASE)
#: The longest text, and the most items of a list or fields of an object, that an event tells of a parameter.
_LONGEST, _MOST = 200, 20
#: How deep lists and objects are told.
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Hidden:
    """Marks a field of a parameter model that no event tells: ``body: Annotated[Any, Hidden()]``."""


def redacted(params: BaseModel) -> dict[str, Any]:
    """Return the parameters that were given, as an event tells them.

    >>> class Login(BaseModel):
    ...     user: str
    ...     password: str
    >>> redacted(Login(user="ann", password="1234"))
    {'user': 'ann', 'password': '<hidden>'}
    """
    fields = type(params).model_fields
    found = {}
    for name in sorted(params.model_fields_set, key=list(fields).index):
        hidden = any(isinstance(mark, Hidden) for mark in fields[name].metadata)
        found[name] = HIDDEN if hidden else _plain(name, getattr(params, name))
    return found


def _plain(name: str, value: Any, depth: int = 0) -> Any:
    """Return what every log can hold: no secret, no number beyond 64 bits, nothing long, nothing deep."""
    if _SECRET.search(name) or isinstance(value, SecretStr | SecretBytes):
        return HIDDEN
    if isinstance(value, BaseModel):
        return redacted(value)
    if isinstance(value, Mapping) and depth < _DEEPEST:
        items = list(value.items())[:_MOST]
        return {_text(key): _plain(str(key), item, depth + 1) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
        return [_plain("", item, depth + 1) for item in list(value)[:_MOST]]
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        return "..."
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63):
        return value
    return _text(value)


def _text(value: Any) -> str:
    """Return a short text that can be encoded: half a surrogate cannot."""
    text = str(value) if not isinstance(value, int) else hex(value)  # a huge number has no decimal text
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def detail(
    operation: Operation,
    caller: Caller,
    *,
    seconds: float,
    outcome: str,
    parameters: Mapping[str, Any],
    calls: int = 1,
) -> dict[str, Any]:
    """Return what the event of a call tells beside its kind."""
    return {
        "operation": operation.name,
        "access": operation.access,
        "who": caller.name,
        "face": caller.face,
        "seconds": round(seconds, 6),
        "outcome": outcome,
        "calls": calls,
        "parameters": dict(parameters),
    }


class Readers:
    """Which of the calls that only read get an event of their own.

    Somebody who polls would fill the log with nothing else. So each operation of each caller has `burst` events, and
    `rate` more each second; the calls between are counted, and told with the next one that is.

    >>> readers = Readers(rate=1.0, burst=1)
    >>> [readers.due(("ann", "status"), now) for now in (0.0, 0.1, 0.2, 1.3)]
    [1, 0, 0, 3]
    """

    def __init__(self, rate: float = 0.2, burst: float = 20.0) -> None:
        self._rate = Rate(rate, burst)
        self._waiting: OrderedDict[tuple[str, ...], int] = OrderedDict()

    def due(self, key: tuple[str, ...], now: float) -> int:
        """Count one call; return how many calls its event stands for, 0 when it gets none."""
        calls = self._waiting.pop(key, 0) + 1
        if self._rate.take(key, now) == 0:
            return calls
        self._waiting[key] = calls
        while len(self._waiting) > MOST_CALLERS:
            self._waiting.popitem(last=False)
        return 0

    def waiting(self) -> dict[tuple[str, ...], int]:
        """Return how many calls have not been told yet, by key."""
        return dict(self._waiting)
