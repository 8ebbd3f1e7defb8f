"""Breaking things on purpose: every fault is real, and recorded before it acts."""

from __future__ import annotations

import signal
from typing import Any

from superlearner.cluster.outgoing import split
from superlearner.cluster.sandbox import Sandbox
from superlearner.cluster.session import Session


class Chaos:
    """The faults of a cluster, as ``cluster.chaos``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def kill_process(self, target: str, reason: Any = "kill") -> Any:
        """Kill one process, named ``"sandbox/process"``: its supervisor notices."""
        sandbox, process = split(target)
        return Sandbox(self._session, sandbox).kill(process, reason)

    def kill_sandbox(self, id: str) -> int:
        """Kill the OS process of a sandbox with SIGKILL; return the pid that it had: its instance notices."""
        return self._session.ask("signal_sandbox", sandbox=id, number=int(signal.SIGKILL))

    def kill_node(self, node: str) -> int:
        """Kill a node's worker process with SIGKILL and wait until its loss is noticed; return its pid.

        Everything on the node dies with it: the control plane notices, and starts it elsewhere.
        """
        return self._session.ask("signal_node", node=node, number=int(signal.SIGKILL))
