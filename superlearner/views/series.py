"""The last minutes of each node as lines: its share of the processors, and its memory.

>>> samples = {"alpha": [{"at": 10.0, "cpu": 0.0, "memory": 2**26}, {"at": 12.0, "cpu": 50.0, "memory": 2**26}]}
>>> print(series(samples, real=True).text())
The last 2.0 s (real)
node   cpu       now  memory        now
alpha  ▁█       50 %  ▁▁       64.0 MiB
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from superlearner.views import format as fmt
from superlearner.views.marks import origin

_BLOCKS = "▁▂▃▄▅▆▇█"
#: How many samples the text twin shows.
_WIDTH = 24
#: Shades and dashes for the lines, so that no node is told by colour alone.
COLOURS = ("#2f7fd0", "#d9822b", "#3a9d6e", "#a45fc4", "#c2475f", "#7a8594")
DASHES = ("solid", "dashed", "dotted", "dotdash", "dashdot", "solid")


@dataclass(frozen=True, slots=True)
class NodeSeries:
    """One node's samples, oldest first; None where something was not measured."""

    name: str
    #: Unix time in seconds.
    at: tuple[float, ...]
    #: Percent of the machine's processors.
    cpu: tuple[float | None, ...]
    #: Bytes.
    memory: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class SeriesView:
    """All lines, in the order of the nodes' names."""

    real: bool
    lines: tuple[NodeSeries, ...]
    note: str = ""

    def text(self) -> str:
        """Return the lines as small bars of text, with the newest figure of each."""
        times = [at for line in self.lines for at in line.at]
        if not times:
            return f"No samples yet ({origin(self.real)})" + (f"\n{self.note}" if self.note else "")
        rows = [
            (
                line.name,
                bars(line.cpu),
                fmt.percent(line.cpu[-1]),
                bars(line.memory),
                fmt.size(line.memory[-1]),
            )
            for line in self.lines
            if line.at
        ]
        heading = f"The last {fmt.seconds(max(times) - min(times))} ({origin(self.real)})"
        lines = fmt.table(("node", "cpu", "now", "memory", "now"), rows)
        return "\n".join(part for part in (heading, self.note, lines) if part)

    def as_dict(self) -> dict[str, Any]:
        """Return the view as plain data, column by column, as a chart takes it; times in milliseconds."""
        columns = {
            "name": [line.name for line in self.lines],
            "colour": [COLOURS[n % len(COLOURS)] for n in range(len(self.lines))],
            "dash": [DASHES[n % len(DASHES)] for n in range(len(self.lines))],
            "at": [[at * 1000 for at in line.at] for line in self.lines],
            "cpu": [list(line.cpu) for line in self.lines],
            "memory": [[None if m is None else m / 2**20 for m in line.memory] for line in self.lines],
        }
        return {"real": self.real, "note": self.note, "columns": columns, "text": self.text()}


def series(metrics: Mapping[str, Sequence[Mapping[str, Any]]], *, real: bool, note: str = "") -> SeriesView:
    """Turn ``cluster.metrics()`` into lines, sorted by name so that a node keeps its colour.

    Parameters
    ----------
    metrics
        For each node its samples, oldest first, each with ``at``, ``cpu`` and ``memory``.
    real
        Whether these were measured. There is no default: a picture must know.
    note
        A remark on the picture itself, shown with it.
    """
    lines = tuple(
        NodeSeries(
            name,
            at=tuple(float(sample["at"]) for sample in samples),
            cpu=tuple(sample.get("cpu") for sample in samples),
            memory=tuple(sample.get("memory") for sample in samples),
        )
        for name, samples in sorted(metrics.items())
    )
    return SeriesView(real, lines, note)


def bars(values: Sequence[float | None]) -> str:
    """Draw the newest values as bars between the least and the greatest of them; a gap is a space.

    >>> bars([0.0, 5.0, None, 10.0]), bars([3.0, 3.0])
    ('▁▅ █', '▁▁')
    """
    shown = values[-_WIDTH:]
    known = [value for value in shown if value is not None]
    least, span = min(known, default=0.0), max(known, default=0.0) - min(known, default=0.0)
    steps = (" " if v is None else _BLOCKS[round(7 * (v - least) / span)] if span else "▁" for v in shown)
    return "".join(steps)
