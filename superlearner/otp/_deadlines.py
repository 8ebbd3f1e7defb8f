"""One timeout of many calls, with one timer for all of them: a timer of its own costs a call a quarter of its time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from superlearner.errors import CallTimeout

#: Seconds that a call waits unless it says otherwise, as in OTP.
USUAL: Final = 5.0

#: Futures that may lie behind one that takes long, before those that are done are let go.
_SHORT = 1000


class Waiting:
    """One future that waits; it is let go as soon as it is over, since its result may be large."""

    __slots__ = ("due", "future", "target")

    def __init__(self, due: float, future: asyncio.Future[Any], target: Any) -> None:
        self.due = due
        self.future: asyncio.Future[Any] | None = future
        self.target = target

    @property
    def done(self) -> bool:
        """Whether nothing is to be done about it any more."""
        return self.future is None or self.future.done()

    def cancel(self) -> None:
        """Let go of the future."""
        self.future = None


class Deadlines:
    """Fails futures that are not done `seconds` after they were added.

    They all wait equally long, so they fall due in the order in which they were added.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float = USUAL) -> None:
        self._loop = loop
        self._seconds = seconds
        self._waiting: deque[Waiting] = deque()
        self._long = _SHORT
        self._timer: asyncio.TimerHandle | None = None

    def add(self, future: asyncio.Future[Any], target: Any) -> Waiting:
        """Let `future`, the answer of `target`, fail in time; `Waiting.cancel` lets go of it earlier."""
        waiting = self._waiting
        while waiting and waiting[0].future is None:
            waiting.popleft()
        due = self._loop.time() + self._seconds
        waiting.append(entry := Waiting(due, future, target))
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._expire)
        elif len(waiting) > self._long:
            self._waiting = deque(other for other in waiting if not other.done)
            self._long = max(_SHORT, 2 * len(self._waiting))
        return entry

    def _expire(self) -> None:
        self._timer, now = None, self._loop.time()
        while self._waiting:
            first = self._waiting[0]
            if first.future is not None and not first.future.done():
                if first.due > now:
                    self._timer = self._loop.call_at(first.due, self._expire)
                    return
                first.future.set_exception(self.error(first.target))
            self._waiting.popleft()

    def error(self, target: Any) -> Exception:
        """Return what a future fails with whose time is over."""
        return CallTimeout(target, self._seconds)

    def close(self) -> None:
        """Let go of the timer and of what still waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.clear()
