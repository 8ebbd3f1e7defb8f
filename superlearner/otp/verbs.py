"""What a process can do: call, send, link, monitor, spawn and the rest.

`call`, `receive` and the supervisor verbs are awaited; the others are plain functions that take effect at
once, and awaiting them is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from superlearner.core.childspec import refuse_unknown
from superlearner.core.request_ids import validate_request_id
from superlearner.core.snapshots import ChildCounts, ChildInfo
from superlearner.errors import NoProcess, NotInProcess, Unsupported
from superlearner.otp._pid import DONE, Done, Pid, Ref, SecondsLeft, Timer
from superlearner.otp._process import Process, Sender, this_process
from superlearner.otp._supervision import Verb, ask
from superlearner.otp.messages import Exit
from superlearner.otp.task import FunctionProcess

# -- Messages ---------------------------------------------------------------------------------------


def call(
    target: Any, request: Any, timeout: float | None = 5.0, *, request_id: str | None = None
) -> Coroutine[Any, Any, Any]:
    """Ask a server and wait for its answer: ``await call("counter", "increment")``.

    Parameters
    ----------
    target
        A name, a pid, or ``("partition supervisor", key)``; with its sandbox, ``"shop/counter"`` or
        ``("shop/shards", key)``, or by a pid from there, a process of another sandbox.
    request
        Anything; it is what `handle_call` gets.
    timeout
        Seconds; None waits for ever.
    request_id
        For a process of another sandbox: a text by which the request takes effect once, however often it is sent,
        as for `superlearner.Sandbox.call`. It is sent again by itself when a node or an OS process there is lost.

    Raises
    ------
    NoProcess, CallTimeout, ProcessDied
        Nobody is there; no answer in time; the callee ended before it answered.
    NoConnection, SandboxFailed, NotSerializable
        Of another sandbox: its node was lost before it answered; it has been given up; the request cannot leave
        (nothing was sent). While it is restarted or moved the call waits.
    NotDurable, RequestIdTaken
        Of another sandbox: the effect could not be stored; the id is that of another request.
    NotInProcess
        In a plain handler, which cannot wait: write ``async def``.
    """
    process = this_process("call")
    if process.task is None and (asyncio.current_task() is None or process.current in {"init", "terminate"}):
        raise NotInProcess(
            f"{process.behaviour}.{process.current} is a plain function and cannot wait for a call."
        )
    if request_id is not None:
        return process.kernel.call_once(
            target, request, timeout, process.pid, validate_request_id(request_id)
        )
    return process.kernel.call(target, request, timeout, process.pid)


def cast(target: Any, message: Any) -> Done:
    """Send to `handle_cast`, without an answer; nobody there is no error."""
    this_process("cast").kernel.cast(target, message)
    return DONE


def send(target: Any, message: Any) -> Done:
    """Send to `handle_info`, or to `receive`; nobody there is no error."""
    this_process("send").kernel.send(target, message)
    return DONE


def reply(sender: Sender, value: Any) -> Done:
    """Answer a call for which `handle_call` returned `NoReply`; too late an answer is dropped."""
    this_process("reply").kernel.reply(sender, value)
    return DONE


def send_after(target: Any, message: Any, seconds: float) -> Timer:
    """Send after so many seconds; a name is looked up when the time has come."""
    return this_process("send_after").kernel.send_after(target, message, seconds)


def cancel_timer(timer: Timer) -> SecondsLeft | None:
    """Cancel a `send_after`; return the seconds it had left, or None when it has fired."""
    return this_process("cancel_timer").kernel.cancel_timer(timer)


async def receive(match: Any = None, timeout: float | None = None) -> Any:
    """Take the next message, or the next one that matches; the others stay in the mailbox.

    Parameters
    ----------
    match
        A function of the message, a class or a tuple of classes, or a value to be equal to.
    timeout
        Seconds; then a `Timeout` is returned instead. None waits for ever.
    """
    return await this_process("receive").receive(_matcher(match), timeout)


def _matcher(match: Any) -> Callable[[Any], bool] | None:
    if match is None:
        return None
    if isinstance(match, type) or (
        isinstance(match, tuple) and match and all(isinstance(m, type) for m in match)
    ):
        return lambda message: isinstance(message, match)
    if callable(match):
        return lambda message: bool(match(message))
    return lambda message: bool(message == match)


# -- Processes --------------------------------------------------------------------------------------


def self_() -> Pid:
    """Return the own pid."""
    return this_process("self_").pid


def spawn(
    fn: Callable[..., Any],
    *args: Any,
    link: bool = False,
    monitor: bool = False,
    name: str | None = None,
    **unknown: Any,
) -> Any:
    """Run an async function as a process of its own; return its pid, or (pid, ref) with ``monitor=True``.

    Parameters
    ----------
    fn, args
        What it runs.
    link
        Link it to the caller.
    monitor
        Send the caller a `Down` when it ends.
    name
        Register it; a taken name raises `NameTaken`.
    """
    refuse_unknown("spawn", unknown, ("link", "monitor", "name"))
    parent = this_process("spawn")
    kernel = parent.kernel
    process = FunctionProcess(
        kernel, fn, args, id=getattr(fn, "__name__", "process"), parent=parent.pid, path=None
    )
    kernel.enter(process, name)
    process.announced = True
    kernel.record(
        "process_started", process, detail={"spawned_by": parent.pid, "behaviour": process.behaviour}
    )
    if link:
        parent.link(process)
    ref = kernel.monitor(parent, process.pid) if monitor else None
    process.launch()
    return process.pid if ref is None else (process.pid, ref)


def link(target: Any) -> Done:
    """Tie both processes: when one dies the other gets its exit signal; ``noproc`` when nobody is there."""
    process = this_process("link")
    _only_here(process, "link", target)
    try:
        process.link(process.kernel.find(target))
    except NoProcess:
        _signal_self(process, Pid.of(process.pid.node, process.pid.sandbox, 0), "noproc", target)
    return DONE


def _only_here(process: Process, verb: str, target: Any) -> None:
    """Refuse what does not reach into other sandboxes."""
    if process.kernel.elsewhere(target) is not None:
        raise Unsupported(
            f"{verb}() does not reach into another sandbox, as to {str(target)!r}; nothing was done. "
            "Use monitor() to learn of an end there, and send() to ask for one."
        )


def _signal_self(process: Process, source: Pid, reason: Any, target: Any = None) -> None:
    """Give the caller an exit signal; a plain handler is left at once, as its process is dead."""
    process.signal(target if isinstance(target, Pid) else source, reason, by_link=target is not None)
    if process.dead:
        raise Exit(process.reason)


def unlink(target: Any) -> Done:
    """Untie from a process; no exit signal of it comes any more."""
    process = this_process("unlink")
    with suppress(NoProcess):  # a dead process is linked to nobody
        process.unlink(process.kernel.find(target))
    return DONE


def monitor(target: Any) -> Ref:
    """Get a ``Down(ref, pid, reason)`` when `target` ends; at once, with ``noproc``, when nobody is there.

    Of a process of another sandbox the reason is ``noconnection`` when its node or its sandbox's OS process was
    lost, and when its sandbox was moved: it goes on elsewhere under another pid. One whose sandbox is stopped,
    restarted by order or destroyed ends as its supervisor ends it: with ``shutdown``.
    """
    process = this_process("monitor")
    return process.kernel.monitor(process, target)


def demonitor(ref: Ref, *, flush: bool = False) -> Done:
    """Stop watching; ``flush=True`` also removes its `Down` if that has come already."""
    process = this_process("demonitor")
    watched = process.monitors.pop(ref, None)
    if watched is not None:
        watched.unwatch(ref)
    if flush:
        process.drop_down(ref)
    return DONE


def exit_(target: Any, reason: Any = "normal") -> Done:
    """Send an exit signal: ``"kill"`` cannot be trapped, ``"normal"`` from another process is ignored."""
    process = this_process("exit_")
    _only_here(process, "exit_", target)
    try:
        other = process.kernel.find(target)
    except NoProcess:
        return DONE
    if other is process:
        _signal_self(process, process.pid, reason)
    else:
        other.signal(process.pid, reason)
    return DONE


def trap_exit(flag: bool = True) -> Done:
    """Get exit signals as `ExitSignal` messages from now on, or not any more."""
    this_process("trap_exit").trapping = bool(flag)
    return DONE


# -- Names ------------------------------------------------------------------------------------------


def register(name: str, pid: Any = None) -> Done:
    """Give the caller, or the process `pid`, a name; a taken one raises `NameTaken`."""
    process = this_process("register")
    process.kernel.register(name, process if pid is None else process.kernel.find(pid))
    return DONE


def unregister(name: str) -> Done:
    """Free a name; raises `NoProcess` when nobody has it."""
    this_process("unregister").kernel.unregister(name)
    return DONE


def whereis(name: Any) -> Any:
    """Return the pid of a name, or None; of another sandbox await it: ``await whereis("shop/counter")``."""
    kernel = this_process("whereis").kernel
    try:
        return kernel.find(name).pid
    except NoProcess:
        address = kernel.elsewhere(name)
        return None if address is None or kernel.gateway is None else kernel.gateway.whereis(address)


# -- Supervisors ------------------------------------------------------------------------------------


def _ask(verb: str, supervisor: Any, *args: Any) -> asyncio.Future[Any]:
    process = this_process(verb)
    return ask(process.kernel, supervisor, Verb(verb, args), process.pid)


def start_child(supervisor: Any, spec: Any) -> asyncio.Future[Pid | None]:
    """Add a child and start it; the answer is its pid, or None when its `init` returned `Ignore`.

    Raises `AlreadyStarted`, `AlreadyPresent`, `MaxChildren` or `StartFailed`.
    """
    return _ask("start_child", supervisor, spec)


def terminate_child(supervisor: Any, id_or_pid: Any) -> asyncio.Future[None]:
    """Stop a child, as its ``shutdown`` says; raises `ChildNotFound`. A static supervisor keeps its spec."""
    return _ask("terminate_child", supervisor, id_or_pid)


def restart_child(supervisor: Any, id: Any) -> asyncio.Future[Pid | None]:
    """Start a child that was terminated; raises `ChildNotFound`, `ChildRunning` or `StartFailed`."""
    return _ask("restart_child", supervisor, id)


def delete_child(supervisor: Any, id: Any) -> asyncio.Future[None]:
    """Forget a child that does not run; raises `ChildNotFound` or `ChildRunning`."""
    return _ask("delete_child", supervisor, id)


def which_children(supervisor: Any) -> asyncio.Future[list[ChildInfo]]:
    """List the children, in start order."""
    return _ask("which_children", supervisor)


def count_children(supervisor: Any) -> asyncio.Future[ChildCounts]:
    """Count the children."""
    return _ask("count_children", supervisor)
