"""Play schedules, tell what came of them, and make a failing one as short as it can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from superlearner.core.control import ControlEvent, Instruction, Record
from superlearner.testing.checks import Violation
from superlearner.testing.cluster import Parts, SimulatedCluster
from superlearner.testing.schedule import Schedule


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one run."""

    schedule: Schedule
    #: The invariant that was broken, as a sentence; None when all held.
    broken: str | None
    #: How it was broken.
    what: str
    #: How many things happened.
    steps: int
    #: How often each kind of event was recorded.
    events: Counter[str] = field(repr=False)
    #: How calls and requests of clients ended: ``"call ok"`` -> how often.
    outcomes: Counter[str] = field(repr=False)
    #: What the control plane was told, and what it said: one line each, with the true time.
    trace: tuple[str, ...] = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether every invariant held."""
        return self.broken is None

    def __str__(self) -> str:
        verdict = "every invariant held" if self.ok else f"BROKEN: {self.broken}\n  {self.what}"
        return f"{self.schedule}\n{verdict} ({self.steps} steps)"


def simulate(seed: int | Schedule, parts: Parts | None = None, *, trace: bool = False) -> Report:
    """Play one schedule on a simulated cluster and check the invariants after every step.

    >>> report = simulate(7)
    >>> report.ok, report == simulate(7)
    (True, True)

    Parameters
    ----------
    seed
        A seed to draw the schedule from, or the schedule itself.
    parts
        Other parts than the real ones, to see what breaks.
    trace
        Whether to keep what the control plane was told and said.
    """
    schedule = seed if isinstance(seed, Schedule) else Schedule.generate(seed)
    cluster = SimulatedCluster(schedule, parts)
    told: list[tuple[float, ControlEvent, list[Instruction]]] = []
    events: Counter[str] = Counter()

    def watch(event: ControlEvent, out: list[Instruction]) -> None:
        events.update(i.event.kind for i in out if isinstance(i, Record))
        if trace:
            told.append((cluster.engine.now, event, out))
        cluster.checks.handled(event, out)

    cluster.plane.watch = watch
    broken, what = None, ""
    try:
        cluster.run()
    except Violation as violation:
        broken, what = violation.invariant, violation.what
    outcomes: Counter[str] = Counter()
    for client in cluster.clients.values():
        outcomes.update(client.outcomes)
    lines = tuple(_line(*entry) for entry in told)
    return Report(schedule, broken, what, cluster.steps, events, outcomes, lines)


def _line(at: float, event: ControlEvent, out: list[Instruction]) -> str:
    return f"{at:.6f} {event} -> {', '.join(map(str, out)) or 'nothing'}"


def shrink(
    schedule: Schedule, parts: Parts | None = None, tried: Callable[[int], object] | None = None
) -> Schedule:
    """Drop steps from a schedule while it still breaks the same invariant (delta debugging).

    Parameters
    ----------
    schedule
        One that breaks an invariant; one that breaks none is returned as it is.
    parts
        As for `simulate`.
    tried
        Called after each try with the number of steps that are left.
    """
    broken = simulate(schedule, parts).broken
    size = len(schedule.steps) // 2
    while broken is not None and size >= 1:
        kept, start = list(range(len(schedule.steps))), 0
        while start < len(kept):
            rest = kept[:start] + kept[start + size :]
            if simulate(schedule.only(rest), parts).broken == broken:
                kept = rest
            else:
                start += size
            if tried is not None:
                tried(len(kept))
        smaller = schedule.only(kept)
        # A pass that has dropped something may have made other steps droppable.
        size = size if size == 1 and len(smaller.steps) < len(schedule.steps) else size // 2
        schedule = smaller
    return schedule
