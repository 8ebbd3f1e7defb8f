"""A simulated cluster that is asked as a real one is: virtual time passes while something is asked, and only then."""

from __future__ import annotations

import itertools
from collections.abc import Coroutine, Sequence
from typing import Any

from superlearner.core.snapshots import Migration, SandboxInfo
from superlearner.core.spec import SandboxSpec
from superlearner.errors import CallTimeout, InvalidSpec, NoProcess, NoSandbox
from superlearner.testing.cluster import Parts, SimulatedCluster
from superlearner.testing.instance import Written
from superlearner.testing.schedule import CLIENTS, NODES, Schedule

#: The process that every simulated sandbox runs, and what it can be asked.
PROCESS, REQUEST = "counter", "increment"
#: Virtual seconds that a request to the control plane may take.
PATIENCE = 60.0
#: Virtual seconds until a node that was killed has its next worker.
RESTART_AFTER = 1.0


class SimulatedManager:
    """The part of a `superlearner.Cluster` that the simulation has, with the same names and errors.

    Every sandbox runs one process, ``counter``, which answers ``increment`` with what it has counted to.

    >>> manager = SimulatedManager()
    >>> manager.create_sandbox("shop", node="alpha").status
    'running'
    >>> manager.call("shop/counter", "increment"), manager.call("shop/counter", "increment")
    (1, 2)
    >>> manager.migrate_sandbox("shop", node="beta").target
    'beta'

    Parameters
    ----------
    nodes
        Their names.
    seed
        Where delays and the speeds of clocks come from.
    parts
        What it is made of.
    """

    def __init__(self, nodes: Sequence[str] = NODES[:3], seed: int = 0, parts: Parts | None = None) -> None:
        self._cluster = SimulatedCluster(Schedule(seed, tuple(nodes)), parts)
        self._client = self._cluster.clients[CLIENTS[0]]
        self._calls = itertools.count(1)
        self.chaos = SimulatedChaos(self._cluster)
        self._cluster.play(lambda: len(self._cluster.plane.state.nodes) == len(nodes), PATIENCE)

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self._cluster.engine.now

    def sleep(self, seconds: float) -> None:
        """Let virtual seconds pass."""
        self._cluster.play(lambda: False, seconds)

    # -- Sandboxes --

    def create_sandbox(self, id: str, **options: Any) -> SandboxInfo:
        """Create a sandbox, with the options of a real one."""
        self._ask("create", SandboxSpec(id, **options))
        return self.info(id)

    def destroy_sandbox(self, id: str) -> None:
        """Destroy a sandbox; nothing of it is left."""
        self._ask("destroy", id)

    def restart_sandbox(self, id: str) -> SandboxInfo:
        """Restart a sandbox."""
        self._ask("restart", id)
        return self.info(id)

    def migrate_sandbox(self, id: str, node: str = "auto") -> Migration:
        """Move a sandbox, with its state."""
        moved: Migration = self._ask("move", id, node)
        return moved

    def sandboxes(self) -> list[SandboxInfo]:
        """Return the sandboxes, by id."""
        return [record.info() for _, record in sorted(self._cluster.plane.state.sandboxes.items())]

    def info(self, id: str) -> SandboxInfo:
        """Return one sandbox."""
        record = self._cluster.plane.state.sandboxes.get(id)
        if record is None:
            raise NoSandbox(id)
        return record.info()

    def call(
        self, target: str, request: str = REQUEST, timeout: float = 5.0, *, request_id: str | None = None
    ) -> int:
        """Count one up; what was asked before with the same id is answered, and not done again.

        Raises
        ------
        CallTimeout
            No answer within `timeout` virtual seconds.
        """
        sandbox, _, process = target.partition("/")
        if request != REQUEST:
            raise InvalidSpec(f"A simulated {PROCESS} knows {REQUEST!r} alone; {request!r} was not sent.")
        if process != PROCESS and sandbox in self._cluster.plane.state.sandboxes:
            raise NoProcess(target)
        call = f"call-{next(self._calls)}" if request_id is None else f"{request_id}*"
        record = self._cluster.plane.state.sandboxes.get(sandbox)
        durable = record is not None and record.spec.checkpoint.durability == "reply"
        work = self._client.called(sandbox, call, durable=durable, timeout=timeout)
        try:
            written: Written = self._run(work, timeout + 1.0)
        except TimeoutError:
            raise CallTimeout(target, timeout) from None
        return written.value

    # -- Inside --

    def _ask(self, verb: str, *words: Any) -> Any:
        return self._run(self._client.requested(verb, *words), PATIENCE)

    def _run(self, work: Coroutine[Any, None, Any], seconds: float) -> Any:
        task = self._client.process.spawn(work)
        self._cluster.play(lambda: task.done, seconds)
        return task.value()


class SimulatedChaos:
    """What may break in a simulated cluster on demand; a schedule knows more."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster

    def kill_sandbox(self, id: str) -> None:
        """Kill the OS process of a sandbox."""
        self._cluster.faults.kill(id)

    def kill_node(self, node: str) -> None:
        """Kill a node's worker; the next one comes after a second."""
        self._cluster.faults.crash(node, RESTART_AFTER)
