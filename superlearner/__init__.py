"""Supervised, named, checkpointed, migratable actors on Dask, and a place to learn how systems stay up.

Everything named here is loaded when it is first used, so that a sandbox's process, which needs only
``superlearner.otp``, does not carry Dask.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from superlearner.cluster.cluster import Cluster, connect
    from superlearner.cluster.dual import DualSandboxManager
    from superlearner.cluster.local_manager import LocalSandboxManager
    from superlearner.cluster.sandbox import Sandbox
    from superlearner.core.history import Event
    from superlearner.core.spec import Checkpoint, Resources
    from superlearner.errors import (
        CallTimeout,
        ClusterClosed,
        ClusterNotFound,
        InvalidSpec,
        MoveFailed,
        NoConnection,
        NoProcess,
        NoQuorum,
        NoSandbox,
        ProcessDied,
        SandboxExists,
        SandboxFailed,
        StaleEpoch,
        StartFailed,
        SuperlearnerError,
        UnknownNode,
    )

_WHERE = {
    "CallTimeout": "errors",
    "Checkpoint": "core.spec",
    "Cluster": "cluster.cluster",
    "ClusterClosed": "errors",
    "ClusterNotFound": "errors",
    "DualSandboxManager": "cluster.dual",
    "Event": "core.history",
    "InvalidSpec": "errors",
    "LocalSandboxManager": "cluster.local_manager",
    "MoveFailed": "errors",
    "NoConnection": "errors",
    "NoProcess": "errors",
    "NoQuorum": "errors",
    "NoSandbox": "errors",
    "ProcessDied": "errors",
    "Resources": "core.spec",
    "Sandbox": "cluster.sandbox",
    "SandboxExists": "errors",
    "SandboxFailed": "errors",
    "StaleEpoch": "errors",
    "StartFailed": "errors",
    "SuperlearnerError": "errors",
    "UnknownNode": "errors",
    "connect": "cluster.cluster",
}

__all__ = [
    "CallTimeout",
    "Checkpoint",
    "Cluster",
    "ClusterClosed",
    "ClusterNotFound",
    "DualSandboxManager",
    "Event",
    "InvalidSpec",
    "LocalSandboxManager",
    "MoveFailed",
    "NoConnection",
    "NoProcess",
    "NoQuorum",
    "NoSandbox",
    "ProcessDied",
    "Resources",
    "Sandbox",
    "SandboxExists",
    "SandboxFailed",
    "StaleEpoch",
    "StartFailed",
    "SuperlearnerError",
    "UnknownNode",
    "connect",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'superlearner' has no attribute {name!r}")
    return getattr(importlib.import_module(f"superlearner.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
