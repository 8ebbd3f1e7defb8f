"""What the registry tells to everybody: frozen records of sandboxes and nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from superlearner.core.placement import NodeLoad
from superlearner.core.snapshots import CheckpointInfo, SandboxStatus
from superlearner.core.spec import SandboxSpec


@dataclass(frozen=True, slots=True)
class SandboxRecord:
    """One sandbox in the registry."""

    id: str
    spec: SandboxSpec
    status: SandboxStatus
    #: Where its owner lives or starts; None while it has no instance.
    node: str | None
    address: str | None
    #: The epoch of its owner, or of the last one.
    epoch: int
    #: The OS process that hosts it.
    pid: int | None = None
    #: Restarts of its OS process, in place or elsewhere; planned moves do not count.
    restarts: int = 0
    #: Unix time in seconds.
    created_at: float = 0.0
    #: The newest checkpoint that a living node holds.
    checkpoint: CheckpointInfo | None = None
    #: Why it is not running, where it is not.
    reason: Any = None


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One living node in the registry."""

    name: str
    address: str
    #: What placement knows of it.
    load: NodeLoad
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Unix time in seconds.
    joined_at: float = 0.0
    #: Unix time in seconds of its last own measurement; None until the first.
    sampled_at: float | None = None
