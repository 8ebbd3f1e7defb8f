"""What holds the others up: resources that are nearly used up, or that work queues for.

After the USE method of Brendan Gregg (https://www.brendangregg.com/usemethod.html): for each resource how much of it
is in use, and whether work waits for it. More than 70 % of use over some time can be a bottleneck, and any lasting
queue is one. (Errors, its third question, are what alerts tell.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from superlearner.core.alert_rules import NodeFacts, SandboxFacts
from superlearner.core.health import Thresholds
from superlearner.core.scores import SAMPLES, Sample, steady


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of a node or a sandbox."""

    name: str
    of: str
    resource: str
    #: Share of it in use, the median of the newest samples; None: not measured often enough, or it has no limit.
    used: float | None
    #: How many messages have waited for it in each of the newest samples, at least.
    queue: int | None = None


@dataclass(frozen=True, slots=True)
class Bottlenecks:
    """What was found."""

    #: The worst first: those with a queue, then by use.
    found: tuple[Resource, ...]
    #: How many resources could be judged, and how many not: for want of samples, or of a limit.
    judged: int
    unjudged: int


def bottlenecks(resources: Iterable[Resource], limits: Thresholds) -> Bottlenecks:
    """Return which resources hold others up.

    >>> cpu = Resource("alpha", "node", "cpu", used=0.9)
    >>> mail = Resource("shop", "sandbox", "mailboxes", used=None, queue=12)
    >>> idle = Resource("beta", "node", "cpu", used=0.1)
    >>> [found.resource for found in bottlenecks([cpu, mail, idle], Thresholds()).found]
    ['mailboxes', 'cpu']
    """
    known = list(resources)
    found = [one for one in known if (one.used or 0.0) > limits.busy or one.queue]
    unjudged = sum(one.used is None and one.queue is None for one in known)
    found.sort(key=lambda one: (-(one.queue or 0), -(one.used or 0.0), one.name))
    return Bottlenecks(tuple(found), len(known) - unjudged, unjudged)


def of_node(node: NodeFacts, samples: Sequence[Sample], full_network: float) -> list[Resource]:
    """Return the resources of a node; of one that cannot be reached there are none."""
    if not node.reachable:
        return []
    cpu, network = steady(samples, "cpu"), steady(samples, "network")
    used, total = steady(samples, "memory_used"), steady(samples, "memory_total")
    return [
        Resource(node.name, "node", "cpu", None if cpu is None else cpu / 100),
        Resource(node.name, "node", "memory of its machine", used / total if used and total else None),
        Resource(
            node.name, "node", "network of its machine", None if network is None else network / full_network
        ),
    ]


def of_sandbox(box: SandboxFacts, samples: Sequence[Mapping[str, int | float | None]]) -> list[Resource]:
    """Return the resources of a sandbox that runs: its one core, its memory limit, and its mailboxes."""
    if box.status != "running":
        return []
    waiting = [sample.get("mailbox") for sample in samples][-SAMPLES:]
    known = [int(count) for count in waiting if count is not None]
    return [
        Resource(box.id, "sandbox", "cpu", steady(samples, "cpu")),
        Resource(box.id, "sandbox", "memory", box.memory),
        Resource(box.id, "sandbox", "mailboxes", None, min(known) if len(known) == SAMPLES else None),
    ]
