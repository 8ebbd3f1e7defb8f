"""What is kept of the registry beyond the end of a run, for the next one to begin with."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from superlearner.core.spec import GroupSpec, SandboxSpec


class KeptSandbox(NamedTuple):
    """A sandbox, as the next run will know it."""

    #: As it was asked for, with its newest application.
    spec: SandboxSpec
    #: The highest epoch that it had.
    epoch: int
    #: It had ended, and nobody was to start it again. None: it is to run.
    down: Literal["stopped", "failed"] | None = None
    #: Why it was down.
    reason: Any = None


class KeptGroup(NamedTuple):
    """A group, as the next run will know it."""

    spec: GroupSpec
    #: The ids of its sandboxes, in start order.
    members: tuple[str, ...] = ()
    #: It had given up.
    failed: bool = False
    #: Why it had.
    reason: Any = None
