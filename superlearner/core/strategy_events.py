"""What a supervisor is told: each event carries its `cause` and the time `at`."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

from superlearner.core.childspec import AnySpec, Strategy, SupervisorSpec


@dataclass(frozen=True, slots=True)
class Begin:
    """The supervisor starts: start its children."""

    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Resume:
    """The supervisor goes on after its own end: start its children again; one that cannot start is tried again."""

    #: The children that had ended before, and stay so.
    down: frozenset[Hashable] = frozenset()
    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """A `StartChild` succeeded; a `pid` of None says that the child chose not to run (OTP's ignore)."""

    key: Hashable
    pid: Any
    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class ChildStartFailed:
    """A `StartChild` failed; the instructions after it were dropped."""

    key: Hashable
    reason: Any
    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class ChildExited:
    """A child ended by itself."""

    key: Hashable
    reason: Any
    cause: str = ""
    at: float = 0.0
    #: Whether the restart that it leads to is taken from the budget; the loss of a machine is nobody's fault.
    counts: bool = True


@dataclass(frozen=True, slots=True)
class ChildStopped:
    """A `StopChild` is done."""

    key: Hashable
    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The time for another try, asked for by `Retry`, has come."""

    key: Hashable
    cause: str = ""
    at: float = 0.0
    #: As for `ChildExited`.
    counts: bool = True


@dataclass(frozen=True, slots=True)
class StartRequested:
    """start_child: add this child and start it. `key` is given when a restored child keeps its own."""

    spec: AnySpec
    key: Hashable | None = None
    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class TerminateRequested:
    """terminate_child."""

    key: Hashable
    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class RestartRequested:
    """restart_child: start a child that was terminated."""

    key: Hashable
    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class DeleteRequested:
    """delete_child: forget a child that is not running."""

    key: Hashable
    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The supervisor itself is told to stop."""

    reason: Any = "shutdown"
    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class SpecChanged:
    """A reload: new options and child specs; children that stay keep their pid, those that go wait for `Prune`."""

    spec: SupervisorSpec
    #: Whether its options are not those of the application: a reload that failed puts them back.
    adjusted: bool = False
    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Prune:
    """The reload has worked everywhere: stop the children that the new spec does not have."""

    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class OptionsChanged:
    """Another strategy or restart budget from now on; None leaves an option as it is."""

    strategy: Strategy | None = None
    max_restarts: int | None = None
    max_seconds: float | None = None
    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Paused:
    """Decide on no child that ends, until `Unpaused`."""

    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Unpaused:
    """Decide again; first on the children that have ended meanwhile."""

    cause: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class DecisionDue:
    """The turn of a child that ended during a pause, asked for by `Decide`, has come."""

    key: Hashable
    cause: str = ""
    at: float = 0.0


SupervisorEvent: TypeAlias = (
    Begin
    | Resume
    | ChildStarted
    | ChildStartFailed
    | ChildExited
    | ChildStopped
    | RetryDue
    | StartRequested
    | TerminateRequested
    | RestartRequested
    | DeleteRequested
    | StopRequested
    | SpecChanged
    | Prune
    | OptionsChanged
    | Paused
    | Unpaused
    | DecisionDue
)
