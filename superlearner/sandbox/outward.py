"""The host's end of the way between sandboxes: it carries what its processes send out, and serves those of others.

Each thing that goes out and wants an answer has a number. Whoever stops waiting (a timeout, a caller's death, a
`demonitor`) drops its number, so that nothing is kept for an answer that nobody takes.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable
from typing import Any, Literal

from superlearner.errors import CallTimeout, NoProcess, NotSerializable, SandboxFailed, SuperlearnerError
from superlearner.otp._gateway import Far, OnDown
from superlearner.otp._kernel import Kernel
from superlearner.otp._pid import Pid
from superlearner.otp.messages import one_line
from superlearner.sandbox.answers import unpack
from superlearner.sandbox.frames import FrameError
from superlearner.sandbox.payload import cut, dumps, loads

#: Takes the status and the body of an answer.
Then = Callable[[int, Any], None]
#: Bytes of an exit reason above which its text travels instead.
_LONGEST_REASON = 2**20


class Outward:
    """Implements `superlearner.otp._gateway.Gateway` for a host's kernel.

    Parameters
    ----------
    loop
        The kernel's.
    write
        Sends a frame to the instance.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, write: Callable[[list[Any]], None]) -> None:
        self._loop = loop
        self._write = write
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Then] = {}
        #: By key: the watches of other sandboxes' processes, each with its number and what ends it.
        self._watched: dict[int, tuple[int, Callable[[], None]]] = {}

    # -- Going out: the gateway

    def call(
        self, to: Far, request: Any, caller: Pid, timeout: float | None, request_id: str | None
    ) -> asyncio.Future[Any]:
        """Send a call; when its future is done otherwise than by the answer, the answer is dropped."""
        future: asyncio.Future[Any] = self._loop.create_future()
        verb = "ask" if request_id is None else "once"
        what = (caller, request) if request_id is None else (caller, request_id, request)
        body = dumps(what, "the request")
        number = self._ask(verb, to, body, timeout, functools.partial(_settle, future, to))
        future.add_done_callback(lambda _: self._drop(number))
        return future

    def post(self, verb: Literal["cast", "send"], to: Far, message: Any) -> None:
        """Send a message that has no answer."""
        self._out(verb, 0, to, dumps(message, "the message"), None)

    def watch(self, to: Far, on_down: OnDown) -> Callable[[], None]:
        """Learn of the end of a process."""
        number = self._ask("watch", to, b"", None, functools.partial(_fell, on_down))
        return functools.partial(self._drop, number)

    def whereis(self, to: Far) -> asyncio.Future[Pid | None]:
        """Ask for the pid of a name."""
        future: asyncio.Future[Pid | None] = self._loop.create_future()
        body = dumps(((to.target,), {}))
        command = Far(to.sandbox, "whereis")
        number = self._ask("command", command, body, None, functools.partial(_found, future))
        future.add_done_callback(lambda _: self._drop(number))
        return future

    def _ask(self, verb: str, to: Far, body: bytes, timeout: float | None, then: Then) -> int:
        number = next(self._numbers)
        self._out(verb, number, to, body, timeout)
        self._waiting[number] = then
        return number

    def _out(self, verb: str, number: int, to: Far, body: bytes, timeout: float | None) -> None:
        try:
            self._write(["out", verb, number, to.sandbox, to.target, body, timeout])
        except FrameError as error:
            raise NotSerializable("the message", error) from None
        except (TypeError, ValueError, OverflowError) as error:
            raise NotSerializable(f"the address {str(to)!r}", error) from None

    def _drop(self, number: int) -> None:
        if self._waiting.pop(number, None) is not None:
            self._write(["out", "drop", number, "", None, b"", None])

    def answered(self, number: int, status: int, body: Any) -> None:
        """Take an answer from outside."""
        then = self._waiting.pop(number, None)
        if then is not None:
            then(status, body)

    # -- Coming in: watches of other sandboxes' processes

    def watched(self, kernel: Kernel, number: int, target: Any, key: int) -> None:
        """Let the process behind `key` learn when `target` ends: that is the answer to `number`."""

        def tell(pid: Pid | None, reason: Any) -> None:
            self._watched.pop(key, None)
            self._write([number, 0, _last_word(pid, reason)])

        try:
            self._watched[key] = (number, kernel.watch(target, tell))
        except NoProcess:
            tell(None, "noproc")

    def unwatched(self, key: int) -> None:
        """Forget a watch; its number is answered, as each is, though nobody waits for it."""
        number, end = self._watched.pop(key, (0, None))
        if end is not None:
            end()
            self._write([number, 0, b""])


def _settle(future: asyncio.Future[Any], to: Far, status: int, body: Any) -> None:
    if future.done():
        return
    try:
        future.set_result(unpack(status, body, str(to)))
    except (NoProcess, CallTimeout) as error:
        # There it has another name than here.
        own = type(error) in (NoProcess, CallTimeout) and error.target == to.target
        future.set_exception(type(error)(str(to), *error.args[1:]) if own else error)
    except Exception as error:
        future.set_exception(error)


def _found(future: asyncio.Future[Pid | None], status: int, body: Any) -> None:
    if future.done():
        return
    try:
        future.set_result(unpack(status, body))
    except (NoProcess, SandboxFailed):
        future.set_result(None)
    except SuperlearnerError as error:
        future.set_exception(error)


def _fell(on_down: OnDown, status: int, body: Any) -> None:
    """Say an end as OTP does: whatever keeps one from seeing a process is the loss of the connection to it."""
    try:
        pid, text, reason = unpack(status, body)
    except (NoProcess, SandboxFailed):
        on_down(None, "noproc")
    except SuperlearnerError:
        on_down(None, "noconnection")
    else:
        try:
            on_down(pid, loads(reason, "the exit reason"))
        except NotSerializable:
            on_down(pid, text)


def _last_word(pid: Pid | None, reason: Any) -> bytes:
    """Serialise an end; a reason that cannot travel, or be rebuilt on the other side, is told by its text."""
    text = cut(one_line(reason))
    try:
        data = dumps(reason, "the exit reason")
    except NotSerializable:
        data = dumps(text)
    return dumps((pid, text, data if len(data) <= _LONGEST_REASON else dumps(text)))
