"""Runtime: runs one application in this OS process, in a thread of its own or in the running loop.

Longer than most modules: one method per verb, each with its docstring.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager, suppress
from typing import Any, Self

from superlearner.core.childspec import Strategy
from superlearner.core.history import Event, EventLog
from superlearner.core.times import seconds
from superlearner.errors import AlreadyStarted, CallTimeout, NoProcess, NotInProcess
from superlearner.otp import _snapshot
from superlearner.otp._engine import Engine
from superlearner.otp._gateway import Gateway
from superlearner.otp._info import process_info
from superlearner.otp._kernel import Kernel
from superlearner.otp.application import as_application

#: Seconds that a loop which is not blocked gets to tell a timeout itself.
_GRACE = 0.1
#: The same for a stop, after whose timeout everything is killed and may unwind.
_STOP_GRACE = 2.0


def _limit(timeout: float | None, grace: float) -> float | None:
    # A thread cannot wait as long as a loop: past its longest, a few centuries, it waits for ever.
    if timeout is None or seconds(timeout) > threading.TIMEOUT_MAX - grace:
        return None
    return timeout + grace


class _LoopIsBlocked(Exception):
    """A plain handler blocks the loop, which could not even tell that the time is over."""


class Runtime:
    """Runs an application: ``with Runtime(app) as rt: rt.call("counter", "increment")``.

    Options and defaults:

    - ``asynchronous``: False: it runs in a thread of its own, and its methods may be called from any
      thread; True: it runs in the running loop, and its methods are awaited;
    - ``node``, ``sandbox``, ``epoch``, ``first_serial``: what its pids and events say;
    - ``restore``: a `snapshot` of an earlier run, whose states its processes take at their first start;
    - ``on_event``: called with each `Event`, on the runtime's loop;
    - ``start_timeout``: seconds that the start may take; None: no limit;
    - ``copy_messages``: copy each message, instead of passing it by reference;
    - ``gateway``: the way to the processes of other sandboxes; without one there are none.

    Entering the block raises `StartFailed` when the root cannot start. After the root has ended, methods
    raise `NoProcess`; `events` and `tree` still tell the story.
    """

    def __init__(
        self,
        app: Any,
        *,
        asynchronous: bool = False,
        node: str = "local",
        sandbox: str = "main",
        epoch: int = 1,
        first_serial: int = 1,
        restore: Any = None,
        on_event: Callable[[Event], None] | None = None,
        start_timeout: float | None = None,
        copy_messages: bool = False,
        gateway: Gateway | None = None,
    ) -> None:
        self.asynchronous = asynchronous
        self._app = as_application(app)
        self._log = EventLog()
        self._options = {
            "node": node,
            "sandbox": sandbox,
            "epoch": epoch,
            "first_serial": first_serial,
            "on_event": on_event,
            "copy_messages": copy_messages,
            "gateway": gateway,
        }
        self._restore, self._start_timeout = restore, start_timeout
        self._engine: Engine | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Guards `_open`: nothing is given to a loop that is about to close.
        self._lock = threading.Lock()
        self._open = False
        #: What other threads wait for.
        self._asked: set[asyncio.Task[Any]] = set()

    # -- Start and end ----------------------------------------------------------------------------

    def start(self) -> Any:
        """Start the root and all below it; raise `StartFailed` when that fails, `AlreadyStarted` while it runs."""
        if self._engine is not None:
            if not self._engine.ended.is_set():
                raise AlreadyStarted(self._engine.root.pid)
            self._options["first_serial"] = self._engine.kernel.next_serial  # no pid is used twice
        return self._start_here() if self.asynchronous else self._start_thread()

    def stop(self, reason: Any = "shutdown", timeout: float | None = None) -> Any:
        """Stop in reverse start order; kill what is left after `timeout` seconds. Harmless when stopped.

        Raises `CallTimeout` when a plain handler blocks: nothing can be stopped before that returns.
        """
        if self.asynchronous:
            return self._stop_here(reason, timeout)
        self._stop_thread(reason, timeout)
        return None

    def wait(self, timeout: float | None = None) -> Any:
        """Wait until the root has ended; return its exit reason. `TimeoutError` after `timeout` seconds."""
        if self.asynchronous:
            return asyncio.wait_for(self._started.wait(), timeout)
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
            if thread.is_alive():
                raise TimeoutError(f"The runtime still runs after {timeout} s.")
        return self._started.reason

    @property
    def _started(self) -> Engine:
        if self._engine is None:
            raise NoProcess("root")
        return self._engine

    @property
    def kernel(self) -> Kernel:
        """The post office, for whoever runs on the same loop and has no task to spare per message: a sandbox's host."""
        return self._started.kernel

    def _new_engine(self) -> Engine:
        return Engine(self._app, self._log, self._options, self._restore, self._start_timeout)

    async def _start_here(self) -> Self:
        self._engine = self._new_engine()
        try:
            await self._engine.start()
        except BaseException:
            await self._engine.stop("kill", timeout=0)
            raise
        return self

    async def _stop_here(self, reason: Any, timeout: float | None) -> None:
        if self._engine is not None:
            await self._engine.stop(reason, timeout)

    def _start_thread(self) -> Self:
        started: list[BaseException | None] = []
        ready = threading.Event()

        def tell(error: BaseException | None) -> None:
            started.append(error)
            ready.set()

        self._thread = threading.Thread(
            target=self._run_thread, args=(tell,), name="superlearner-runtime", daemon=True
        )
        self._thread.start()
        try:
            ready.wait()
        except KeyboardInterrupt:
            # A plain init that blocks cannot be stopped; the prompt comes back all the same.
            with self._lock:
                loop, self._open = self._loop, False
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self._give_up)
            self._thread.join(1.0)
            raise
        if started[0] is not None:
            self._thread.join()
            raise started[0]
        return self

    def _give_up(self) -> None:
        if self._engine is not None:
            self._engine.root.die("killed")

    def _run_thread(self, tell: Callable[[BaseException | None], None]) -> None:
        loop = asyncio.new_event_loop()
        main = loop.create_task(self._main(tell))
        with self._lock:
            self._loop, self._open = loop, True
        try:
            while not main.done():
                try:
                    loop.run_until_complete(main)
                except (SystemExit, KeyboardInterrupt):
                    continue  # left a task that some handler had made: it ends that task alone
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    async def _main(self, tell: Callable[[BaseException | None], None]) -> None:
        try:
            self._engine = engine = self._new_engine()
            await engine.start()
        except BaseException as error:
            tell(error)
        else:
            tell(None)
            await engine.ended.wait()
        with self._lock:
            self._open = False
        # Tasks that handlers made end here; what was asked before the end still gets its answer.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others - self._asked:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=1.0)

    def _stop_thread(self, reason: Any, timeout: float | None) -> None:
        limit = _limit(timeout, _STOP_GRACE)
        with suppress(NoProcess):  # it has ended by itself: there is nothing to stop
            try:
                self._submit(lambda: self._stop_here(reason, timeout), "stop", limit)
            except _LoopIsBlocked:
                raise CallTimeout("root", timeout) from None
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> Self:
        if self.asynchronous:
            raise TypeError("An asynchronous runtime is entered with `async with`.")
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    # -- From here to the loop ----------------------------------------------------------------------

    def _do(
        self,
        work: Callable[[Engine], Coroutine[Any, Any, Any]],
        what: str,
        target: Any = None,
        timeout: float | None = None,
    ) -> Any:
        limit = _limit(timeout, _GRACE)
        if self.asynchronous:
            return self._work(work)
        try:
            return self._submit(lambda: self._work(work), what, limit)
        except _LoopIsBlocked:
            raise CallTimeout(target, timeout) from None

    def _at_once(self, work: Callable[[Engine], Any], what: str, patience: float | None = None) -> Any:
        # Without a task, and answered on the spot: a handler that blocks right after it keeps nobody waiting.
        if self.asynchronous:
            return self._work_at_once(work)
        answer: Future[Any] = Future()
        with self._loop_for(what) as loop:
            loop.call_soon_threadsafe(self._settle, answer, work)
        try:
            return answer.result(patience)
        except TimeoutError:
            return None  # the loop is blocked; what was sent arrives when it goes on

    async def _work_at_once(self, work: Callable[[Engine], Any]) -> Any:
        return self._alive(work)

    def _alive(self, work: Callable[[Engine], Any]) -> Any:
        engine = self._started
        if engine.root.dead:
            raise NoProcess("root")
        return work(engine)

    def _settle(self, answer: Future[Any], work: Callable[[Engine], Any]) -> None:
        try:
            answer.set_result(self._alive(work))
        except Exception as error:  # told to who asked
            answer.set_exception(error)

    async def _work(self, work: Callable[[Engine], Awaitable[Any]]) -> Any:
        return await self._alive(work)

    def _submit(
        self, work: Callable[[], Coroutine[Any, Any, Any]], what: str, limit: float | None = None
    ) -> Any:
        with self._loop_for(what) as loop:
            future = asyncio.run_coroutine_threadsafe(self._answering(work), loop)
        try:
            return future.result(limit)
        except TimeoutError:
            if future.done():  # the work itself says that its time is over
                return future.result()
            future.cancel()
            raise _LoopIsBlocked from None
        except CancelledError:  # the runtime ended before it was begun
            raise NoProcess("root") from None
        except KeyboardInterrupt:
            future.cancel()
            raise

    @contextmanager
    def _loop_for(self, what: str) -> Iterator[asyncio.AbstractEventLoop]:
        if threading.current_thread() is self._thread:
            raise NotInProcess(
                f"rt.{what}() inside a process would wait for itself: use the verbs of superlearner.otp."
            )
        with self._lock:
            if not self._open or self._loop is None:
                raise NoProcess("root")
            yield self._loop

    async def _answering(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        self._asked.add(task)
        try:
            return await work()
        finally:
            self._asked.discard(task)

    # -- Messages -----------------------------------------------------------------------------------

    def call(self, target: Any, request: Any, timeout: float | None = 5.0) -> Any:
        """Ask a server by name or pid and return its answer.

        Raises `NoProcess`, `CallTimeout` after `timeout` seconds (None: never), or `ProcessDied`.
        """
        return self._do(lambda engine: engine.call(target, request, timeout), "call", target, timeout)

    def cast(self, target: Any, message: Any) -> Any:
        """Send to `handle_cast`, without an answer; nobody there is no error."""
        return self._at_once(lambda engine: engine.cast(target, message), "cast", _GRACE)

    def send(self, target: Any, message: Any) -> Any:
        """Send to `handle_info`; nobody there is no error."""
        return self._at_once(lambda engine: engine.send(target, message), "send", _GRACE)

    def kill(self, target: Any, reason: Any = "kill") -> Any:
        """Send an exit signal; ``"kill"`` cannot be trapped. Raises `NoProcess`."""
        return self._at_once(lambda engine: engine.kill(target, reason), "kill")

    def terminate(self, target: Any, reason: Any = "kill", timeout: float | None = 5.0) -> Any:
        """Send an exit signal as `kill` does, and return the reason with which the process has ended, once it has.

        Raises `NoProcess`, or `NotEnded` when it still lives after `timeout` seconds, as one may that traps exits.
        """
        return self._do(
            lambda engine: engine.terminate(target, reason, timeout), "terminate", target, timeout
        )

    def crash(self, target: Any, reason: Any = "crash", timeout: float | None = 5.0) -> Any:
        """Let a process fail as if its own code had raised ``Exit(reason)``; return its reason once it has ended.

        A server's `terminate` is called, as for any crash, also in one that traps exits; what its supervisor does
        follows. Raises `NoProcess`, or `NotEnded`.
        """
        return self._do(lambda engine: engine.crash(target, reason, timeout), "crash", target, timeout)

    def whereis(self, name: Any) -> Any:
        """Return the pid of a name, or None."""
        return self._at_once(lambda engine: engine.whereis(name), "whereis")

    # -- Looking and touching -----------------------------------------------------------------------

    def suspend(self, target: Any, timeout: float | None = 5.0) -> Any:
        """Let a server handle no message until `resume`; they wait in its mailbox."""
        return self._do(lambda engine: engine.suspend(target, timeout), "suspend", target, timeout)

    def resume(self, target: Any, timeout: float | None = 5.0) -> Any:
        """Let a suspended server go on."""
        return self._do(lambda engine: engine.resume(target, timeout), "resume", target, timeout)

    def get_state(self, target: Any, timeout: float | None = 5.0) -> Any:
        """Return a server's state, between two messages; also while it is suspended."""
        return self._do(lambda engine: engine.get_state(target, timeout), "get_state", target, timeout)

    def replace_state(self, target: Any, value: Any, timeout: float | None = 5.0) -> Any:
        """Give a server another state, between two messages; return it."""
        return self._do(
            lambda engine: engine.replace_state(target, value, timeout), "replace_state", target, timeout
        )

    def trace(self, duration: float = 1.0, limit: int = 10_000) -> Any:
        """Note every message for `duration` seconds, or until there are `limit` `TraceEvent`; return them."""
        return self._do(lambda engine: engine.trace(duration, limit), "trace")

    def start_trace(
        self, duration: float = 60.0, limit: int = 1000, only: Iterable[Any] | None = None
    ) -> Any:
        """Begin to note messages and return the id of the trace, for `read_trace` and `stop_trace`.

        It ends by itself after `duration` seconds (an hour at most), or when it has `limit` events (10,000 at
        most). `only`: the names or pids of processes whose messages are noted, those sent and those taken. A
        runtime keeps 8 traces, until it ends: the oldest that is over makes room.
        """
        return self._at_once(lambda engine: engine.start_trace(duration, limit, only), "start_trace")

    def read_trace(self, id: str, since: int = 0) -> Any:
        """Return a `Trace` with the events after the first `since` ones; it goes on. Raises `NoTrace`."""
        return self._at_once(lambda engine: engine.read_trace(id, since), "read_trace")

    def stop_trace(self, id: str) -> Any:
        """End a trace and forget it; return it with all its events. Raises `NoTrace`."""
        return self._at_once(lambda engine: engine.stop_trace(id), "stop_trace")

    def reload(self, app: Any, timeout: float | None = 5.0) -> Any:
        """Give the running application the code of `app`: all of it, or none and `ReloadFailed`.

        Servers with the same place in the tree keep their pid and mailbox, and get `code_change`; new
        children start, and those that `app` does not have stop. `timeout`: seconds that one server has
        to end the message it is handling.
        """
        return self._do(lambda engine: engine.reload(app, timeout), "reload")

    def processes(self) -> Any:
        """List the living processes, as `ProcessInfo`."""
        return self._do(Engine.processes, "processes")

    def process(self, target: Any) -> Any:
        """Return one process, as `ProcessInfo`; raises `NoProcess`."""
        return self._do(lambda engine: engine.process(target), "process")

    def tree(self) -> Any:
        """Return the supervision tree, as the root's `ProcessInfo`; also after its end."""
        if self.asynchronous:
            return self._started.tree()
        try:
            return self._submit(self._started.tree, "tree")
        except NoProcess:
            return process_info(self._started.root)

    def events(self, since: int = 0, kind: str | None = None) -> Any:
        """Return the events after number `since`, oldest first; also after the end."""
        if self.asynchronous:
            return self._events(since, kind)
        try:
            return self._submit(lambda: self._events(since, kind), "events")
        except NoProcess:
            return self._log.since(since, kind=kind)

    async def _events(self, since: int, kind: str | None) -> list[Event]:
        return self._log.since(since, kind=kind)

    @property
    def handled(self) -> int:
        """How many messages all its processes have handled."""
        return 0 if self._engine is None else self._engine.kernel.handled

    def snapshot(self) -> Any:
        """Return a picklable copy of all states; with ``asynchronous=True`` at once, on the loop.

        `CheckpointFailed` is raised while the tree is coming down: a copy would lack what has gone first.
        """
        if self.asynchronous:
            return _snapshot.take(self._started.kernel)
        return self._submit(self._take_snapshot, "snapshot")

    @property
    def falling(self) -> bool:
        """Whether the tree is coming down, or a supervisor has to decide on a dead child: no time for a snapshot."""
        return self._engine is not None and _snapshot.falling(self._engine.kernel)

    async def _take_snapshot(self) -> Any:
        return _snapshot.take(self._started.kernel)

    # -- Supervisors --------------------------------------------------------------------------------

    def start_child(self, supervisor: Any, spec: Any) -> Any:
        """Add a child and start it; return its pid, or None when it chose not to run."""
        return self._do(lambda engine: engine.verb("start_child", supervisor, spec), "start_child")

    def terminate_child(self, supervisor: Any, id_or_pid: Any) -> Any:
        """Stop a child; raises `ChildNotFound`."""
        return self._do(
            lambda engine: engine.verb("terminate_child", supervisor, id_or_pid), "terminate_child"
        )

    def restart_child(self, supervisor: Any, id: Any) -> Any:
        """Start a terminated child; return its pid. Raises `ChildRunning`, `ChildNotFound`, `StartFailed`."""
        return self._do(lambda engine: engine.verb("restart_child", supervisor, id), "restart_child")

    def delete_child(self, supervisor: Any, id: Any) -> Any:
        """Forget a child that does not run; raises `ChildRunning` or `ChildNotFound`."""
        return self._do(lambda engine: engine.verb("delete_child", supervisor, id), "delete_child")

    def which_children(self, supervisor: Any) -> Any:
        """List the children in start order, as `ChildInfo`."""
        return self._do(lambda engine: engine.verb("which_children", supervisor), "which_children")

    def count_children(self, supervisor: Any) -> Any:
        """Count the children, as `ChildCounts`."""
        return self._do(lambda engine: engine.verb("count_children", supervisor), "count_children")

    def change_supervisor(
        self,
        supervisor: Any,
        strategy: Strategy | None = None,
        max_restarts: int | None = None,
        max_seconds: float | None = None,
    ) -> Any:
        """Give a running supervisor another strategy or restart budget; None leaves an option as it is.

        It counts from its next decision on; restarts that were spent stay spent, as far as the new window reaches.
        Checkpoints hold it, so that it is there again when the sandbox starts elsewhere or its OS process anew. A
        supervisor that its own supervisor restarts begins with the options of its spec, and a reload brings those
        of the new version. Raises `InvalidSpec`: nothing was changed.
        """
        return self._do(
            lambda engine: engine.verb("change_supervisor", supervisor, strategy, max_restarts, max_seconds),
            "change_supervisor",
        )

    def pause_supervision(self, supervisor: Any) -> Any:
        """Let a supervisor decide on no child that ends, until `resume_supervision`; it answers, and can be stopped.

        What is asked of it by hand, such as `restart_child`, is done. Nothing keeps the pause but the running
        supervisor: whatever starts it again, here or elsewhere, starts all its children and ends the pause.
        """
        return self._do(lambda engine: engine.verb("pause_supervision", supervisor), "pause_supervision")

    def resume_supervision(self, supervisor: Any) -> Any:
        """Let it decide again, first on the children that have ended meanwhile; return their ids in start order.

        Each decision counts against the restart budget at the time at which it is made.
        """
        return self._do(lambda engine: engine.verb("resume_supervision", supervisor), "resume_supervision")
