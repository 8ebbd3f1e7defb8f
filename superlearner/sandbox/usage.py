"""What a process and everything below it use of the machine, read from ``/proc`` (elsewhere through psutil)."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from dataclasses import dataclass

_PAGE = resource.getpagesize()
_TICKS = os.sysconf("SC_CLK_TCK")
#: Processes and threads at which counting ends: a fork bomb must not keep its node busy with counting.
MOST_COUNTED = 2000


@dataclass(frozen=True, slots=True)
class Usage:
    """What a host and everything below it use now."""

    #: Bytes in physical memory, with what is shared with other hosts.
    resident: int = 0
    #: Seconds of processor time, with that of children which have ended.
    cpu_time: float = 0.0
    #: OS processes and threads, its own first thread not counted.
    processes: int = 0
    #: The OS processes.
    pids: tuple[int, ...] = ()


def usage(pid: int) -> Usage:
    """Measure a process and everything below it; what has ended meanwhile counts nothing.

    >>> usage(os.getpid()).resident > 0
    True
    """
    if sys.platform != "linux":
        return _usage_elsewhere(pid)
    memory, ticks, processes, waiting, found = 0, 0, -1, [pid], []
    while waiting and processes < MOST_COUNTED:
        current = waiting.pop()
        with contextlib.suppress(OSError):
            memory += resident(current)
            fields = _stat(current)
            # Its own time and that of the children it has waited for, each as user and as system.
            ticks += sum(map(int, fields[11:15]))
            if fields[0] == b"Z":
                continue  # it has ended, and nobody has waited for it: a detached program, as a rule
            threads = os.listdir(f"/proc/{current}/task")  # noqa: PTH208 - measured every second: half the time
            processes += len(threads)
            found.append(current)
            for thread in threads:
                waiting.extend(map(int, _read(f"/proc/{current}/task/{thread}/children").split()))
    return Usage(memory, ticks / _TICKS, max(0, processes), tuple(found))


def resident(pid: int) -> int:
    """Return the bytes of a process in physical memory, with what it shares.

    >>> resident(os.getpid()) > 0
    True
    """
    if sys.platform != "linux":
        return _usage_elsewhere(pid).resident
    return int(_read(f"/proc/{pid}/statm").split()[1]) * _PAGE


def own_memory(pid: int) -> int:
    """Return the bytes that a process adds to its machine: what it shares counts by its share.

    >>> own_memory(os.getpid()) > 0
    True
    """
    rollup = _rollup(pid)
    return usage(pid).resident if rollup is None else rollup["Pss"]


def private_memory(pids: tuple[int, ...]) -> int | None:
    """Return the bytes that only these processes have, None where the system does not tell.

    Pages that they share with each other count only where they are shared memory; those of a fork that
    nobody has written since belong to the fork server.
    """
    private, shared = 0, 0
    for pid in pids:
        rollup = _rollup(pid)
        if rollup is None:
            if _state(pid) in (None, b"Z"):
                continue
            return None
        private += rollup.get("Private_Clean", 0) + rollup.get("Private_Dirty", 0)
        shared += rollup.get("Pss_Shmem", 0)
    return max(private, shared)


def disk_usage(directory: str, most: int) -> int:
    """Return the bytes that the files below a directory take up on disk; counting ends above `most`.

    Every name counts 4 KiB at least, so that a million of empty files count, and counting them ends.

    >>> disk_usage("/no/such/directory", most=1)
    0
    """
    total, waiting = 0, [directory]
    while waiting and total <= most:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += max(4096, entry.stat(follow_symlinks=False).st_blocks * 512)
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
    return total


def is_below(pid: int, ancestor: int) -> bool:
    """Tell whether a process is `ancestor` or descends from it; True for one that is not there any more.

    >>> is_below(os.getpid(), os.getppid()), is_below(os.getppid(), os.getpid())
    (True, False)
    """
    while pid > 1 and pid != ancestor:
        try:
            pid = _parent(pid)
        except ProcessLookupError:
            return True
    return pid == ancestor


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or only waits for its parent to notice."""
    return _state(pid) in (None, b"Z", b"X") if sys.platform == "linux" else False


def _state(pid: int) -> bytes | None:
    try:
        return _stat(pid)[0]
    except OSError:
        return None


def _parent(pid: int) -> int:
    if sys.platform != "linux":
        return _parent_elsewhere(pid)
    try:
        return int(_stat(pid)[1])
    except FileNotFoundError:
        raise ProcessLookupError from None


def _stat(pid: int) -> list[bytes]:
    """Return the fields of ``/proc/PID/stat`` from the state on."""
    # The name of the process, in brackets before it, may hold blanks and brackets of its own.
    return _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()


def _rollup(pid: int) -> dict[str, int] | None:
    """Return the bytes of each line of ``smaps_rollup``, None where there is none."""
    with contextlib.suppress(OSError):
        lines = _read(f"/proc/{pid}/smaps_rollup").splitlines()[1:]
        fields = [line.split() for line in lines]
        return {name.rstrip(b":").decode(): int(kib) * 1024 for name, kib, *_ in fields} or None
    return None


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 65536)
    finally:
        os.close(descriptor)


def _usage_elsewhere(pid: int) -> Usage:
    import psutil

    resident, seconds, processes, found = 0, 0.0, -1, []
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                resident += process.memory_info().rss
                seconds += times.user + times.system
                processes += process.num_threads()
                found.append(process.pid)
    return Usage(resident, seconds, max(0, processes), tuple(found))


def _parent_elsewhere(pid: int) -> int:
    import psutil

    try:
        return psutil.Process(pid).ppid()
    except psutil.NoSuchProcess:
        raise ProcessLookupError from None
