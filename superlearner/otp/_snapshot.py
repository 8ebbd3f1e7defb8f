"""Checkpoints: the states of all servers between two messages, the children that start_child added, and the options
that change_supervisor gave.
"""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle

from superlearner.errors import CheckpointFailed, StartFailed
from superlearner.otp._kernel import Kernel
from superlearner.otp._server import ServerProcess
from superlearner.otp._supervision import SupervisorProcess

_VERSION = 1


def dumps(value: Any) -> bytes:
    """Serialise plainly where that works, else by value: classes of a notebook travel along."""
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:  # pickle raises whatever the value's own classes raise
        return bytes(cloudpickle.dumps(value, protocol=5))


def falling(kernel: Kernel) -> bool:
    """Tell whether the tree, or a part of it, is coming down, or may be: a supervisor has a dead child to decide on.

    What is copied then lacks what has gone first. Should the sandbox be started again from that copy, the states
    of its last moment would be lost, and with them all that the copies before it had.
    """
    return any(
        process.state.phase == "ending" or (process.bereaved and not process.suspended)
        for process in kernel.processes.values()
        if isinstance(process, SupervisorProcess) and process.state is not None
    )


def take(kernel: Kernel) -> dict[str, Any]:
    """Return the snapshot: each state by itself, so that a bad one is skipped with its reason.

    Raises
    ------
    CheckpointFailed
        The tree is `falling`, or has ended.
    """
    if falling(kernel) or not any(process.path == () for process in kernel.processes.values()):
        raise CheckpointFailed(kernel.sandbox, "its application is coming down")
    states: dict[tuple[Any, ...], bytes] = {}
    children: dict[tuple[Any, ...], bytes] = {}
    options: dict[tuple[Any, ...], dict[str, Any]] = {}
    skipped: dict[tuple[Any, ...], str] = {}
    for process in kernel.processes.values():
        if process.path is None:
            continue
        if isinstance(process, ServerProcess) and process.status != "starting":
            _put(states, skipped, process.path, process.state)
        elif isinstance(process, SupervisorProcess) and process.state is not None:
            added = [(c.key, c.spec) for c in process.state.children.values() if c.added]
            if added:
                _put(children, skipped, process.path, added)
            if process.state.adjusted:
                options[process.path] = process.state.options()
    return {
        "version": _VERSION,
        "next_serial": kernel.next_serial,
        "states": states,
        "children": children,
        "options": options,
        "skipped": skipped,
    }


def _put(
    into: dict[tuple[Any, ...], bytes], skipped: dict[tuple[Any, ...], str], path: Any, value: Any
) -> None:
    try:
        into[path] = dumps(value)
    except Exception as error:  # told in the snapshot: the others are kept
        skipped[path] = f"{type(error).__name__}: {error}"


def prepare(kernel: Kernel, snapshot: dict[str, Any] | None) -> None:
    """Let the first start of each path take its state from `snapshot`."""
    if snapshot is None:
        return
    if snapshot.get("version") != _VERSION:
        raise StartFailed(
            f"the snapshot has version {snapshot.get('version')!r}, and only {_VERSION} can be read"
        )
    kernel.saved_states = dict(snapshot["states"])
    kernel.saved_children = dict(snapshot["children"])
    kernel.saved_options = dict(snapshot.get("options", {}))  # those of an older version have none
    kernel.next_serial = max(kernel.next_serial, snapshot["next_serial"])
