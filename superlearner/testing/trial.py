"""What came of one run of the nemesis: its verdicts, its figures, and its history, which can be written down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from superlearner.core.history import Event
from superlearner.core.operations import Operation
from superlearner.core.verdicts import Recovery, Verdict, Window, median_and_worst, together
from superlearner.testing.fault_schedule import FaultSchedule
from superlearner.testing.schedule import Step


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one step of a schedule."""

    step: Step
    #: Seconds since the beginning when it was made.
    at: float
    #: Why it was refused, as when the node to be killed was down; None when it was made.
    refused: str | None = None

    def __str__(self) -> str:
        told = f"{self.at:7.3f} {str(self.step).lstrip().partition(' ')[2]}"
        return told if self.refused is None else f"{told}: {self.refused}"


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one run; printed, it reads as a report."""

    schedule: FaultSchedule
    verdicts: tuple[Verdict, ...]
    done: tuple[Done, ...]
    #: Seconds since 1970 when it began. Operations have their times since then, events theirs since 1970.
    began: float
    operations: tuple[Operation, ...] = field(repr=False)
    events: tuple[Event, ...] = field(repr=False)
    recoveries: tuple[Recovery, ...] = field(repr=False)
    windows: tuple[Window, ...] = field(repr=False)

    @property
    def verdict(self) -> bool | None:
        """True when every promise was kept, False when one was broken, None when that is not known."""
        return together(self.verdicts)

    def count(self, outcome: str) -> int:
        """Count the operations that ended so."""
        return sum(operation.outcome == outcome for operation in self.operations)

    def lines(self) -> Iterator[str]:
        """Write the history: one JSON line for the schedule, then one for each operation and each event, by time."""
        yield json.dumps(
            {
                "seed": self.schedule.seed,
                "nodes": self.schedule.nodes,
                "seconds": self.schedule.seconds,
                "began": self.began,
                "steps": [[d.at, d.step.verb, d.step.args, d.refused] for d in self.done],
                "verdicts": [[v.word, v.promise, v.why] for v in self.verdicts],
            }
        )
        rows = [(self.began + o.invoked, {"operation": o.as_dict()}) for o in self.operations]
        rows += [(e.at, {"event": e.as_dict()}) for e in self.events]
        for _, row in sorted(rows, key=lambda row: row[0]):
            yield json.dumps(row, default=str)

    def write(self, path: Path) -> Path:
        """Write the history to a file of JSON lines, and return its path."""
        path.write_text("".join(f"{line}\n" for line in self.lines()), encoding="utf-8")
        return path

    def __str__(self) -> str:
        typical, worst = median_and_worst(recovery.seconds for recovery in self.recoveries)
        share = self.count("ok") / len(self.operations) if self.operations else 0.0
        lowest = min((window.share for window in self.windows), default=0.0)
        figures = (
            f"{len(self.operations)} operations: {self.count('ok')} answered, {self.count('failed')} refused, "
            f"{self.count('unknown')} unknown; {share:.0%} available, {lowest:.0%} in the worst second"
        )
        recovered = (
            "nothing was broken" if typical is None else f"{typical:.3f} s median, {worst:.3f} s worst"
        )
        head = f"seed {self.schedule.seed}: nodes {', '.join(self.schedule.nodes)}; {self.schedule.seconds:g} s (real)"
        return "\n".join(
            [
                head,
                *map(str, self.done),
                *map(str, self.verdicts),
                figures,
                f"answers after a fault: {recovered}",
            ]
        )
