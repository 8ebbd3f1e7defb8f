"""What an event costs in the pure machine of the control plane, by how many sandboxes there are already."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from superlearner.core import control_registry
from superlearner.core.control import ControlState
from superlearner.core.control_events import (
    CheckpointStored,
    ControlEvent,
    CreateRequested,
    InstanceStarted,
    InstanceStopped,
    MoveRequested,
    NodeJoined,
    NodeSampled,
    Quiesced,
)
from superlearner.core.control_instructions import Instruction, QuiesceInstance, StartInstance, StopInstance
from superlearner.core.placement import Placement
from superlearner.core.spec import SandboxSpec

_NODES = 10
_ROUNDS = 200
_SIZE = 1000


class Machine:
    """The machine with something that does at once whatever it instructs to do."""

    def __init__(self, nodes: int = _NODES) -> None:
        self.state = ControlState()
        self.events = 0
        self.nodes = nodes
        for n in range(nodes):
            self.tell(NodeJoined(f"node-{n}", f"tcp://{n}", cause="join", at=0.0))

    def tell(self, event: ControlEvent) -> None:
        """Handle an event and those that follow from it."""
        waiting = [event]
        while waiting:
            self.events += 1
            for instruction in self.state.handle(waiting.pop(0)):
                waiting += _outcome(instruction)

    def create(self, id: str) -> None:
        self.tell(CreateRequested(SandboxSpec(id), cause=f"create-{id}", at=1.0))

    def round(self, n: int) -> None:
        """Create a sandbox; let one store a checkpoint, a node tell how busy it is, and a sandbox move."""
        id = f"new-{n}"
        self.create(id)
        record = self.state.sandboxes[id]
        self.tell(
            CheckpointStored(id, record.epoch, 1, _SIZE, (str(record.node),), cause="checkpoint", at=2.0)
        )
        self.tell(NodeSampled(f"node-{n % self.nodes}", cpu=n % 10 / 10, cause="sample", at=2.0))
        self.tell(MoveRequested(id, cause=f"move-{id}", at=3.0))
        assert self.state.sandboxes[id].epoch == record.epoch + 1, "it has moved"


def _outcome(instruction: Instruction) -> list[ControlEvent]:
    match instruction:
        case StartInstance():
            return [
                InstanceStarted(
                    instruction.spec.id, instruction.node, instruction.epoch, cause=instruction.cause, at=4.0
                )
            ]
        case QuiesceInstance():
            return [
                Quiesced(instruction.sandbox, instruction.epoch, 2, _SIZE, cause=instruction.cause, at=4.0)
            ]
        case StopInstance():
            return [InstanceStopped(instruction.sandbox, instruction.epoch, cause=instruction.cause, at=5.0)]
        case _:
            return []


def control_event(sandboxes: int) -> Iterator[float]:
    """Yield the mean cost of an event in us, again and again beside a few more sandboxes each time."""
    machine = Machine()
    for n in range(sandboxes):
        machine.create(f"old-{n}")
    assert all(record.status == "running" for record in machine.state.sandboxes.values())
    yield from _costs(machine, _ROUNDS)


def _costs(machine: Machine, rounds: int) -> Iterator[float]:
    """Yield the mean cost of an event in us over so many rounds, for ever."""
    for first in itertools.count(0, rounds):
        machine.events = 0
        began = time.perf_counter()
        for n in range(first, first + rounds):
            machine.round(n)
        yield 1e6 * (time.perf_counter() - began) / machine.events


def control_event_wide(nodes: int, sandboxes: int) -> Iterator[float]:
    """Yield the mean cost of an event in us on many nodes; the sandboxes are dealt out evenly before."""
    machine = Machine(nodes)
    names = [f"node-{n}" for n in range(nodes)]
    dealt = itertools.cycle(names)
    following = dict(zip(names, [*names[1:], names[0]], strict=True))

    def deal(*_: Any, **__: Any) -> Placement:
        return Placement(next(dealt), ())

    def neighbours(_sandbox: str, node: str, *_: Any) -> tuple[str, ...]:
        return following[node], following[following[node]]

    # To choose among all nodes 100,000 times would take a quarter of an hour; what is measured does choose.
    with (
        patch.object(control_registry, "place", deal),
        patch.object(control_registry, "peers_for", neighbours),
    ):
        for n in range(sandboxes):
            machine.create(f"old-{n}")
    assert all(record.status == "running" for record in machine.state.sandboxes.values())
    yield from _costs(machine, _ROUNDS // 10)
