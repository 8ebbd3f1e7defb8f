"""A whole cluster in virtual time: the real control machine, leases and stores, and everything else simulated."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from superlearner.core.checkpoints import CheckpointStore
from superlearner.core.control import ControlPolicy, ControlState
from superlearner.core.durability import ReplyGate
from superlearner.core.lease import HeldLease
from superlearner.core.request_ids import RequestMemory
from superlearner.testing.checks import Checks, Violation
from superlearner.testing.client import SimulatedClient
from superlearner.testing.engine import Clock, Engine
from superlearner.testing.faults import Faults
from superlearner.testing.instance import SimulatedInstance
from superlearner.testing.network import Network
from superlearner.testing.node import SimulatedNode
from superlearner.testing.plane import SimulatedPlane
from superlearner.testing.schedule import CLIENTS, Schedule

#: Seconds after the last step until everything must have come to rest.
SETTLE = 120.0
#: Steps of the engine in one run for each node and sandbox; more mean that something goes round in circles.
MOST_STEPS = 10_000


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of the real system that are played; a test that wants to see them fail puts others in."""

    machine: Callable[[ControlPolicy], ControlState] = ControlState
    store: Callable[[], CheckpointStore] = CheckpointStore
    #: The node's own reckoning of its lease.
    lease: Callable[[float | None], HeldLease] = HeldLease
    #: How long the control plane waits for a node, given how long its lease is.
    patience: Callable[[float], float] = float
    #: What holds durable answers back, and what remembers request ids (how many, and for how long).
    gate: Callable[[], ReplyGate[Any]] = ReplyGate
    memory: Callable[[int, float], RequestMemory] = RequestMemory
    #: The invariants.
    checks: Callable[[SimulatedCluster], Checks] = Checks


class SimulatedCluster:
    """One run.

    >>> from superlearner.testing.schedule import Schedule, Step
    >>> create = Step(1.0, "create", ("ann", "shop", "auto", "permanent", 2))
    >>> cluster = SimulatedCluster(Schedule(seed=1, steps=(create,)))
    >>> cluster.run()
    >>> cluster.plane.state.sandboxes["shop"].status
    'running'

    Parameters
    ----------
    schedule
        What is done to it.
    parts
        What it is made of.
    """

    def __init__(self, schedule: Schedule, parts: Parts | None = None) -> None:
        self.schedule = schedule
        self.parts = parts or Parts()
        self.engine = Engine()
        self.network = Network(self.engine, schedule.seed)
        #: Sandbox -> the instances of it whose hosts live.
        self.hosts: dict[str, dict[SimulatedInstance, None]] = {}
        #: The sandboxes that have more than one.
        self.twice: dict[str, None] = {}
        self.checks = self.parts.checks(self)
        self.plane = SimulatedPlane(self)
        self.clients = {name: SimulatedClient(self, name) for name in CLIENTS}
        self._clocks = {name: self.clock(name) for name in schedule.nodes}
        self._lives = dict.fromkeys(schedule.nodes, 0)
        #: Each node's newest life.
        self.nodes: dict[str, SimulatedNode] = {}
        for name in schedule.nodes:
            self._start_node(name)
        self.faults = Faults(self)
        #: How many things have happened.
        self.steps = 0

    def clock(self, name: str) -> Clock:
        """Return the clock of a machine: up to 1 % fast or slow, and showing anything."""
        rng = random.Random(f"{self.schedule.seed} clock of {name}")
        rate = rng.choice((0.99, 1.01, rng.uniform(0.99, 1.01)))
        return Clock(rate, rng.uniform(0.0, 1000.0))

    # -- Running --

    def run(self) -> None:
        """Play the schedule, end all faults, and let everything come to rest.

        Raises
        ------
        Violation
            An invariant was broken.
        """
        for step in self.schedule.steps:
            self.engine.at(step.at, getattr(self.faults, step.verb), *step.args)
        last = max((step.at for step in self.schedule.steps), default=0.0)
        self._play(until=last)
        self.network.doubling = 0.0
        complaint = None
        for second in range(int(SETTLE)):
            self._play(until=last + second + 1)
            complaint = self.checks.unsettled()
            if complaint is None and second >= 12:  # every fault has ended by itself
                self.plane.look_through()
                return
        assert complaint is not None
        raise complaint

    def _play(self, until: float) -> None:
        while self.engine.step(until):
            self.checks.after_step()
            self.steps += 1
            if self.steps > MOST_STEPS * (len(self.nodes) + len(self.hosts)):
                raise Violation("everything comes to rest", f"{self.steps} steps were not enough")

    def play(self, done: Callable[[], bool], seconds: float) -> None:
        """Let time pass until something is so, or for some seconds; then everything stands still.

        Raises
        ------
        Violation
            An invariant was broken.
        """
        until = self.engine.now + seconds
        while not done() and self.engine.step(until):
            self.checks.after_step()

    def later(self, seconds: float, run: Callable[[], object]) -> None:
        """Call something after some true seconds."""
        self.engine.at(self.engine.now + seconds, run)

    # -- Nodes and hosts --

    def _start_node(self, name: str) -> None:
        self._lives[name] += 1
        self.nodes[name] = SimulatedNode(self, name, self._lives[name], self._clocks[name])

    def ended(self, node: SimulatedNode, restart_after: float) -> None:
        """A worker process ends, with everything on it; its nanny starts the next one."""
        if not node.process.alive:
            return
        node.process.die()
        if self.schedule.watched:
            tell = partial(self.plane.process.run, self.plane.node_ended, node.name, node.address)
            self.later(0.002, tell)
        self.later(restart_after, partial(self._start_node, node.name))

    def node_at(self, address: str) -> SimulatedNode | None:
        """Return the node's life that has this address, if it still lives."""
        node = self.nodes[address.split(":", maxsplit=1)[0]]
        return node if node.address == address and node.process.alive else None

    def host_up(self, instance: SimulatedInstance) -> None:
        """A host lives."""
        hosts = self.hosts.setdefault(instance.spec.id, {})
        hosts[instance] = None
        if len(hosts) > 1:
            self.twice[instance.spec.id] = None

    def host_down(self, instance: SimulatedInstance) -> None:
        """A host has ended."""
        hosts = self.hosts.get(instance.spec.id, {})
        hosts.pop(instance, None)
        if len(hosts) < 2:
            self.twice.pop(instance.spec.id, None)
