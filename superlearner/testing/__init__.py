"""The test kit: a simulated cluster in virtual time, with schedules of faults that can be replayed and shrunk.

`SimulatedManager` is asked as a real cluster is. The real counterpart of the faults is
`superlearner.testing.nemesis`: real ones, on a real local cluster.

>>> from superlearner.testing import simulate
>>> simulate(seed=1).ok
True
"""

from __future__ import annotations

from superlearner.testing.checks import Violation
from superlearner.testing.cluster import Parts, SimulatedCluster
from superlearner.testing.manager import SimulatedManager
from superlearner.testing.schedule import Schedule, Step
from superlearner.testing.simulation import Report, shrink, simulate

__all__ = [
    "Parts",
    "Report",
    "Schedule",
    "SimulatedCluster",
    "SimulatedManager",
    "Step",
    "Violation",
    "shrink",
    "simulate",
]
