"""Hot reload: new code for a running application, all of it or none.

First every server that gets new code is suspended between two messages and its `code_change` is asked;
then the code is exchanged and new children start; only when all that has worked are dropped children
stopped. Any failure puts the old code, states and specs back.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

from superlearner.core.childspec import AnySpec, SupervisorSpec
from superlearner.core.strategy import initial_children
from superlearner.errors import BadReturn, CallTimeout, InvalidSpec, NoProcess, ProcessDied, ReloadFailed
from superlearner.otp._process import Process, discard, is_async
from superlearner.otp._server import ServerProcess, is_nonsense, shortened
from superlearner.otp._supervision import SupervisorProcess, Verb
from superlearner.otp.genserver import GenServer
from superlearner.otp.messages import Ignore, NoReply, Stop, exit_reason, find_error, one_line
from superlearner.otp.supervisor import Supervisor

#: What code of the application may raise; all but the cancellation of who asked for the reload.
_ANY_MISTAKE = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)

_NEW_STATE = "the new state (a state of None is NoReply(None)), or Stop(reason) to keep the old code"


@dataclass
class _Plan:
    """What a reload will do: new code for servers, new specs for supervisors."""

    servers: list[tuple[ServerProcess, Any]] = field(default_factory=list)
    supervisors: list[tuple[SupervisorProcess, SupervisorSpec]] = field(default_factory=list)


async def reload(root: SupervisorProcess, app: SupervisorSpec, timeout: float | None) -> None:
    """Give the tree below `root` the code of `app`; raise `ReloadFailed` when nothing was changed."""
    plan = _Plan()
    await _compare(plan, root, app)
    changed: list[str] = [str(process.id) for process, _ in plan.servers]
    async with _suspended([process for process, _ in plan.servers], timeout):
        adopted = [(process, *await _changed(process, spec)) for process, spec in plan.servers]
        undo = [_exchange(*change) for change in adopted]
        await _apply(root, plan, undo)
    root.kernel.record("application_reloaded", root, detail={"changed": changed})


async def _compare(plan: _Plan, supervisor: SupervisorProcess, spec: SupervisorSpec | None) -> None:
    if spec is None:
        return  # its `init` says Ignore: it stays as it is, as in OTP
    plan.supervisors.append((supervisor, spec))
    for key, new in initial_children(spec):
        process = supervisor.running.get(key)
        if process is None or process.dead:
            continue
        if isinstance(process, SupervisorProcess):
            await _compare(plan, process, await _supervisor_spec(new))
        elif isinstance(process, ServerProcess):
            if isinstance(new, SupervisorSpec) or not _is_server(new.start):
                raise InvalidSpec(
                    f"The child {key!r} is a GenServer and cannot become something else: give it another id."
                )
            plan.servers.append((process, new))


async def _guarded(awaitable: Any, context: Context | None = None) -> Any:
    """Await what the application wrote, as the process whose context it is; its SystemExit must not reach the loop."""

    async def run() -> tuple[Any, BaseException | None]:
        try:
            return await awaitable, None
        except _ANY_MISTAKE as error:
            return None, error

    try:
        result, error = await asyncio.get_running_loop().create_task(run(), context=context)
    finally:
        discard(awaitable)  # when it was given up before it began
    if error is not None:
        raise error
    return result


def _is_server(start: Any) -> bool:
    return isinstance(start, type) and issubclass(start, GenServer)


async def _supervisor_spec(spec: AnySpec) -> SupervisorSpec | None:
    if isinstance(spec, SupervisorSpec):
        return spec
    if isinstance(spec.start, type) and issubclass(spec.start, Supervisor):
        try:
            found = spec.start().init(*spec.args)
            if is_async(found):
                found = await _guarded(found)
        except _ANY_MISTAKE as error:
            raise ReloadFailed(spec.id, exit_reason(error)) from error
        if isinstance(found, Ignore):
            return None
        if isinstance(found, SupervisorSpec):
            return found
    raise InvalidSpec(
        f"The child {spec.id!r} is a supervisor and cannot become something else: give it another id."
    )


@asynccontextmanager
async def _suspended(servers: list[ServerProcess], timeout: float | None) -> AsyncIterator[None]:
    """Hold servers between two messages, those that were not held already."""
    held: list[ServerProcess] = []
    try:
        for process in servers:
            if not process.suspended:
                held.append(process)
                try:
                    await process.kernel.system(process.pid, _hold, timeout)
                except (CallTimeout, NoProcess, ProcessDied) as error:
                    raise ReloadFailed(process.id, error) from error
        yield
    finally:
        for process in held:
            if process.suspended and not process.dead:
                await process.kernel.system(process.pid, _release, None)


def _hold(process: Process) -> None:
    process.suspended = True


def _release(process: Process) -> None:
    process.suspended = False


async def _changed(process: ServerProcess, spec: Any) -> tuple[Any, GenServer, Any]:
    """Return the new spec, instance and state of a server, without touching it."""
    try:
        server: GenServer = spec.start()
        old_version = getattr(type(process.server), "version", None)
        state = process.state
        if type(server).code_change is not GenServer.code_change:
            # The old state must survive a code_change that fails half way; one that is not there cannot fail.
            state = copy.deepcopy(state)
        result = process.context.run(server.code_change, old_version, state)
        if is_async(result):
            result = await _guarded(result, process.context)
    except _ANY_MISTAKE as error:
        raise ReloadFailed(process.id, exit_reason(error)) from error
    if isinstance(result, NoReply):
        return spec, server, result.state
    if isinstance(result, Stop):
        raise ReloadFailed(process.id, result.reason) from find_error(result.reason)
    if is_nonsense(result):
        handler = f"{spec.start.__name__}.code_change"
        raise ReloadFailed(process.id, BadReturn(handler, shortened(result), _NEW_STATE))
    return spec, server, result


def _exchange(process: ServerProcess, spec: Any, server: GenServer, state: Any) -> Callable[[], None]:
    """Give a server its new code; return how to take it back."""
    old = (process.spec, process.server, process.state, process.trapping, process.behaviour)

    def undo() -> None:
        process.spec, _, process.state, process.trapping, process.behaviour = old
        process.adopt(old[1])

    process.spec, process.state = spec, state
    process.adopt(server)
    process.trapping = process.trapping or bool(server.trap_exit)
    process.behaviour = type(server).__name__
    return undo


async def _apply(root: SupervisorProcess, plan: _Plan, undo: list[Callable[[], None]]) -> None:
    done: list[tuple[SupervisorProcess, SupervisorSpec, bool]] = []
    try:
        for supervisor, spec in plan.supervisors:
            assert supervisor.state is not None
            done.append((supervisor, supervisor.state.spec, supervisor.state.adjusted))
            await _ask(supervisor, Verb("change", (spec, False)))
        _check_alive(plan.servers)
    except BaseException as error:  # also when whoever asked for it gives up half-way
        for take_back in undo:
            take_back()
        for supervisor, *old in reversed(done):
            with suppress(NoProcess, ProcessDied):  # its own supervisor starts it again, with the old code
                await _ask(supervisor, Verb("change", tuple(old)))
                await _ask(supervisor, Verb("prune"))
        if isinstance(error, ReloadFailed) or not isinstance(error, Exception):
            raise
        raise ReloadFailed(root.id, getattr(error, "reason", error)) from find_error(error)
    for supervisor, _ in plan.supervisors:
        with suppress(NoProcess, ProcessDied):
            await _ask(supervisor, Verb("prune"))


def _check_alive(servers: list[tuple[ServerProcess, Any]]) -> None:
    for process, _ in servers:
        if process.dead:
            raise ReloadFailed(process.id, f"it ended meanwhile: {one_line(process.reason)}")


async def _ask(supervisor: SupervisorProcess, verb: Verb) -> Any:
    return await supervisor.kernel.call(supervisor.pid, verb, None, supervisor.kernel.outside)
