"""Sandboxes: making, looking, moving, mending, ending."""

from __future__ import annotations

from superlearner.arsenal.operation import AwaitedCluster, Field, Params, Result, operation
from superlearner.core.snapshots import SandboxInfo
from superlearner.errors import NoSandbox


class OneSandbox(Params):
    """One sandbox."""

    id: str = Field(description="The sandbox's id.", min_length=1, max_length=63)


class SandboxResult(Result):
    """One sandbox."""

    sandbox: SandboxInfo


@operation("GET", "/distributed/sandboxes/{id}", access="read", timeout=5.0, errors=[NoSandbox])
async def get_sandbox(cluster: AwaitedCluster, params: OneSandbox) -> SandboxResult:
    """Tell about one sandbox."""
    return SandboxResult(sandbox=await cluster.sandbox(params.id).info())
