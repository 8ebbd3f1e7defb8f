"""A process: a mailbox, links, monitors and names; what every behaviour is built on.

Everything here happens on one event loop. Exit signals take effect at once: a process that dies is dead
for everybody before `Process.die` returns, even while its leftover coroutine still unwinds.

Longer than most modules: the parts of a process share its fields.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

from superlearner.core.history import Event
from superlearner.core.times import seconds
from superlearner.errors import NotInProcess, ProcessDied
from superlearner.otp._gateway import Watched, Watcher
from superlearner.otp._pid import Awaitable, Pid, Ref, Timer
from superlearner.otp.messages import Down, Exit, ExitSignal, Timeout, find_error

if TYPE_CHECKING:
    from superlearner.otp._kernel import Kernel

#: Kinds of mailbox entries. An entry is a pair (kind, payload): the cheapest thing to make and to take apart.
CALL, CAST, INFO, SYSTEM, TRACED = range(5)
Entry: TypeAlias = tuple[int, Any]

#: The process whose code is running.
current: ContextVar[Process] = ContextVar("superlearner_process")

#: How many turns of the loop a cancelled handler may take to unwind before its coroutine is closed.
_UNWIND_TURNS = 10


class Sender:
    """Who called, for a later ``reply(sender, value)``; also the call's entry in the mailbox."""

    __slots__ = ("callee", "future", "pid", "request")

    def __init__(
        self,
        pid: Pid,
        future: asyncio.Future[Any] | None = None,
        callee: Process | None = None,
        request: Any = None,
    ) -> None:
        #: The caller.
        self.pid = pid
        self.future = future
        self.callee = callee
        self.request = request

    def __repr__(self) -> str:
        return f"Sender({self.pid})"

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy, say from a checkpoint, answers nobody: the call was lost with the process.
        return Sender, (self.pid,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Sender:
        # Handed on in a copied message, or kept in a state that a reload copies, it still answers its caller.
        return self

    def answer(self, value: Any) -> None:
        """Give the caller its answer, unless it has one or has given up."""
        future = self.future
        if future is not None and not future.done():
            future.set_result(value)

    def fail(self, error: BaseException) -> None:
        """Raise in the caller, unless it has its answer or has given up."""
        future = self.future
        if future is not None and not future.done():
            future.set_exception(error)

    def kept(self) -> None:
        """Learn that the call has been taken, and is answered later."""

    def when_over(self, then: Callable[[], object]) -> None:
        """Call `then` when it is answered, or its caller has given up."""
        if self.future is not None:
            self.future.add_done_callback(lambda _: then())

    @property
    def answered(self) -> bool:
        """Whether nobody waits for an answer any more."""
        return self.future is None or self.future.done()


class Process:
    """The part that all processes share."""

    type: ClassVar[str] = "worker"

    def __init__(
        self, kernel: Kernel, *, id: Any, parent: Pid, path: tuple[Any, ...] | None, behaviour: str
    ) -> None:
        self.kernel = kernel
        self.loop = kernel.loop
        self.pid = kernel.new_pid()
        self.id = id
        #: Who started it: its exit signal ends a server that traps exits.
        self.parent = parent
        #: Its place in the supervision tree, as child ids from the root; None for a spawned process.
        self.path = path
        self.behaviour = behaviour
        self.mailbox: deque[Entry] = deque()
        #: True while nothing is to do: the next message must wake it.
        self.idle = False
        self.dead = False
        self.reason: Any = None
        self.status = "starting"
        self.trapping = False
        self.current: str | None = None
        self.handled = 0
        self.restarts = 0
        self.names: dict[str, None] = {}
        self.links: dict[Process, None] = {}
        #: Monitors that this process holds, and those that others hold on it.
        self.monitors: dict[Ref, Watched] = {}
        self.watchers: dict[Ref, Watcher] = {}
        #: Calls taken and not yet answered.
        self.unanswered: dict[Sender, None] = {}
        self.suspended = False
        #: Whether the log knows that it runs; a start that fails leaves no exit in it.
        self.announced = False
        #: Who sent the exit signal that ended it.
        self.ended_by: Pid | None = None
        #: The event that its end answers to, where that is known.
        self.exit_cause: str | None = None
        #: Its `process_exited`, the cause of what its supervisor does next.
        self.exit_event: Event | None = None
        #: ("ok" | "ignore" | "error", reason), once its start is over.
        self.outcome: tuple[str, Any] | None = None
        self._started: asyncio.Future[tuple[str, Any]] | None = None
        self.task: asyncio.Task[None] | None = None
        self.receiver: asyncio.Future[None] | None = None
        #: Timers that will send to its pid, and end with it.
        self.timers: set[Timer] = set()
        self._waiters: list[asyncio.Future[Any]] = []
        self._coro: Coroutine[Any, Any, Any] | None = None
        self.context = copy_context()
        self.context.run(current.set, self)

    # -- Mailbox ----------------------------------------------------------------------------------

    def deliver(self, entry: Entry) -> None:
        """Put an entry into the mailbox and wake its owner."""
        if self.kernel.tracer is not None:
            entry = self.kernel.tracer.sent(self, entry)
        self.mailbox.append(entry)
        if self.idle:
            self.idle = False
            self.loop.call_soon(self.drain, context=self.context)
        elif self.receiver is not None and not self.receiver.done():
            self.receiver.set_result(None)

    def drain(self) -> None:
        """Handle what is in the mailbox; behaviours without a server loop have none to run."""

    def took(self, entry: Entry) -> Entry:
        """Unwrap an entry that was sent while tracing, and count it."""
        if entry[0] == TRACED:
            entry = entry[1].received(self)
        self.handled += 1
        self.kernel.handled += 1
        return entry

    async def receive(self, match: Callable[[Any], bool] | None = None, timeout: float | None = None) -> Any:
        """Take the first message that matches, waiting at most `timeout` seconds; then a `Timeout`."""
        expires = None if timeout is None else self.loop.time() + seconds(timeout)
        position = 0
        while True:
            while position < len(self.mailbox):
                message = self._as_message(self.mailbox[position])
                if message is not _NOT_A_MESSAGE and (match is None or match(message)):
                    entry = self.mailbox[position]
                    del self.mailbox[position]
                    self.took(entry)
                    return message
                position += 1
            if not await self._wait_for_mail(expires):
                return Timeout()

    def _as_message(self, entry: Entry) -> Any:
        kind, payload = entry[1].entry if entry[0] == TRACED else entry
        return payload if kind == INFO else _NOT_A_MESSAGE

    def drop_down(self, ref: Ref) -> None:
        """Remove the `Down` of a monitor from the mailbox."""
        for position, entry in enumerate(self.mailbox):
            message = self._as_message(entry)
            if isinstance(message, Down) and message.ref == ref:
                del self.mailbox[position]
                return

    async def _wait_for_mail(self, expires: float | None) -> bool:
        if expires is not None and self.loop.time() >= expires:
            return False
        self.receiver = waiting = self.loop.create_future()
        timer = None if expires is None else self.loop.call_at(expires, _wake, waiting)
        try:
            await waiting
        finally:
            self.receiver = None
            if timer is not None:
                timer.cancel()
        return True

    def bring_urgent_forward(self) -> bool:
        """While suspended: put the first system message, or the parent's exit signal, in front."""
        for position, entry in enumerate(self.mailbox):
            kind, payload = entry[1].entry if entry[0] == TRACED else entry
            if kind == SYSTEM or (payload.__class__ is ExitSignal and payload.pid == self.parent):
                del self.mailbox[position]
                self.mailbox.appendleft(entry)
                return True
        return False

    def do_system(self, work: Callable[[Any], Any], future: asyncio.Future[Any]) -> None:
        if future.done():
            return
        try:
            future.set_result(work(self))
        except Exit:  # it is to end as if its own code had said so
            future.set_result(None)
            raise
        except Exception as error:  # told to who asked; the server goes on
            future.set_exception(error)

    def owe(self, sender: Sender) -> None:
        """Remember a call that is answered later, until it is answered or its caller gives up."""
        sender.kept()
        if not sender.answered:
            self.unanswered[sender] = None
            sender.when_over(lambda: self.unanswered.pop(sender, None))

    # -- Running code -----------------------------------------------------------------------------

    def run_async(self, coro: Coroutine[Any, Any, Any], then: Callable[[Any], None]) -> None:
        """Await `coro` as this process, then go on with ``then(result)``."""
        self._coro = coro if coro.__class__ is CoroutineType else _awaiting(coro)
        self.task = self.loop.create_task(self._guard(self._coro, then), context=self.context)

    async def _guard(self, coro: Coroutine[Any, Any, Any], then: Callable[[Any], None]) -> None:
        # SystemExit and KeyboardInterrupt too end their own process alone, and must not reach the loop.
        try:
            result = await coro
        except BaseException as error:
            if not self.dead:
                self.task = self._coro = None
                self.crash(error)
            return
        if not self.dead:
            self.task = self._coro = None
            try:
                then(result)
            except BaseException as error:  # what came of it is so odd that it cannot even be looked at
                self.crash(error)

    def crash(self, error: BaseException) -> None:
        """An exception left the process's code."""
        raise NotImplementedError

    async def begin(self) -> tuple[str, Any]:
        """Start, and return the outcome."""
        raise NotImplementedError

    async def start_outcome(self) -> tuple[str, Any]:
        """Wait for the outcome of a start that takes its time."""
        self._started = self.loop.create_future()
        return await self._started

    def tell_start(self, outcome: tuple[str, Any]) -> None:
        """Settle how the start went; the first word counts."""
        if self.outcome is None:
            self.outcome = outcome
            if self._started is not None and not self._started.done():
                self._started.set_result(outcome)

    # -- Links, monitors, death -------------------------------------------------------------------

    def link(self, other: Process) -> None:
        """Tie both ends: when one dies the other gets its exit signal."""
        if other is not self:
            self.links[other] = None
            other.links[self] = None

    def unlink(self, other: Process) -> None:
        """Untie both ends."""
        self.links.pop(other, None)
        other.links.pop(self, None)

    def unwatch(self, ref: Ref) -> None:
        """Tell the watcher behind `ref` nothing any more."""
        self.watchers.pop(ref, None)

    def on_down(self, ref: Ref, pid: Any, reason: Any) -> None:
        """Learn that a monitored process has ended."""
        self.monitors.pop(ref, None)
        if not self.dead:
            self.deliver((INFO, Down(ref, pid, reason)))

    def signal(self, source: Pid, reason: Any, *, by_link: bool = False, cause: Event | None = None) -> None:
        """Get an exit signal, of a link when the end of `source`, told by `cause`, has sent it."""
        if self.dead:
            return
        # A reason may be anything, even what cannot be compared with a word, such as an array.
        word = reason if isinstance(reason, str) else ""
        if self.trapping and (by_link or word != "kill"):
            self.deliver((INFO, ExitSignal(source, reason)))
        elif word != "normal" or source == self.pid:
            self.ended_by = source
            if cause is not None:
                self.exit_cause = str(cause.seq)
            self.die("killed" if word == "kill" and not by_link else reason)

    def exited(self) -> asyncio.Future[Any]:
        """Return a future for the exit reason."""
        future = self.loop.create_future()
        if self.dead:
            future.set_result(self.reason)
        else:
            self._waiters.append(future)
        return future

    def die(self, reason: Any) -> None:
        """End now: for everybody else the process is gone when this returns."""
        if self.dead:
            return
        self.dead, self.reason, self.status, self.idle = True, reason, "exited", False
        self.tell_start(("error", reason))
        self.kernel.forget(self)
        self._fail_callers(reason)
        for ref, watched in self.monitors.items():
            watched.unwatch(ref)
        links, watchers, waiters = list(self.links), list(self.watchers.items()), self._waiters
        self.links, self.watchers, self.monitors, self._waiters = {}, {}, {}, []
        self._stop_running()
        for other in links:
            other.links.pop(self, None)
            signal = partial(other.signal, self.pid, reason, by_link=True, cause=self.exit_event)
            self.kernel.later(signal)
        for ref, watcher in watchers:
            watcher.on_down(ref, self.pid, reason)
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(reason)
        self.kernel.pump()

    def _fail_callers(self, reason: Any) -> None:
        waiting = [*self.unanswered]
        for entry in self.mailbox:
            kind, payload = entry[1].entry if entry[0] == TRACED else entry
            if kind == CALL:
                waiting.append(payload)
            elif kind == SYSTEM and not payload[1].done():
                payload[1].set_exception(died(reason, self))
        self.mailbox.clear()
        self.unanswered.clear()
        for sender in waiting:
            sender.fail(died(reason, self))

    def _stop_running(self) -> None:
        """Cancel a handler that is under way, and close its coroutine if it does not unwind."""
        task, coro = self.task, self._coro
        if task is None or coro is None:
            return
        # Also the task that is running now, when its own code brought this death about: it ends at its next await.
        task.cancel()
        self.kernel.leftovers[task] = self
        task.add_done_callback(self.kernel.leftovers.pop)
        # Closing a coroutine that was never begun keeps Python from warning; one that has ended does not mind.
        task.add_done_callback(lambda _: coro.close())
        self.loop.call_soon(self._unwind, task, coro, _UNWIND_TURNS)

    def _unwind(self, task: asyncio.Task[None], coro: Coroutine[Any, Any, Any], turns: int) -> None:
        if task.done():
            return
        if turns:
            self.loop.call_soon(self._unwind, task, coro, turns - 1)
            return
        swallowed, error = "CancelledError", None
        try:
            coro.close()
        except BaseException as escaped:
            swallowed, error = "GeneratorExit", escaped
        self.kernel.record("process_orphaned", self, reason=error, detail={"swallowed": swallowed})
        task.cancel()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pid} {self.id!r} {self.status}>"


_NOT_A_MESSAGE = object()


async def _awaiting(awaitable: Any) -> Any:
    return await awaitable


def is_async(result: Any) -> bool:
    """Tell whether a handler returned something to be awaited; verbs' results are values."""
    return result.__class__ is CoroutineType or (
        hasattr(result, "__await__") and not isinstance(result, Awaitable)
    )


def discard(result: Any) -> None:
    """Close the coroutine of a handler whose process is dead already."""
    if result.__class__ is CoroutineType:
        result.close()


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


def died(reason: Any, process: Process, target: Any = None) -> ProcessDied:
    """Return the error of a caller whose callee ended, with the callee's own exception as its cause."""
    error = ProcessDied(reason, target or next(iter(process.names), process.pid))
    error.__cause__ = find_error(reason)
    return error


def this_process(verb: str) -> Process:
    """Return the process whose code is running, or refuse `verb`."""
    process = current.get(None)
    if process is None:
        raise NotInProcess(f"{verb}() works inside a process.")
    if process.dead:
        raise Exit(process.reason)  # its leftover code does nothing more
    return process
