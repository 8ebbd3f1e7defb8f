"""What Linux lets a process say of itself, and Python does not: ``prctl(2)``. Elsewhere it does nothing."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

#: Which signal it gets when its parent ends.
PR_SET_PDEATHSIG = 1
#: Its name, of 15 bytes.
PR_SET_NAME = 15
#: Whether the orphans below it come to it.
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None)


def prctl(option: int, argument: Any) -> None:
    """Set one option of this process."""
    if sys.platform == "linux":
        _libc.prctl(option, argument, 0, 0, 0)
