"""The node's side of the warm fork server: ask for a host, learn of its end, make sure nothing is left.

Some hosts stand by: forked in advance, while nothing else is to be done, they have made the copies of the pages that
every host makes, and wait for what they shall run. (Android's zygote keeps a pool of such "unspecialized" processes.)
So when many sandboxes have to be started at once, as after the loss of a node, most of the work has been done.

A Dask worker is a daemonic process, which `multiprocessing` does not allow to have children; so the server
is a program of its own (`forkmain`), started with `subprocess`, and talks over an inherited socket pair.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from superlearner.errors import StartFailed, SuperlearnerError
from superlearner.sandbox.limits import ExitStatus

#: Variables that a host may see; everything else of the node's environment, secrets above all, is dropped.
KEPT = ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONHOME", "USER", "LOGNAME")
_READY_TIMEOUT = 60.0
#: Seconds without a start after which the hosts that stand by are seen to: starts come first.
_QUIET = 0.5
#: Seconds for which a change of how many are wanted is put off: it seldom comes alone.
_SOON = 0.05
_KILL_TIMEOUT = 10.0


def scrubbed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of an environment that a host may see.

    >>> scrubbed({"PATH": "/bin", "LC_ALL": "C", "AWS_SECRET_ACCESS_KEY": "x"})
    {'PATH': '/bin', 'LC_ALL': 'C'}
    """
    return {name: value for name, value in environment.items() if name in KEPT or name.startswith("LC_")}


@dataclass(frozen=True, slots=True)
class HostProcess:
    """A host that has been forked: its pid, our end of its frames, its output, and its end."""

    pid: int
    socket: socket.socket
    #: The reading end of a pipe with what it writes to its standard output and error; the owner closes it.
    output: int
    #: Its temporary directory.
    directory: str
    #: Done when the process has ended.
    exited: asyncio.Future[ExitStatus]

    def release(self) -> None:
        """Close our ends of its frames and its output."""
        self.socket.close()
        os.close(self.output)


class _Gone(StartFailed):
    """The server has died."""


