"""Schedules of real faults: what is broken on a real cluster and when, as plain data that follows from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from superlearner.errors import InvalidSpec
from superlearner.testing.schedule import NODES, Step
from superlearner.testing.workload import COUNTER, REGISTER

#: How often each fault is drawn, in relation to the others: methods of ``cluster.chaos``, and two orders of the
#: cluster itself, which are no faults but meet them. A scheduler is killed once in a run at most.
WEIGHTS = {
    "kill_process": 3,
    "kill_sandbox": 4,
    "kill_node": 3,
    "kill_scheduler": 1,
    "pause_node": 3,
    "pause_sandbox": 2,
    "partition": 3,
    "cut": 3,
    "delay": 2,
    "drop": 1,
    "flap": 1,
    "migrate_sandbox": 2,
    "restart_sandbox": 1,
}
FAULTS = tuple(WEIGHTS)
#: These last, and end with `Fault.revert`; the last argument of their steps is for how many seconds.
LINKS = frozenset({"partition", "cut", "delay", "drop", "flap"})
#: These are methods of the cluster itself.
ORDERS = frozenset({"migrate_sandbox", "restart_sandbox"})


@dataclass(frozen=True, slots=True)
class FaultSchedule:
    """What is broken in a run, and when.

    >>> schedule = FaultSchedule.generate(7)
    >>> schedule == FaultSchedule.generate(7)
    True
    >>> print(FaultSchedule(7, steps=(Step(1.5, "kill_node", ("beta",)),)))
    seed 7: nodes alpha, beta, gamma; 5 s
      1.500 kill_node('beta')
    """

    seed: int
    nodes: tuple[str, ...] = NODES[:3]
    #: Seconds until everything is healed.
    seconds: float = 5.0
    steps: tuple[Step, ...] = ()

    @classmethod
    def generate(
        cls, seed: int, seconds: float = 5.0, faults: Sequence[str] = FAULTS, nodes: Sequence[str] = NODES[:3]
    ) -> FaultSchedule:
        """Draw a schedule of some of the `faults`."""
        if unknown := [fault for fault in faults if fault not in WEIGHTS]:
            raise InvalidSpec(f"There is no fault {unknown[0]!r} here. There are: {', '.join(FAULTS)}.")
        steps = _draw(random.Random(seed), tuple(nodes), seconds, list(dict.fromkeys(faults)))
        return cls(seed, tuple(nodes), seconds, tuple(steps))

    def __str__(self) -> str:
        head = f"seed {self.seed}: nodes {', '.join(self.nodes)}; {self.seconds:g} s"
        return "\n".join([head, *map(str, self.steps)])


def _draw(rng: random.Random, nodes: tuple[str, ...], seconds: float, faults: list[str]) -> Iterator[Step]:
    # In bursts: most trouble needs two faults at about the same time.
    at = rng.uniform(0.3, 0.8)
    while at < seconds and faults:
        fault = rng.choices(faults, [WEIGHTS[name] for name in faults])[0]
        yield Step(round(at, 3), fault, _arguments(rng, fault, nodes))
        if fault == "kill_scheduler":
            faults.remove(fault)
        at += rng.choice((0.01, 0.1, 0.5, 1.0, 1.5)) * rng.uniform(0.5, 1.5)


def _arguments(rng: random.Random, fault: str, nodes: tuple[str, ...]) -> tuple[Any, ...]:
    node, sandbox = rng.choice(nodes), rng.choice((REGISTER, COUNTER))
    lasts = round(rng.choice((0.3, 0.8, 1.6, 2.5)) * rng.uniform(0.7, 1.3), 3)
    one, other = rng.sample((*nodes, "scheduler", "client"), 2)
    match fault:
        case "kill_process":
            return (f"{sandbox}/{sandbox}",)
        case "kill_sandbox" | "restart_sandbox":
            return (sandbox,)
        case "migrate_sandbox":
            return sandbox, rng.choice((node, "auto"))
        case "kill_node":
            return (node,)
        case "kill_scheduler":
            return ()
        case "pause_node":
            return node, lasts
        case "pause_sandbox":
            return sandbox, lasts
        case "partition":
            return ((node,), tuple(name for name in nodes if name != node)), lasts
        case "cut":
            return one, other, lasts
        case "delay":
            return one, other, round(rng.uniform(0.02, 0.4), 3), lasts
        case "drop":
            return one, other, round(rng.uniform(0.02, 0.3), 3), lasts
        case _:
            return one, other, lasts
