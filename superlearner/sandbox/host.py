"""What runs in a sandbox's own OS process: the application on asyncio, and the frames to its instance.

| frame to the host | answer |
|---|---|
| ``["start", title, limits, config]`` | ``["ready"]`` or ``["failed", reason]`` |
| ``["call" or "command", number, target, payload, timeout]`` | ``[number, 0, value]`` or ``[number, 1, error]`` |
| ``["calls", first number, target, payloads, timeout]`` | as to calls, or ``[numbers, 0, values]`` |
| ``["cast" or "send", 0, target, payload, None]`` | none |
| ``["ask", number, target, payload, timeout]``: a call from another sandbox, ``(caller, request)`` | as a call |
| ``["once", number, target, payload, timeout]``: a call with an id, ``(caller, id, request)`` | as a call |
| ``["watch", number, target, key, None]`` | ``[number, 0, (pid, text, reason)]`` when that process has ended |
| ``["unwatch", 0, key, payload, None]`` | ``[number of the watch, 0, nothing]`` |
| ``["in", number, status, payload]``: the answer to an ``out`` | none |
| ``["save", number, settle]`` | ``["saved", number, payload, handled, next_serial, skipped]``, ``["not_saved", ...]`` |
| ``["stored"]``: the checkpoint that answers waited for is stored, or could not be | none |
| ``["ping"]`` | ``["pong", handled, mailbox, processes]`` |
| ``["lease", until]`` | none |
| ``["stop", reason, timeout]`` | ``["ended", reason]``, then the end of file |

Unasked it sends ``["born", shared bytes]`` first, ``["events", events]``, ``["saved", 0, ...]`` by its checkpoint
policy, and ``["ended", reason]`` when its root ends by itself. With ``durability="reply"`` an answer comes as
``["owed", number, status, payload]``, and a checkpoint with its effect after it. ``["out", verb, number, sandbox,
target, payload, timeout]`` is for another sandbox: ``ask``, ``once``, ``cast``, ``send``, ``watch``, ``command``, or
``drop``, by which nobody waits for that number any more. The host leaves at once when its instance is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import functools
import inspect
import math
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from superlearner.core.restart import is_normal
from superlearner.core.spec import Resources
from superlearner.errors import (
    CallTimeout,
    MessageTooLarge,
    NotSerializable,
    ProcessDied,
    StartFailed,
    SuperlearnerError,
    Unsupported,
    in_words,
)
from superlearner.otp import Runtime, as_application
from superlearner.otp._deadlines import Deadlines, Waiting
from superlearner.otp._kernel import Kernel
from superlearner.otp.messages import explain_crashes, one_line
from superlearner.sandbox.asked import Answers, Together
from superlearner.sandbox.frames import FrameError, FrameStream
from superlearner.sandbox.limits import (
    EXIT_BROKEN,
    EXIT_FENCED,
    EXIT_MEMORY,
    EXIT_ORPHANED,
    apply_limits,
    name_in,
)
from superlearner.sandbox.once import OnceCalls, Outcome
from superlearner.sandbox.outward import Outward
from superlearner.sandbox.owed import OwedReplies, Replies, post_waiting
from superlearner.sandbox.payload import cut, dumps, dumps_error, keep_modules_here, loads
from superlearner.sandbox.prctl import PR_SET_NAME, prctl
from superlearner.sandbox.telling import Teller
from superlearner.sandbox.usage import resident

#: The verbs of the runtime that a client may ask for; call, cast and send have frames of their own.
COMMANDS = frozenset(
    {
        *(
            "kill",
            "suspend",
            "resume",
            "get_state",
            "replace_state",
            "tree",
            "processes",
            "process",
            "events",
        ),
        *("reload", "trace", "whereis", "start_child", "terminate_child", "restart_child", "delete_child"),
        *("which_children", "count_children", "change_supervisor", "pause_supervision", "resume_supervision"),
        *("terminate", "crash", "start_trace", "read_trace", "stop_trace"),
    }
)
#: Those that show no state and change nothing: with ``durability="reply"`` their answers wait for no checkpoint.
LOOKS = frozenset(
    {
        *("tree", "processes", "process", "events", "trace", "whereis", "which_children", "count_children"),
        *("start_trace", "read_trace", "stop_trace"),
    }
)
#: Seconds that a parting host waits for its last frames to be read.
_FAREWELL = 5.0
#: Seconds between two looks at the count of messages that no call from outside has caused.
_COUNT_INTERVAL = 0.02
#: Seconds until a restored state is saved again: copies of it exist, and a host that starts is mostly one of many.
_FIRST_SAVE = 0.5
#: Seconds for which the events of a start are gathered.
_GATHER = 0.01
_LEASE_GRACE = 0.05
_SETTLE_INTERVAL = 0.002
#: How many lengths of timeouts share timers; those of other lengths have timers of their own.
_MOST_LIMITS = 16


def main(sock: socket.socket) -> int:
    """Run a host over its socket until it has ended; return the exit code."""
    keep_modules_here()
    faulthandler.enable()
    sys.argv = ["sandbox"]
    # The inherited streams believe that they still write to what the fork server had there.
    sys.stdout, sys.stderr = (open(fd, "w", buffering=1, errors="replace", closefd=False) for fd in (1, 2))  # noqa: SIM115
    os.register_at_fork(after_in_child=_leave_frames)
    loop = asyncio.new_event_loop()
    # The clock itself, not whatever the application puts in its place: leases and time-outs hang on it.
    loop.time = time.monotonic  # type: ignore[method-assign]
    asyncio.set_event_loop(loop)
    loop.set_exception_handler(_on_loop_error)
    task = loop.create_task(_serve(sock))
    while not task.done():
        try:
            loop.run_until_complete(task)
        except (SystemExit, KeyboardInterrupt):
            # asyncio lets these two out of the loop; from a task of the application they end that task alone.
            _complain()
        except MemoryError:
            return EXIT_MEMORY
        except RuntimeError:
            # Whoever stopped the loop was its guest; only a closed one cannot go on.
            if loop.is_closed():
                raise
    return task.result()


async def _serve(sock: socket.socket) -> int:
    return await Host(resident(os.getpid()), _confine).run(sock)


def _confine(title: str, limits: Mapping[str, Any]) -> None:
    """Make this process the host of one sandbox; until now it could have become that of any."""
    prctl(PR_SET_NAME, title.encode()[:15])
    resources = Resources(**limits)
    explain_crashes(functools.partial(name_in, limits=resources))
    apply_limits(resources)


def _leave_frames() -> None:
    """Let go of the frames in a forked child: if it came back from its handler it would answer for its host."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 3, inheritable=False)
    os.close(nothing)


