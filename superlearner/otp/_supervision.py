"""The process of a supervisor: carries out what `core.strategy` decides, one instruction after the other.

Longer than most modules: carrying out and answering share one child table.
"""

from __future__ import annotations

import asyncio
import pickle
from collections import deque
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar, assert_never

from superlearner.core.childspec import AnySpec, ChildSpec, SupervisorSpec
from superlearner.core.snapshots import ChildCounts, ChildInfo
from superlearner.core.strategy import SupervisorState
from superlearner.core.strategy_events import (
    Begin,
    ChildExited,
    ChildStarted,
    ChildStartFailed,
    ChildStopped,
    DecisionDue,
    DeleteRequested,
    OptionsChanged,
    Paused,
    Prune,
    RestartRequested,
    RetryDue,
    SpecChanged,
    StartRequested,
    StopRequested,
    TerminateRequested,
    Unpaused,
)
from superlearner.core.strategy_instructions import (
    Decide,
    End,
    GiveUp,
    Instruction,
    Record,
    Refuse,
    Retry,
    StartChild,
    StopChild,
    StopTogether,
)
from superlearner.errors import (
    AlreadyStarted,
    ChildNotFound,
    InvalidSpec,
    NameTaken,
    NoProcess,
    StartFailed,
    Unsupported,
)
from superlearner.otp._kernel import Kernel, label
from superlearner.otp._pid import Pid
from superlearner.otp._process import CALL, CAST, INFO, SYSTEM, Process, Sender, is_async
from superlearner.otp._server import ServerProcess
from superlearner.otp.application import ChildByPath
from superlearner.otp.genserver import GenServer
from superlearner.otp.messages import Exit, ExitSignal, Ignore, exit_reason, find_error
from superlearner.otp.supervisor import Supervisor, child, is_behaviour
from superlearner.otp.task import FunctionProcess, Task


@dataclass(frozen=True, slots=True)
class Verb:
    """A request to a supervisor, such as ``Verb("start_child", (spec,))``."""

    name: str
    args: tuple[Any, ...] = ()


