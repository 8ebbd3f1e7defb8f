"""What a host with ``durability="reply"`` does with its answers: each is followed by a checkpoint with its effect.

The instance holds an answer until that checkpoint is stored; `superlearner.core.durability` says when that is. Plain
calls know nothing of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from superlearner.core.durability import GroupCommit
from superlearner.otp._kernel import Kernel
from superlearner.otp._pid import Pid
from superlearner.otp._process import Sender, current
from superlearner.otp._server import ServerProcess


class Replies(Protocol):
    """Where answers go: ``[number, status, payload]``."""

    def write(self, frame: list[Any]) -> None:
        """Send an answer."""


class OwedReplies:
    """Sends answers as owed ones, and sees to the checkpoints after them.

    Parameters
    ----------
    loop
        The host's.
    write
        Sends a frame to the instance.
    save
        Takes a checkpoint.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, write: Callable[[list[Any]], None], save: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._write, self._save = write, save
        self._commit = GroupCommit()

    def write(self, frame: list[Any]) -> None:
        """Send an answer, with a checkpoint to follow."""
        # At the end of this turn of the loop, or when the one under way is stored. Before the answer is written, so
        # that both leave together.
        if self._commit.answered():
            self._loop.call_soon(self._take)
        self._write(["owed", *frame])

    def stored(self) -> None:
        """Learn that the last checkpoint is stored, or could not be."""
        if self._commit.ended():
            self._take()

    def _take(self) -> None:
        self._commit.taken()
        self._save()


def handler_under_way() -> asyncio.Task[None] | None:
    """Return the task of the async handler that is running: its process has its next state when that is done."""
    process = current.get(None)
    return process.task if isinstance(process, ServerProcess) else None


class WaitingSender(Sender):
    """The caller of a call whose answer leaves when its effect is in the state.

    An async handler that answers by ``reply()`` before it returns has had no effect yet.
    """

    __slots__ = ()

    def answer(self, value: Any) -> None:
        """Give the caller its answer, when the handler that is under way has returned."""
        task = handler_under_way()
        if task is None:
            super().answer(value)
        else:
            task.add_done_callback(lambda _: Sender.answer(self, value))


def post_waiting(
    kernel: Kernel, target: Any, request: Any, caller: Pid, timeout: float | None = None
) -> asyncio.Future[Any]:
    """Send a call as `Kernel.post_call` does, to be answered when its effect is in the state."""
    if kernel.elsewhere(target) is not None:
        return kernel.post_call(target, request, caller, timeout)
    future = kernel.loop.create_future()
    kernel.take_call(WaitingSender(caller, future, kernel.find(target), request))
    return future
