"""Tracing: who sent what to whom, and when it was taken, in the order of a Lamport clock.

Each process has a counter; a send is counted, its number travels with the message, and whoever takes the
message sets its own counter past it. So a cause always has a smaller number than its effect, whatever the
clocks on the wall say.
"""

from __future__ import annotations

import asyncio
import time
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


class Collector:
    """One trace that is being taken; keeps the first `limit` events."""

    def __init__(self, limit: int) -> None:
        self.events: list[TraceEvent] = []
        self.full = asyncio.Event()
        self._limit = limit

    def add(self, event: TraceEvent) -> None:
        """Keep an event, while there is room."""
        if len(self.events) < self._limit:
            self.events.append(event)
        if len(self.events) >= self._limit:
            self.full.set()


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
        for collector in self.collectors:
            collector.add(event)


async def take_trace(kernel: Kernel, duration: float, limit: int) -> list[TraceEvent]:
    """Trace for `duration` seconds, or until there are `limit` events."""
    collector = Collector(limit)
    if kernel.tracer is None:
        kernel.tracer = Tracer(kernel)
    tracer = kernel.tracer
    tracer.collectors.append(collector)
    try:
        async with asyncio.timeout(duration):
            await collector.full.wait()
    except TimeoutError:
        pass  # the usual end: the time is over
    finally:
        tracer.collectors.remove(collector)
        if not tracer.collectors:
            kernel.tracer = None
    return collector.events


def _short(value: Any) -> str:
    text = safe_repr(value)
    return text if len(text) <= 200 else text[:197] + "..."
