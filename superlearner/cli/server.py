"""The JupyterLab process that ``superlearner lab`` looks after: it stops when the command does, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: The request of prctl(2) that asks for a signal when the parent ends.
PR_SET_PDEATHSIG = 1


def main() -> None:
    """Run JupyterLab with the arguments of the command line; the first one is the pid of the parent."""
    parent = int(sys.argv.pop(1))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the signal was asked for
        return
    from jupyterlab.labapp import main as jupyterlab

    jupyterlab()


if __name__ == "__main__":
    main()
