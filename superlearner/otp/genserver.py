"""GenServer: a process that keeps a state and serves calls, casts and messages, one at a time."""

from __future__ import annotations

from typing import Any, ClassVar

from superlearner.otp._process import Sender
from superlearner.otp.messages import NoReply


class GenServer:
    """A server with a state, as in OTP. Subclass it and write the handlers that you need.

    Every handler may be plain or ``async``. The state is what `init` and the handlers return; it is
    explicit so that the runtime can inspect, checkpoint, move and replace it.

    >>> class Counter(GenServer):
    ...     def init(self, start=0):
    ...         return start
    ...
    ...     def handle_call(self, request, sender, state):
    ...         match request:
    ...             case "increment":
    ...                 return Reply(state + 1, state + 1)

    >>> from superlearner.otp import Reply, Runtime
    >>> with Runtime(Counter) as rt:
    ...     rt.call("Counter", "increment")
    1

    Failure: a handler that raises, or returns what it may not, ends its own process alone; `terminate` is
    called with the reason, and the supervisor decides what is started again.
    """

    #: Get the exit signals of linked processes as `ExitSignal` messages, and `terminate` on shutdown.
    trap_exit: ClassVar[bool] = False
    #: What `code_change` of the next version gets as `old_version`.
    version: ClassVar[Any] = 1

    def init(self, *args: Any) -> Any:
        """Return the first state, or ``NoReply(state, continue_=..., timeout=...)``, ``Ignore()``, ``Stop(reason)``.

        The default keeps its only argument, or None, as the state.
        """
        return NoReply(args[0] if args else None)

    def handle_call(self, request: Any, sender: Sender, state: Any) -> Any:
        """Return ``Reply(value, state)``, ``NoReply(state)`` or ``Stop(reason, reply=..., state=...)``."""
        raise NotImplementedError(
            f"{type(self).__name__} has no handle_call, and was called with {request!r}"
        )

    def handle_cast(self, message: Any, state: Any) -> Any:
        """Return the new state, ``NoReply(state)`` or ``Stop(reason, state=...)``."""
        raise NotImplementedError(f"{type(self).__name__} has no handle_cast, and was cast {message!r}")

    def handle_info(self, message: Any, state: Any) -> Any:
        """Take anything sent, `Down`, `ExitSignal` and `Timeout`; return as from `handle_cast`.

        The default drops the message.
        """
        return NoReply(state)

    def handle_continue(self, value: Any, state: Any) -> Any:
        """Go on with ``continue_=value`` before any other message; return as from `handle_cast`."""
        raise NotImplementedError(
            f"{type(self).__name__} has no handle_continue, and was continued with {value!r}"
        )

    def terminate(self, reason: Any, state: Any) -> Any:
        """Clean up: on `Stop`, on a crash of a handler, and on shutdown when exits are trapped."""

    def code_change(self, old_version: Any, state: Any) -> Any:
        """Return the state as this version wants it; called on reload, before the next message.

        ``Stop(reason)`` keeps the old code: the reload fails with that reason, as when this raises.
        """
        return NoReply(state)

    def restore(self, saved: Any, state: Any) -> Any:
        """Return the state to go on with, of the `saved` one of a checkpoint and the one that `init` made."""
        return NoReply(saved)
