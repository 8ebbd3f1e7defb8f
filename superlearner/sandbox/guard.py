"""What a host keeps its own code from doing to others, by accident: an audit hook, which no handler can remove.

Python tells its audit hooks of every attempt to send a signal or to start a process or thread, in the host
and in what it forks. What the hook refuses fails where it was tried, so one process crashes and nothing else.
"""

from __future__ import annotations

import _thread
import errno
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from superlearner.sandbox.usage import is_below, usage

_STARTS = (
    "os.fork",
    "os.forkpty",
    "os.system",
    "os.posix_spawn",
    "os.spawn",
    "subprocess.Popen",
    "_thread.start_new_thread",
)


def guard(processes: int | None) -> None:
    """Bind this process, a host that has just been forked, and whatever it will fork.

    Parameters
    ----------
    processes
        How many processes and threads may be below it; None: any number.
    """
    host = os.getpid()
    checks: dict[str, Callable[[tuple[Any, ...]], None]] = {
        "os.kill": lambda arguments: _check_signal(host, arguments[0], arguments[1]),
        "os.killpg": lambda arguments: _check_signal(host, -arguments[0], arguments[1]),
    }
    if processes is not None:
        checks |= dict.fromkeys(_STARTS, lambda _: _check_count(host, processes))

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        found = checks.get(event)
        if found is not None:
            found(arguments)

    sys.addaudithook(check)
    if processes is not None and sys.version_info < (3, 12):
        _guard_threads(host, processes)


def _guard_threads(host: int, allowed: int) -> None:
    """Do by hand what Python tells its audit hooks of from 3.12 on only: the start of a thread."""
    start = _thread.start_new_thread

    def start_new_thread(*arguments: Any) -> int:
        _check_count(host, allowed)
        return start(*arguments)

    for module, name in ((_thread, "start_new_thread"), (threading, "_start_new_thread")):
        setattr(module, name, start_new_thread)


def _check_count(host: int, allowed: int) -> None:
    # Counted from the host, in what it has forked too: else each child of a fork bomb would have a budget.
    if usage(host).processes >= allowed:
        raise BlockingIOError(errno.EAGAIN, f"child process limit {allowed}")


def _check_signal(host: int, target: int, number: int) -> None:
    """Refuse a signal to anything but the sandbox's own processes: its parent carries all of its neighbours."""
    if number == 0:
        return
    # 0 is the own group; below -1 a group is meant, which has the number of the process that founded it.
    if target == 0 or (target != -1 and is_below(abs(target), host)):
        return
    whom = (
        "all processes" if target == -1 else f"process {target}" if target > 0 else f"process group {-target}"
    )
    raise PermissionError(
        errno.EPERM,
        f"A sandbox may send signals to itself and to what it has started only, so {_name(number)} to {whom} "
        "was not sent",
    )


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
