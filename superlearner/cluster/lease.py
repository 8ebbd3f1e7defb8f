"""A node's side of its lease: ask for it in time, know whether it holds, and act when it has run out."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial

#: How often a lease is asked for within its length: three answers may be late or lost.
ASKS = 4
#: Seconds past its end in which the node refuses everything, but does not stop it yet.
_GRACE = 0.1


class Lease:
    """The right of a node to answer.

    It counts from when it was *asked* for, so it ends before the control plane's own reckoning does, however
    long request and grant were under way.

    Parameters
    ----------
    length
        Seconds. None: it never runs out.
    ask
        Called with a number when it is time to ask; `granted` takes that number.
    extended
        Called when it has been extended.
    ran_out
        Called once when it has run out; `begin` starts the next one.
    """

    def __init__(
        self,
        length: float | None,
        ask: Callable[[int], None],
        extended: Callable[[], None],
        ran_out: Callable[[], None],
    ) -> None:
        self.length = length
        self._ask, self._extended, self._ran_out = ask, extended, ran_out
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._asked: dict[int, float] = {}
        self._timers: list[asyncio.TimerHandle] = []
        #: Until when it holds, on the loop's clock.
        self.until = math.inf

    def begin(self) -> None:
        """Hold it from now on, for its length, and go on asking."""
        self.end()
        if self.length is not None:
            self.until = self._loop.time() + self.length
            self._timers = [
                self._loop.call_later(self.length / ASKS, self._ask_again),
                self._loop.call_at(self.until, self._check),
            ]

    def end(self) -> None:
        """Ask no more and act no more."""
        for timer in self._timers:
            timer.cancel()
        self._asked.clear()

    @property
    def holds(self) -> bool:
        """Whether the node may answer now; a node that was frozen sees it before its timers run."""
        return self._loop.time() < self.until

    def granted(self, number: int) -> None:
        """Extend it, by the answer to the request of this number."""
        asked = self._asked.pop(number, None)
        if asked is None or self.length is None or asked + self.length <= self._loop.time():
            return
        self._asked = {n: at for n, at in self._asked.items() if n > number}
        self.until = max(self.until, asked + self.length)
        self._timers[1].cancel()
        self._timers[1] = self._loop.call_at(self.until, self._check)
        self._extended()

    def _ask_again(self) -> None:
        assert self.length is not None
        self._number += 1
        self._asked[self._number] = self._loop.time()
        self._timers[0] = self._loop.call_later(self.length / ASKS, self._ask_again)
        self._ask(self._number)

    def _check(self, *, overdue: bool = False) -> None:
        if self.holds:
            return
        if overdue:
            self.end()
            self._ran_out()
        else:
            # A node that was held up has grants that lie unread: they are read before the second look.
            self._timers[1] = self._loop.call_later(_GRACE, partial(self._check, overdue=True))