class SupervisorProcess(Process):
    """One running supervisor."""

    type: ClassVar[str] = "supervisor"

    def __init__(self, kernel: Kernel, spec: AnySpec, *, parent: Pid, path: tuple[Any, ...]) -> None:
        behaviour = "Supervisor" if isinstance(spec, SupervisorSpec) else spec.start.__name__
        super().__init__(kernel, id=spec.id, parent=parent, path=path, behaviour=behaviour)
        self.spec = spec
        self.trapping = True
        self.state: SupervisorState | None = None
        #: The newest process of each child, living or not.
        self.running: dict[Hashable, Process] = {}
        self._keys: dict[Pid, Hashable] = {}
        self._retries = 0
        #: The event that what is being done answers to.
        self._cause: str | None = None

    # -- Start ------------------------------------------------------------------------------------

    async def begin(self) -> tuple[str, Any]:
        self.run_async(self._main(), self.die)
        return await self.start_outcome()

    async def _main(self) -> Any:
        spec = await self._read_spec()
        if spec is None:
            self.tell_start(("ignore", "normal"))
            return "normal"
        self.state = SupervisorState(spec)
        self._take_options_back()
        await self._carry_out(self.state.handle(Begin(at=self.loop.time())))
        await self._bring_back()
        self.status = "running"
        self.tell_start(("ok", None))
        while True:
            await self._handle_next()

    async def _read_spec(self) -> SupervisorSpec | None:
        if isinstance(self.spec, SupervisorSpec):
            return self.spec
        found = self.spec.start().init(*self.spec.args)
        if is_async(found):
            found = await found
        if isinstance(found, Ignore):
            return None
        if not isinstance(found, SupervisorSpec):
            raise InvalidSpec(f"{self.behaviour}.init returned {found!r}: return supervisor([...]).")
        name = found.name if self.spec.name is None else None
        if name is None and found.kind == "partition" and not self.names:
            name = str(self.id)
        if name is not None:
            try:
                self.kernel.register(name, self)
            except NameTaken as taken:
                raise Exit(("already_started", taken.pid)) from None
        return found

    def _take_options_back(self) -> None:
        """Have the options again that `change_supervisor` had given when the checkpoint was taken."""
        saved = self.kernel.saved_options.pop(self.path or (), None)
        if saved is not None:
            # Refused where the supervisor has become one of another kind: then it has its own.
            self._machine.handle(OptionsChanged(**saved, at=self.loop.time()))

    async def _bring_back(self) -> None:
        """Start again what start_child had added when the checkpoint was taken."""
        saved = self.kernel.saved_children.pop(self.path or (), None)
        for key, spec in [] if saved is None else pickle.loads(saved):
            try:
                await self._carry_out(self._machine.handle(StartRequested(spec, key, at=self.loop.time())))
            except (StartFailed, AlreadyStarted):
                if self._machine.spec.kind != "dynamic":
                    raise

    @property
    def _machine(self) -> SupervisorState:
        if self.state is None:
            raise Unsupported(f"The supervisor {self.id!r} has not started yet.")
        return self.state

    # -- The loop ---------------------------------------------------------------------------------

    async def _handle_next(self) -> None:
        while not self.mailbox or (self.suspended and not self.bring_urgent_forward()):
            await self._wait_for_mail(None)
        kind, payload = self.took(self.mailbox.popleft())
        if kind == SYSTEM:
            self.do_system(*payload)
        elif kind == CALL:
            await self._serve(payload)
        elif kind == CAST and isinstance(payload, RetryDue | DecisionDue):
            self._cause = payload.cause or None
            await self._carry_out(self._machine.handle(replace(payload, at=self.loop.time())))
        elif kind == INFO and isinstance(payload, ExitSignal):
            await self._exit_signal(payload)

    async def _exit_signal(self, signal: ExitSignal) -> None:
        if signal.pid == self.parent:
            self.status = "stopping"
            await self._carry_out(self._machine.handle(StopRequested(signal.reason)))
            return
        key = self._keys.get(signal.pid)
        if key is None or not self.running[key].dead:
            return  # not a child, one that was stopped meanwhile, or one that lives and sent a signal itself
        del self._keys[signal.pid]
        process = self.running[key]
        self._cause = None if process.exit_event is None else str(process.exit_event.seq)
        await self._carry_out(self._machine.handle(ChildExited(key, process.reason, at=self.loop.time())))
        self._forget_gone(key)

    @property
    def bereaved(self) -> bool:
        """Whether a child has died and it is not decided yet what follows."""
        return any(self.running[key].dead for key in self._keys.values())

    def _forget_gone(self, key: Hashable) -> None:
        if key not in self._machine.children:
            self.running.pop(key, None)

    async def _carry_out(self, instructions: list[Instruction]) -> None:
        queue = deque(instructions)
        while queue:
            match queue.popleft():
                case StartChild() as start:
                    failure = await self._start(start)
                    if failure is not None:
                        now = self.loop.time()
                        queue = deque(self._machine.handle(ChildStartFailed(start.key, failure[0], at=now)))
                case StopChild() as stop:
                    await self._stop(stop)
                case StopTogether(children):
                    await asyncio.gather(*map(self._stop, children))
                case Retry(key):
                    # To the end of the own mailbox, a turn of the loop later: others go first, as in OTP.
                    self.loop.call_soon(self.deliver, (CAST, RetryDue(key, cause=self._cause or "")))
                case Decide(key):
                    # Each in a turn of its own, in order, and before whatever comes in later.
                    ended = self.running[key].exit_event
                    self.deliver((CAST, DecisionDue(key, cause="" if ended is None else str(ended.seq))))
                case Refuse(error):
                    raise error
                case Record() as record:
                    self._record(record)
                case GiveUp(reason) | End(reason):
                    raise Exit(reason)
                case never:
                    assert_never(never)

    def _record(self, record: Record) -> None:
        process = self.running.get(record.key)
        if record.key is None:
            self.kernel.record(record.kind, self, cause=self._cause, detail=record.detail)
            return
        detail = {"supervisor": label(self), "child": record.key, **record.detail}
        if record.kind == "supervisor_gave_up":
            self.kernel.record(record.kind, self, reason=record.reason, cause=self._cause, detail=detail)
            return
        name = label(process) if process is not None else str(record.key)
        spec = self._machine.children.get(record.key)
        if spec is not None and spec.spec.name is not None:
            name = spec.spec.name
        event = self.kernel.record(
            record.kind, process, name=name, reason=record.reason, cause=self._cause, detail=detail
        )
        self._cause = str(event.seq)

    # -- One child --------------------------------------------------------------------------------

    async def _start(self, start: StartChild) -> tuple[Any] | None:
        """Start a child; return None, or its failure in a tuple, since any value may be a reason."""
        key = start.key
        path = (*(self.path or ()), key)
        process = new_process(self.kernel, start.spec, key, self, path)
        process.restarts = start.restart
        try:
            self.kernel.enter(process, name_of(start.spec))
        except NameTaken as taken:
            process.dead = True
            return (("already_started", taken.pid),)
        self.link(process)
        self.running[key] = process
        self._keys[process.pid] = key
        outcome, reason = await process.begin()
        if outcome == "ok":
            self._announce(process, start)
            self._machine.handle(ChildStarted(key, process.pid, at=self.loop.time()))
            return None
        self._keys.pop(process.pid, None)
        if outcome == "ignore":
            self._machine.handle(ChildStarted(key, None, at=self.loop.time()))
            self._forget_gone(key)
            return None
        return (reason,)

    def _announce(self, process: Process, start: StartChild) -> None:
        process.announced = True
        detail = {
            "supervisor": label(self),
            "restart": start.restart,
            "type": process.type,
            "behaviour": process.behaviour,
            "budget_left": self._machine.intensity.left(self.loop.time()),
        }
        event = self.kernel.record("process_started", process, cause=self._cause, detail=detail)
        if start.restart:
            self.kernel.record(
                "process_restarted", process, cause=self._cause or str(event.seq), detail=detail
            )
        if process.dead:  # it ended after its start, before this supervisor could go on
            self.kernel.record_exit(process, start.spec.name or str(process.id))

    async def _stop(self, stop: StopChild) -> None:
        process = self.running[stop.key]
        self._keys.pop(process.pid, None)
        process.exit_cause = self._cause
        exited = process.exited()
        if stop.spec.shutdown == "brutal_kill":
            process.signal(self.pid, "kill")
        else:
            process.signal(self.pid, "shutdown")
            if not process.dead and not isinstance(stop.spec.shutdown, str):
                timer = self.loop.call_later(stop.spec.shutdown, process.signal, self.pid, "kill")
                try:
                    await exited
                finally:
                    timer.cancel()
        await exited
        self._machine.handle(ChildStopped(stop.key))
        self._forget_gone(stop.key)

    # -- Verbs ------------------------------------------------------------------------------------

    async def _serve(self, sender: Sender) -> None:
        self.unanswered[sender] = None
        self._cause = None
        request = sender.request
        try:
            answer = await self._verb(request)
        except Exit:
            raise
        except Exception as error:  # told to the caller; the supervisor goes on
            self.unanswered.pop(sender, None)
            sender.fail(error)
        else:
            self.kernel.reply(sender, answer)

    async def _verb(self, verb: Any) -> Any:
        machine = self._machine
        match verb:
            case Verb("start_child", (spec,)):
                return await self._start_child(as_child(spec))
            case Verb("terminate_child", (target,)):
                await self._carry_out(machine.handle(TerminateRequested(self.key_of(target))))
            case Verb("restart_child", (target,)):
                key = self.key_of(target)
                return await self._carry_out_start(machine.handle(RestartRequested(key)), key)
            case Verb("delete_child", (target,)):
                await self._carry_out(machine.handle(DeleteRequested(self.key_of(target))))
                self._forget_gone(self.key_of(target))
            case Verb("change", (spec, adjusted)):
                await self._carry_out(machine.handle(SpecChanged(spec, adjusted, at=self.loop.time())))
            case Verb("change_supervisor", (strategy, max_restarts, max_seconds)):
                change = OptionsChanged(strategy, max_restarts, max_seconds, at=self.loop.time())
                await self._carry_out(machine.handle(change))
            case Verb("pause_supervision", ()):
                await self._carry_out(machine.handle(Paused(at=self.loop.time())))
            case Verb("resume_supervision", ()):
                instructions = machine.handle(Unpaused(at=self.loop.time()))
                await self._carry_out(instructions)
                return [instruction.key for instruction in instructions if isinstance(instruction, Decide)]
            case Verb("prune", ()):
                await self._carry_out(machine.handle(Prune(at=self.loop.time())))
                for key in [key for key in self.running if key not in machine.children]:
                    del self.running[key]
            case Verb("which_children", ()):
                return [self.child_info(key) for key in machine.children]
            case Verb("count_children", ()):
                return self._count()
            case _:
                raise Unsupported(f"A supervisor does not know the request {verb!r}.")
        return None

    async def _start_child(self, spec: AnySpec) -> Pid | None:
        instructions = self._machine.handle(StartRequested(spec, at=self.loop.time()))
        keys = [i.key for i in instructions if isinstance(i, StartChild)]
        return await self._carry_out_start(instructions, keys[0] if keys else None)

    async def _carry_out_start(self, instructions: list[Instruction], key: Hashable) -> Pid | None:
        try:
            await self._carry_out(instructions)
        except StartFailed as failed:
            match failed.reason:
                case ("already_started", pid):
                    raise AlreadyStarted(pid) from None
            raise failed from find_error(failed.reason)
        child = self._machine.children.get(key)
        return None if child is None else child.pid

    def key_of(self, target: Any) -> Hashable:
        """Return the key of a child given by id or pid."""
        try:
            key = self._keys.get(target)
        except TypeError:
            raise ChildNotFound(target) from None
        if key is None and isinstance(target, str) and target not in self._machine.children:
            # A child that waits for its restart has no pid; its last one still names it, as in OTP.
            waiting = (c for c in self._machine.children.values() if c.status in {"restarting", "ended"})
            key = next((c.key for c in waiting if c.was == target), None)
        return target if key is None else key

    def child_info(self, key: Hashable) -> ChildInfo:
        """Return one row of which_children."""
        child = self._machine.children[key]
        if child.status == "running":
            status = self.running[key].status
            return ChildInfo(key, None if status == "exited" else child.pid, child.spec.type, status)
        return ChildInfo(key, None, child.spec.type, "exited" if child.at_rest else child.status)

    def _count(self) -> ChildCounts:
        children = self._machine.children.values()
        supervisors = sum(c.spec.type == "supervisor" for c in children)
        active = sum(c.status == "running" and not self.running[c.key].dead for c in children)
        return ChildCounts(len(children), active, supervisors, len(children) - supervisors)

    def partition_pids(self) -> list[Pid | None] | None:
        """Return the pids of a partition supervisor's children, in order; None for other kinds."""
        if self.state is None or self.state.spec.kind != "partition":
            return None
        return [c.pid if c.status == "running" else None for c in self.state.children.values()]

    def crash(self, error: BaseException) -> None:
        self.die(exit_reason(error))


