"""The runtime on its loop: starts and stops the root, and does what is asked from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any

from superlearner.core.childspec import SupervisorSpec
from superlearner.core.history import EventLog
from superlearner.core.snapshots import ProcessInfo
from superlearner.core.times import seconds
from superlearner.errors import NoProcess, NotEnded, StartFailed, Unsupported
from superlearner.otp import _snapshot
from superlearner.otp._info import process_info
from superlearner.otp._kernel import Kernel
from superlearner.otp._process import SYSTEM, Process
from superlearner.otp._reload import reload
from superlearner.otp._server import ServerProcess
from superlearner.otp._supervision import SupervisorProcess, Verb, ask
from superlearner.otp._traces import Traces
from superlearner.otp.application import as_application
from superlearner.otp.messages import Exit, find_error
from superlearner.otp.task import FunctionProcess
from superlearner.otp.tracing import Trace, TraceEvent, take_trace


class Engine:
    """One application, running on one loop. Everything here is called on that loop."""

    def __init__(
        self,
        app: SupervisorSpec,
        log: EventLog,
        options: dict[str, Any],
        restore: Any,
        start_timeout: float | None,
    ) -> None:
        self.kernel = Kernel(asyncio.get_running_loop(), log=log, **options)
        self.app = app
        self.start_timeout = start_timeout
        _snapshot.prepare(self.kernel, restore)
        self.root = SupervisorProcess(self.kernel, app, parent=self.kernel.outside, path=())
        self.ended: asyncio.Event = asyncio.Event()
        self.reason: Any = None
        self._end: asyncio.Task[None] | None = None
        #: One reload at a time: each holds servers that the other would let go.
        self._reloading = asyncio.Lock()
        self._traces = Traces(self.kernel)

    async def start(self) -> None:
        """Start the root; raise `StartFailed` when it, or one of its children, cannot."""
        kernel, root = self.kernel, self.root
        kernel.enter(root, self.app.name or "root")
        exited = root.exited()
        exited.add_done_callback(self._root_ended)
        timer = None
        if self.start_timeout is not None:
            timer = kernel.loop.call_later(
                self.start_timeout, root.die, f"start timed out after {self.start_timeout:g} s"
            )
        outcome, reason = await root.begin()
        if timer is not None:
            timer.cancel()
        if outcome != "ok":
            await self.ended.wait()
            raise StartFailed(reason) from find_error(reason)
        root.announced = True
        kernel.record(
            "process_started", root, detail={"type": "supervisor", "behaviour": root.behaviour, "restart": 0}
        )

    def _root_ended(self, exited: asyncio.Future[Any]) -> None:
        self.reason = exited.result()
        self._end = self.kernel.loop.create_task(self._finish())

    async def _finish(self) -> None:
        self._traces.close()
        await self.kernel.finish()
        self.ended.set()

    async def stop(self, reason: Any = "shutdown", timeout: float | None = None) -> Any:
        """Stop in reverse start order; kill what is left after `timeout` seconds."""
        root = self.root
        root.signal(self.kernel.outside, reason, by_link=True)
        try:
            async with asyncio.timeout(timeout):
                await self.ended.wait()
        except TimeoutError:
            root.die("killed")
            await self.ended.wait()
        return self.reason

    async def wait(self) -> Any:
        """Wait for the end; return the root's exit reason."""
        await self.ended.wait()
        return self.reason

    # -- What is asked from outside -----------------------------------------------------------------

    async def call(self, target: Any, request: Any, timeout: float | None = 5.0) -> Any:
        return await self.kernel.call(target, request, timeout, self.kernel.outside)

    def cast(self, target: Any, message: Any) -> None:
        self.kernel.cast(target, message)

    def send(self, target: Any, message: Any) -> None:
        self.kernel.send(target, message)

    def kill(self, target: Any, reason: Any = "kill") -> None:
        self.kernel.find(target).signal(self.kernel.outside, reason)

    async def terminate(self, target: Any, reason: Any, timeout: float | None) -> Any:
        process = self.kernel.find(target)
        exited = process.exited()
        process.signal(self.kernel.outside, reason)
        return await _ended(exited, target, reason, timeout)

    async def crash(self, target: Any, reason: Any, timeout: float | None) -> Any:
        process = self.kernel.find(target)
        exited = process.exited()
        if isinstance(process, FunctionProcess):
            process.crash(Exit(reason))
        else:
            process.deliver((SYSTEM, (partial(_leave, reason), self.kernel.loop.create_future())))
        return await _ended(exited, target, reason, timeout)

    def whereis(self, name: Any) -> Any:
        try:
            return self.kernel.find(name).pid
        except NoProcess:
            return None

    async def suspend(self, target: Any, timeout: float | None = 5.0) -> None:
        await self.kernel.system(target, _suspend, timeout)

    async def resume(self, target: Any, timeout: float | None = 5.0) -> None:
        await self.kernel.system(target, _resume, timeout)

    async def get_state(self, target: Any, timeout: float | None = 5.0) -> Any:
        return await self.kernel.system(target, lambda process: process.state, timeout)

    async def replace_state(self, target: Any, value: Any, timeout: float | None = 5.0) -> Any:
        def replace(process: Process) -> Any:
            if not isinstance(process, ServerProcess):
                raise Unsupported(f"The state of {process.behaviour} is not yours to replace.")
            process.state = value
            return value

        return await self.kernel.system(target, replace, timeout)

    async def tree(self) -> ProcessInfo:
        return process_info(self.root)

    async def processes(self) -> list[ProcessInfo]:
        return [process_info(process) for process in self.kernel.processes.values()]

    async def process(self, target: Any) -> ProcessInfo:
        return process_info(self.kernel.find(target))

    async def trace(self, duration: float, limit: int) -> list[TraceEvent]:
        return await take_trace(self.kernel, duration, limit)

    def start_trace(self, duration: float, limit: int, only: Iterable[Any] | None) -> str:
        return self._traces.start(duration, limit, only)

    def read_trace(self, id: str, since: int) -> Trace:
        return self._traces.read(id, since)

    def stop_trace(self, id: str) -> Trace:
        return self._traces.stop(id)

    async def reload(self, app: Any, timeout: float | None) -> None:
        async with self._reloading:
            await reload(self.root, as_application(app), timeout)

    async def verb(self, name: str, supervisor: Any, *args: Any, timeout: float | None = None) -> Any:
        future = ask(self.kernel, supervisor, Verb(name, args), self.kernel.outside)
        return await self.kernel.answer(future, supervisor, timeout)


def _leave(reason: Any, process: Process) -> None:
    raise Exit(reason)


async def _ended(exited: asyncio.Future[Any], target: Any, reason: Any, timeout: float | None) -> Any:
    """Return the reason with which a process has ended; raise `NotEnded` when it still lives after `timeout`."""
    if timeout is not None:
        seconds(timeout)
    try:
        async with asyncio.timeout(timeout):
            return await exited
    except TimeoutError:
        raise NotEnded(target, timeout, reason) from None


def _suspend(process: Process) -> None:
    process.suspended = True


def _resume(process: Process) -> None:
    process.suspended = False
