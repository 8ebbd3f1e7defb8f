"""Schedules: who does what to a simulated cluster and when, as plain data that can be printed and replayed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

NODES = ("alpha", "beta", "gamma", "delta", "epsilon")
CLIENTS = ("ann", "bob")
SANDBOXES = ("shop", "bank", "mail")
#: Of longer schedules only the length is shown.
MOST_SHOWN = 500


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done to the cluster; ``verb`` is the name of a method of `superlearner.testing.faults.Faults`.

    >>> print(Step(1.5, "cut", ("alpha", "beta", 3.0)))
      1.500 cut('alpha', 'beta', 3.0)
    """

    #: Seconds since the beginning.
    at: float
    verb: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.at:7.3f} {self.verb}({', '.join(map(repr, self.args))})"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A run: the same schedule always gives the same trace.

    >>> schedule = Schedule.generate(7)
    >>> schedule == Schedule.generate(7), schedule.only([0]).steps == schedule.steps[:1]
    (True, True)
    """

    #: Where delays and the speeds of clocks come from; `generate` takes the steps from it, too.
    seed: int
    nodes: tuple[str, ...] = NODES[:3]
    #: Seconds.
    lease: float = 3.0
    #: Whether the ends of worker processes are seen at once, as on one machine; else only leases tell.
    watched: bool = True
    steps: tuple[Step, ...] = ()

    @classmethod
    def generate(cls, seed: int, nodes: int | None = None, sandboxes: int | None = None) -> Schedule:
        """Draw a schedule, for that many nodes and sandboxes; None: for a few of them, as many as are drawn, too.

        The more nodes, the more happens in the same time.
        """
        rng = random.Random(seed)
        names = _names(NODES, rng.choice((3, 3, 4, 5)) if nodes is None else nodes)
        spaces = _names(SANDBOXES, rng.choice((1, 2, 3)) if sandboxes is None else sandboxes)
        steps = sorted(_draw(rng, names, spaces), key=lambda step: step.at)
        return cls(seed, names, watched=rng.random() < 0.4, steps=tuple(steps))

    def only(self, kept: Sequence[int]) -> Schedule:
        """Return it with only the steps of these numbers."""
        return replace(self, steps=tuple(self.steps[n] for n in kept))

    def __str__(self) -> str:
        how = "ends of processes are seen" if self.watched else "only leases tell"
        nodes = ", ".join(self.nodes) if len(self.nodes) <= len(NODES) else f"{len(self.nodes):,}"
        head = f"seed {self.seed}: nodes {nodes}; lease {self.lease} s; {how}"
        steps = [f"{len(self.steps):,} steps"] if len(self.steps) > MOST_SHOWN else map(str, self.steps)
        return "\n".join([head, *steps])


#: How often each fault is drawn, in relation to the others.
_WEIGHTS = {
    "crash": 3,
    "pause": 3,
    "isolate": 3,
    "fade": 3,
    "cut": 4,
    "part": 2,
    "break_": 3,
    "kill": 4,
    "exit": 2,
    "slow": 2,
    "lag": 2,
    "move": 5,
    "restart": 2,
    "destroy": 2,
    "create": 2,
    "hold_up": 1,
}


#: For how many nodes more the faults of a few are drawn once more, and the most that are parted from the others.
_NODES_TO_A_CLUSTER = 50
_MOST_PARTED = 20


def _names(few: tuple[str, ...], number: int) -> tuple[str, ...]:
    """Return that many names: the usual ones, where they are enough."""
    return few[:number] if number <= len(few) else tuple(f"{few[0]}-{n}" for n in range(number))


def _draw(rng: random.Random, nodes: tuple[str, ...], sandboxes: tuple[str, ...]) -> Iterator[Step]:
    times = max(1, len(nodes) // _NODES_TO_A_CLUSTER)
    for sandbox in sandboxes:
        restart = rng.choice(("permanent", "permanent", "permanent", "transient", "temporary"))
        yield Step(0.6, "create", (rng.choice(CLIENTS), sandbox, rng.choice(("auto", *nodes)), restart, 2))
    verbs, weights = zip(*_WEIGHTS.items(), strict=True)
    # Faults come in bursts: most trouble needs two of them at about the same time.
    at = 1.5
    for _ in range(times * rng.randint(4, 14)):
        at += rng.choice((0.01, 0.05, 0.3, 1.0, 3.0)) * rng.uniform(0.5, 1.5) / times
        verb = rng.choices(verbs, weights)[0]
        yield Step(round(at, 3), verb, _arguments(rng, verb, nodes, sandboxes))
    for n in range(times * rng.randint(10, 25)):
        when = round(rng.uniform(1.0, at + 4.0), 3)
        durable, has_id = rng.random() < 0.6, rng.random() < 0.5
        yield Step(when, "call", (rng.choice(CLIENTS), rng.choice(sandboxes), n, durable, has_id))


def _arguments(
    rng: random.Random, verb: str, nodes: tuple[str, ...], sandboxes: tuple[str, ...]
) -> tuple[Any, ...]:
    node, client, sandbox = rng.choice(nodes), rng.choice(CLIENTS), rng.choice(sandboxes)
    seconds = round(rng.choice((0.2, 1.0, 3.2, 7.0)) * rng.uniform(0.7, 1.3), 3)
    match verb:
        case "crash" | "pause" | "isolate":
            return node, seconds
        case "part":
            most = min(len(nodes) - 1, _MOST_PARTED)
            return tuple(rng.sample(nodes, rng.randint(1, most))), seconds
        case "hold_up":
            return (seconds / 3,)
        case "cut":
            one, other = rng.sample((*nodes, *CLIENTS, "scheduler", "scheduler"), 2)
            return one, other, seconds
        case "break_":
            kind = rng.choice(("stream", "commands", "commands", "peer", "calls", "control"))
            return {
                "stream": (node, "scheduler", kind),
                "commands": ("scheduler", node, kind),
                "peer": (node, rng.choice(nodes), kind),
                "calls": (client, node, kind),
                "control": (client, "scheduler", kind),
            }[kind]
        case "kill":
            return (sandbox,)
        case "exit":
            return sandbox, rng.choice(("normal", "crash"))
        case "slow" | "lag" | "fade":
            return node, round(rng.uniform(0.1, 1.0), 3), seconds
        case "move":
            return client, sandbox, rng.choice(("auto", *nodes))
        case "create":
            return client, sandbox, "auto", "permanent", 2
        case _:
            return client, sandbox
