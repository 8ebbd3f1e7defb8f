"""The JupyterLab process that ``superlearner lab`` looks after: it stops when the command does, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

#: The request of prctl(2) that asks for a signal when the parent ends.
PR_SET_PDEATHSIG = 1
#: What stands before the address in the line that is written to stderr once JupyterLab listens there. (Its own
#: log tells the address before that, so whoever goes there at once may be refused.)
LISTENS = "superlearner: JupyterLab listens at "


def main() -> None:
    """Run JupyterLab with the arguments of the command line; the first one is the pid of the parent."""
    parent = int(sys.argv.pop(1))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the signal was asked for
        return
    from jupyterlab.labapp import LabApp

    server = LabApp.initialize_server(argv=sys.argv[1:])
    # Callbacks run in the order in which they were added, and binding the port is one of those before.
    server.io_loop.add_callback(
        lambda: print(f"{LISTENS}{server.connection_url}", file=sys.stderr, flush=True)
    )
    server.start()


if __name__ == "__main__":
    main()
