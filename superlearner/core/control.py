"""The machine that runs a cluster: events in, instructions out."""

from __future__ import annotations

from superlearner.core.control_events import *  # noqa: F403
from superlearner.core.control_instructions import *  # noqa: F403
