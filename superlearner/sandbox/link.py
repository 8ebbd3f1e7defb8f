"""One living host, seen from its instance: its frames, its output, its health and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.spec import SandboxSpec
from superlearner.errors import CheckpointFailed, StaleEpoch, StartFailed
from superlearner.sandbox.forkserver import ForkServer, HostProcess
from superlearner.sandbox.frames import FrameError, FrameStream, pack
from superlearner.sandbox.limits import EXIT_BROKEN, EXIT_FENCED, EXIT_ORPHANED, ExitStatus, name_exit
from superlearner.sandbox.output import Output
from superlearner.sandbox.services import Answer, Outlet
from superlearner.sandbox.usage import has_ended, own_memory, usage
from superlearner.sandbox.watch import Watch

#: Seconds in which what a dead host has written must have been read.
_DRAIN = 5.0
#: Seconds that a host may go on after it has closed its end of the frames.
_LINGER = 2.0


class Owner(Protocol):
    """What a link tells to its instance; each is called on the event loop and must not block."""

    def on_reply(self, number: int, status: int, payload: bytes) -> None:
        """Take the answer to request `number`."""

    def on_replies(self, numbers: list[int], payloads: list[bytes]) -> None:
        """Take the answers to several requests, none of which is an exception."""

    def on_owed(self, number: int, status: int, payload: bytes) -> None:
        """Take an answer that may leave when a checkpoint that is taken later is stored."""

    def on_taken(self) -> int:
        """Learn that the host has taken a checkpoint, or could not; return the mark by which it is known."""

    def on_events(self, events: list[dict[str, Any]]) -> None:
        """Take events that the host recorded."""

    def keep(self, saved: Saved) -> CheckpointVersion:
        """Number and store a checkpoint; raise `StaleEpoch` or `CheckpointFailed` when that is refused."""

    def on_checkpoint(self, saved: Saved) -> None:
        """Take a checkpoint that the host made by its policy."""

    def on_not_saved(self, reason: str, mark: int) -> None:
        """Learn that a checkpoint by the host's policy failed."""

    def on_health(self, *, responsive: bool) -> None:
        """Learn that the host has stopped, or started again, to answer pings."""

    def open_outlet(self, answer: Answer, wait: Callable[[bool], None]) -> Outlet:
        """Open the host's way to other sandboxes; `wait` makes the host wait, or lets it go on."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint as a host made it."""

    payload: bytes
    #: Messages its processes had handled.
    handled: int
    next_serial: int
    #: Processes whose state could not be saved, each with the reason.
    skipped: tuple[tuple[str, str], ...] = ()
    #: What `Owner.on_taken` said of it.
    mark: int = 0


class Interrupted(StartFailed):
    """A start was broken off from outside: that says nothing of what was started."""


#: How a host ends that did not do so by itself: nobody saw it, SIGKILL, the lease, the loss of its node.
_FROM_OUTSIDE = frozenset({None, -signal.SIGKILL, EXIT_FENCED, EXIT_ORPHANED})


def _send_at_once(sock: socket.socket, data: bytes) -> int:
    """Send on a socket that nothing has been sent on; return how many bytes have left."""
    try:
        return sock.send(data)
    except OSError:  # it has ended meanwhile, which its stream tells
        return 0


