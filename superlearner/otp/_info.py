"""What is seen of the processes: snapshots of a tree, also after its end."""

from __future__ import annotations

from typing import Any

from superlearner.core.snapshots import ProcessInfo
from superlearner.otp._process import Process
from superlearner.otp._supervision import SupervisorProcess
from superlearner.otp.task import FunctionProcess


def process_info(process: Process) -> ProcessInfo:
    """Return one process, with all below it when it is a supervisor."""
    extra: dict[str, Any] = {}
    if isinstance(process, SupervisorProcess) and process.state is not None:
        options = process.state.spec
        extra = {
            "children": tuple(_child(process, key) for key in process.state.children),
            "strategy": options.strategy,
            "max_restarts": options.max_restarts,
            "max_seconds": options.max_seconds,
            "paused": process.state.paused,
        }
    return ProcessInfo(
        id=str(process.id),
        pid=None if process.dead else str(process.pid),
        name=next(iter(process.names), None),
        type=process.kind if isinstance(process, FunctionProcess) else process.type,
        status="suspended" if process.suspended and not process.dead else process.status,
        restarts=process.restarts,
        mailbox=len(process.mailbox),
        handled=process.handled,
        behaviour=process.behaviour,
        current=process.current if not process.dead else None,
        links=tuple(str(other.pid) for other in process.links),
        monitors=tuple(str(other.pid) for other in process.monitors.values()),
        path=None if process.path is None else tuple(map(str, process.path)),
        **extra,
    )


def _child(supervisor: SupervisorProcess, key: Any) -> ProcessInfo:
    assert supervisor.state is not None
    child = supervisor.state.children[key]
    process = supervisor.running.get(key)
    if (
        process is not None
        and (child.status == "running" or process.announced)
        and child.status != "restarting"
    ):
        return process_info(process)
    status = "exited" if child.at_rest else child.status
    path = tuple(map(str, (*(supervisor.path or ()), key)))
    return ProcessInfo(
        str(key), None, child.spec.name, child.spec.type, status, restarts=child.restarts, path=path
    )
