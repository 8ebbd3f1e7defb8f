"""The command ``superlearner``: a thin face over the library.

Modules are imported when their command runs, so that ``superlearner --help`` answers at once.
"""

from __future__ import annotations

from superlearner.cli.app import main

__all__ = ["main"]
