"""A live Bokeh chart of each node's processor share and memory.

The chart is a Bokeh figure, but it does not go through jupyter_bokeh, which sends changes made in Python
back to Python and so doubles streamed data. Instead this widget carries BokehJS itself (once per page,
offline) and a figure without data; the data is a plain trait, replaced whole by the one writer, and goes
one way only.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import ipywidgets
import traitlets
from bokeh.embed import json_item
from bokeh.layouts import row
from bokeh.models import ColumnDataSource, HoverTool, Range1d
from bokeh.plotting import figure

from superlearner.errors import SuperlearnerError
from superlearner.views.series import SeriesView, series
from superlearner.views.widgets.base import Picture, asset
from superlearner.views.widgets.board import Board, explain, origin_of, refuse_async


@cache
def bokehjs() -> str:
    """Return BokehJS as Bokeh's own package has it."""
    return files("bokeh").joinpath("server/static/js/bokeh.min.js").read_text(encoding="utf-8")


def chart() -> dict[str, Any]:
    """Return two figures over one empty source as Bokeh's JSON; the browser fills the source."""
    columns: dict[str, list[Any]] = {name: [] for name in ("name", "colour", "dash", "at", "cpu", "memory")}
    source = ColumnDataSource(columns, name="samples")
    cpu = _figure("processors, % of the machine", source, "cpu", "0")
    cpu.y_range = Range1d(0, 100)
    memory = _figure("memory of the node, MiB", source, "memory", "0.0")
    memory.y_range.start = 0
    memory.x_range = cpu.x_range
    both = row(cpu, memory, sizing_mode="stretch_width")
    item: dict[str, Any] = dict(json_item(both))
    return item


def _figure(title: str, source: ColumnDataSource, column: str, digits: str) -> Any:
    made = figure(title=title, x_axis_type="datetime", height=190, toolbar_location=None, tools="")
    lines = made.multi_line(
        "at", column, source=source, line_color="colour", line_dash="dash", line_width=2, legend_field="name"
    )
    tips = [("node", "@name"), ("at", "$x{%H:%M:%S}"), (column, f"$y{{{digits}}}")]
    made.add_tools(HoverTool(renderers=[lines], tooltips=tips, formatters={"$x": "datetime"}))
    made.legend.location = "top_left"
    made.legend.orientation = "horizontal"
    made.legend.background_fill_alpha = 0.0
    made.legend.border_line_alpha = 0.0
    made.background_fill_alpha = made.border_fill_alpha = 0.0
    made.outline_line_alpha = 0.0
    made.sizing_mode = "stretch_width"
    return made


class SeriesWidget(Picture):
    """The chart; `view` is what `superlearner.views.series.SeriesView.as_dict` returns."""

    _esm = asset("common.js") + (files(__package__) / "series.js").read_text(encoding="utf-8")
    _css = asset("common.css") + (files(__package__) / "series.css").read_text(encoding="utf-8")
    #: BokehJS, and the figure without data.
    bokeh = traitlets.Unicode().tag(sync=True)
    chart = traitlets.Dict().tag(sync=True)

    def __init__(self, shown: SeriesView, **kwargs: Any) -> None:
        super().__init__(view=shown.as_dict(), bokeh=bokehjs(), chart=chart(), **kwargs)

    def show(self, shown: SeriesView) -> None:
        """Replace the data."""
        self.view = shown.as_dict()


class SeriesPanel(Board):
    """The live chart of a cluster; it looks every two seconds, when there is a new sample."""

    def __init__(self, cluster: Any) -> None:
        refuse_async(cluster, "The chart")
        self._cluster, self.real = cluster, origin_of(cluster)
        self._metrics: dict[str, Any] = {}
        self.chart = SeriesWidget(series({}, real=self.real))
        super().__init__(("series", cluster.address), (self.chart,), None)
        self.begin()

    def arrange(self) -> ipywidgets.Widget:
        """Put the chart into a box."""
        return ipywidgets.VBox([self.chart])

    def look(self) -> None:
        """Ask for the samples; what cannot be asked leaves the last ones, with a note."""
        try:
            self._metrics, self._trouble = self._cluster.metrics(), ""
        except SuperlearnerError as error:
            self._trouble = f"These are the last known samples: {explain(error)}"

    def draw(self) -> None:
        """Show the samples."""
        self.chart.show(series(self._metrics, real=self.real, note=self._trouble))


def series_panel(cluster: Any) -> SeriesPanel:
    """Return the live chart of each node's processor share and memory.

    It stays live until its ``close()``, until the same chart is opened again, or until the kernel exits.
    """
    return SeriesPanel(cluster)
