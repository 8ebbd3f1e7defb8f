"""Virtual time: processes with clocks of their own, timers, and coroutines that wait for one another."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Any

from superlearner.errors import SuperlearnerError

#: What a coroutine may fail with; anything else is a bug and ends the run.
EXPECTED = (OSError, LookupError, SuperlearnerError)
#: Timers come late by this many seconds, never early, as they do everywhere.
_LATE = 1e-6


class Engine:
    """The true time and everything that is still to happen, in order."""

    def __init__(self) -> None:
        #: Seconds since the beginning.
        self.now = 0.0
        self._queue: list[tuple[float, int, Timer]] = []
        self._count = 0

    def at(self, when: float, run: Callable[..., object], *args: Any) -> Timer:
        """Call something at that time."""
        self._count += 1
        timer = Timer(run, args)
        heapq.heappush(self._queue, (max(when, self.now), self._count, timer))
        return timer

    def step(self, until: float) -> bool:
        """Let the next thing happen, unless it is later than `until`; tell whether something did."""
        while self._queue and self._queue[0][0] <= until:
            self.now, _, timer = heapq.heappop(self._queue)
            if not timer.cancelled:
                timer.run(*timer.args)
                return True
        self.now = until
        return False


class Timer:
    """Something that will be called."""

    __slots__ = ("args", "cancelled", "run")

    def __init__(self, run: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.run = run
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        """Do not call it."""
        self.cancelled = True


class Promise:
    """A value, or an error, that a coroutine of the same process waits for."""

    def __init__(self) -> None:
        self.done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._then: list[Callable[[], object]] = []

    def resolve(self, value: Any = None) -> None:
        """Give it its value; the first one counts."""
        self._finish(value, None)

    def fail(self, error: BaseException) -> None:
        """Give it its error."""
        self._finish(None, error)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        if not self.done:
            self.done, self._value, self._error = True, value, error
            then, self._then = self._then, []
            for call in then:
                call()

    def value(self) -> Any:
        """Return what it was given, or raise its error; TimeoutError where it has neither."""
        if not self.done:
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value

    def then(self, call: Callable[[], object]) -> None:
        """Call something when it is done."""
        if self.done:
            call()
        else:
            self._then.append(call)

    def __await__(self) -> Generator[Promise, None, Any]:
        if not self.done:
            yield self
        return self.value()


class Task(Promise):
    """A coroutine that runs on a process, and what it returns."""

    def __init__(self, process: Process, work: Coroutine[Promise, None, Any]) -> None:
        super().__init__()
        self._process, self._work = process, work
        self._running = False
        self._cancelled = False
        process.tasks[self] = None
        self._go_on()

    def _go_on(self) -> None:
        if self.done or self._cancelled:
            return
        self._running = True
        try:
            waits_for = self._work.send(None)
        except StopIteration as stop:
            self._end(partial(self.resolve, stop.value))
        except EXPECTED as error:
            self._end(partial(self.fail, error))
        else:
            self._running = False
            if self._cancelled:
                self._work.close()
            else:
                waits_for.then(self._go_on)

    def _end(self, tell: Callable[[], None]) -> None:
        self._running = False
        self._process.tasks.pop(self, None)
        tell()

    def cancel(self) -> None:
        """Go no further; who waits for it fails."""
        if self.done or self._cancelled:
            return
        self._cancelled = True
        self._process.tasks.pop(self, None)
        if not self._running:
            self._work.close()
        if self._process.alive:
            self.fail(ConnectionError("it was cancelled"))


class Clock:
    """How a machine's clock differs from the true time: by an offset, and by its speed."""

    def __init__(self, rate: float = 1.0, offset: float = 0.0) -> None:
        self.rate, self.offset = rate, offset

    def shows(self, now: float) -> float:
        """Return what it shows at a true time."""
        return self.offset + self.rate * now

    def when(self, shown: float) -> float:
        """Return the true time at which it shows that."""
        return (shown - self.offset) / self.rate + _LATE


class Process:
    """An OS process: it may be frozen, and dies once. It has the face of an event loop: a time and timers."""

    def __init__(self, engine: Engine, name: str, clock: Clock) -> None:
        self.engine, self.name, self.clock = engine, name, clock
        self.alive = True
        self.frozen = False
        self.tasks: dict[Task, None] = {}
        self.on_death: list[Callable[[], object]] = []
        self._backlog: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def time(self) -> float:
        """Return what its machine's clock shows."""
        return self.clock.shows(self.engine.now)

    def call_later(self, delay: float, run: Callable[..., object], *args: Any) -> Timer:
        """Call something after some seconds of its clock."""
        when = self.engine.now + delay / self.clock.rate + _LATE
        return self._timer(when, run, args)

    def call_at(self, when: float, run: Callable[..., object], *args: Any) -> Timer:
        """Call something when its clock shows that time."""
        return self._timer(self.clock.when(when), run, args)

    def _timer(self, when: float, run: Callable[..., object], args: tuple[Any, ...]) -> Timer:
        timer = Timer(run, args)

        def fire() -> None:
            if not timer.cancelled:
                run(*args)

        self.engine.at(when, self.run, fire)
        return timer

    def run(self, run: Callable[..., object], *args: Any) -> None:
        """Call something now: later while it is frozen, never when it is dead."""
        if self.alive and self.frozen:
            self._backlog.append((run, args))
        elif self.alive:
            run(*args)

    def freeze(self) -> None:
        """Let it do nothing until it is thawed."""
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on, first with everything that has come meanwhile."""
        self.frozen = False
        while self._backlog and self.alive and not self.frozen:
            run, args = self._backlog.popleft()
            run(*args)

    def die(self) -> None:
        """End it with everything that it does."""
        if not self.alive:
            return
        self.alive = False
        for task in list(self.tasks):
            task.cancel()
        told, self.on_death = self.on_death, []
        for tell in told:
            tell()

    def spawn(self, work: Coroutine[Promise, None, Any]) -> Task:
        """Run a coroutine until it waits, and then whenever it can go on."""
        return Task(self, work)

    def sleep(self, seconds: float) -> Promise:
        """Return what is done after some seconds of its clock."""
        promise = Promise()
        self.call_later(seconds, promise.resolve)
        return promise

    async def within(self, seconds: float, promise: Promise) -> Any:
        """Wait for a promise no longer than that; a task that is too slow is cancelled.

        Raises
        ------
        TimeoutError
            It was too slow.
        """
        first = Promise()
        timer = self.call_later(seconds, first.resolve)
        promise.then(first.resolve)
        await first
        timer.cancel()
        if not promise.done:
            if isinstance(promise, Task):
                promise.cancel()
            raise TimeoutError
        return await promise
