"""A node's side of its lease: ask for it in time, know whether it holds, and act when it has run out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from superlearner.core.lease import HeldLease

#: How often a lease is asked for within its length: three answers may be late or lost.
ASKS = 4
#: Seconds past its end in which the node refuses everything, but does not stop it yet.
_GRACE = 0.1


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None:
        """Do not call it."""


class Timers(Protocol):
    """A clock with timers, as asyncio's loop is one."""

    def time(self) -> float:
        """Return the time in seconds."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call it after some seconds."""

    def call_at(self, when: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call it when the clock shows that time."""


class Lease:
    """The right of a node to answer: `core.lease.HeldLease` with the timers that keep it up.

    Parameters
    ----------
    length
        Seconds, None: it never runs out; or the reckoning itself.
    ask
        Called with a number when it is time to ask; `granted` takes that number.
    extended
        Called when it has been extended.
    ran_out
        Called once when it has run out; `begin` starts the next one.
    loop
        The clock; None: the running loop.
    """

    def __init__(
        self,
        length: float | HeldLease | None,
        ask: Callable[[int], None],
        extended: Callable[[], None],
        ran_out: Callable[[], None],
        loop: Timers | None = None,
    ) -> None:
        self._held = length if isinstance(length, HeldLease) else HeldLease(length)
        self._ask, self._extended, self._ran_out = ask, extended, ran_out
        self._loop: Timers = asyncio.get_running_loop() if loop is None else loop
        self._timers: list[Timer] = []

    @property
    def length(self) -> float | None:
        """Seconds that it holds after each time that it was asked for. None: it never runs out."""
        return self._held.length

    @property
    def until(self) -> float:
        """Until when it holds, on the loop's clock."""
        return self._held.until

    @until.setter
    def until(self, until: float) -> None:
        self._held.until = until

    def begin(self) -> None:
        """Hold it from now on, for its length, and go on asking."""
        self.end()
        self._held.begin(self._loop.time())
        if self.length is not None:
            self._timers = [
                self._loop.call_later(self.length / ASKS, self._ask_again),
                self._loop.call_at(self.until, self._check),
            ]

    def end(self) -> None:
        """Ask no more and act no more."""
        for timer in self._timers:
            timer.cancel()
        self._held.end()

    @property
    def holds(self) -> bool:
        """Whether the node may answer now; a node that was frozen sees it before its timers run."""
        return self._held.holds(self._loop.time())

    def granted(self, number: int) -> None:
        """Extend it, by the answer to the request of this number."""
        if self._held.granted(number, self._loop.time()):
            self._timers[1].cancel()
            self._timers[1] = self._loop.call_at(self.until, self._check)
            self._extended()

    def _ask_again(self) -> None:
        assert self.length is not None
        number = self._held.ask(self._loop.time())
        self._timers[0] = self._loop.call_later(self.length / ASKS, self._ask_again)
        self._ask(number)

    def _check(self, *, overdue: bool = False) -> None:
        if self.holds:
            # A loop may call a moment too early, by the resolution of its clock.
            self._timers[1] = self._loop.call_at(self.until, self._check)
        elif overdue:
            self.end()
            self._ran_out()
        else:
            # A node that was held up has grants that lie unread: they are read before the second look.
            self._timers[1] = self._loop.call_later(_GRACE, partial(self._check, overdue=True))
