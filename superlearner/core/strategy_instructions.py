"""What a supervisor decides, for whoever runs it to carry out in order."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from superlearner.core.childspec import AnySpec
from superlearner.errors import SuperlearnerError


@dataclass(frozen=True, slots=True)
class StartChild:
    """Start it and report `ChildStarted` or `ChildStartFailed` before going on."""

    key: Hashable
    spec: AnySpec
    #: Which start this is: 0 for the first.
    restart: int = 0


@dataclass(frozen=True, slots=True)
class StopChild:
    """Stop it as its spec's ``shutdown`` says, and report `ChildStopped` before going on."""

    key: Hashable
    spec: AnySpec


@dataclass(frozen=True, slots=True)
class StopTogether:
    """Stop these at the same time (a dynamic supervisor's end), and report `ChildStopped` for each."""

    children: tuple[StopChild, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """Report `RetryDue` soon, after other messages had their turn."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class Decide:
    """Report `DecisionDue`, in a turn of its own: each child that ended during a pause is decided on by itself."""

    key: Hashable


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The intensity is spent and all children are stopped: end with this reason."""

    reason: Any = "shutdown"


@dataclass(frozen=True, slots=True)
class End:
    """All children are stopped: end with this reason, as was asked for."""

    reason: Any


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request cannot be met; nothing was changed."""

    error: SuperlearnerError


@dataclass(frozen=True, slots=True)
class Record:
    """Put this into the event log; without a `key` it is of the supervisor itself."""

    kind: str
    key: Hashable = None
    reason: Any = None
    detail: Mapping[str, Any] = field(default_factory=dict)


Instruction: TypeAlias = (
    StartChild | StopChild | StopTogether | Retry | Decide | GiveUp | End | Refuse | Record
)
