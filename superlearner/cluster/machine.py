"""Which machine a process runs on, and the sure news of another process's end on the same one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

#: The kernel's flag of a process that is getting shut down (linux/sched.h).
_PF_EXITING = 0x4


def this_machine() -> str | None:
    """Return what tells apart the machines, and the containers on one, whose process ids mean the same.

    None where that cannot be told: not on Linux.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


class Deaths:
    """Learns from the kernel when processes of this machine end; used on the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._machine = this_machine()
        self._watched: dict[int, int] = {}

    def watch(self, pid: int, machine: str | None, ended: Callable[[], None]) -> bool:
        """Call `ended` when the process has ended; return False when nobody can tell that here."""
        if machine is None or machine != self._machine or pid in self._watched:
            return pid in self._watched
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._loop.call_soon(ended)
            return True
        except (OSError, AttributeError):  # not on Linux, or forbidden
            return False
        self._watched[pid] = descriptor
        self._loop.add_reader(descriptor, self._on_end, pid, ended)
        return True

    def is_ending(self, pid: int) -> bool:
        """Tell whether a watched process is past the point of no return, which its end may follow by some time."""
        if pid not in self._watched:
            return False
        try:
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return True
        return bool(int(fields[6]) & _PF_EXITING)

    def _on_end(self, pid: int, ended: Callable[[], None]) -> None:
        self._unwatch(pid)
        ended()

    def _unwatch(self, pid: int) -> None:
        descriptor = self._watched.pop(pid)
        self._loop.remove_reader(descriptor)
        os.close(descriptor)

    def close(self) -> None:
        """Watch nobody any more."""
        for pid in list(self._watched):
            self._unwatch(pid)
