"""The parent of a local cluster's daemon: starts it again when it was killed, and ends it when its owner does.

The scheduler and the nannies live in the daemon. When that dies by violence its nodes die with it; the
guardian sweeps up, and a new daemon comes up at the same address with the same keys, reads the state
directory and the journal, and brings every sandbox back from its checkpoints, with a higher epoch. Clients
connect again by themselves. The guardian itself does nothing else and imports next to nothing.

Started by `superlearner.cluster.local.start_daemon` as ``python -m superlearner.cluster.guardian SETTINGS``.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

#: How often a daemon is started again within `MOST_SECONDS`; a cluster that dies more often is given up.
MOST_RESTARTS = 5
MOST_SECONDS = 60.0
#: Seconds that a daemon has to end by itself.
_PATIENCE = 20.0


class Guardian:
    """One local cluster, as its processes' parent sees it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._directory = tempfile.mkdtemp(prefix="superlearner-")
        #: What the first daemon said when it was ready: its successors get the same address and keys.
        self._connection: str | None = None
        self._restarts: list[float] = []
        self._ending = False
        self._wakeup, write = socket.socketpair()
        self._wakeup.setblocking(False)
        write.setblocking(False)
        self._write = write

    def run(self) -> int:
        """Run daemons until one has ended in order, or the owner has ended; return the exit code."""
        signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)  # it arrives as a byte in the loop below
        try:
            while True:
                code = self._run_one()
                if self._ending or code == 0 or self._connection is None or not self._may_restart():
                    return code
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)
            if self._settings["path"]:
                Path(self._settings["path"]).unlink(missing_ok=True)

    def _may_restart(self) -> bool:
        now = time.monotonic()
        self._restarts = [*(at for at in self._restarts if now - at < MOST_SECONDS), now]
        return len(self._restarts) <= MOST_RESTARTS

    def _run_one(self) -> int:
        ready, ready_write = os.pipe()
        settings = {**self._settings, "ready": ready_write, "directory": self._directory}
        daemon = subprocess.Popen(
            [sys.executable, "-m", "superlearner.cluster.daemon", json.dumps(settings)],
            stdin=subprocess.PIPE,  # it ends when this does: with its guardian, however that ends
            stdout=subprocess.DEVNULL,
            pass_fds=(ready_write,),
            start_new_session=True,
        )
        os.close(ready_write)
        with contextlib.suppress(BrokenPipeError):  # it could not even start: its end tells
            assert daemon.stdin is not None
            # Not on the command line, which everybody can read: it holds the keys.
            daemon.stdin.write((self._connection or "null").encode() + b"\n")
            daemon.stdin.flush()
        try:
            return self._watch(daemon, ready)
        finally:
            os.close(ready)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(daemon.pid, signal.SIGKILL)  # what was below a daemon that was killed
            daemon.wait()
            with contextlib.suppress(OSError):
                assert daemon.stdin is not None
                daemon.stdin.close()

    def _watch(self, daemon: subprocess.Popen[bytes], ready: int) -> int:
        """Wait for the daemon's end, and pass on what comes until then."""
        said = b""
        deadline: float | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(self._wakeup, selectors.EVENT_READ)
            selector.register(ready, selectors.EVENT_READ)
            if self._settings["path"] is None:
                selector.register(
                    0, selectors.EVENT_READ
                )  # nothing is ever written there: its end is the owner's
            while daemon.poll() is None:
                for key, _ in selector.select(
                    None if deadline is None else max(0.0, deadline - time.monotonic())
                ):
                    if key.fileobj == ready:
                        chunk = os.read(ready, 65536)
                        said += chunk
                        if not chunk:
                            selector.unregister(ready)
                            self._pass_on(said.decode())
                    elif key.fileobj == 0:
                        selector.unregister(0)
                        self._ending = True
                    elif self._told_to_end():
                        self._ending = True
                if self._ending and deadline is None:
                    daemon.terminate()
                    deadline = time.monotonic() + _PATIENCE
                if deadline is not None and time.monotonic() >= deadline:
                    daemon.kill()
        return daemon.returncode

    def _told_to_end(self) -> bool:
        told = False
        with contextlib.suppress(BlockingIOError):
            while numbers := self._wakeup.recv(4096):
                told = told or bool({signal.SIGTERM, signal.SIGINT} & set(numbers))
        return told

    def _pass_on(self, connection: str) -> None:
        """Tell whoever started the cluster that it is ready, the first time."""
        if connection and self._connection is None:
            self._connection = connection
            with os.fdopen(self._settings["ready"], "w", encoding="utf-8") as out:
                out.write(connection)


def main() -> None:
    """Guard a cluster with the settings given as JSON on the command line."""
    sys.exit(Guardian(json.loads(sys.argv[1])).run())


if __name__ == "__main__":
    main()
