"""The process of a GenServer: takes its mailbox apart, one message after the other.

Plain handlers run straight from the loop's queue, without a task; only an ``async`` handler gets one.

Longer than most modules: the loop and what it may meet read as one.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

from superlearner.core.childspec import ChildSpec
from superlearner.core.times import is_wait
from superlearner.errors import BadReturn
from superlearner.otp._kernel import Kernel
from superlearner.otp._pid import Done, Pid
from superlearner.otp._process import CALL, CAST, INFO, SYSTEM, TRACED, Process, Sender, discard, is_async
from superlearner.otp.genserver import GenServer
from superlearner.otp.messages import (
    ABSENT,
    ExitSignal,
    Ignore,
    NoReply,
    Reply,
    Stop,
    Timeout,
    exit_reason,
    safe_repr,
)

#: Messages that one process may handle before the others have their turn.
_TURN = 500

_NEW_STATE = "the new state (a state of None is NoReply(None)), NoReply(state) or Stop(reason)"
_ANSWER = "Reply(value, state), NoReply(state) or Stop(reason, reply=...); a request that no case matches ends here too"
_FIRST = "the first state (a state of None is NoReply(None)), NoReply(state), Ignore() or Stop(reason)"
#: What is surely nothing but the new state, without a second look.
_PLAIN_STATES = frozenset({bool, bytes, dict, float, frozenset, int, list, set, str, tuple})
#: What is no state, nor is its class, with the brackets forgotten.
_NO_STATES = (Reply, NoReply, Ignore, Stop, Done)


class ServerProcess(Process):
    """One running GenServer."""

    def __init__(self, kernel: Kernel, spec: ChildSpec, *, parent: Pid, path: tuple[Any, ...] | None) -> None:
        super().__init__(kernel, id=spec.id, parent=parent, path=path, behaviour=spec.start.__name__)
        self.spec = spec
        self.trapping = bool(getattr(spec.start, "trap_exit", False))
        self.state: Any = None
        self._continuation: Any = ABSENT
        self._terminating = False
        #: What is to be said after `terminate`: the answer to the call that was stopped with.
        self._last_word: Callable[[], None] | None = None
        self._timeout: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    # -- Start ------------------------------------------------------------------------------------

    async def begin(self) -> tuple[str, Any]:
        """Run `init` and return ("ok", None), ("ignore", None) or ("error", reason)."""
        self.context.run(self._init)
        return self.outcome or await self.start_outcome()

    def _init(self) -> None:
        self.current = "init"
        try:
            server: GenServer = self.spec.start()
            self.adopt(server)
            result = server.init(*self.spec.args)
        except BaseException as error:
            self._start_ended("error", exit_reason(error))
            return
        self._when_done(result, self._initialised)

    def adopt(self, server: GenServer) -> None:
        """Use this instance's handlers from now on."""
        self.server = server
        self._on_call, self._on_cast, self._on_info = (
            server.handle_call,
            server.handle_cast,
            server.handle_info,
        )

    def _when_done(self, result: Any, then: Callable[[Any], Any]) -> None:
        if is_async(result):
            self.run_async(result, then)
        else:
            then(result)

    def _initialised(self, result: Any) -> None:
        if self.dead:
            return
        match result:
            case Ignore():
                self._start_ended("ignore", "normal")
            case Stop(reason=reason):
                self._start_ended("error", reason)
            case _ if not self._take_state(result, "init", _FIRST):
                return
            case _:
                self._restore_or_run()

    def _restore_or_run(self) -> None:
        saved = self.kernel.saved_states.pop(self.path, None) if self.path is not None else None
        if saved is None:
            self._run()
            return
        try:
            result = self.server.restore(pickle.loads(saved), self.state)
        except BaseException as error:
            self._start_ended("error", exit_reason(error))
            return
        self._when_done(result, self._restored)

    def _restored(self, result: Any) -> None:
        if not self.dead and self._take_state(result, "restore", _NEW_STATE):
            self._run()

    def _run(self) -> None:
        self.status = "running"
        self.current = None
        self.tell_start(("ok", None))
        self.loop.call_soon(self.drain, context=self.context)

    def _start_ended(self, outcome: str, reason: Any) -> None:
        self.tell_start((outcome, reason))
        self.die(reason)

    def die(self, reason: Any) -> None:
        if self.dead:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        super().die(reason)

    # -- The loop ---------------------------------------------------------------------------------

    def drain(self) -> None:
        mailbox = self.mailbox
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        turns = _TURN
        try:
            while not self.dead:
                turns -= 1
                if turns < 0:
                    self.loop.call_soon(self.drain, context=self.context)
                    return
                if self._continuation is not ABSENT and not self.suspended:
                    value, self._continuation, self._timeout = self._continuation, ABSENT, None
                    if not self._step(
                        "handle_continue", self.server.handle_continue, (value,), self._next_state
                    ):
                        return
                    continue
                if not mailbox or (self.suspended and not self.bring_urgent_forward()):
                    self._rest()
                    return
                kind, payload = mailbox.popleft()
                if kind == TRACED:
                    kind, payload = payload.received(self)
                self.handled += 1
                self.kernel.handled += 1
                if kind == SYSTEM:
                    self.do_system(*payload)
                    continue
                self._timeout = None
                if kind == CAST:
                    # The hot path, written out: one message is one handler and one look at what it returned.
                    self.current = "handle_cast"
                    result = self._on_cast(payload, self.state)
                    if result.__class__ is NoReply and result.continue_ is ABSENT and result.timeout is None:
                        self.state = result.state
                        continue
                    if result.__class__ in _PLAIN_STATES:
                        self.state = result
                        continue
                    if not self._after(result, self._next_state):
                        return
                elif kind == CALL:
                    if not self._serve_call(payload):
                        return
                elif payload.__class__ is ExitSignal and payload.pid == self.parent:
                    self._end(payload.reason)
                    return
                elif not self._step("handle_info", self._on_info, (payload,), self._next_state):
                    return
        except BaseException as error:  # of a handler, or what it returned cannot even be looked at
            self.crash(error)

    def _serve_call(self, sender: Sender) -> bool:
        self.current = "handle_call"
        self.unanswered[sender] = None
        request, sender.request = sender.request, None
        result = self._on_call(request, sender, self.state)
        if result.__class__ is Reply and result.continue_ is ABSENT and result.timeout is None:
            self.state = result.state
            if not self.dead:
                self.kernel.reply(sender, result.value)
            return True
        return self._after(result, partial(self._answered, sender))

    def _step(
        self, name: str, handler: Callable[..., Any], args: tuple[Any, ...], then: Callable[[Any], bool]
    ) -> bool:
        self.current = name
        return self._after(handler(*args, self.state), then)

    def _after(self, result: Any, then: Callable[[Any], bool]) -> bool:
        """Take a handler's result, now or when it is there; tell whether the loop may go on at once."""
        if self.dead:
            discard(result)
            return False
        if is_async(result):
            self.run_async(result, partial(self._resume, then))
            return False
        return then(result)

    def _resume(self, then: Callable[[Any], bool], result: Any) -> None:
        if then(result):
            # Out of the handler's task: plain handlers run outside of any.
            self.loop.call_soon(self.drain, context=self.context)

    def _rest(self) -> None:
        self.current = None
        self.idle = True
        if self._timeout is not None and not self.suspended:
            self._timer = self.loop.call_later(self._timeout, self._silence)

    def _silence(self) -> None:
        self._timer = None
        if self.idle:
            self.deliver((INFO, Timeout()))

    # -- What handlers returned -------------------------------------------------------------------

    def _answered(self, sender: Sender, result: Any) -> bool:
        match result:
            case Reply():
                if self._take_state(
                    NoReply(result.state, result.continue_, result.timeout), "handle_call", _ANSWER
                ):
                    self.kernel.reply(sender, result.value)
                    return True
                return False
            case NoReply():
                self.unanswered.pop(sender, None)
                self.owe(sender)
                return self._take_state(result, "handle_call", _ANSWER)
            case Stop(reason=reason, reply=reply, state=state):
                if state is not ABSENT:
                    self.state = state
                self._end(reason, None if reply is ABSENT else partial(self.kernel.reply, sender, reply))
                return False
            case _:
                self._bad_return("handle_call", result, _ANSWER)
                return False

    def _next_state(self, result: Any) -> bool:
        if result.__class__ is Stop:
            if result.reply is not ABSENT:
                self._bad_return(
                    self.current or "a handler", result, f"{_NEW_STATE}: nobody waits for a reply"
                )
                return False
            if result.state is not ABSENT:
                self.state = result.state
            self._end(result.reason)
            return False
        return self._take_state(result, self.current or "a handler", _NEW_STATE)

    def _take_state(self, result: Any, handler: str, allowed: str) -> bool:
        if result.__class__ is NoReply:
            if result.timeout is not None and not is_wait(result.timeout):
                self._bad_return(handler, result, "timeout=, in seconds and not negative")
                return False
            self.state = result.state
            self._timeout = result.timeout
            self._continuation = result.continue_
            return True
        if is_nonsense(result):
            self._bad_return(handler, result, allowed)
            return False
        self.state = result
        return True

    def _bad_return(self, handler: str, result: Any, allowed: str) -> None:
        self.crash(BadReturn(f"{self.behaviour}.{handler}", shortened(result), allowed))

    # -- The end ----------------------------------------------------------------------------------

    def crash(self, error: BaseException) -> None:
        if self.dead:
            return
        reason = exit_reason(error)
        if self.outcome is None:
            self._start_ended("error", reason)
        else:
            self._end(reason)

    def _end(self, reason: Any, then: Callable[[], None] | None = None) -> None:
        """Call `terminate`, then `then`, then die; a crash of `terminate` gives the reason."""
        if self._terminating:
            self._finish(reason)  # it is `terminate` that has crashed
            return
        self._terminating, self._last_word = True, then
        self.status = "stopping"
        self.current = "terminate"
        try:
            result = self.server.terminate(reason, self.state)
        except BaseException as error:
            self._finish(exit_reason(error))
            return
        if is_async(result):
            self.run_async(result, lambda _: self._finish(reason))
        else:
            self._finish(reason)

    def _finish(self, reason: Any) -> None:
        if self.dead:
            return
        if self._last_word is not None:
            self._last_word()
        self.die(reason)


def is_nonsense(result: Any) -> bool:
    """Tell whether a handler's result, which is no `NoReply` with a state in it, cannot be the new state itself."""
    return (
        result is None
        or isinstance(result, _NO_STATES)
        or (isinstance(result, type) and issubclass(result, _NO_STATES))
    )


def shortened(value: Any) -> str:
    """Return its repr, as much of it as an error message bears."""
    text = safe_repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
