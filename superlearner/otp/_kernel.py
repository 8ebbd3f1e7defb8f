"""The kernel of one runtime: who lives under which address, what happened, which timers run.

Longer than most modules: the tables of one runtime belong together.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from superlearner.core.childspec import validate_name
from superlearner.core.history import Event, EventLog
from superlearner.core.times import seconds
from superlearner.errors import CallsItself, CallTimeout, InvalidSpec, NameTaken, NoProcess
from superlearner.otp._deadlines import USUAL, Deadlines
from superlearner.otp._gateway import Far, FarProcess, Gateway, OnDown, Outsider, far
from superlearner.otp._pid import Pid, Ref, SecondsLeft, Timer
from superlearner.otp._process import CALL, CAST, INFO, SYSTEM, Process, Sender
from superlearner.otp.messages import Down, find_traceback, plain

if TYPE_CHECKING:
    from superlearner.otp.tracing import Tracer


#: The events that carry the traceback of their reason; it is long, and those around them need not repeat it.
_WITH_TRACEBACK = {"process_exited", "start_failed"}
#: Names among which the one that was meant is looked for.
_MOST_NEAR = 1000


class Kernel:
    """The tables that the processes of one runtime share. Used on its loop only."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        node: str,
        sandbox: str,
        epoch: int,
        first_serial: int,
        log: EventLog,
        on_event: Callable[[Event], None] | None = None,
        copy_messages: bool = False,
        gateway: Gateway | None = None,
    ) -> None:
        self.loop = loop
        #: The way to other sandboxes; without one there are none.
        self.gateway = gateway
        self.node, self.sandbox, self.epoch = node, sandbox, epoch
        self.copy_messages = copy_messages
        self.log, self.on_event = log, on_event
        self.next_serial = first_serial
        #: Names and pids of the living.
        self.addresses: dict[Any, Process] = {}
        #: The living, by pid.
        self.processes: dict[Pid, Process] = {}
        self.handled = 0
        self.tracer: Tracer | None = None
        #: States to be restored at the first start of each path, and children to bring back.
        self.saved_states: dict[tuple[Any, ...], bytes] = {}
        self.saved_children: dict[tuple[Any, ...], bytes] = {}
        #: The options of supervisors that were changed while they ran.
        self.saved_options: dict[tuple[Any, ...], dict[str, Any]] = {}
        #: Tasks of dead processes that still unwind.
        self.leftovers: dict[asyncio.Task[None], Process] = {}
        self._deadlines = Deadlines(loop)
        self._timers: dict[Timer, asyncio.TimerHandle] = {}
        self._signals: deque[Callable[[], None]] = deque()
        self._pumping = False
        self._refs = 0
        #: The address outside: parent of the root, and the caller of calls from outside.
        self.outside = Pid.of(node, sandbox, 0)

    def new_pid(self) -> Pid:
        """Return a pid that was never used."""
        pid = Pid.of(self.node, self.sandbox, self.next_serial)
        self.next_serial += 1
        return pid

    def _ref(self) -> int:
        self._refs += 1
        return self._refs

    # -- Events -----------------------------------------------------------------------------------

    def record(
        self,
        kind: str,
        process: Process | None = None,
        *,
        name: str | None = None,
        reason: Any = None,
        cause: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> Event:
        """Put an event into the log and hand it to whoever listens."""
        details = {key: plain(value) for key, value in (detail or {}).items()}
        if kind in _WITH_TRACEBACK and (traceback := find_traceback(reason)) is not None:
            details["traceback"] = traceback
        if process is not None and process.path is not None:
            details.setdefault("path", plain(process.path))
        event = self.log.append(
            Event(
                kind,
                at=time.time(),
                sandbox=self.sandbox,
                node=self.node,
                epoch=self.epoch,
                pid=None if process is None else str(process.pid),
                name=plain(name if name is not None or process is None else label(process)),
                reason=plain(reason),
                cause=cause,
                detail=details,
            )
        )
        if self.on_event is not None:
            try:
                self.on_event(event)
            except Exception as error:  # a listener's mistake must not stop half-way what is being recorded
                context = {"message": f"on_event failed for {event.kind}", "exception": error}
                self.loop.call_exception_handler(context)
        return event

    # -- Addresses --------------------------------------------------------------------------------

    def enter(self, process: Process, name: str | None = None) -> None:
        """Let a new process be found by its pid and, where given, its name."""
        if name is not None:
            self._check_free(name)
        self.processes[process.pid] = process
        self.addresses[process.pid] = process
        if name is not None:
            self.register(name, process)

    def _check_free(self, name: str) -> None:
        validate_name(name)
        if (owner := self.addresses.get(name)) is not None:
            raise NameTaken(owner.pid, name)

    def register(self, name: str, process: Process) -> None:
        """Give `process` a name."""
        self._check_free(name)
        self.addresses[name] = process
        process.names[name] = None
        self.record("name_registered", process, name=name)

    def unregister(self, name: str) -> None:
        """Free a name."""
        process = self.addresses.get(name)
        if process is None or name not in process.names:
            raise NoProcess(name)
        del self.addresses[name], process.names[name]
        self.record("name_freed", process, name=name)

    def forget(self, process: Process) -> None:
        """Remove a process that has just died."""
        if self.processes.pop(process.pid, None) is None:
            return
        del self.addresses[process.pid]
        name = label(process)
        for freed in list(process.names):
            del self.addresses[freed]
            self.record("name_freed", process, name=freed, reason=process.reason)
        if process.announced:
            self.record_exit(process, name)
        for timer in process.timers:
            self.cancel_timer(timer)

    def record_exit(self, process: Process, name: str) -> None:
        """Put the end of a process into the log."""
        who = {} if process.ended_by is None else {"who": process.ended_by}
        process.exit_event = self.record(
            "process_exited",
            process,
            name=name,
            reason=process.reason,
            cause=process.exit_cause,
            detail={**who, "restart": process.restarts},
        )

    def find(self, target: Any) -> Process:
        """Return the living process at a pid, a name or a ``(partition supervisor, key)``."""
        if type(target) is tuple and len(target) == 2:
            return self._partition(*target)
        try:
            return self.addresses[target]
        except (KeyError, TypeError):
            address = far(target)
            if address is None or address.sandbox != self.sandbox or address.target == target:
                raise NoProcess(target, self._near(target)) from None
        return self.find(address.target)

    def elsewhere(self, target: Any) -> Far | None:
        """Return the address of a process of another sandbox; None where it is none, or there is no way to it."""
        address = far(target)
        return None if address is None or self.gateway is None or address.sandbox == self.sandbox else address

    def _near(self, target: Any) -> list[str]:
        """Return the names among which that of `target` may be meant; a pid is never meant to be a name."""
        if not isinstance(target, str) or target.startswith("<"):
            return []
        names = (name for process in self.processes.values() for name in process.names)
        return list(itertools.islice(names, _MOST_NEAR))

    def _partition(self, supervisor: Any, key: Any) -> Process:
        found = self.find(supervisor)
        pids = getattr(found, "partition_pids", None)
        if pids is None:
            raise NoProcess((supervisor, key))
        alive = pids()
        pid = alive[partition_of(key, len(alive))] if alive else None
        if pid is None:
            raise NoProcess((supervisor, key))
        return self.find(pid)

    # -- Messages ---------------------------------------------------------------------------------

    def post_call(
        self, target: Any, request: Any, caller: Pid, timeout: float | None = None
    ) -> asyncio.Future[Any]:
        """Send a call and return the future of its answer; `timeout` is told to other sandboxes, and not kept here."""
        try:
            process = self.addresses[target]
        except (KeyError, TypeError):
            if (address := self.elsewhere(target)) is not None:
                return self._call_away(address, request, caller, timeout)
            process = self.find(target)
        if process.pid == caller:
            raise CallsItself("calling_self", target)
        if self.copy_messages:
            request = copy.deepcopy(request)
        future = self.loop.create_future()
        process.deliver((CALL, Sender(caller, future, process, request)))
        return future

    def take_call(self, sender: Sender) -> None:
        """Hand a call to its callee, as `post_call` does, for whoever has made the sender."""
        assert sender.callee is not None
        if self.copy_messages:
            sender.request = copy.deepcopy(sender.request)
        sender.callee.deliver((CALL, sender))

    def _call_away(
        self, address: Far, request: Any, caller: Pid, timeout: float | None, request_id: str | None = None
    ) -> asyncio.Future[Any]:
        assert self.gateway is not None
        if self.tracer is not None:
            self.tracer.sent_away(str(address), (CALL, Sender(caller, request=request)))
        return self.gateway.call(address, request, caller, timeout, request_id)

    async def call(self, target: Any, request: Any, timeout: float | None, caller: Pid) -> Any:
        """Send a call and wait for its answer."""
        if timeout == USUAL:
            future = self.post_call(target, request, caller, timeout)
            waiting = self._deadlines.add(future, target)
            try:
                return await future
            finally:
                waiting.cancel()
        if timeout is not None:
            seconds(timeout)
        return await self.answer(self.post_call(target, request, caller, timeout), target, timeout)

    async def call_once(
        self, target: Any, request: Any, timeout: float | None, caller: Pid, request_id: str
    ) -> Any:
        """Send a call with an id to another sandbox and wait for its answer."""
        address = self.elsewhere(target)
        if address is None:
            raise InvalidSpec(
                f"request_id= is for calls to another sandbox, and {str(target)!r} is in this one; nothing was sent. "
                "Leave it out: within a sandbox a call is never sent twice."
            )
        if timeout is not None:
            seconds(timeout)
        return await self.answer(
            self._call_away(address, request, caller, timeout, request_id), target, timeout
        )

    async def answer(self, future: asyncio.Future[Any], target: Any, timeout: float | None) -> Any:
        """Wait for an answer, at most `timeout` seconds."""
        if timeout is None:
            return await future
        timer = self.loop.call_later(timeout, _expire, future, target, timeout)
        try:
            return await future
        finally:
            timer.cancel()

    def cast(self, target: Any, message: Any) -> None:
        """Send a cast; nobody there is no error, as in OTP."""
        self._post(target, CAST, message)

    def send(self, target: Any, message: Any) -> None:
        """Send a message; nobody there is no error, as in OTP."""
        self._post(target, INFO, message)

    def _post(self, target: Any, kind: int, message: Any) -> None:
        try:
            process = self.addresses[target]
        except (KeyError, TypeError):
            if (address := self.elsewhere(target)) is not None:
                self._post_away(address, kind, message)
                return
            if type(target) is not tuple and far(target) is None:
                return
            try:
                process = self.find(target)
            except NoProcess:
                return
        if self.copy_messages:
            message = copy.deepcopy(message)
        process.deliver((kind, message))

    def _post_away(self, address: Far, kind: int, message: Any) -> None:
        assert self.gateway is not None
        self.gateway.post("cast" if kind == CAST else "send", address, message)
        if self.tracer is not None:
            self.tracer.sent_away(str(address), (kind, message))

    def reply(self, sender: Sender, value: Any) -> None:
        """Answer a call that was not answered by the handler that took it."""
        callee = sender.callee
        if callee is not None:
            callee.unanswered.pop(sender, None)
            if self.tracer is not None:
                self.tracer.note_reply(callee.pid, sender, value)
        if self.copy_messages:
            try:
                value = copy.deepcopy(value)
            except Exception as error:  # of the value's own classes: told to who waits; the server goes on
                sender.fail(error)
                return
        sender.answer(value)

    async def system(self, target: Any, work: Callable[[Any], Any], timeout: float | None) -> Any:
        """Have a process do `work` between two messages, in its turn, even while it is suspended."""
        if timeout is not None:
            seconds(timeout)
        process = self.find(target)
        future = self.loop.create_future()
        process.deliver((SYSTEM, (work, future)))
        return await self.answer(future, target, timeout)

    # -- Monitors, timers, signals ----------------------------------------------------------------

    def monitor(self, watcher: Process, target: Any) -> Ref:
        """Let `watcher` get a `Down` when `target` ends."""
        ref = Ref(f"#Ref<{self._ref()}>")
        try:
            process = self.find(target)
        except NoProcess:
            address = self.elsewhere(target)
            if address is None or self.gateway is None:
                watcher.deliver((INFO, Down(ref, target, "noproc")))
            else:
                watcher.monitors[ref] = FarProcess(self.gateway, address, ref, watcher)
            return ref
        watcher.monitors[ref] = process
        process.watchers[ref] = watcher
        return ref

    def watch(self, target: Any, tell: OnDown) -> Callable[[], None]:
        """Let somebody who is no process of this runtime learn of an end; return what ends that."""
        process = self.find(target)
        ref = Ref(f"#Ref<{self._ref()}>")
        process.watchers[ref] = Outsider(tell)
        return partial(process.unwatch, ref)

    def send_after(self, target: Any, message: Any, delay: float) -> Timer:
        """Send later; a name is looked up when the time has come, and a timer ends with the pid that it is for."""
        delay = seconds(delay, "seconds")
        timer = Timer(f"#Timer<{self._ref()}>")
        owner = self.processes.get(target) if isinstance(target, Pid) else None
        if isinstance(target, Pid) and owner is None and self.elsewhere(target) is None:
            return timer  # for a dead process: it has ended already
        self._timers[timer] = self.loop.call_later(delay, self._fire, timer, target, message)
        if owner is not None:
            owner.timers.add(timer)
        return timer

    def _fire(self, timer: Timer, target: Any, message: Any) -> None:
        del self._timers[timer]
        if isinstance(target, Pid) and (owner := self.processes.get(target)) is not None:
            owner.timers.discard(timer)
        self.send(target, message)

    def cancel_timer(self, timer: Timer) -> SecondsLeft | None:
        """Return the seconds it had left, or None when it has fired or was cancelled."""
        handle = self._timers.pop(timer, None)
        if handle is None:
            return None
        handle.cancel()
        return SecondsLeft(max(0.0, handle.when() - self.loop.time()))

    def later(self, signal: Callable[[], None]) -> None:
        """Queue an exit signal, so that a long chain of links needs no deep stack."""
        self._signals.append(signal)

    def pump(self) -> None:
        """Deliver the queued signals, and those that they cause."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._signals:
                self._signals.popleft()()
        finally:
            self._pumping = False

    # -- The end ----------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Kill whatever still lives and leave nothing behind: no process, timer or task."""
        while self.processes:
            for process in list(self.processes.values()):
                process.die("killed")
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()
        self._deadlines.close()
        if self.leftovers:
            await asyncio.wait(list(self.leftovers), timeout=1.0)


def _expire(future: asyncio.Future[Any], target: Any, timeout: float) -> None:
    if not future.done():
        future.set_exception(CallTimeout(target, timeout))


def label(process: Process) -> str:
    """Return a process's name, or else its child id."""
    return next(iter(process.names), str(process.id))


def partition_of(key: Any, partitions: int) -> int:
    """Return the partition of a key: whole numbers in turn, everything else by a hash that never changes.

    >>> partition_of(6, 4), partition_of(-1, 3), partition_of("ann", 4) == partition_of("ann", 4)
    (2, 1, True)
    """
    if isinstance(key, int) and not isinstance(key, bool):
        return abs(key) % partitions
    return zlib.crc32(repr(key).encode()) % partitions
