"""What an event costs in the pure machine of the control plane, by how many sandboxes there are already."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

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
from superlearner.core.spec import SandboxSpec

_ROUNDS = 200
_SIZE = 1000


class Machine:
    """The machine with something that does at once whatever it instructs to do."""

    def __init__(self, nodes: int) -> None:
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


def control_event(sandboxes: int, nodes: int = 10) -> Iterator[float]:
    """Yield the mean cost of an event in us, again and again beside a few more sandboxes each time."""
    machine = Machine(nodes)
    for n in range(sandboxes):
        machine.create(f"old-{n}")
    assert all(record.status == "running" for record in machine.state.sandboxes.values())
    for first in itertools.count(0, _ROUNDS):
        machine.events = 0
        began = time.perf_counter()
        for n in range(first, first + _ROUNDS):
            machine.round(n)
        yield 1e6 * (time.perf_counter() - began) / machine.events