class Link:
    """A host process and everything that belongs to its end of the wall. Make one with `Link.open`."""

    def __init__(
        self, spec: SandboxSpec, process: HostProcess, fork_server: ForkServer, owner: Owner
    ) -> None:
        loop = asyncio.get_running_loop()
        self.pid = process.pid
        self._spec = spec
        self._process = process
        self._fork_server = fork_server
        self._owner = owner
        self._loop = loop
        self._output: Output | None = None
        self._stream: FrameStream
        #: Set when there is somebody to read what it writes, or never will be.
        self._opened = asyncio.Event()
        self._drained: asyncio.Future[None] = loop.create_future()
        self._ready: asyncio.Future[None] = loop.create_future()
        self._saves: dict[int, asyncio.Future[tuple[Saved, CheckpointVersion]]] = {}
        self._next_save = 0
        #: Its way to other sandboxes, once it has sent something there.
        self.outlet: Outlet | None = None
        self._cause: str | None = None
        self._lingered = False
        self._own_reason: Any = None
        self._linger: asyncio.TimerHandle | None = None
        self._watcher = Watch(process.pid, spec, process.directory, self._ping, self._strike, self._on_health)
        #: Messages that its processes had handled at the last pong.
        self.handled = 0
        #: Messages that waited in its mailboxes at the last pong.
        self.mailbox = 0
        #: How many processes it had at the last pong; None until then.
        self.processes: int | None = None
        #: Done with the exit reason when the process has ended and all it wrote has been read.
        self.ended: asyncio.Task[Any] = loop.create_task(self._watch(), name=f"end of host {self.pid}")

    @classmethod
    async def open(
        cls,
        spec: SandboxSpec,
        fork_server: ForkServer,
        owner: Owner,
        config: Mapping[str, Any],
    ) -> Link:
        """Take a host and send it what it shall run; `started` tells how that went."""
        process = await fork_server.host()
        link = cls(spec, process, fork_server, owner)
        try:
            order = pack(["start", f"sl:{spec.id}", asdict(spec.resources), dict(config)])
            # It begins at once, while this side is still busy with the other hosts that are started together.
            sent = _send_at_once(process.socket, order)
            link._stream = await FrameStream.open(process.socket, link._on_frame, link._on_close)
            link._stream.send(order[sent:])
            link._output = await Output.open(process.output)
        finally:
            link._opened.set()
        link._watcher.lifetime()
        return link

    async def started(self, timeout: float) -> None:
        """Wait until the application runs.

        Raises
        ------
        StartFailed
            When it could not start, or not in time; then nothing of the host is left. `Interrupted` when it was
            killed meanwhile.
        """
        await asyncio.wait((self._ready, self.ended), timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if self._ready.done() and self._ready.exception() is None and not self.ended.done():
            return
        if not self._ready.done() and not self.ended.done():
            self._cause = f"start timed out after {timeout:g} s"
        await self.kill()
        if self._ready.done() and (error := self._ready.exception()) is not None:
            raise error
        reason = await self.ended
        if self._cause is None and self._process.exited.result().code in _FROM_OUTSIDE:
            raise Interrupted(reason)
        raise StartFailed(reason if self._cause is not None else self._with_last_words(reason))

    # -- Requests

    def write(self, frame: list[Any]) -> None:
        """Send a frame to the host."""
        self._stream.write(frame)

    @property
    def queued(self) -> int:
        """Bytes that wait because the host does not read."""
        return self._stream.queued

    async def save(self, timeout: float, settle: float = 0) -> tuple[Saved, CheckpointVersion]:
        """Let the host make a checkpoint now, or when its mailboxes are empty, at most `settle` seconds later.

        It is kept the moment it comes, before any that the host makes after it: the newest has the newest number.

        Raises
        ------
        CheckpointFailed
            When it cannot, has died, or does not answer in time.
        StaleEpoch
            When it is refused: this instance is not the owner any more.
        """
        self._next_save += 1
        number = self._next_save
        saved: asyncio.Future[tuple[Saved, CheckpointVersion]] = self._loop.create_future()
        self._saves[number] = saved
        try:
            self.write(["save", number, settle])
            async with asyncio.timeout(timeout):
                return await saved
        except TimeoutError:
            raise CheckpointFailed(None, f"the sandbox did not answer within {timeout:g} s") from None
        finally:
            self._saves.pop(number, None)

    # -- The end

    async def stop(self, reason: str, timeout: float) -> Any:
        """End the host in an orderly way, by force after `timeout`; return the reason of its end.

        When this returns nothing of the host is left.
        """
        self.write(["stop", reason, timeout])
        await asyncio.wait((self.ended,), timeout=timeout)
        if not self.ended.done():
            self._cause = f"killed: it had not stopped within {timeout:g} s"
        await self.kill()
        return await self.ended

    async def kill(self, cause: str | None = None) -> None:
        """Kill the host's whole group; when this returns nothing of it is left."""
        if cause is not None and self._cause is None:
            self._cause = cause
        await self._fork_server.kill_group(self.pid)
        await asyncio.wait((self.ended,))

    def _strike(self, cause: str) -> None:
        """Kill the host at once, for the limit that `cause` names."""
        if self._cause is None and not self.ended.done():
            self._cause = cause
            # Not reaped before `exited` is done, so the pid is still the host's own.
            if not self._process.exited.done():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, 9)

    async def _watch(self) -> Any:
        status = await asyncio.shield(self._process.exited)
        await self._opened.wait()
        # What it wrote before its end still counts: the serials it used, the answers it gave.
        await asyncio.wait((self._drained,), timeout=_DRAIN)
        self._watcher.close()
        if self._linger is not None:
            self._linger.cancel()
        for saved in self._saves.values():
            if not saved.done():
                saved.set_exception(CheckpointFailed(None, "the sandbox died meanwhile"))
        if self.outlet is not None:
            self.outlet.close()
        if hasattr(self, "_stream"):
            self._stream.close()
        if self._output is not None:
            self._output.close()
        return self._reason(status)

    def _reason(self, status: ExitStatus) -> Any:
        if self._cause is not None:
            return self._cause
        if self._own_reason is not None and (status.code == 0 or self._lingered):
            return self._own_reason
        reason = name_exit(status, self._spec.resources)
        return self._with_last_words(reason) if status.code == EXIT_BROKEN else reason

    def _with_last_words(self, reason: Any) -> Any:
        last = "" if self._output is None else self._output.last_line
        return f"{reason} ({last})" if last and last not in str(reason) else reason

    # -- What the host tells

    def _on_frame(self, frame: list[Any]) -> None:
        if type(frame[0]) is int:
            self._owner.on_reply(*frame)
            return
        if type(frame[0]) is list:
            self._owner.on_replies(frame[0], frame[2])
            return
        match frame:
            case ["out", *message]:
                if self.outlet is None:
                    self.outlet = self._owner.open_outlet(self._hand_in, self._hold_up)
                self.outlet.take(message)
            case ["events", events]:
                self._owner.on_events(events)
            case ["pong", handled, mailbox, processes]:
                self.handled, self.mailbox, self.processes = handled, mailbox, processes
                self._watcher.pong()
            case ["owed", number, status, payload]:
                self._owner.on_owed(number, status, payload)
            case ["saved", number, payload, handled, next_serial, skipped]:
                missing = tuple((a, b) for a, b in skipped)
                self._on_saved(number, Saved(payload, handled, next_serial, missing, self._owner.on_taken()))
            case ["not_saved", number, reason]:
                self._on_not_saved(number, reason)
            case ["born", shared]:
                self._watcher.limits(shared)
            case ["ready"]:
                self._watcher.health()
                self._settle_start(None)
            case ["failed", reason]:
                self._settle_start(StartFailed(reason))
            case ["ended", reason]:
                self._own_reason = tuple(reason) if isinstance(reason, list) else reason

    def _hold_up(self, wait: bool) -> None:
        if wait:
            self._stream.pause_reading()
        else:
            self._stream.resume_reading()

    def _hand_in(self, answer: list[Any]) -> None:
        """Give the host an answer from another sandbox."""
        try:
            self.write(["in", *answer])
        except FrameError as error:
            self.write(["in", answer[0], 2, ["not_serializable", False, "the reply", str(error)]])

    def _settle_start(self, error: StartFailed | None) -> None:
        if self._ready.done():
            return
        if error is None:
            self._ready.set_result(None)
        else:
            self._ready.set_exception(error)
            # A start that has timed out has nobody waiting for it any more.
            self._ready.exception()

    def _on_saved(self, number: int, saved: Saved) -> None:
        waiting = self._saves.get(number)
        if waiting is None:
            self._owner.on_checkpoint(saved)
        elif not waiting.done():
            try:
                waiting.set_result((saved, self._owner.keep(saved)))
            except (StaleEpoch, CheckpointFailed) as error:
                waiting.set_exception(error)

    def _on_not_saved(self, number: int, reason: str) -> None:
        waiting = self._saves.get(number)
        if waiting is None:
            self._owner.on_not_saved(reason, self._owner.on_taken())
        elif not waiting.done():
            waiting.set_exception(CheckpointFailed(None, reason))

    def _on_close(self, error: Exception | None) -> None:
        if not self._drained.done():
            self._drained.set_result(None)
        # A host whose frames make no sense is of no use; one that has ended them is about to leave by itself.
        if error is not None and not isinstance(error, OSError):
            self._strike(f"its frames broke: {error}")
        elif not self._process.exited.done():
            self._linger = self._loop.call_later(_LINGER, self._end_lingering)

    def _end_lingering(self) -> None:
        """End a host that cannot be reached any more but has not left."""
        if self._process.exited.done() or has_ended(self.pid):
            return
        if self._own_reason is None:
            self._strike("it closed the connection to its node (file descriptor 3)")
        else:
            self._lingered = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 9)

    # -- Watching

    @property
    def responsive(self) -> bool:
        """Whether it answers pings."""
        return self._watcher.responsive

    def _ping(self) -> None:
        self.write(["ping"])

    def _on_health(self, responsive: bool) -> None:
        self._owner.on_health(responsive=responsive)

    def measure(self) -> tuple[int, float]:
        """Return the memory that the host adds to its machine in bytes, and its processor time in seconds."""
        return own_memory(self.pid), usage(self.pid).cpu_time

    @property
    def output(self) -> bytes:
        """The last 64 KiB of what the sandbox wrote to its standard output and error."""
        return b"" if self._output is None else self._output.tail
