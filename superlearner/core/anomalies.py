"""What is unlike before: a figure that jumps, or that drifts away, against its own samples.

A *jump* is one of the newest samples whose modified z-score against the samples before them is above 3.5 (B. Iglewicz
and D. Hoaglin, How to Detect and Handle Outliers, 1993; NIST/SEMATECH e-Handbook, 1.3.5.17): how far it is from their
median, in units of their median absolute deviation, which single outliers do not inflate.

A *drift* is an exponentially weighted moving average of the newer half of the samples that leaves the control limits
that the older half sets (S. Roberts, 1959; NIST/SEMATECH e-Handbook, 6.3.2.4, with weight 0.25 and 3 sigma): a small
change that lasts. Samples 2 s apart are not independent, so a drift is a reason to look, and no proof.

Control limits take at least 20 samples (D. Montgomery, Introduction to Statistical Quality Control): with fewer there
is no answer. A change that is smaller than `least` matters to nobody, however steady the figure was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, median, stdev
from typing import Literal

#: How many samples a figure is compared with, at least.
BASIS = 20
#: How many of the newest samples may have jumped.
RECENT = 5
#: How many samples both rules need.
NEEDED = 2 * BASIS
#: The modified z-score above which a sample is an outlier.
OUTLIER = 3.5
#: What makes the median absolute deviation comparable with a standard deviation: the 0.75 quantile of a normal one.
NORMAL = 0.6745
#: The weight of each new sample in the moving average, and how many of its sigmas its limits are away.
WEIGHT, SIGMAS = 0.25, 3.0

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Anomaly:
    """A figure that is unlike before."""

    kind: Literal["jump", "drift"]
    #: When: Unix time in seconds.
    at: float
    value: float
    #: What it was before.
    expected: float
    #: How far away that is, in the rule's own units, and from where on it counts.
    score: float
    limit: float


def anomalies(points: Sequence[Point], least: float) -> list[Anomaly] | None:
    """Return what is unlike before in the samples ``(at, value)`` of one figure, None where there are too few.

    >>> steady = [(float(at), 10.0) for at in range(40)]
    >>> anomalies(steady, least=1.0), anomalies(steady[1:], least=1.0)
    ([], None)
    >>> [(found.kind, found.at) for found in anomalies([*steady, (40.0, 90.0)], least=1.0)][0]
    ('jump', 40.0)
    """
    if len(points) < NEEDED:
        return None
    return [found for found in (jump(points, least), drift(points, least)) if found is not None]


def jump(points: Sequence[Point], least: float) -> Anomaly | None:
    """Return the newest of the newest samples that is an outlier among those before them."""
    before = [value for _, value in points[:-RECENT]]
    middle = median(before)
    deviation = median(abs(value - middle) for value in before) / NORMAL
    unit = max(deviation, least / OUTLIER)
    for at, value in reversed(points[-RECENT:]):
        score = abs(value - middle) / unit
        if score > OUTLIER:
            return Anomaly("jump", at, value, middle, score, OUTLIER)
    return None


def drift(points: Sequence[Point], least: float) -> Anomaly | None:
    """Return how the moving average of the newer half has left the limits of the older one, if it has."""
    half = len(points) // 2
    before = [value for _, value in points[:half]]
    center = average = fmean(before)
    for _, value in points[half:]:
        average += WEIGHT * (value - average)
    unit = max(stdev(before) * sqrt(WEIGHT / (2 - WEIGHT)), least / SIGMAS)
    score = abs(average - center) / unit
    return Anomaly("drift", points[-1][0], average, center, score, SIGMAS) if score > SIGMAS else None
