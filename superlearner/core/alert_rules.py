"""Which conditions hold: the four rules of alerts, as functions of what is known of nodes and sandboxes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from superlearner.core.alerts import Condition, Subject
from superlearner.core.health import Thresholds
from superlearner.core.history import Event
from superlearner.core.restart import was_asked_for
from superlearner.core.snapshots import SandboxStatus

#: What happened to a node or a sandbox each time that it failed, or seemed to.
_FAILS = frozenset(
    {"node_lost", "node_suspected", "sandbox_restarting", "sandbox_restarted", "sandbox_unresponsive"}
)
#: What ends all that is known of one.
_GONE = frozenset({"node_forgotten", "sandbox_destroyed"})


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What is known of a node; None is not measured."""

    name: str
    #: Whether its worker is there.
    reachable: bool = True
    #: Whether it has been silent for half of its lease.
    suspected: bool = False
    #: Why it is down, in words.
    reason: str | None = None
    processes: int | None = None
    #: Bytes used by the node and its sandboxes.
    memory: int | None = None
    #: Share of its machine's memory in use.
    machine: float | None = None


@dataclass(frozen=True, slots=True)
class SandboxFacts:
    """What is known of a sandbox; None is not measured."""

    id: str
    status: SandboxStatus
    node: str | None = None
    #: Why it does not run, in words.
    reason: str | None = None
    responsive: bool | None = None
    #: Share of its own memory limit in use; None, too, where it has none.
    memory: float | None = None


def conditions(
    nodes: Iterable[NodeFacts],
    sandboxes: Iterable[SandboxFacts],
    flapping: Iterable[Condition] = (),
    thresholds: Thresholds | None = None,
) -> list[Condition]:
    """Return everything that is wrong.

    >>> down = NodeFacts("beta", reachable=False, reason="its process has ended")
    >>> [found.summary for found in conditions([down], [])]
    ['Node beta cannot be reached (its process has ended).']
    """
    limits = thresholds or Thresholds()
    found = [wrong for node in nodes for wrong in _of_node(node, limits)]
    found += [wrong for box in sandboxes for wrong in _of_sandbox(box, limits)]
    return [*found, *flapping]


def _of_node(node: NodeFacts, limits: Thresholds) -> Iterator[Condition]:
    failure = Subject("node_failure", node.name)
    if not node.reachable:
        why = "" if node.reason is None else f" ({node.reason.rstrip('.')})"
        yield Condition(failure, "critical", f"Node {node.name} cannot be reached{why}.")
        return
    if node.suspected:
        yield Condition(failure, "warning", f"Node {node.name} has been silent for half of its lease.")
    if node.processes is not None and node.processes > limits.processes:
        yield Condition(
            Subject("resource_exhaustion", node.name, resource="processes"),
            "warning",
            f"Node {node.name} runs {node.processes:,} processes, more than {limits.processes:,}.",
        )
    if node.memory is not None and node.memory > limits.memory:
        yield Condition(
            Subject("resource_exhaustion", node.name, resource="memory"),
            "warning",
            f"Node {node.name} uses {node.memory:,} bytes, more than {limits.memory:,}.",
        )
    if node.machine is not None and node.machine > limits.machine_full:
        yield Condition(
            Subject("resource_exhaustion", node.name, resource="machine memory"),
            "critical",
            f"The machine of node {node.name} has {node.machine:.0%} of its memory in use.",
        )


def _of_sandbox(box: SandboxFacts, limits: Thresholds) -> Iterator[Condition]:
    failure = Subject("sandbox_failure", sandbox=box.id)
    why = "" if box.reason is None else f" ({box.reason.rstrip('.')})"
    if box.status == "failed":
        yield Condition(failure, "critical", f"Sandbox {box.id} was given up{why}.", box.node)
    elif box.status == "lost":
        yield Condition(failure, "critical", f"No node can take sandbox {box.id}{why}.", box.node)
    elif box.responsive is False:
        yield Condition(failure, "warning", f"Sandbox {box.id} does not answer.", box.node)
    if box.memory is not None and box.memory > limits.nearly:
        yield Condition(
            Subject("resource_exhaustion", sandbox=box.id, resource="memory"),
            "warning",
            f"Sandbox {box.id} uses {box.memory:.0%} of its memory limit.",
            box.node,
        )


@dataclass(slots=True)
class Flaps:
    """How often each node and sandbox has failed lately: more than `most` times within `window` seconds is flapping.

    Counted as OTP counts the restart intensity of a supervisor. What was asked for is no failure.

    >>> flaps = Flaps(most=1, window=60.0)
    >>> for at in (0.0, 10.0):
    ...     counted = flaps.note(Event("node_lost", at=at, node="beta"))
    >>> flaps.conditions(20.0)[0].summary, flaps.conditions(60.0)
    ('Node beta has failed more than 1 times within 60 s.', [])
    """

    most: int = 3
    window: float = 300.0
    _times: dict[Subject, deque[float]] = field(default_factory=dict)

    def note(self, event: Event) -> bool:
        """Take note of an event; return whether it tells of a failure."""
        if event.kind not in _FAILS and event.kind not in _GONE:
            return False  # nearly every event
        subject = (
            Subject("flapping", sandbox=event.sandbox) if event.sandbox else Subject("flapping", event.node)
        )
        if event.kind in _GONE:
            self._times.pop(subject, None)
            return False
        if was_asked_for(event.reason):
            return False
        if event.kind == "sandbox_restarted" and event.reason is None:
            return False  # it follows a sandbox_restarting, which has been counted
        # One more than may be is enough to know; the newest are kept.
        self._times.setdefault(subject, deque(maxlen=self.most + 1)).append(event.at)
        return True

    def conditions(self, at: float) -> list[Condition]:
        """Return who is flapping at a time, and forget those who have not failed within the window."""
        found = []
        for subject, times in list(self._times.items()):
            while times and times[0] <= at - self.window:
                times.popleft()
            if not times:
                del self._times[subject]
            elif len(times) > self.most:
                who = f"Sandbox {subject.sandbox}" if subject.sandbox else f"Node {subject.node}"
                found.append(
                    Condition(
                        subject,
                        "warning",
                        f"{who} has failed more than {self.most} times within {self.window:g} s.",
                    )
                )
        return found
