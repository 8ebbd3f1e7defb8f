"""What handlers return and receive, and why processes end.

What handlers return is slotted but not frozen: one is made per message, and a frozen dataclass takes
three times as long to make.
"""

from __future__ import annotations

import pickle
import traceback as tracebacks
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from superlearner.otp._pid import Pid, Ref

_HERE = str(Path(__file__).parent)
_explainers: list[Callable[[BaseException], None]] = []


class _Absent:
    """Says that an option was not given, where None is a value like any other."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<not given>"

    def __reduce__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


@dataclass(slots=True)
class Reply:
    """Answer a call with `value` and go on with `state`."""

    value: Any
    state: Any
    #: Reach `handle_continue` with this before any other message.
    continue_: Any = ABSENT
    #: Seconds of silence after which `handle_info` gets a `Timeout`.
    timeout: float | None = None


@dataclass(slots=True)
class NoReply:
    """Go on with `state`; a call is answered later, with ``reply(sender, value)``."""

    state: Any
    #: Reach `handle_continue` with this before any other message.
    continue_: Any = ABSENT
    #: Seconds of silence after which `handle_info` gets a `Timeout`.
    timeout: float | None = None


@dataclass(slots=True)
class Stop:
    """End with `reason`, after `terminate`; from `init`: the start fails with `reason`."""

    reason: Any = "normal"
    #: The answer to the call that is being handled.
    reply: Any = ABSENT
    #: The state that `terminate` gets; the one before, when it is not given.
    state: Any = ABSENT


@dataclass(frozen=True, slots=True)
class Ignore:
    """From `init`: do not run, and let the supervisor go on without."""


@dataclass(frozen=True, slots=True)
class Timeout:
    """No message came within the ``timeout=`` that the last handler asked for."""


@dataclass(frozen=True, slots=True)
class Down:
    """A monitored process has ended."""

    #: What `monitor` returned.
    ref: Ref
    #: Who ended; what was asked for, when nobody was there, or its sandbox was lost with its node.
    pid: Pid | str
    reason: Any


@dataclass(frozen=True, slots=True)
class ExitSignal:
    """A linked process has ended, or sent an exit signal, and this one traps exits."""

    pid: Pid
    reason: Any


class Exit(Exception):
    """Leave with a reason: ``raise Exit("tired")``. Also the reason of a process that crashed.

    >>> reason = Exit(ValueError("boom"), "Traceback ...")
    >>> print(reason)
    ValueError: boom
    """

    __match_args__ = ("reason", "traceback")

    #: What ended the process: for a crash the exception, or its text where it could not travel.
    reason: Any
    #: The traceback as text, or None when it was left on purpose.
    traceback: str | None

    def __init__(self, reason: Any = "normal", traceback: str | None = None) -> None:
        super().__init__(reason, traceback)
        self.reason = reason
        self.traceback = traceback

    def __str__(self) -> str:
        return one_line(self.reason)

    def __repr__(self) -> str:
        return f"Exit({one_line(self.reason)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Exit) and self.args == other.args

    def __hash__(self) -> int:
        return hash((Exit, self.traceback))

    def __reduce__(self) -> tuple[Any, ...]:
        return Exit, (_portable(self.reason), self.traceback)


def _portable(reason: Any) -> Any:
    """Return `reason`, or its text when it is an exception that does not survive pickling."""
    if not isinstance(reason, BaseException):
        return reason
    try:
        pickle.loads(pickle.dumps(reason))
    except Exception:  # whatever the exception's own class raises: its text is what can travel
        return one_line(reason)
    return reason


def one_line(reason: Any) -> str:
    """Say an exit reason in one line."""
    if isinstance(reason, Exit):
        return str(reason)
    if isinstance(reason, BaseException):
        return "".join(tracebacks.format_exception_only(reason)).strip()
    return safe_repr(reason, str)


def safe_repr(value: Any, how: Callable[[Any], str] = repr) -> str:
    """Return its repr, or that it has none: what is only told about must not fail because of it.

    >>> class Shy:
    ...     def __repr__(self):
    ...         raise ValueError
    >>> safe_repr(Shy()), safe_repr([1])
    ('<Shy, whose repr failed>', '[1]')
    """
    try:
        return how(value)
    except Exception:  # whatever its class raises
        return f"<{type(value).__name__}, whose {how.__name__} failed>"


def explain_crashes(add: Callable[[BaseException], None]) -> None:
    """Show `add` each exception that ends a process from now on, before anybody else is told of it."""
    _explainers.append(add)


def explain(error: BaseException) -> None:
    """Let those who know more of an exception than it says put that into it."""
    for add in _explainers:
        add(error)


def exit_reason(error: BaseException) -> Any:
    """Return the reason with which a process ends that let `error` escape.

    >>> exit_reason(Exit("tired"))
    'tired'
    >>> exit_reason(ValueError("boom"))
    Exit(ValueError: boom)
    """
    if isinstance(error, Exit) and error.traceback is None:
        return error.reason
    explain(error)
    return Exit(error, "".join(tracebacks.format_exception(type(error), error, _of_the_user(error))))


def _of_the_user(error: BaseException) -> TracebackType | None:
    """Leave out the runtime's own frames, through which every handler is reached."""
    step = error.__traceback__
    while (
        step is not None and step.tb_next is not None and step.tb_frame.f_code.co_filename.startswith(_HERE)
    ):
        step = step.tb_next
    return step


def find_error(reason: Any) -> BaseException | None:
    """Return the exception inside an exit reason, however deep it is wrapped."""
    if isinstance(reason, Exit):
        return find_error(reason.reason) or reason
    if isinstance(reason, BaseException):
        return reason
    if isinstance(reason, tuple):
        return next((found for found in map(find_error, reason) if found is not None), None)
    return None


def find_traceback(reason: Any) -> str | None:
    """Return the traceback inside an exit reason, however deep it is wrapped."""
    if isinstance(reason, Exit):
        return reason.traceback
    if isinstance(reason, tuple):
        return next((found for found in map(find_traceback, reason) if found is not None), None)
    return None


#: The first whole number that does not fit the 64 bits of a wire.
_WIDEST = 2**63


def plain(value: Any) -> Any:
    r"""Return `value` as text, numbers, lists and dicts, for the event log, as any wire carries them.

    >>> plain((1, 2**64, "half a surrogate: \ud800", ValueError("boom")))
    [1, '18446744073709551616', 'half a surrogate: \\ud800', 'ValueError: boom']
    """
    match value:
        case None | bool() | float():
            return value
        case int():
            return value if -_WIDEST <= value < _WIDEST else safe_repr(value)
        case str():
            text = str(value)
            return text if text.isascii() else text.encode(errors="backslashreplace").decode()
        case tuple() | list():
            return [plain(item) for item in value]
        case dict():
            return {plain(str(key)): plain(item) for key, item in value.items()}
        case BaseException():
            return plain(one_line(value))
        case _:
            return plain(safe_repr(value))
