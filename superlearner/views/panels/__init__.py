"""Charts. Needs the ``lab`` extra; what they show is computed by `superlearner.views.series`."""

from __future__ import annotations

from superlearner.views.panels.series import SeriesPanel, SeriesWidget, series_panel

__all__ = ["SeriesPanel", "SeriesWidget", "series_panel"]
