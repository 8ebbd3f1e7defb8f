"""Scores from 0 to 100 for nodes, sandboxes and the cluster, each with its reasons and what to do.

A figure scores 100 up to half of its limit, 50 at the limit, where a warning begins, and 0 where it is full, in
straight lines between. These two lines are a convention of superlearner's own; where the limits come from stands at
each of them in `superlearner.core.health.Thresholds`. A node or a sandbox is as well as its worst figure, since one
resource that is exhausted holds up all the others. What was not measured often enough has no score.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from superlearner.core.alert_rules import NodeFacts, SandboxFacts
from superlearner.core.health import Thresholds

#: How many samples processor use is the median of: one of them alone is too short to tell load from a burst.
SAMPLES = 5
Sample = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Check:
    """One figure against its limit."""

    what: str
    #: None: it was not measured often enough.
    value: float | None
    limit: float
    #: Where its score is 0.
    full: float
    score: int | None


@dataclass(frozen=True, slots=True)
class Score:
    """How well one node or sandbox is."""

    name: str
    #: None: nothing is known yet.
    score: int | None
    checks: tuple[Check, ...] = ()
    #: What to do, where something is not well.
    advice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterScore:
    """How well the cluster is."""

    score: int | None
    #: One sentence: how the score came about.
    why: str
    nodes: tuple[Score, ...]
    sandboxes: tuple[Score, ...]
    advice: tuple[str, ...] = ()


def points(value: float, limit: float, full: float) -> int:
    """Return the score of a figure.

    >>> [points(value, limit=0.8, full=1.0) for value in (0.4, 0.6, 0.8, 0.9, 1.2)]
    [100, 75, 50, 25, 0]
    """
    half = limit / 2
    if value <= half:
        return 100
    if value <= limit:
        return round(100 - 50 * (value - half) / (limit - half))
    return max(0, round(50 * (full - value) / (full - limit)))


def check(what: str, value: float | None, limit: float, full: float) -> Check:
    """Compare a figure with its limit."""
    return Check(what, value, limit, full, None if value is None else points(value, limit, full))


def steady(samples: Sequence[Sample], figure: str) -> float | None:
    """Return the median of the newest samples of a figure, None where there are too few.

    >>> steady([{"cpu": value} for value in (1.0, 90.0, 2.0, 3.0, None, 2.0)], "cpu")
    2.0
    >>> steady([{"cpu": 1.0}], "cpu") is None
    True
    """
    known = [value for sample in samples if (value := sample.get(figure)) is not None][-SAMPLES:]
    return None if len(known) < SAMPLES else float(median(known))


def node_score(node: NodeFacts, samples: Sequence[Sample], limits: Thresholds) -> Score:
    """Score a node.

    >>> node_score(NodeFacts("beta", reachable=False), [], Thresholds()).advice
    ('Node beta cannot be reached: look at its machine, or start it again.',)
    """
    if not node.reachable:
        advice = f"Node {node.name} cannot be reached: look at its machine, or start it again."
        return Score(node.name, 0, advice=(advice,))
    checks = [
        check("memory", node.memory, limits.memory, 2 * limits.memory),
        check("processes", node.processes, limits.processes, 2 * limits.processes),
        check("machine memory", node.machine, limits.machine_short, limits.machine_full),
        check("cpu", _share(steady(samples, "cpu")), limits.busy, 1.0),
    ]
    if node.suspected:  # half of its lease has passed in silence, and at its end it counts as gone
        checks.append(check("silence", 0.5, 0.5, 1.0))
    return _scored(f"Node {node.name}", node.name, checks)


def sandbox_score(box: SandboxFacts, samples: Sequence[Sample], limits: Thresholds) -> Score:
    """Score a sandbox from its samples, each with the ``cpu`` and ``memory`` of this sandbox alone.

    >>> sandbox_score(SandboxFacts("shop", "running", memory=0.95), [], Thresholds()).score
    25
    """
    if box.status in {"failed", "lost", "stopped"}:
        advice = f"Sandbox {box.id} is {box.status}: see why in its story, then restart it."
        return Score(box.id, 0, advice=(advice,))
    if box.responsive is False:
        advice = f"Sandbox {box.id} does not answer: a handler in it blocks. Make it async, or restart the sandbox."
        return Score(box.id, 0, advice=(advice,))
    checks = [
        check("memory", box.memory, limits.nearly, 1.0),
        # One event loop serves all of its processes, so one core is all that it can use.
        check("cpu", steady(samples, "cpu"), limits.busy, 1.0),
    ]
    return _scored(f"Sandbox {box.id}", box.id, checks)


def _share(percent: float | None) -> float | None:
    return None if percent is None else percent / 100


#: What to do about a figure that is above its limit.
ADVICE = {
    "memory": "uses much memory: see which of its parts grows, or give it more.",
    "processes": "runs very many processes: spread its sandboxes over more nodes.",
    "machine memory": "has a machine that is short of memory: move sandboxes elsewhere, or add a node on another one.",
    "cpu": "is busy: spread its work over more sandboxes or nodes.",
    "silence": "is silent: look at its machine and at the network.",
}


def _scored(who: str, name: str, checks: Iterable[Check]) -> Score:
    known = tuple(checks)
    scores = [one.score for one in known if one.score is not None]
    advice = tuple(f"{who} {ADVICE[one.what]}" for one in known if one.score is not None and one.score <= 50)
    return Score(name, min(scores, default=None), known, advice)


def cluster_score(nodes: Iterable[Score], sandboxes: Iterable[Score], *, quorum: bool) -> ClusterScore:
    """Score the cluster: 0 without a quorum, else the mean of its nodes, or of its sandboxes where that is less.

    >>> scored = cluster_score([Score("alpha", 100), Score("beta", 0)], [], quorum=True)
    >>> scored.score, scored.why
    (50, 'It is the mean of its nodes: 2 of 2 are scored.')
    """
    nodes, sandboxes = tuple(nodes), tuple(sandboxes)
    advice = tuple(text for one in (*nodes, *sandboxes) for text in one.advice)
    if not quorum:
        first = "Half of the nodes or more are not heard of: bring them back, or remove those that are gone for good."
        return ClusterScore(0, "There is no quorum.", nodes, sandboxes, (first, *advice))
    means = [(_mean(scores), what, scores) for what, scores in (("nodes", nodes), ("sandboxes", sandboxes))]
    known = [(mean, what, scores) for mean, what, scores in means if mean is not None]
    if not known:
        return ClusterScore(None, "Nothing has been measured yet.", nodes, sandboxes, advice)
    worst, what, scores = min(known, key=lambda one: one[0])
    counted = sum(one.score is not None for one in scores)
    why = f"It is the mean of its {what}: {counted} of {len(scores)} are scored."
    return ClusterScore(worst, why, nodes, sandboxes, advice)


def _mean(scores: Sequence[Score]) -> int | None:
    known = [one.score for one in scores if one.score is not None]
    return round(sum(known) / len(known)) if known else None
