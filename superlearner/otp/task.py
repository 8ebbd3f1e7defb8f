"""Task: a function that runs once, as a child; and the process that runs any function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from superlearner.errors import Unsupported
from superlearner.otp._kernel import Kernel
from superlearner.otp._pid import Pid
from superlearner.otp._process import (
    _NOT_A_MESSAGE,
    CALL,
    CAST,
    INFO,
    SYSTEM,
    TRACED,
    Entry,
    Process,
    is_async,
)
from superlearner.otp.messages import exit_reason


class Task:
    """A child that runs a plain or async function once: ``child(Task, fn, *args)``.

    It is ``temporary`` by default: when the function returns it has done its work (reason ``"normal"``),
    and when it raises it is not started again, unless ``restart="transient"`` or ``"permanent"`` says so.
    """


class FunctionProcess(Process):
    """A process that runs one function: a task, a function given as a child, or a spawned one."""

    def __init__(
        self,
        kernel: Kernel,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        *,
        id: Any,
        parent: Pid,
        path: tuple[Any, ...] | None,
        type: str = "worker",
    ) -> None:
        name = getattr(function, "__name__", type)
        super().__init__(kernel, id=id, parent=parent, path=path, behaviour=name)
        self.kind = type
        self._function, self._args = function, args

    async def begin(self) -> tuple[str, Any]:
        """Start the function; it runs after whoever started it goes on."""
        self.launch()
        return "ok", None

    def launch(self) -> None:
        """Start the function in a task of its own."""
        self.status = "running"
        self.current = self.behaviour
        self.tell_start(("ok", None))
        self.run_async(self._main(), self._returned)

    async def _main(self) -> None:
        result = self._function(*self._args)
        if is_async(result):
            await result

    def _returned(self, result: None) -> None:
        self.die("normal")

    def crash(self, error: BaseException) -> None:
        """End with what left the function."""
        self.die(exit_reason(error))

    def deliver(self, entry: Entry) -> None:
        """Put an entry into the mailbox; nobody serves system requests here, so they are refused."""
        if entry[0] == SYSTEM:
            what = "A function keeps no state to look at"
            entry[1][1].set_exception(Unsupported(f"{what}: {self.behaviour!r} is not a GenServer."))
            return
        super().deliver(entry)

    def took(self, entry: Entry) -> Entry:
        """Unwrap an entry; the caller of a call is told if this process ends before it answers."""
        entry = super().took(entry)
        if entry[0] == CALL:
            self.owe(entry[1])
        return entry

    def _as_message(self, entry: Entry) -> Any:
        # A process without a server loop sees the protocol itself, as in OTP, and may answer with reply().
        kind, payload = entry[1].entry if entry[0] == TRACED else entry
        match kind:
            case _ if kind == INFO:
                return payload
            case _ if kind == CAST:
                return ("$gen_cast", payload)
            case _ if kind == CALL:
                return ("$gen_call", payload, payload.request)
            case _:
                return _NOT_A_MESSAGE
