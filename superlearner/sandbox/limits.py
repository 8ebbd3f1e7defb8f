"""The limits of a sandbox: how each is enforced, and how a death is named after the one it broke.

- ``memory``: ``RLIMIT_DATA``, above what the warm fork brought along, raises ``MemoryError`` in the handler that
  asks for more, so its process crashes alone, and its reason names the limit. Shared mappings and child processes
  are counted by the instance once a second; past the limit the host ends: ``memory limit 64 MiB``.
- ``cpu_time``: ``RLIMIT_CPU``, in whole seconds rounded up, ends the host: ``CPU time limit 2 s``. That of child
  processes is added up by the instance once a second.
- ``wall_clock``: the instance ends the host: ``wall clock limit 60 s``.
- ``open_files``: ``RLIMIT_NOFILE`` raises ``OSError: Too many open files (open file limit 64)`` in the handler.
- ``processes``: an audit hook (``guard``) raises ``BlockingIOError: child process limit 4`` in the handler;
  programs that the hook does not bind are counted by the instance once a second, and end the host with the same
  words.
- ``disk``: ``RLIMIT_FSIZE`` raises ``OSError: File too large (disk limit 16 MiB)`` in the handler that makes one
  larger; the instance adds up the temporary directory once a second: ``disk limit 16 MiB``.

``RLIMIT_AS`` cannot be used, since a fork shares its parent's whole address space; ``RLIMIT_NPROC``
neither, since it counts all of a user's processes and does not bind root.
"""

from __future__ import annotations

import errno
import math
import resource
import signal
import sys
import threading
from dataclasses import dataclass

from superlearner.core.spec import Resources
from superlearner.sandbox.guard import guard
from superlearner.sandbox.usage import Usage, private_memory

#: What a host exits with when its own machinery ran out of memory.
EXIT_MEMORY = 213
#: What a host exits with when its instance is gone.
EXIT_ORPHANED = 214
#: What a host exits with when the lease of its node has run out.
EXIT_FENCED = 215
#: What a host exits with when its own machinery raised; the last line of its output says what.
EXIT_BROKEN = 70
#: Stack of a thread in a host with a memory limit: glibc's 8 MiB would count whole against ``RLIMIT_DATA``.
THREAD_STACK = 2**20
_PAGE = resource.getpagesize()
#: Seconds that the kernel has to notice by itself that the host has used up its processor time.
_CPU_GRACE = 0.5


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How an OS process ended, as the fork server saw it."""

    #: Its exit code; ``-n`` when signal ``n`` killed it; None when nobody could see it.
    code: int | None
    #: Seconds of processor time that it used.
    cpu_time: float = 0.0
    #: The most memory that it had at once, in bytes, with what it shared.
    peak_memory: int = 0


def apply_limits(limits: Resources) -> None:
    """Set the limits of this process, a host that has just been forked."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, limits.open_files)
    if limits.cpu_time is not None:
        seconds = math.ceil(limits.cpu_time)
        # A second later SIGKILL, for programs that handle or ignore SIGXCPU.
        _lower(resource.RLIMIT_CPU, seconds, seconds + 1)
    if limits.memory_bytes is not None and sys.platform == "linux":
        threading.stack_size(THREAD_STACK)
        _lower(resource.RLIMIT_DATA, _data_size() + limits.memory_bytes)
    if limits.disk_bytes is not None:
        # Python ignores the signal that comes with it.
        _lower(resource.RLIMIT_FSIZE, limits.disk_bytes)
    guard(limits.processes)


def _lower(kind: int, soft: int, hard: int | None = None) -> None:
    _, ceiling = resource.getrlimit(kind)
    wanted = soft if hard is None else hard
    if ceiling != resource.RLIM_INFINITY:
        soft, wanted = min(soft, ceiling), min(wanted, ceiling)
    resource.setrlimit(kind, (soft, wanted))


