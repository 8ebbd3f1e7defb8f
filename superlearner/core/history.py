"""The event: what happened, when, where, and why. The one record that everything else reads."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    ``reason`` and the values of ``detail`` are plain: text, numbers, booleans, None, lists and dicts
    of these, so that an event can be journalled, sent and shown without loading anybody's classes.
    """

    #: What happened, in the past tense: ``process_exited``, ``sandbox_moved``.
    kind: str
    #: Its place in the log; 0 until the log has taken it.
    seq: int = 0
    #: Unix time in seconds, by the clock of where it happened.
    at: float = 0.0
    sandbox: str | None = None
    node: str | None = None
    epoch: int | None = None
    #: The process it happened to, as text.
    pid: str | None = None
    #: That process's registered name, or its child id.
    name: str | None = None
    #: Why, as OTP says it; an exception is its one-line summary, with the traceback in ``detail``.
    reason: Any = None
    #: The id of the request or event that led to this one.
    cause: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the event as a plain dict, ready for JSON or msgpack."""
        return {name: getattr(self, name) for name in _FIELDS} | {"detail": dict(self.detail)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Event:
        """Rebuild an event from `as_dict`."""
        return cls(**{name: plain[name] for name in _FIELDS if name in plain})


_FIELDS = ("kind", "seq", "at", "sandbox", "node", "epoch", "pid", "name", "reason", "cause", "detail")


class EventLog:
    """An append-only log that keeps the newest `limit` events and numbers all of them.

    It may begin with `earlier` events, numbered before `first_seq`.

    >>> log = EventLog(limit=2)
    >>> [log.append(Event(kind)).seq for kind in ("a", "b", "c")]
    [1, 2, 3]
    >>> [event.kind for event in log.since(0)]
    ['b', 'c']
    """

    def __init__(self, limit: int = 10_000, first_seq: int = 1, earlier: Iterable[Event] = ()) -> None:
        self._events: deque[Event] = deque(earlier, maxlen=limit)
        self._next = first_seq

    def append(self, event: Event) -> Event:
        """Number `event`, keep it, and return the numbered one."""
        numbered = replace(event, seq=self._next)
        self._next += 1
        self._events.append(numbered)
        return numbered

    def since(
        self,
        seq: int = 0,
        *,
        kind: str | None = None,
        sandbox: str | None = None,
        node: str | None = None,
        limit: int | None = None,
    ) -> list[Event]:
        """Return the kept events after `seq`, oldest first, of one kind, sandbox or node, at most `limit`."""
        found = (
            event
            for event in self._events
            if event.seq > seq
            and (kind is None or event.kind == kind)
            and (sandbox is None or event.sandbox == sandbox)
            and (node is None or event.node == node)
        )
        return list(islice(found, limit))

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)


class Story(list[Event]):
    """The events of one sandbox, oldest first; printed, it reads as a table.

    >>> print(Story([Event("sandbox_started", seq=1, at=10.0, sandbox="shop", node="alpha", epoch=1)]))
       +0.000 s  sandbox_started          alpha:1
    """

    def __str__(self) -> str:
        return "\n".join(self._line(event) for event in self)

    def _line(self, event: Event) -> str:
        where = f"{event.node or '-'}:{event.epoch if event.epoch is not None else '-'}"
        parts = [f"{event.at - self[0].at:+9.3f} s", f"{event.kind:<24}", where]
        parts += [str(part) for part in (event.name, event.pid) if part is not None]
        if event.reason is not None:
            parts.append(f"reason: {event.reason}")
        return "  ".join(parts)
