"""The test kit: a simulated cluster in virtual time, with schedules of faults that can be replayed and shrunk.

The real counterpart is `superlearner.testing.nemesis`: real faults on a real local cluster.

>>> from superlearner.testing import simulate
>>> simulate(seed=1).ok
True
"""

from __future__ import annotations

from superlearner.testing.checks import Violation
from superlearner.testing.cluster import Parts, SimulatedCluster
from superlearner.testing.schedule import Schedule, Step
from superlearner.testing.simulation import Report, shrink, simulate

__all__ = ["Parts", "Report", "Schedule", "SimulatedCluster", "Step", "Violation", "shrink", "simulate"]
