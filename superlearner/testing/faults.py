"""What a schedule may do to a simulated cluster: one method for each verb; each fault ends by itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from superlearner.core.restart import Restart
from superlearner.core.spec import Checkpoint, SandboxSpec
from superlearner.testing.engine import Process
from superlearner.testing.instance import SimulatedInstance

if TYPE_CHECKING:
    from superlearner.testing.cluster import SimulatedCluster

#: Seconds that a call waits for its answer.
CALL_TIMEOUT = 8.0


class Faults:
    """The verbs of steps."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self._cluster = cluster

    # -- What clients ask --

    def _ask(self, client: str, verb: str, *words: object) -> None:
        asking = self._cluster.clients[client]
        asking.process.spawn(asking.ask(verb, *words))

    def create(self, client: str, sandbox: str, node: str, restart: Restart, copies: int) -> None:
        """Ask for a new sandbox."""
        spec = SandboxSpec(sandbox, node=node, restart=restart, checkpoint=Checkpoint(copies=copies))
        self._ask(client, "create", spec)

    def destroy(self, client: str, sandbox: str) -> None:
        """Ask for a sandbox's end."""
        self._ask(client, "destroy", sandbox)

    def restart(self, client: str, sandbox: str) -> None:
        """Ask for a restart."""
        self._ask(client, "restart", sandbox)

    def move(self, client: str, sandbox: str, node: str) -> None:
        """Ask for a move."""
        self._ask(client, "move", sandbox, node)

    def call(self, client: str, sandbox: str, number: int, durable: bool, has_id: bool) -> None:
        """Increment the counter of a sandbox; a durable call is answered when its copies are stored."""
        calling = self._cluster.clients[client]
        name = f"{number}{'*' if has_id else ''}"
        work = calling.call(sandbox, name, durable=durable, timeout=CALL_TIMEOUT)
        calling.process.spawn(work)

    # -- What breaks --

    def crash(self, node: str, seconds: float) -> None:
        """End a node's worker at once; its nanny starts the next one after some seconds."""
        self._cluster.ended(self._cluster.nodes[node], restart_after=seconds)

    def pause(self, node: str, seconds: float) -> None:
        """Freeze a node's worker; its hosts go on, until their lease runs out."""
        self._freeze(self._cluster.nodes[node].process, seconds)

    def hold_up(self, seconds: float) -> None:
        """Freeze the scheduler."""
        self._freeze(self._cluster.plane.process, seconds)

    def _freeze(self, process: Process, seconds: float) -> None:
        process.freeze()
        self._cluster.later(seconds, process.thaw)

    def cut(self, one: str, other: str, seconds: float) -> None:
        """Let nothing pass between the two; what was sent meanwhile arrives afterwards."""
        self._cluster.network.cut(one, other)
        self._cluster.later(seconds, lambda: self._cluster.network.heal(one, other))

    def isolate(self, node: str, seconds: float) -> None:
        """Cut a node off from everybody."""
        for other in ("scheduler", *self._cluster.schedule.nodes, *self._cluster.clients):
            if other != node:
                self.cut(node, other, seconds)

    def part(self, nodes: tuple[str, ...], seconds: float) -> None:
        """Cut these nodes off from the other nodes, though not from the scheduler and the clients."""
        for one in nodes:
            for other in self._cluster.schedule.nodes:
                if other not in nodes:
                    self.cut(one, other, seconds)

    def break_(self, one: str, other: str, kind: str) -> None:
        """Break the connections of a kind that `one` has made to `other`: what is under way is lost."""
        self._cluster.network.break_(one, other, kind)

    def slow(self, node: str, by: float, seconds: float) -> None:
        """Let a node's disk be slow: starts and stores take `by` seconds more."""
        slowed = self._cluster.nodes[node]
        slowed.slow = by
        self._cluster.later(seconds, partial(setattr, slowed, "slow", 0.0))

    def lag(self, name: str, by: float, seconds: float) -> None:
        """Delay everything from and to a node by `by` seconds."""
        self._cluster.network.slow_down(name, by)
        self._cluster.later(seconds, lambda: self._cluster.network.slow_down(name, 0.0))

    def fade(self, node: str, by: float, seconds: float) -> None:
        """Delay everything from and to a node, then cut it off: a link that is about to fail."""
        self.lag(node, by, 2.5)
        self._cluster.later(2.5, lambda: self.isolate(node, seconds))

    def kill(self, sandbox: str) -> None:
        """Kill the OS process of a sandbox."""
        for instance in self._owners(sandbox):
            if instance.host is not None:
                instance.host.die()

    def exit(self, sandbox: str, reason: str) -> None:
        """Let the application of a sandbox end by itself."""
        for instance in self._owners(sandbox):
            instance.node.process.run(instance.exit, reason)

    def _owners(self, sandbox: str) -> list[SimulatedInstance]:
        return [i for i in self._cluster.hosts.get(sandbox, ()) if i.answers]
