"""Calls with ids: each takes effect once, however often it is sent.

Such a call has a sender of its own, which learns of the answer in the very step in which the server has its next
state: no checkpoint falls between the two, so the states and the memory of ids never disagree. Plain calls know
nothing of this.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import pickle
import time
from collections.abc import Callable
from typing import Any

from superlearner.core.request_ids import Kept, Remembered, RequestMemory
from superlearner.errors import RequestIdTaken
from superlearner.otp._kernel import Kernel
from superlearner.otp._pid import Pid
from superlearner.otp._process import Sender
from superlearner.sandbox.owed import handler_under_way

#: The status and the body of an answer.
Outcome = tuple[int, bytes]
#: Serialises a value or an exception.
Encode = Callable[[Any, BaseException | None], Outcome]


class OnceSender(Sender):
    """The caller of a call with an id; one that is kept in a state still answers it after a restore."""

    __slots__ = ("calls", "id")

    def __init__(
        self,
        id: str,
        calls: OnceCalls | None,
        pid: Pid,
        future: asyncio.Future[Any] | None = None,
        callee: Any = None,
        request: Any = None,
    ) -> None:
        super().__init__(pid, future, callee, request)
        self.id = id
        self.calls = calls

    def __reduce__(self) -> tuple[Any, ...]:
        return OnceSender, (self.id, None, self.pid)

    def answer(self, value: Any) -> None:
        """Remember the answer, and give it to everybody who waits for it."""
        calls = self.calls or _here
        if calls is not None:
            calls.answered(self.id, value, None, handler_under_way())
        super().answer(None)

    def fail(self, error: BaseException) -> None:
        """Remember the error; a call that was still in the mailbox has not happened."""
        calls = self.calls or _here
        if calls is not None and self.request is not None:
            calls.undone(self.id, error)
        elif calls is not None:
            calls.answered(self.id, None, error, None)
        super().answer(None)

    def kept(self) -> None:
        """Remember that the call has had its effect, though it is answered later."""
        calls = self.calls or _here
        if calls is not None:
            calls.memory.owed(self.id, time.monotonic())


#: That of this process, which is a host: by it the senders in a restored state find back.
_here: OnceCalls | None = None


class OnceCalls:
    """The calls with ids of one sandbox.

    Parameters
    ----------
    limit, age
        As for `RequestMemory`.
    encode
        Serialises an answer.
    """

    def __init__(self, limit: int, age: float, encode: Encode) -> None:
        global _here  # noqa: PLW0603 - a host has one
        _here = self
        self.memory = RequestMemory(limit, age)
        self._encode = encode
        self._waiting: dict[str, list[asyncio.Future[Outcome]]] = {}
        #: Answered by a handler that has not returned: the memory must not have what the state has not.
        self._early: dict[str, tuple[asyncio.Task[None], Outcome]] = {}

    def call(
        self, kernel: Kernel, id: str, target: Any, request: Any, caller: Pid, body: bytes
    ) -> asyncio.Future[Outcome]:
        """Make a call, join one that is under way, or answer it from memory; `body` is what it came as.

        Raises
        ------
        RequestIdTaken, NoProcess
            Nothing was done.
        """
        future: asyncio.Future[Outcome] = kernel.loop.create_future()
        match self.memory.ask(id, _digest(target, request, body), time.monotonic()):
            case Kept(status=int(status), body=answer):
                future.set_result((status, answer))
                return future
            case "another":
                raise RequestIdTaken(id, target)
            case "new":
                self._make(kernel, id, target, request, caller)
        others = [waiting for waiting in self._waiting.get(id, ()) if not waiting.done()]
        self._waiting[id] = [*others, future]
        return future

    def _make(self, kernel: Kernel, id: str, target: Any, request: Any, caller: Pid) -> None:
        try:
            callee = kernel.find(target)
            kernel.take_call(OnceSender(id, self, caller, kernel.loop.create_future(), callee, request))
        except BaseException:
            self.memory.undone(id)
            raise

    def answered(
        self, id: str, value: Any, error: BaseException | None, task: asyncio.Task[None] | None
    ) -> None:
        """Take an answer; with the task of a handler that has still to return, when it has."""
        outcome = self._encode(value, error)
        if task is None:
            self._settle(id, outcome)
        elif id not in self._early:
            self._early[id] = (task, outcome)
            task.add_done_callback(lambda _: self._settle_early())

    def _settle_early(self) -> None:
        for id, (task, outcome) in list(self._early.items()):
            if task.done():
                del self._early[id]
                self._settle(id, outcome)

    def _settle(self, id: str, outcome: Outcome) -> None:
        self.memory.answered(id, *outcome, time.monotonic())
        self._tell(id, outcome)

    def undone(self, id: str, error: BaseException) -> None:
        """Take note that a call will not happen, for `error`."""
        self.memory.undone(id)
        self._tell(id, self._encode(None, error))

    def _tell(self, id: str, outcome: Outcome) -> None:
        for waiting in self._waiting.pop(id, ()):
            if not waiting.done():
                waiting.set_result(outcome)

    # -- In a checkpoint

    def snapshot(self) -> Remembered | None:
        """Return what a checkpoint keeps of it, in the same step as the states; None while that is nothing."""
        self._settle_early()
        return self.memory.snapshot(time.monotonic()) if self.memory else None

    def restore(self, remembered: Remembered) -> None:
        """Go on from a checkpoint."""
        self.memory.restore(remembered, time.monotonic())


def _digest(target: Any, request: Any, body: bytes) -> bytes:
    """Tell requests apart by what they are, not by which of their parts happen to be the same object."""
    written = io.BytesIO()
    try:
        pickler = pickle.Pickler(written, 5)
        pickler.fast = True
        pickler.dump((target, request))
        body = written.getvalue()
    except (
        Exception
    ):  # a value that contains itself, or of a class that is known by value only: its own bytes do
        return hashlib.blake2b(body, digest_size=16).digest()
    return hashlib.blake2b(body, digest_size=16).digest()
