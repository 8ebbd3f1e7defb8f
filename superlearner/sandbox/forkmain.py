"""The fork server's own program: a small synchronous loop that forks hosts and buries them.

It has imported what every host needs, runs one thread, and waits on two things only: its control socket
and SIGCHLD. What it forks belongs to no sandbox yet: its first frame tells a host what it shall run, and within what
limits. Each host leads its own session and group. When a host ends, whoever is left of its group is
killed, and so is whatever escaped from the group: the host and the server are subreapers, so an orphan of a
host comes to the host while it lives and to the server after it. An exit is told at once; a group is told
*clean* when every one of it has been reaped and its directory is gone.

When the control socket closes (the worker died, by SIGKILL too), everything below the server is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import selectors
import shutil
import signal
import socket
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import msgpack

from superlearner.sandbox import host
from superlearner.sandbox.limits import EXIT_BROKEN
from superlearner.sandbox.prctl import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, prctl
from superlearner.sandbox.rehearsal import rehearse

#: Seconds that the last clean-up may take before the server leaves anyway.
_LAST_CLEANUP = 10.0


@dataclass(slots=True)
class _Host:
    pid: int
    directory: Path
    ended: bool = False
    cleaner: int | None = None
    waiting: list[int] = field(default_factory=list)


class _Server:
    def __init__(self, control: socket.socket, root: Path) -> None:
        self._control = control
        self._root = root
        self._hosts: dict[int, _Host] = {}
        self._descriptors: list[int] = []
        self._unpacker = msgpack.Unpacker()
        self._open = True
        self._wakeup, self._wakeup_write = socket.socketpair()
        self._wakeup.setblocking(False)
        self._wakeup_write.setblocking(False)
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        signal.set_wakeup_fd(self._wakeup_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            # The handler does nothing: its number arrives as a byte in the loop below.
            signal.signal(number, lambda _number, _frame: None)
        self._selector.register(self._control, selectors.EVENT_READ, self._on_control)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._on_signal)
        self._tell(["ready", os.getpid(), 0])
        while self._open:
            self._turn(None)
        self._end_all()

    def _turn(self, timeout: float | None) -> None:
        for key, _ in self._selector.select(timeout):
            key.data()

    def _tell(self, message: list[Any]) -> None:
        try:
            self._control.sendall(msgpack.packb(message))
        except OSError:
            # The worker is gone; the end of file on the control socket says so as well.
            self._open = False

    # -- What the worker asks

    def _on_control(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._control, 65536, 64)
        except OSError:
            data, descriptors = b"", []
        if not data:
            self._open = False
            self._selector.unregister(self._control)
            return
        self._descriptors.extend(descriptors)
        self._unpacker.feed(data)
        for verb, number, pid in self._unpacker:
            if verb in ("fork", "spare"):
                self._fork(number, spare=verb == "spare")
            else:
                self._kill(number, pid)

    def _fork(self, number: int, *, spare: bool) -> None:
        stream, output = self._descriptors[:2]
        del self._descriptors[:2]
        directory = self._root / str(number)
        try:
            # On a full disk a host without a directory of its own is better than none.
            with contextlib.suppress(OSError):
                directory.mkdir(mode=0o700)
            pid = os.fork()
        except OSError as error:
            self._tell(["not_forked", number, f"{type(error).__name__}: {error}"])
        else:
            if pid == 0:
                self._become_host(stream, output, directory, spare=spare)
            self._hosts[pid] = _Host(pid, directory)
            self._tell(["forked", number, pid])
        finally:
            os.close(stream)
            os.close(output)

    def _become_host(self, stream: int, output: int, directory: Path, *, spare: bool) -> NoReturn:
        code = EXIT_BROKEN
        try:
            server = os.getppid()
            os.setsid()
            _offer_to_the_kernel()
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            prctl(PR_SET_CHILD_SUBREAPER, 1)
            if os.getppid() != server:
                os._exit(code)
            signal.set_wakeup_fd(-1)
            for one in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
                signal.signal(one, signal.SIG_DFL)
            _keep_descriptors(stream, output)
            os.environ["TMPDIR"] = str(directory)
            gc.enable()
            if spare:
                # It has the time: whoever takes it finds its own copies of the pages that a start writes to.
                rehearse(1)
            code = host.main(socket.socket(fileno=3))
        except BaseException:
            os.write(2, traceback.format_exc().encode(errors="replace"))
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            os._exit(code)

    def _kill(self, number: int, pid: int) -> None:
        found = self._hosts.get(pid)
        if found is None:
            # It was clean before: its pid may belong to somebody else by now.
            self._tell(["clean", number, pid])
            return
        found.waiting.append(number)
        self._strike(found)
        self._bury()

    def _strike(self, one: _Host) -> None:
        if not one.ended:
            # Before its setsid() a child is in no group of its own yet.
            _kill(os.kill, one.pid)
        _kill(os.killpg, one.pid)

    # -- What the kernel tells

    def _on_signal(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while data := self._wakeup.recv(4096):
                if signal.SIGTERM in data:
                    self._open = False
        self._bury()

    def _bury(self) -> None:
        """Reap whoever has ended, kill what they left behind, and tell who is clean."""
        while (pid := _ended_child()) is not None:
            found = self._hosts.get(pid)
            if found is not None and not found.ended:
                # While it is not reaped its pid, and so its group, cannot belong to anyone else.
                _kill(os.killpg, pid)
                _, status, used = os.wait4(pid, 0)
                found.ended = True
                code = os.waitstatus_to_exitcode(status)
                self._tell(["exited", pid, [code, used.ru_utime + used.ru_stime, used.ru_maxrss * _RSS_UNIT]])
            else:
                os.waitpid(pid, 0)
                self._cleaned(pid)
        if not any(one.ended for one in self._hosts.values()):
            return
        cleaners = {one.cleaner for one in self._hosts.values()}
        orphans = [pid for pid in _children() if pid not in self._hosts and pid not in cleaners]
        for orphan in orphans:
            _kill(os.kill, orphan)
        if not orphans:
            for one in [one for one in self._hosts.values() if one.ended and one.cleaner is None]:
                if not _group_lives(one.pid):
                    self._clean(one)

    def _clean(self, one: _Host) -> None:
        try:
            one.directory.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            # Not empty: a large tree must not hold up the others, so a child of its own removes it.
            one.cleaner = os.fork()
            if one.cleaner == 0:
                _remove_and_exit(one.directory)
            return
        self._forget(one)

    def _cleaned(self, pid: int) -> None:
        for one in [one for one in self._hosts.values() if one.cleaner == pid]:
            self._forget(one)

    def _forget(self, one: _Host) -> None:
        del self._hosts[one.pid]
        for number in one.waiting:
            self._tell(["clean", number, one.pid])

    def _end_all(self) -> None:
        deadline = time.monotonic() + _LAST_CLEANUP
        if self._control in self._selector.get_map():
            self._selector.unregister(self._control)
        for one in list(self._hosts.values()):
            self._strike(one)
        self._bury()
        while self._hosts and (left := deadline - time.monotonic()) > 0:
            self._turn(left)
        shutil.rmtree(self._root, ignore_errors=True)


def _kill(how: Any, pid: int) -> None:
    # Already gone, or no longer ours (a set-uid program): the check that nothing is left has the last word.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        how(pid, signal.SIGKILL)


def _ended_child() -> int | None:
    """Return a child that has ended and is not reaped yet."""
    try:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if found is None else found.si_pid


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _children() -> list[int]:
    """Return the children of this process; where the system cannot tell, it adopts no orphans either."""
    me = os.getpid()
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/{me}/task/{me}/children").read_text().split()]
    return []


def _remove_and_exit(directory: Path) -> NoReturn:
    try:
        # Unlike shutil.rmtree it copes with any depth, and with a file where the directory was.
        os.execvp("rm", ["rm", "-rf", "--", str(directory)])
    except OSError:
        shutil.rmtree(directory, ignore_errors=True)
    finally:
        os._exit(0)


def _offer_to_the_kernel() -> None:
    """When the machine runs out of memory the kernel shall end this process, not its node."""
    with contextlib.suppress(OSError):
        descriptor = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(descriptor, b"1000")
        os.close(descriptor)


def _keep_descriptors(stream: int, output: int) -> None:
    """Make 0 nothing, 1 and 2 the captured output, 3 the frames, and close the rest."""
    # Out of the way first: any of them may be sitting on another's number.
    stream, output = (fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in (stream, output))
    nothing = os.open(os.devnull, os.O_RDWR)
    for source, target in ((nothing, 0), (output, 1), (output, 2), (stream, 3)):
        os.dup2(source, target, inheritable=target < 3)
    for descriptor in [int(name) for name in os.listdir("/dev/fd")]:  # noqa: PTH208 - the names are numbers
        # The listing's own descriptor is among them, and closed by now.
        if descriptor > 3:
            with contextlib.suppress(OSError):
                os.close(descriptor)


#: Linux counts the peak in KiB, macOS in bytes.
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def main() -> None:
    """Serve until the control socket closes. Arguments: its number, the ``PYTHONPATH`` of hosts, a folder."""
    control = socket.socket(fileno=int(sys.argv[1]))
    # It had the path of its node, to find what that can import.
    if sys.argv[2]:
        os.environ["PYTHONPATH"] = sys.argv[2]
    else:
        del os.environ["PYTHONPATH"]
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    rehearse()
    # What exists now is shared by every host: no collection may touch its pages, before or after a fork.
    gc.disable()
    gc.collect()
    gc.freeze()
    _Server(control, Path(sys.argv[3])).run()


if __name__ == "__main__":
    main()
