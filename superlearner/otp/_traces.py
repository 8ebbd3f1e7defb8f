"""Traces that are begun, read while they are taken, and ended: at most a few, each bounded in time and events."""

from __future__ import annotations

import time
from asyncio import TimerHandle
from collections.abc import Iterable
from typing import Any

from superlearner.core.times import seconds
from superlearner.errors import InvalidSpec, NoTrace, TooManyTraces
from superlearner.otp._kernel import Kernel
from superlearner.otp.tracing import Collector, Trace, begin_collecting, end_collecting

#: How many are kept; the oldest that has ended makes room for a new one.
MOST_TRACES = 8
#: The most events of one trace, and seconds.
MOST_EVENTS, LONGEST = 10_000, 3600.0


class Traces:
    """The traces of one runtime. They end with it, and no checkpoint has them."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._kept: dict[str, _Taken] = {}
        self._made = 0

    def start(self, duration: float, limit: int, only: Iterable[Any] | None) -> str:
        """Begin one and return its id."""
        if not seconds(duration, "duration") <= LONGEST:
            raise InvalidSpec(f"duration={duration!r} must be {LONGEST:g} s at most: nothing is traced.")
        if isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= MOST_EVENTS:
            raise InvalidSpec(
                f"limit={limit!r} must be a whole number from 1 to {MOST_EVENTS}: nothing is traced."
            )
        pids = None if only is None else frozenset(str(self._kernel.find(target).pid) for target in only)
        self._make_room()
        self._made += 1
        id = f"trace-{self._made}"
        self._kept[id] = _Taken(self._kernel, id, duration, Collector(limit, pids))
        return id

    def _make_room(self) -> None:
        if len(self._kept) < MOST_TRACES:
            return
        ended = next((id for id, taken in self._kept.items() if not taken.running), None)
        if ended is None:
            raise TooManyTraces(MOST_TRACES)
        del self._kept[ended]

    def read(self, id: str, since: int) -> Trace:
        """Return the events after the first `since` ones, so far."""
        return self._find(id).told(since)

    def stop(self, id: str) -> Trace:
        """End one and forget it; return all its events."""
        taken = self._find(id)
        taken.end()
        del self._kept[id]
        return taken.told(0)

    def _find(self, id: str) -> _Taken:
        try:
            return self._kept[id]
        except (KeyError, TypeError):
            raise NoTrace(id, tuple(self._kept)) from None

    def close(self) -> None:
        """End all."""
        for taken in self._kept.values():
            taken.end()


class _Taken:
    """One trace."""

    def __init__(self, kernel: Kernel, id: str, duration: float, collector: Collector) -> None:
        self._kernel, self._id, self._collector = kernel, id, collector
        self._began = time.time()
        self._ends = self._began + duration
        self._timer: TimerHandle | None = kernel.loop.call_later(duration, self.end)
        begin_collecting(kernel, collector)
        collector.on_full = self.end

    @property
    def running(self) -> bool:
        return self._timer is not None

    def end(self) -> None:
        """Note nothing more. Harmless when it has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._ends = time.time()
            end_collecting(self._kernel, self._collector)

    def told(self, since: int) -> Trace:
        events = tuple(self._collector.events[since:])
        total = len(self._collector.events)
        return Trace(self._id, events, total, self.running, self._began, self._ends, self._collector.limit)
