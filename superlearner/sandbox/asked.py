"""Calls that came to a host together: each is answered from within its handler, and the answers leave together.

A call that comes alone has a future and a callback. These have neither, as they may be many: what would be done for
each is done once for all of them. What was sent before an answer still leaves before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import Any

from superlearner.errors import CallTimeout
from superlearner.otp._kernel import Kernel
from superlearner.otp._pid import Pid
from superlearner.otp._process import Process, Sender
from superlearner.sandbox.frames import FrameStream
from superlearner.sandbox.payload import loads

#: Calls, and answers, that travel as one, and the bytes that each may have: the next process shall begin while this
#: one goes on.
MOST = 128
SMALL = 4096


class Answers:
    """Sends answers ``[number, 0, payload]`` that follow each other as one frame ``[numbers, 0, payloads]``.

    Parameters
    ----------
    loop
        The host's.
    stream
        Where everything goes, in order.
    after_handlers
        Called before the answers of this turn of the loop leave, when their handlers have returned.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, stream: FrameStream, after_handlers: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._stream = stream
        self._after_handlers = after_handlers
        self._numbers: list[int] = []
        self._payloads: list[bytes] = []

    def write_alone(self, frame: list[Any]) -> None:
        """Send any frame by itself, after the answers before it."""
        if self._numbers:
            self._pass_on()
        self._stream.write(frame)

    def write(self, frame: list[Any]) -> None:
        """Send an answer with those before and after it, at the end of this turn of the loop at the latest."""
        number, status, payload = frame
        if status != 0 or len(payload) > SMALL:
            self.write_alone(frame)
            return
        if not self._numbers:
            self._loop.call_soon(self._end_turn)
        self._numbers.append(number)
        self._payloads.append(payload)
        if len(self._numbers) == MOST:
            self.flush()

    def _end_turn(self) -> None:
        self._after_handlers()
        self.flush()

    def flush(self) -> None:
        """Send the answers that there are now."""
        if self._numbers:
            self._pass_on()
            self._stream.push()

    def _pass_on(self) -> None:
        numbers, self._numbers = self._numbers, []
        payloads, self._payloads = self._payloads, []
        self._stream.write([numbers, 0, payloads])


class Asked(Sender):
    """A client's call that came with others."""

    __slots__ = ("_over", "_together", "due", "number", "target")

    def __init__(
        self,
        together: Together,
        number: int,
        target: Any,
        due: float,
        caller: Pid,
        callee: Process,
        request: Any,
    ) -> None:
        super().__init__(caller, None, callee, request)
        self.number = number
        self.target = target
        #: Until when its caller waits, on the clock of the loop.
        self.due = due
        self._together = together
        self._over: Callable[[], object] | None = None

    def answer(self, value: Any) -> None:
        """Give the caller its answer, unless it has one or has given up."""
        if self._end():
            self._together.reply(self.number, value)

    def fail(self, error: BaseException) -> None:
        """Raise in the caller, unless it has its answer or has given up."""
        if self._end():
            self._together.fail(self.number, error)

    def _end(self) -> bool:
        if self._together.waiting.pop(self.number, None) is None:
            return False
        if self._over is not None:
            self._over()
        return True

    @property
    def answered(self) -> bool:
        """Whether nobody waits for an answer any more."""
        return self.number not in self._together.waiting

    def when_over(self, then: Callable[[], object]) -> None:
        """Call `then` when it is answered, or its caller has given up."""
        self._over = then


class Together:
    """The calls with one timeout that came with others and are not answered yet.

    Parameters
    ----------
    kernel
        The post office of the callees.
    timeout
        Seconds that each may take; None: no limit.
    reply, fail
        Called with the number of a call and its answer, or its error.
    """

    def __init__(
        self,
        kernel: Kernel,
        timeout: float | None,
        reply: Callable[[int, Any], None],
        fail: Callable[[int, BaseException], None],
    ) -> None:
        self._kernel = kernel
        self._loop = kernel.loop
        self._timeout = timeout
        self.reply, self.fail = reply, fail
        #: By number. They all wait equally long, so they fall due in the order in which they came.
        self.waiting: dict[int, Asked] = {}
        self._timer: asyncio.TimerHandle | None = None

    def take(self, first: int, target: Any, callee: Process, payloads: Iterable[bytes]) -> None:
        """Hand calls to their callee, in order; the numbers count up from `first`."""
        kernel, waiting, caller = self._kernel, self.waiting, self._kernel.outside
        due = float("inf") if self._timeout is None else self._loop.time() + self._timeout
        for number, payload in enumerate(payloads, first):
            try:
                asked = Asked(self, number, target, due, caller, callee, loads(payload, "the request"))
                waiting[number] = asked
                kernel.take_call(asked)
            except BaseException as error:  # a request may leave the interpreter while it is rebuilt
                waiting.pop(number, None)
                self.fail(number, error)
        if self._timeout is not None and self._timer is None:
            self._timer = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        now, self._timer = self._loop.time(), None
        for asked in list(takewhile(lambda asked: asked.due <= now, self.waiting.values())):
            asked.fail(CallTimeout(asked.target, self._timeout))
        if self.waiting:
            self._timer = self._loop.call_at(next(iter(self.waiting.values())).due, self._expire)