def ask(kernel: Kernel, supervisor: Any, verb: Verb, caller: Pid) -> asyncio.Future[Any]:
    """Send a verb; a server that is no supervisor is spared a request that it cannot understand."""
    with suppress(NoProcess):  # nobody there: told by the call itself
        process = kernel.find(supervisor)
        if not isinstance(process, SupervisorProcess):
            raise Unsupported(
                f"{str(supervisor)!r} is a {process.behaviour}, not a supervisor: it has no children."
            )
    return kernel.post_call(supervisor, verb, caller)


def name_of(spec: AnySpec) -> str | None:
    """Return the name a child registers: a partition supervisor without one answers to its id."""
    if spec.name is None and isinstance(spec, SupervisorSpec) and spec.kind == "partition":
        return str(spec.id)
    return spec.name


def as_child(spec: Any) -> AnySpec:
    """Return `spec` if it can be started as a child, else teach."""
    if isinstance(spec, ChildByPath):
        return spec.imported()
    if isinstance(spec, ChildSpec | SupervisorSpec):
        return spec
    if is_behaviour(spec):
        described: ChildSpec = child(spec)
        return described
    raise InvalidSpec(f"{spec!r} is not a child spec: write child(...).")


def new_process(kernel: Kernel, spec: AnySpec, id: Any, parent: Process, path: tuple[Any, ...]) -> Process:
    """Make the process that runs `spec`; it is not started yet."""
    if isinstance(spec, SupervisorSpec) or (
        isinstance(spec.start, type) and issubclass(spec.start, Supervisor)
    ):
        return SupervisorProcess(kernel, replace(spec, id=id), parent=parent.pid, path=path)
    spec = replace(spec, id=id)
    if spec.start is Task:
        function, *args = spec.args
        return FunctionProcess(
            kernel, function, tuple(args), id=id, parent=parent.pid, path=path, type="task"
        )
    if isinstance(spec.start, type) and issubclass(spec.start, GenServer):
        return ServerProcess(kernel, spec, parent=parent.pid, path=path)
    return FunctionProcess(kernel, spec.start, spec.args, id=id, parent=parent.pid, path=path)
