"""What the demonstrations have in common: steps that are verified, and figures that are measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import psutil

from superlearner.cli.output import print_json
from superlearner.core.history import Event
from superlearner.errors import SuperlearnerError
from superlearner.views import format as fmt

#: Seconds that each recovery may take before its step counts as failed.
PATIENCE = 20.0


class DemoFailed(SuperlearnerError):
    """A step did not show what was expected."""

    code = "demo_failed"


@dataclass(slots=True)
class Step:
    """One step of a demonstration, and whether what was seen is what was expected."""

    name: str
    ok: bool
    #: From the fault to the first correct answer, or how long the step took where nothing was broken.
    seconds: float
    expected: str
    got: str


@dataclass(slots=True)
class Tale:
    """What has been shown so far."""

    tell: Callable[[str], None]
    steps: list[Step] = field(default_factory=list)
    #: Seconds by name.
    figures: dict[str, float] = field(default_factory=dict)
    #: How many of something were counted, by name.
    counts: dict[str, int] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    story: str = ""

    @property
    def ok(self) -> bool:
        """Whether every step was verified."""
        return bool(self.steps) and all(step.ok for step in self.steps)

    def begin(self, what: str) -> float:
        """Tell what comes now, for whoever waits; return the monotonic clock's time."""
        self.tell(f"        …         {what}")
        return time.monotonic()

    def verify(
        self,
        name: str,
        began: float,
        expected: str,
        got: str,
        *,
        ok: bool,
        figure: str | None = None,
        ended: float | None = None,
    ) -> None:
        """Record a step; raise `DemoFailed` when it did not show what was expected.

        Parameters
        ----------
        name, expected, got
            What is shown, as it should be and as it was.
        began, ended
            When what is measured began and ended, on the monotonic clock; None: it ends now.
        ok
            Whether `got` is as expected.
        figure
            The name under which its seconds are a figure of the demonstration.
        """
        seconds = (time.monotonic() if ended is None else ended) - began
        step = Step(name, ok, seconds, expected, got)
        self.steps.append(step)
        if figure is not None and ok:
            self.figures[figure] = round(seconds, 4)
        mark = "ok    " if ok else "FAILED"
        wrong = "" if ok else f" (expected {expected})"
        self.tell(f"{mark}  {fmt.seconds(seconds):>8}  {name}: {got}{wrong}")
        if not ok:
            raise DemoFailed(f"{name}: expected {expected}, got {got}.")

    def nothing_left(self, family: list[psutil.Process], closing: float) -> None:
        """Verify that the processes of a cluster that was closed are gone."""
        left = [p.pid for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        got = f"{len(family)} processes ended, {len(left)} left"
        self.verify("nothing is left", closing, "0 processes left", got, ok=not left, figure="stop")

    def show_json(self, failure: SuperlearnerError | None) -> None:
        """Print the whole demonstration as one document."""
        document: dict[str, Any] = {
            "ok": self.ok and failure is None,
            "error": None if failure is None else str(failure),
            "steps": [asdict(step) for step in self.steps],
            "events": [event.as_dict() for event in self.events],
            "figures": {f"{name}_seconds": seconds for name, seconds in self.figures.items()},
        }
        print_json(document | ({"counts": self.counts} if self.counts else {}))
