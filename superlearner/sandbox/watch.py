"""Looks at a host from outside, again and again: does it answer, and does it keep within its limits?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from superlearner.core.spec import SandboxSpec
from superlearner.sandbox.limits import broken_limit, name_disk
from superlearner.sandbox.usage import disk_usage, usage

#: Seconds between two looks at the limits that only a look can enforce, and between two pings at most.
TICK = 1.0
#: How many pings in a row go unanswered at least before a host counts as unresponsive.
MISSED_PINGS = 5


class Watch:
    """Watches one host. Making one does nothing: `limits` and `health` begin.

    Parameters
    ----------
    pid
        The host.
    spec
        What it may use, and how long it may be silent.
    directory
        Its temporary directory.
    ping
        Sends a ping; `pong` is to be called when it is answered.
    strike
        Ends the host, for the cause given.
    on_health
        Called with False when it has stopped to answer, with True when it answers again.
    """

    def __init__(
        self,
        pid: int,
        spec: SandboxSpec,
        directory: str,
        ping: Callable[[], None],
        strike: Callable[[str], None],
        on_health: Callable[[bool], None],
    ) -> None:
        self._pid = pid
        self._spec = spec
        self._directory = directory
        self._ping = ping
        self._strike = strike
        self._on_health = on_health
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._disk: asyncio.Task[None] | None = None
        self._shared = 0
        self._interval = min(TICK, spec.unresponsive_after / MISSED_PINGS)
        self._unanswered = 0
        #: Whether it answers.
        self.responsive = True

    def lifetime(self) -> None:
        """Bound the host's life from now on, where its spec does."""
        limit = self._spec.resources.wall_clock
        if limit is not None:
            self._later("life", limit, lambda: self._strike(f"wall clock limit {limit:g} s"))

    def limits(self, shared: int) -> None:
        """Look at its limits from now on.

        Parameters
        ----------
        shared
            The bytes of memory that it had when it was forked.
        """
        self._shared = shared
        resources = self._spec.resources
        if (resources.memory, resources.processes, resources.cpu_time) != (None, None, None):
            self._later("limits", TICK, self._look_at_limits)
        if resources.disk is not None:
            self._later("disk", TICK, self._look_at_disk)

    def health(self) -> None:
        """Send pings from now on, and tell when they are not answered."""
        self._later("health", self._interval, self._look_at_health)

    def pong(self) -> None:
        """Take note that a ping was answered."""
        self._unanswered = 0
        if not self.responsive:
            self.responsive = True
            self._on_health(True)

    def close(self) -> None:
        """Look no more."""
        for timer in self._timers.values():
            timer.cancel()
        if self._disk is not None:
            self._disk.cancel()

    def _later(self, what: str, delay: float, look: Callable[[], None]) -> None:
        self._timers[what] = self._loop.call_later(delay, look)

    def _look_at_health(self) -> None:
        self._later("health", self._interval, self._look_at_health)
        # Counted in looks, not in seconds: a worker that was frozen must not blame its hosts.
        silent = self._unanswered * self._interval
        if silent >= self._spec.unresponsive_after - self._interval / 2 and self.responsive:
            self.responsive = False
            self._on_health(False)
            if self._spec.on_unresponsive == "restart":
                self._strike(f"unresponsive for {self._spec.unresponsive_after:g} s")
        self._unanswered += 1
        if self.responsive:
            self._ping()

    def _look_at_limits(self) -> None:
        self._later("limits", TICK, self._look_at_limits)
        broken = broken_limit(usage(self._pid), self._spec.resources, self._shared)
        if broken is not None:
            self._strike(broken)

    def _look_at_disk(self) -> None:
        self._disk = self._loop.create_task(self._add_up(), name=f"disk of host {self._pid}")

    async def _add_up(self) -> None:
        limit = self._spec.resources.disk_bytes or 0
        began = self._loop.time()
        # A full tree takes its time to walk, which is not the event loop's.
        if await asyncio.to_thread(disk_usage, self._directory, limit) > limit:
            self._strike(name_disk(self._spec.resources))
        self._later("disk", max(TICK, 10 * (self._loop.time() - began)), self._look_at_disk)
