"""Snapshots as the operations tell them: every field is known, and reasons are told in words."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Self

from superlearner.arsenal.operation import Field, Result
from superlearner.arsenal.plain import in_one_line
from superlearner.core.snapshots import (
    CheckpointInfo,
    LeaseInfo,
    Migration,
    MoveInfo,
    SandboxInfo,
    SandboxStatus,
)

_FIELDS = tuple(field.name for field in fields(SandboxInfo))


class SandboxRow(Result):
    """One sandbox, as the registry and the last telemetry know it."""

    id: str
    status: SandboxStatus
    node: str | None = Field(description="Where it runs.")
    pid: int | None = Field(description="The OS process that hosts it.")
    epoch: int = Field(description="Grows with every move and fail-over.")
    created_at: float = Field(description="Unix time in seconds.")
    restarts: int
    memory: int | None = Field(description="Bytes; null until measured.")
    cpu: float | None = Field(description="Share of one core; null until measured.")
    checkpoint: CheckpointInfo | None = Field(description="The newest one.")
    reason: str | None = Field(description="Why it does not run, where it does not.")
    group: str | None
    responsive: bool | None = Field(description="Whether it answered when its node last looked.")
    lease: LeaseInfo | None
    move: MoveInfo | None = Field(description="The planned move that is under way.")
    moved: Migration | None = Field(description="How its last planned move went.")

    @classmethod
    def of(cls, info: SandboxInfo, **more: Any) -> Self:
        """Return the row of a sandbox."""
        plain = {name: getattr(info, name) for name in _FIELDS}
        reason = None if info.reason is None else in_one_line(info.reason)
        return cls(**plain | {"reason": reason} | more)
