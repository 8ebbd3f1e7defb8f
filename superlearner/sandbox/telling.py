"""How a host tells its events: together, as plain values, no longer and no more often than the others can bear.

Every event goes to the node, to the control plane, to its journal and to each subscriber. A sandbox that
starts and ends processes as fast as it can would keep all of them busy, and push the history of all other
sandboxes out of the log. Past a burst the rest of a storm is counted: ``events_dropped`` tells how many.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from superlearner.core.history import Event
from superlearner.sandbox.frames import pack
from superlearner.sandbox.payload import cut

#: Events that are told at once, and how many more each second.
BURST = 4000
RATE = 1000
#: Bytes that an event may have before its texts are cut, and what is then left of each: a log holds 10,000 events.
LONGEST_EVENT = 16 * 1024
LONGEST_TEXT = 4 * 1024


class Teller:
    """Gathers the events of one turn of the event loop and writes them together.

    Parameters
    ----------
    write
        Takes plain events.
    """

    def __init__(self, write: Callable[[list[dict[str, Any]]], None]) -> None:
        self._write = write
        #: Seconds for which events are gathered. None: until the end of the turn, so that they are told before an
        #: answer that comes after them.
        self.pause: float | None = None
        self._loop = asyncio.get_running_loop()
        self._events: list[Event] = []
        self._budget = float(BURST)
        self._filled_at = self._loop.time()
        self._dropped = 0
        self._where = Event("events_dropped")
        #: The newest pid that a dropped event was to tell of: it must not be given again.
        self._pid: str | None = None

    def add(self, event: Event) -> None:
        """Tell an event at the end of this turn, or of the pause."""
        if self._events:
            if len(self._events) >= BURST:
                self._drop(event)
                return
        elif self.pause is None:
            self._loop.call_soon(self.flush)
        else:
            self._loop.call_later(self.pause, self.flush)
        self._events.append(event)

    def precede(self) -> None:
        """Tell what there is before an answer that comes after it leaves, unless a pause is to be kept."""
        if self._events and self.pause is None:
            self.flush()

    def flush(self) -> None:
        """Tell what there is now."""
        now = self._loop.time()
        self._budget = min(BURST, self._budget + RATE * (now - self._filled_at))
        self._filled_at = now
        events, self._events = self._events, []
        told = events[: int(self._budget)]
        self._budget -= len(told)
        for event in events[len(told) :]:
            self._drop(event)
        if told:
            self._write([plain(event) for event in told])

    def _drop(self, event: Event) -> None:
        if not self._dropped:
            self._where = Event("events_dropped", sandbox=event.sandbox, node=event.node, epoch=event.epoch)
            self._loop.call_later(1.0, self.account)
        self._dropped += 1
        if event.kind == "process_started":
            self._pid = event.pid

    def account(self) -> None:
        """Tell how many events were dropped since this was last told, if any."""
        if self._dropped:
            event = replace(self._where, pid=self._pid, at=time.time(), detail={"dropped": self._dropped})
            self._dropped = 0
            self._write([plain(event)])


def plain(event: Event) -> dict[str, Any]:
    """Return an event as a frame can carry it, with long texts cut.

    >>> plain(Event("process_exited", reason=ValueError))["reason"]
    "<class 'ValueError'>"
    """
    fields = event.as_dict()
    try:
        if len(pack([fields])) <= LONGEST_EVENT:
            return fields
    except Exception:
        # A message or reason that is no plain value is shown as its text.
        fields["reason"] = _text(fields["reason"], str)
    return fields | {
        "reason": _short(fields["reason"]),
        "detail": {str(name): _short(value) for name, value in fields["detail"].items()},
    }


def _short(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    return cut(value if isinstance(value, str) else _text(value, repr), LONGEST_TEXT)


def _text(value: Any, how: Callable[[Any], str]) -> str:
    try:
        return how(value)
    except Exception as error:
        return f"<a {type(value).__name__} that cannot be shown: {type(error).__name__}>"