class ForkServer:
    """The warm fork server of one node. Start it with the node: it takes most of a second to boot.

    A server that has died is started again by the next `host`; its hosts have died with it.

    Parameters
    ----------
    directory
        Where it makes its temporary files; None: where this process does.
    spares
        Returns how many hosts shall stand by; `stand_by` says that this may have changed.
    """

    def __init__(self, directory: str | None = None, spares: Callable[[], int] = lambda: 0) -> None:
        self._directory = directory
        self._wanted = spares
        self._spares: list[HostProcess] = []
        self._quiet: asyncio.TimerHandle | None = None
        self._adjusting: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._root: str | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[int] | None = None
        self._starting = asyncio.Lock()
        self._sending = asyncio.Lock()
        self._number = 0
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._exits: dict[int, asyncio.Future[ExitStatus]] = {}
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The server's pid, None while there is none."""
        return None if self._process is None else self._process.pid

    @property
    def hosts(self) -> frozenset[int]:
        """The pids of the hosts that live, without those that stand by."""
        return frozenset(self._exits) - self.spares

    @property
    def spares(self) -> frozenset[int]:
        """The pids of the hosts that stand by."""
        return frozenset(spare.pid for spare in self._spares)

    async def start(self) -> None:
        """Start the server unless it runs.

        Raises
        ------
        StartFailed
            When it does not come up, or has been closed.
        """
        async with self._starting:
            if self._closed:
                raise StartFailed("it has been closed", "the fork server")
            if self._control is not None:
                return
            if self._reader is not None:
                # The last one has ended; what it left is being cleared away.
                await asyncio.wait((self._reader,))
            await self._boot()

    async def _boot(self) -> None:
        loop = asyncio.get_running_loop()
        self._root = tempfile.mkdtemp(prefix="superlearner-", dir=self._directory)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        path = os.environ.get("PYTHONPATH", "")
        program = "superlearner.sandbox.forkmain"
        # -P: what lies in the folder that the node was started in must not come before the node's own path.
        command = [sys.executable, "-P", "-m", program, str(theirs.fileno()), path, self._root]
        try:
            self._process = await asyncio.to_thread(_launch, command, theirs.fileno())
        finally:
            theirs.close()
        self._control = ours
        self._ready = loop.create_future()
        self._reader = loop.create_task(self._read(ours, self._ready), name="fork server reader")
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), _READY_TIMEOUT)
        except TimeoutError:
            self._process.kill()
            raise StartFailed(f"it was not ready within {_READY_TIMEOUT:g} s", "the fork server") from None

    async def host(self) -> HostProcess:
        """Return a host that belongs to no sandbox yet: one that stands by, or a new one.

        Raises
        ------
        StartFailed
            When the server cannot fork, or is gone.
        """
        self._see_to_spares(_QUIET)
        if self._spares:
            return self._spares.pop()
        try:
            return await self._fork()
        except _Gone:
            # It had died before it was asked, or over it: a new one is worth one try.
            return await self._fork()

    def expect(self) -> None:
        """Let a host stand by now: one is about to be asked for. If none is, it is ended as one too many."""
        self._see_to_spares(_QUIET)
        if not self._spares:
            self._see_to(self._add_spare)

    def stand_by(self) -> None:
        """Soon, unless a start has just been asked for, let as many hosts stand by as are wanted now."""
        if self._quiet is None:
            self._see_to_spares(_SOON)

    def _see_to_spares(self, delay: float) -> None:
        if self._quiet is not None:
            self._quiet.cancel()
        self._quiet = asyncio.get_running_loop().call_later(delay, self._on_quiet)

    def _on_quiet(self) -> None:
        self._quiet = None
        self._see_to(self._adjust)

    def _see_to(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._control is not None and (self._adjusting is None or self._adjusting.done()):
            self._adjusting = asyncio.create_task(self._try(work), name="fork server spares")

    async def _try(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except (SuperlearnerError, OSError):
            # There is no room for one that is not needed yet, or one does not end: whoever needs one learns of it,
            # and the server's end is theirs.
            return

    async def _adjust(self) -> None:
        """Fork spare hosts until there are enough or a start is asked for; end those that are too many."""
        while self._quiet is None and len(self._spares) < self._wanted():
            await self._add_spare()
        await self._end_surplus()

    async def _add_spare(self) -> None:
        spare = await self._fork("spare")
        self._spares.append(spare)
        spare.exited.add_done_callback(functools.partial(self._on_spare_ended, spare))

    async def trim(self) -> None:
        """End the hosts that stand by beyond what is wanted now; when this returns nothing of them is left."""
        if self._adjusting is not None:
            await asyncio.wait((self._adjusting,))  # it may be about to add one
        await self._end_surplus()

    async def _end_surplus(self) -> None:
        while len(self._spares) > self._wanted():
            spare = self._spares.pop()
            try:
                await self.kill_group(spare.pid)
            finally:
                spare.release()

    def _on_spare_ended(self, spare: HostProcess, _: asyncio.Future[ExitStatus]) -> None:
        if spare in self._spares:
            self._spares.remove(spare)
            spare.release()

    async def _fork(self, verb: str = "fork") -> HostProcess:
        await self.start()
        ours, theirs = socket.socketpair()
        output, output_write = os.pipe()
        try:
            pid, directory, exited = await self._ask(verb, 0, [theirs.fileno(), output_write])
        except BaseException:
            ours.close()
            os.close(output)
            raise
        finally:
            theirs.close()
            os.close(output_write)
        ours.setblocking(False)
        return HostProcess(pid, ours, output, directory, exited)

    async def kill_group(self, pid: int) -> None:
        """Kill a host with everything it started, and wait until nothing of it is left, its files included.

        Raises
        ------
        SuperlearnerError
            When something of it is still there after 10 s.
        """
        if self._control is None:
            # The server's end has killed all of its hosts.
            return
        try:
            await asyncio.wait_for(self._ask("kill", pid), _KILL_TIMEOUT)
        except TimeoutError:
            raise SuperlearnerError(
                f"Processes of group {pid} are still there {_KILL_TIMEOUT:g} s after SIGKILL."
            ) from None
        except _Gone:
            # The server died over it, and its hosts with it.
            return

    async def close(self) -> None:
        """End the server and every host; idempotent."""
        self._closed = True
        if self._quiet is not None:
            self._quiet.cancel()
        if self._control is not None:
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_WR)
        if self._reader is not None:
            await self._reader
        if self._adjusting is not None:
            await self._adjusting

    # -- The socket

    async def _ask(self, verb: str, pid: int, descriptors: list[int] | None = None) -> Any:
        control = self._control
        if control is None:
            raise _Gone("it has ended", "the fork server")
        self._number += 1
        number = self._number
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            async with self._sending:
                await _send(control, msgpack.packb([verb, number, pid]), descriptors or [])
            return await answer
        except OSError as error:
            raise _Gone(f"it is gone ({error})", "the fork server") from error
        finally:
            self._answers.pop(number, None)

    async def _read(self, control: socket.socket, ready: asyncio.Future[int]) -> None:
        loop = asyncio.get_running_loop()
        unpacker = msgpack.Unpacker()
        try:
            while data := await _receive(loop, control):
                unpacker.feed(data)
                for kind, number, value in unpacker:
                    self._on_message(kind, number, value, ready)
        finally:
            await self._on_lost(control, ready)

    def _on_message(self, kind: str, number: int, value: Any, ready: asyncio.Future[int]) -> None:
        answer = self._answers.get(number)
        if kind == "ready":
            ready.set_result(number)
        elif kind == "exited":
            exited = self._exits.pop(number, None)
            if exited is not None and not exited.done():
                exited.set_result(ExitStatus(*value))
        elif kind == "forked":
            # Its end may come in the same breath, before whoever asked has woken up.
            exited = self._exits[value] = asyncio.get_running_loop().create_future()
            value = (value, f"{self._root}/{number}", exited)
        if answer is None or answer.done():
            return
        if kind == "not_forked":
            answer.set_exception(StartFailed(value, "the host"))
        elif kind in ("forked", "clean"):
            answer.set_result(value)

    async def _on_lost(self, control: socket.socket, ready: asyncio.Future[int]) -> None:
        self._control = None
        for pid, exited in self._exits.items():
            # The kernel ends the hosts with the server; this ends what they started.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            if not exited.done():
                exited.set_result(ExitStatus(None))
        self._exits.clear()
        gone = _Gone("it has ended", "the fork server")
        for answer in (ready, *self._answers.values()):
            if not answer.done():
                answer.set_exception(gone)
                # Whoever waits sees it; a boot that timed out has nobody waiting.
                answer.exception()
        control.close()
        process, root = self._process, self._root
        if process is not None:
            await asyncio.to_thread(_reap, process)
        if root is not None:
            await asyncio.to_thread(_sweep, root)
            await asyncio.to_thread(shutil.rmtree, root, ignore_errors=True)


def _sweep(root: str) -> None:
    """Kill the programs that hosts of a dead server started in sessions of their own.

    Their parents are gone, and so is the server that would have adopted them; what still tells whose they
    are is the temporary directory in their environment. Does nothing where there is no ``/proc``.
    """
    mark = b"TMPDIR=" + os.fsencode(root) + b"/"
    for entry in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it ended meanwhile, or is somebody else's
            if any(line.startswith(mark) for line in entry.read_bytes().split(b"\0")):
                os.kill(int(entry.parent.name), signal.SIGKILL)


def _launch(command: list[str], descriptor: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        # What the node can import its hosts can: the folder of a script, too, which only sys.path knows.
        env=scrubbed(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[descriptor],
        # Its own session: a Ctrl-C in the terminal is the node's business.
        start_new_session=True,
    )


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_KILL_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def _receive(loop: asyncio.AbstractEventLoop, control: socket.socket) -> bytes:
    try:
        return await loop.sock_recv(control, 65536)
    except OSError:
        # Reset: the same as the end of file.
        return b""


async def _send(control: socket.socket, data: bytes, descriptors: list[int]) -> None:
    loop = asyncio.get_running_loop()
    sent = 0
    if descriptors:
        while not sent:
            try:
                sent = socket.send_fds(control, [data], descriptors)
            except BlockingIOError:
                await _writable(loop, control)
    await loop.sock_sendall(control, data[sent:])


async def _writable(loop: asyncio.AbstractEventLoop, control: socket.socket) -> None:
    ready = asyncio.Event()
    loop.add_writer(control, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(control)
