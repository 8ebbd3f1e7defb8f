"""Tracing: who sent what to whom, and when it was taken, in the order of a Lamport clock.

Each process has a counter; a send is counted, its number travels with the message, and whoever takes the
message sets its own counter past it. So a cause always has a smaller number than its effect, whatever the
clocks on the wall say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from superlearner.otp._pid import Pid
from superlearner.otp._process import CALL, CAST, INFO, SYSTEM, TRACED, Entry, Process, Sender, current
from superlearner.otp.messages import safe_repr

if TYPE_CHECKING:
    from superlearner.otp._kernel import Kernel

_FORMS = {CALL: "call", CAST: "cast", INFO: "info", SYSTEM: "system"}


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One message sent or taken."""

    kind: Literal["send", "receive"]
    #: The Lamport clock of `pid` at that moment.
    clock: int
    #: Whose event it is.
    pid: str
    #: The other side.
    peer: str
    #: ``call``, ``cast``, ``info``, ``reply`` or ``system``.
    form: str
    #: The message as text, shortened.
    message: str
    #: Numbers one message: a send and its receive have the same.
    id: int
    #: Unix time in seconds.
    at: float


@dataclass(frozen=True, slots=True)
class Trace:
    """A trace that was begun by `start_trace`, so far."""

    id: str
    #: Those that were asked for, in the order in which they happened.
    events: tuple[TraceEvent, ...]
    #: How many it has in all: `since` of the next read.
    total: int
    #: Whether it goes on.
    running: bool
    #: Unix time in seconds.
    began: float
    #: When it ends, or has ended: Unix time in seconds.
    ends: float
    #: At so many events it ends.
    limit: int


class Collector:
    """One trace that is being taken; keeps the first `limit` events, of messages from or to `pids` where given."""

    def __init__(self, limit: int, pids: frozenset[str] | None = None) -> None:
        self.events: list[TraceEvent] = []
        self.limit = limit
        self.on_full: Callable[[], None] | None = None
        self._pids = pids

    def add(self, event: TraceEvent) -> None:
        """Keep an event, while there is room."""
        if self._pids is not None and event.pid not in self._pids and event.peer not in self._pids:
            return
        if len(self.events) < self.limit:
            self.events.append(event)
        if len(self.events) >= self.limit and self.on_full is not None:
            self.on_full()


class Stamped:
    """A mailbox entry with the number that it was sent with."""

    __slots__ = ("clock", "entry", "id", "sender", "tracer")

    def __init__(self, tracer: Tracer, entry: Entry, sender: Pid, clock: int, id: int) -> None:
        self.tracer, self.entry, self.sender, self.clock, self.id = tracer, entry, sender, clock, id

    def received(self, process: Process) -> Entry:
        """Unwrap it, and note that `process` has taken it."""
        self.tracer.note_receive(process.pid, self.sender, self.clock, self.entry, self.id)
        return self.entry


class Tracer:
    """Stamps and notes messages while at least one collector listens."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._clocks: dict[Pid, int] = {}
        self._ids = 0
        self.collectors: list[Collector] = []

    def sent(self, target: Process, entry: Entry) -> Entry:
        """Note a send and return the entry with its stamp."""
        sender = self._sender(entry)
        clock = self._tick(sender, 0)
        self._ids += 1
        self._note("send", clock, sender, target.pid, entry, self._ids)
        return (TRACED, Stamped(self, entry, sender, clock, self._ids))

    def sent_away(self, address: str, entry: Entry) -> None:
        """Note a message to another sandbox, whose own trace tells when it was taken."""
        sender = self._sender(entry)
        self._ids += 1
        self._note("send", self._tick(sender, 0), sender, address, entry, self._ids)

    def _sender(self, entry: Entry) -> Pid:
        if entry[0] == CALL:
            return entry[1].pid  # type: ignore[no-any-return]
        process = current.get(None)
        return self._kernel.outside if process is None else process.pid

    def note_receive(self, pid: Pid, sender: Pid, clock: int, entry: Entry, id: int) -> None:
        """Note that a message was taken."""
        self._note("receive", self._tick(pid, clock), pid, sender, entry, id)

    def note_reply(self, callee: Pid, sender: Sender, value: Any) -> None:
        """Note an answer: it reaches the waiting caller at once."""
        clock = self._tick(callee, 0)
        self._ids += 1
        entry = (-1, value)
        self._note("send", clock, callee, sender.pid, entry, self._ids)
        self.note_receive(sender.pid, callee, clock, entry, self._ids)

    def _tick(self, pid: Pid, seen: int) -> int:
        clock = max(self._clocks.get(pid, 0), seen) + 1
        self._clocks[pid] = clock
        return clock

    def _note(
        self, kind: Literal["send", "receive"], clock: int, pid: Pid, peer: str, entry: Entry, id: int
    ) -> None:
        if not self.collectors:
            return
        form, payload = _FORMS.get(entry[0], "reply"), entry[1]
        if entry[0] == CALL:
            payload = payload.request
        elif entry[0] == SYSTEM:
            payload = getattr(payload[0], "__name__", "").strip("_")
        event = TraceEvent(kind, clock, str(pid), str(peer), form, _short(payload), id, time.time())
        for collector in tuple(self.collectors):  # one that is full leaves
            collector.add(event)


async def take_trace(kernel: Kernel, duration: float, limit: int) -> list[TraceEvent]:
    """Trace for `duration` seconds, or until there are `limit` events."""
    collector, full = Collector(limit), asyncio.Event()
    collector.on_full = full.set
    begin_collecting(kernel, collector)
    try:
        async with asyncio.timeout(duration):
            await full.wait()
    except TimeoutError:
        pass  # the usual end: the time is over
    finally:
        end_collecting(kernel, collector)
    return collector.events


def begin_collecting(kernel: Kernel, collector: Collector) -> None:
    """Note messages for `collector` from now on."""
    if kernel.tracer is None:
        kernel.tracer = Tracer(kernel)
    kernel.tracer.collectors.append(collector)


def end_collecting(kernel: Kernel, collector: Collector) -> None:
    """Note nothing more for it; the last one takes the tracer with it."""
    tracer = kernel.tracer
    if tracer is not None and collector in tracer.collectors:
        tracer.collectors.remove(collector)
        if not tracer.collectors:
            kernel.tracer = None


def _short(value: Any) -> str:
    text = safe_repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