def _data_size() -> int:
    """Return the private writable memory of this process, as ``RLIMIT_DATA`` counts it."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - pathlib is slower, and this is on the start path
        return int(file.read().split()[5]) * _PAGE


# -- Naming --------------------------------------------------------------------------------------------


def name_exit(status: ExitStatus, limits: Resources) -> str:
    """Say why an OS process ended, by the limit it broke where it broke one.

    >>> name_exit(ExitStatus(-9), Resources()), name_exit(ExitStatus(3), Resources())
    ('killed (SIGKILL)', 'exit code 3')
    >>> name_exit(ExitStatus(-signal.SIGXCPU, cpu_time=2.0), Resources(cpu_time=2))
    'CPU time limit 2 s'
    """
    code = status.code
    if code is None:
        return "lost with the fork server"
    if code == EXIT_MEMORY and limits.memory is not None:
        return name_memory(limits)
    if code == EXIT_ORPHANED:
        return "its instance was gone"
    if code == EXIT_FENCED:
        return "its node's lease has run out"
    if code == EXIT_BROKEN:
        return "its own machinery broke"
    if code >= 0:
        return f"exit code {code}"
    cpu_time = limits.cpu_time
    used_up = cpu_time is not None and status.cpu_time >= math.ceil(cpu_time) - 0.05
    if -code == signal.SIGXCPU or (-code == signal.SIGKILL and used_up):
        return f"CPU time limit {cpu_time:g} s" if cpu_time is not None else "killed (SIGXCPU)"
    try:
        return f"killed ({signal.Signals(-code).name})"
    except ValueError:
        return f"killed (signal {-code})"


def name_memory(limits: Resources) -> str:
    """Name the memory limit as a reason of death.

    >>> name_memory(Resources(memory="64 MiB"))
    'memory limit 64 MiB'
    """
    return f"memory limit {(limits.memory_bytes or 0) / 2**20:g} MiB"


def name_disk(limits: Resources) -> str:
    """Name the disk limit as a reason of death.

    >>> name_disk(Resources(disk="16 MiB"))
    'disk limit 16 MiB'
    """
    return f"disk limit {(limits.disk_bytes or 0) / 2**20:g} MiB"


def name_in(error: BaseException, limits: Resources) -> None:
    """Name in an exception the limit that it is about, if any.

    >>> error = MemoryError()
    >>> name_in(error, Resources(memory="64 MiB"))
    >>> error
    MemoryError('memory limit 64 MiB')
    """
    if isinstance(error, MemoryError):
        if not error.args and limits.memory is not None:
            error.args = (name_memory(limits),)
    elif isinstance(error, OSError):
        name = _limit_of(error, limits)
        if name is not None and name not in str(error):
            error.strerror = f"{error.strerror} ({name})"
            error.args = (error.errno, error.strerror)


def _limit_of(error: OSError, limits: Resources) -> str | None:
    if error.errno == errno.EMFILE:
        return f"open file limit {limits.open_files}"
    if error.errno == errno.ENOMEM and limits.memory is not None:
        return name_memory(limits)
    return name_disk(limits) if error.errno == errno.EFBIG and limits.disk is not None else None


def broken_limit(now: Usage, limits: Resources, shared: int) -> str | None:
    """Return the name of the limit that `now` breaks, if any.

    Parameters
    ----------
    now
        What the host uses.
    limits
        What it may use.
    shared
        The bytes it had when it was forked, which it shares with the fork server.
    """
    # The hook in the host refuses at the limit; beyond it are programs that the hook does not bind.
    if limits.processes is not None and now.processes > limits.processes:
        return f"child process limit {limits.processes}"
    if limits.cpu_time is not None and now.cpu_time > math.ceil(limits.cpu_time) + _CPU_GRACE:
        return f"CPU time limit {limits.cpu_time:g} s"
    if limits.memory_bytes is not None and now.resident - shared > limits.memory_bytes:
        # That counts what the host shares with its children once for each of them; this costs more and does not.
        private = private_memory(now.pids)
        if private is None or private > limits.memory_bytes:
            return name_memory(limits)
    return None