def _complain() -> None:
    """Write the exception at hand to the output, whatever the application has made of ``sys.stderr``."""
    text = traceback.format_exc().encode(errors="replace")
    # A closed or full output is the application's own affair.
    with contextlib.suppress(OSError):
        os.write(2, text)


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # A task of the application that runs out of memory fails alone; the machinery around it cannot go on.
    if (
        isinstance(context.get("exception"), MemoryError)
        and "task" not in context
        and "future" not in context
    ):
        os._exit(EXIT_MEMORY)
    loop.default_exception_handler(context)


class Host:
    """One application, its runtime, and the stream to its instance.

    Parameters
    ----------
    shared
        The bytes of memory that the process had when it was forked.
    confine
        Names the process, and sets its limits, before anything of the application is read.
    """

    def __init__(self, shared: int, confine: Callable[[str, Mapping[str, Any]], None]) -> None:
        self._shared = shared
        self._confine = confine
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[int] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._stream: FrameStream
        #: Where answers to calls that came together go; they and all else that is written stay in order.
        self._answers: Answers
        #: Where answers go: straight to the stream, or through what sees to a checkpoint after them.
        self._replies: Replies
        self._owed: OwedReplies | None = None
        self._post_call: Callable[[Any, Any, Any], asyncio.Future[Any]]
        self._once_calls: OnceCalls
        self._outward = Outward(self._loop, self.write)
        self._rt: Runtime
        self._kernel: Kernel
        self._config: dict[str, Any] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._teller = Teller(lambda events: self.write(["events", events]))
        self._saved_at = 0
        #: The count of messages at which the next checkpoint is due.
        self._save_due = math.inf
        #: Whether the whole tree has been started: what is copied before lacks those who are still to come.
        self._started = False
        self._leaving = False
        #: By length: what ends the waiting of calls with such a timeout, with one timer for all of them.
        self._limits: dict[float, Deadlines] = {}
        #: By that length too: the calls that came together and are not answered yet.
        self._together: dict[float | None, Together] = {}
        #: Until when it may run, on the clock of the loop; None: for ever.
        self._lease: float | None = None

    async def run(self, sock: socket.socket) -> int:
        """Serve until the application has ended; return the exit code."""
        self._stream = await FrameStream.open(sock, self._on_frame, self._on_close)
        self._answers = Answers(self._loop, self._stream, self._save_if_due)
        self.write(["born", self._shared])
        # An application that cancels all tasks there are, as a clean-up copied from elsewhere does, means its own.
        while not self._done.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait((self._done,))
        code = self._done.result()
        self._teller.flush()
        self._teller.account()
        self._answers.flush()
        self._leaving = True
        self._stream.close()
        await asyncio.wait((self._closed,), timeout=_FAREWELL)
        return code

    def _on_close(self, error: Exception | None) -> None:
        if isinstance(error, MemoryError):
            os._exit(EXIT_MEMORY)
        if error is not None and not isinstance(error, OSError):
            # Something in here raised, as where an application has replaced what a frame needs.
            os.write(2, "".join(traceback.format_exception(error)).encode(errors="replace"))
            os._exit(EXIT_BROKEN)
        if not self._leaving:
            # Nobody can ask anything any more, and nobody would learn of an orderly end.
            os._exit(EXIT_ORPHANED)
        self._closed.set_result(None)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def write(self, frame: list[Any]) -> None:
        """Send a frame to the instance."""
        self._answers.write_alone(frame)

    def _finish(self, code: int) -> None:
        if not self._done.done():
            self._done.set_result(code)

    # -- Frames

    def _on_frame(self, frame: list[Any]) -> None:
        match frame:
            case ["call", number, target, payload, timeout]:
                self._call(number, _target(target), payload, timeout)
            case ["calls", first, target, payloads, timeout]:
                self._calls(first, _target(target), payloads, timeout)
            case ["cast" | "send" as verb, _, target, payload, _]:
                self._tell(verb, _target(target), payload)
            case ["ask", number, target, payload, timeout]:
                self._ask(number, _target(target), payload, timeout)
            case ["in", number, status, payload]:
                self._outward.answered(number, status, payload)
            case ["watch", number, target, key, _]:
                self._outward.watched(self._kernel, number, _target(target), key)
            case ["unwatch", _, key, _, _]:
                self._outward.unwatched(key)
            case ["command", number, verb, payload, _]:
                self._spawn(self._command(number, verb, payload))
            case ["ping"]:
                self.write(self._pong())
            case ["stored"]:
                if self._owed is not None:
                    self._owed.stored()
            case ["once", number, target, payload, timeout]:
                self._once(number, _target(target), payload, timeout)
            case ["lease", until]:
                self._lease = until
            case ["save", number, _] if not self._started:
                self.write(["not_saved", number, "it has not started yet"])
            case ["save", number, 0] if not self._rt.falling:
                self._save(number)
            case ["save", number, settle]:
                self._spawn(self._save_settled(number, settle))
            case ["stop", reason, timeout]:
                self._spawn(self._stop(reason, timeout))
            case ["start", title, limits, config]:
                self._confine(title, limits)
                self._config = config
                self._spawn(self._start())

    def _call(self, number: int, target: Any, payload: bytes, timeout: float | None) -> None:
        # No task per call: the answer's future calls back.
        try:
            answer = self._post_call(target, loads(payload, "the request"), self._kernel.outside)
        except BaseException as error:
            self._reply_error(self._replies, number, error)
        else:
            self._await(number, target, answer, timeout, self._answered)

    def _calls(self, first: int, target: Any, payloads: list[bytes], timeout: float | None) -> None:
        """Take calls that came together, by the short way where that is open to them."""
        together = self._together.get(timeout)
        if together is None and len(self._together) < _MOST_LIMITS:
            together = Together(self._kernel, timeout, self._reply_together, self._fail_together)
            self._together[timeout] = together
        # A partition, a pid of elsewhere, nobody, or answers that wait for checkpoints: each is a matter of its own.
        plain = isinstance(target, str) and self._owed is None
        callee = self._kernel.addresses.get(target) if plain else None
        if callee is None or together is None:
            for number, payload in enumerate(payloads, first):
                self._call(number, target, payload, timeout)
        else:
            together.take(first, target, callee, payloads)

    def _reply_together(self, number: int, value: Any) -> None:
        # Called from within a handler: its events come before it, and a checkpoint waits until it has returned.
        self._teller.precede()
        try:
            self._reply(self._answers, number, value)
        except MemoryError:
            os._exit(EXIT_MEMORY)

    def _fail_together(self, number: int, error: BaseException) -> None:
        # The events that led to it come first, and may still be under way.
        self._loop.call_soon(self._reply_error, self._answers, number, error)

    def _ask(self, number: int, target: Any, payload: bytes, timeout: float | None) -> None:
        """Take a call of a process of another sandbox: the callee sees who it is."""
        try:
            caller, request = loads(payload, "the request")
            answer = self._post_call(target, request, caller)
        except BaseException as error:
            self._reply_error(self._replies, number, error)
        else:
            self._await(number, target, answer, timeout, self._answered)

    def _once(self, number: int, target: Any, payload: bytes, timeout: float | None) -> None:
        """Take a call with an id, from outside (no caller) or from another sandbox."""
        try:
            caller, id, request = loads(payload, "the request")
            caller = self._kernel.outside if caller is None else caller
            answer = self._once_calls.call(self._kernel, id, target, request, caller, payload)
        except BaseException as error:
            self._reply_error(self._replies, number, error)
        else:
            self._await(number, target, answer, timeout, self._told)

    def _await(
        self,
        number: int,
        target: Any,
        answer: asyncio.Future[Any],
        timeout: float | None,
        then: Callable[[int, asyncio.TimerHandle | Waiting | None, asyncio.Future[Any]], None],
    ) -> None:
        timer: asyncio.TimerHandle | Waiting | None = None
        if timeout is not None:
            limits = self._limits.get(timeout)
            if limits is None and len(self._limits) < _MOST_LIMITS:
                limits = self._limits[timeout] = Deadlines(self._loop, timeout)
            if limits is not None:
                timer = limits.add(answer, target)
            else:
                timer = self._loop.call_later(timeout, _expire, answer, target, timeout)
        answer.add_done_callback(functools.partial(then, number, timer))

    def _answered(
        self, number: int, timer: asyncio.TimerHandle | Waiting | None, answer: asyncio.Future[Any]
    ) -> None:
        if timer is not None:
            timer.cancel()
        if answer.cancelled():
            self._reply_error(self._replies, number, ProcessDied("the call was cancelled"))
        elif (error := answer.exception()) is not None:
            self._reply_error(self._replies, number, error)
        else:
            self._reply(self._replies, number, answer.result())
            self._save_if_due()

    def _told(
        self, number: int, timer: asyncio.TimerHandle | Waiting | None, answer: asyncio.Future[Outcome]
    ) -> None:
        """Hand on what became of a call with an id."""
        if timer is not None:
            timer.cancel()
        if (error := answer.exception()) is not None:
            self._reply_error(self._replies, number, error)
        else:
            self._replies.write([number, *answer.result()])

    def _tell(self, verb: str, target: Any, payload: bytes) -> None:
        try:
            message = loads(payload, "the message")
        except NotSerializable:
            # Nobody waits for an answer: the reason goes where the sandbox's output goes.
            _complain()
            return
        if verb == "cast":
            self._kernel.cast(target, message)
        else:
            self._kernel.send(target, message)

    def _pong(self) -> list[Any]:
        """Return what a ping is answered with: messages handled, messages that wait, and processes."""
        processes = self._kernel.processes
        return ["pong", self._rt.handled, self._waiting_mail(), len(processes)]

    def _waiting_mail(self) -> int:
        return sum(len(process.mailbox) for process in self._kernel.processes.values())

    async def _command(self, number: int, verb: str, payload: bytes) -> None:
        replies = self if verb in LOOKS else self._replies
        try:
            method = self._method(verb)
            arguments, keywords = loads(payload, "the request")
            value = method(*arguments, **keywords)
            if inspect.isawaitable(value):
                value = await value
        except BaseException as error:
            self._reply_error(replies, number, error)
        else:
            self._reply(replies, number, value, "the state" if verb == "get_state" else "the reply")

    def _method(self, verb: str) -> Callable[..., Any]:
        if verb not in COMMANDS:
            known = ", ".join(sorted(COMMANDS))
            raise Unsupported(f"A sandbox has no command {verb!r}. There are: {known}.")
        return getattr(self._rt, verb)  # type: ignore[no-any-return]

    def _reply(self, replies: Replies, number: int, value: Any, what: str = "the reply") -> None:
        try:
            data = dumps(value, what)
            if len(data) <= self._config["limit"]:
                replies.write([number, 0, data])
            else:
                limit = self._config["limit"]
                self._reply_error(replies, number, MessageTooLarge(what, len(data), limit))
        except FrameError as error:
            self._reply_error(replies, number, NotSerializable(what, error))
        except BaseException as error:  # a value may leave the interpreter while it is pickled
            self._reply_error(replies, number, error)

    def _reply_error(self, replies: Replies, number: int, error: BaseException) -> None:
        replies.write([number, 1, dumps_error(error)])

    def _encode(self, value: Any, error: BaseException | None) -> Outcome:
        """Return what an answer is on its way, for later repetition."""
        caught = _Caught()
        if error is None:
            self._reply(caught, 0, value)
        else:
            self._reply_error(caught, 0, error)
        return caught.outcome

    # -- Life

    async def _start(self) -> None:
        config = self._config
        self._teller.pause = _GATHER
        limit, age = config["request_ids"]
        self._once_calls = OnceCalls(limit, age, self._encode)
        try:
            restore = None if config["restore"] is None else loads(config["restore"], "the checkpoint")
            if restore is not None and "answers" in restore:
                self._once_calls.restore(restore["answers"])
            self._rt = Runtime(
                as_application(loads(config["application"], "the application")),
                asynchronous=True,
                node=config["node"],
                sandbox=config["sandbox"],
                epoch=config["epoch"],
                first_serial=config["first_serial"],
                restore=restore,
                on_event=self._teller.add,
                gateway=self._outward,
            )
            await self._rt.start()
            self._kernel = self._rt.kernel
            self._replies, self._post_call = self, self._kernel.post_call
            if config["durable"]:
                self._replies = self._owed = OwedReplies(self._loop, self.write, lambda: self._save(0))
                self._post_call = functools.partial(post_waiting, self._kernel)
        except BaseException as error:
            reason = error.reason if isinstance(error, StartFailed) else error
            if isinstance(reason, BaseException) and not isinstance(reason, SuperlearnerError):
                reason = one_line(reason)
            self._teller.flush()
            self.write(["failed", cut(in_words(reason))])
            self._finish(1)
            return
        self._teller.flush()
        self._teller.pause = None
        self.write(["ready"])
        self._started = True
        self._spawn(self._wait())
        self._saved_at = -1 if config["dirty"] else self._rt.handled
        if config["messages"] is not None:
            self._save_due = self._rt.handled + config["messages"]
        self._watch_policy()
        if config["lease"] is not None:
            self._lease = max(config["lease"], self._lease or 0.0)
            self._watch_lease()

    async def _wait(self) -> None:
        while True:
            try:
                reason = await self._rt.wait()
                break
            except asyncio.CancelledError:
                # As in `run`: the root may be among what was cancelled, and then nobody else would tell.
                continue
        self._teller.flush()
        self.write(["ended", _plain(reason)])
        self._finish(0)

    async def _stop(self, reason: str, timeout: float) -> None:
        await self._rt.stop(reason, timeout)

    def _watch_lease(self, *, overdue: bool = False) -> None:
        """Leave when the lease of the node has run out: another node may have taken over."""
        assert self._lease is not None
        left = self._lease - self._loop.time()
        if left > 0:
            self._loop.call_later(left, self._watch_lease)
        elif overdue:
            os._exit(EXIT_FENCED)
        else:
            # After a long handler the news of a longer lease lie unread: they are read before the second look.
            self._loop.call_later(_LEASE_GRACE, functools.partial(self._watch_lease, overdue=True))

    # -- Checkpoints

    def _watch_policy(self) -> None:
        if self._config["dirty"]:
            self._loop.call_later(_FIRST_SAVE, self._save_if_dirty)
        if self._config["every"] is not None:
            self._loop.call_later(self._config["every"], self._on_time)
        if self._config["messages"] is not None:
            self._loop.call_later(_COUNT_INTERVAL, self._on_count)

    def _on_time(self) -> None:
        self._loop.call_later(self._config["every"], self._on_time)
        self._save_if_dirty()

    def _on_count(self) -> None:
        # Messages that no call from outside has caused.
        self._loop.call_later(_COUNT_INTERVAL, self._on_count)
        self._save_if_due()

    async def _save_settled(self, number: int, settle: float) -> None:
        """Save when every message that has come in has been handled, or after `settle` seconds.

        While supervisors decide on the dead there is nothing to save: all may be about to end.
        """
        deadline = self._loop.time() + settle
        # A mailbox tells nobody.
        while self._rt.falling or (self._waiting_mail() and self._loop.time() < deadline):  # noqa: ASYNC110
            await asyncio.sleep(_SETTLE_INTERVAL)
        self._save(number)

    def _save_if_due(self) -> None:
        if self._rt.handled >= self._save_due:
            self._save_if_dirty()

    def _save_if_dirty(self) -> None:
        # An instance that does not read gets no more to read.
        if self._rt.handled == self._saved_at or self._stream.blocked or self._leaving:
            return
        if not self._rt.falling:  # else the next time, should there be one
            self._save(0)

    def _save(self, number: int) -> None:
        handled = self._rt.handled
        try:
            snapshot = self._rt.snapshot()
            if answers := self._once_calls.snapshot():
                snapshot["answers"] = answers
            skipped = [["/".join(map(str, path)), cut(str(why))] for path, why in snapshot["skipped"].items()]
            payload = dumps(snapshot, "the checkpoint")
            self.write(["saved", number, payload, handled, snapshot["next_serial"], skipped])
        except BaseException as error:  # as in `_reply`
            self.write(["not_saved", number, cut(f"{type(error).__name__}: {error}")])
        # A state that could not be saved now is not tried again before something has changed.
        self._saved_at = handled
        if self._config["messages"] is not None:
            self._save_due = handled + self._config["messages"]


class _Caught:
    """Takes one answer instead of a stream."""

    outcome: Outcome

    def write(self, frame: list[Any]) -> None:
        self.outcome = (frame[1], frame[2])


def _expire(answer: asyncio.Future[Any], target: Any, timeout: float) -> None:
    if not answer.done():
        answer.set_exception(CallTimeout(target, timeout))


def _target(target: Any) -> Any:
    """Return a name or pid as the runtime wants it: msgpack has turned tuples into lists."""
    return tuple(map(_target, target)) if type(target) is list else target


def _plain(reason: Any) -> Any:
    if is_normal(reason):
        return reason if isinstance(reason, str) else ["shutdown", cut(str(reason[1]))]
    return cut(str(reason))
