"""A node's own reckoning of its lease: when it holds, and what a grant extends. Its clock comes with each question."""

from __future__ import annotations

import math


class HeldLease:
    """The right of a node to answer, as the node itself counts it.

    It counts from when it was *asked* for, so it ends before the control plane's own reckoning does, however
    long request and grant were under way.

    >>> lease = HeldLease(3.0)
    >>> lease.begin(now=10.0); lease.holds(now=12.9), lease.holds(now=13.0)
    (True, False)
    >>> number = lease.ask(now=11.0)
    >>> lease.granted(number, now=12.5), lease.until
    (True, 14.0)

    Parameters
    ----------
    length
        Seconds. None: it never runs out.
    """

    def __init__(self, length: float | None) -> None:
        self.length = length
        #: Until when it holds, by the node's clock.
        self.until = math.inf
        self._number = 0
        #: When each request that may still be granted was sent.
        self._asked: dict[int, float] = {}

    def begin(self, now: float) -> None:
        """Hold it from now on, for its length."""
        self._asked.clear()
        if self.length is not None:
            self.until = now + self.length

    def end(self) -> None:
        """Take no grant for what was asked until now."""
        self._asked.clear()

    def holds(self, now: float) -> bool:
        """Tell whether the node may answer now."""
        return now < self.until

    def ask(self, now: float) -> int:
        """Return the number of a request that is sent now."""
        self._number += 1
        self._asked[self._number] = now
        return self._number

    def granted(self, number: int, now: float) -> bool:
        """Extend it by the answer to the request of this number; tell whether that was in time."""
        asked = self._asked.pop(number, None)
        if asked is None or self.length is None or asked + self.length <= now:
            return False
        self._asked = {n: at for n, at in self._asked.items() if n > number}
        self.until = max(self.until, asked + self.length)
        return True
