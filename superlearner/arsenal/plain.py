"""Results as JSON: models, snapshots, and the reasons of exits, which may be anything."""

from __future__ import annotations

from typing import Any

import pydantic_core
from pydantic import BaseModel

from superlearner.arsenal.failures import told
from superlearner.core.history import Event
from superlearner.errors import NotSerializable, in_words


def to_json(result: BaseModel) -> bytes:
    """Return a result as JSON; what JSON does not know, such as the exception in an exit reason, is told in words."""
    return result.model_dump_json(fallback=in_one_line).encode()


def in_one_line(value: Any) -> str:
    """Return what a person would say of a value, without paths and tracebacks."""
    return told(in_words(value))


def event_json(event: Event) -> dict[str, Any]:
    """Return an event as JSON carries it, without paths and tracebacks.

    >>> event_json(Event("node_lost", node="beta", reason="it has left"))["reason"]
    'it has left'
    """
    clean: dict[str, Any] = _clean(event.as_dict())
    return clean


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return told(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items() if key != "traceback"}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return in_one_line(value)


def as_json(value: Any, what: str = "the reply") -> Any:
    """Return a value of the user's as JSON knows it; refuse one that JSON cannot carry.

    >>> as_json({"pair": (1, 2)})
    {'pair': [1, 2]}
    >>> as_json(object())
    Traceback (most recent call last):
        ...
    superlearner.errors.NotSerializable: Could not serialise the reply: JSON knows no object; the request was handled...
    """
    try:
        return pydantic_core.from_json(
            pydantic_core.to_json(value, fallback=_refuse, inf_nan_mode="constants")
        )
    except (ValueError, TypeError, RecursionError) as error:
        raise NotSerializable(what, str(error).rpartition(": ")[2]) from None


def _refuse(value: Any) -> Any:
    raise TypeError(f"JSON knows no {type(value).__name__}")
