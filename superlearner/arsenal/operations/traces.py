"""Traces: who sent what to whom in a sandbox, begun, read while they are taken, and ended."""

from __future__ import annotations

from typing import Annotated

from superlearner.arsenal.operation import AwaitedCluster, Field, Result, operation
from superlearner.arsenal.process_rows import REACHED, Process
from superlearner.arsenal.rows import OneSandbox
from superlearner.errors import InvalidSpec, NoTrace, TooManyTraces
from superlearner.otp._traces import LONGEST, MOST_EVENTS
from superlearner.otp.tracing import Trace, TraceEvent


class NewTrace(OneSandbox):
    """What is to be traced."""

    duration: float = Field(60.0, ge=0.01, le=LONGEST, description="Seconds after which it ends by itself.")
    limit: int = Field(1000, ge=1, le=MOST_EVENTS, description="Events with which it ends by itself.")
    only: list[Annotated[str, Process]] = Field(
        default_factory=list,
        max_length=100,
        description="Names or pids: only messages that these processes send or take; none: all messages.",
    )


class Begun(Result):
    """A trace that is being taken."""

    id: str
    trace: str = Field(description="Its id in the sandbox.")


@operation(
    "POST",
    "/distributed/sandboxes/{id}/traces",
    access="operate",
    timeout=15.0,
    errors=[*REACHED, InvalidSpec, TooManyTraces],
    creates="/distributed/sandboxes/{id}/traces/{trace}",
)
async def start_trace(cluster: AwaitedCluster, params: NewTrace) -> Begun:
    """Begin to note the messages between the processes of a sandbox.

    It ends after its time, with its events, or with the OS process of the sandbox. A sandbox keeps 8: the oldest that
    is over makes room for a new one.
    """
    only = params.only or None
    id = await cluster.sandbox(params.id).start_trace(params.duration, params.limit, only)
    return Begun(id=params.id, trace=id)


class OneTrace(OneSandbox):
    """One trace."""

    trace: str = Field(description="Its id.", min_length=1, max_length=40)


class TraceQuery(OneTrace):
    """What is wanted of a trace."""

    since: int = Field(
        0, ge=0, le=2**53, description="Only what comes after so many events: `next` of the answer before."
    )
    limit: int = Field(1000, ge=1, le=MOST_EVENTS, description="How many events at most.")


class TraceTold(Result):
    """A trace so far. Sorted by `clock`, a cause stands before its effect."""

    id: str
    trace: str
    running: bool = Field(description="Whether more may come.")
    began: float = Field(description="Unix time in seconds.")
    ends: float = Field(description="When it ends by itself, or has ended: Unix time in seconds.")
    limit: int
    total: int = Field(description="How many events there are.")
    next: int = Field(description="`since` of the next read.")
    events: list[TraceEvent]
    text: str = Field(description="The same to read: a line for each event.")


@operation(
    "GET",
    "/distributed/sandboxes/{id}/traces/{trace}",
    access="read",
    timeout=15.0,
    errors=[*REACHED, NoTrace],
)
async def read_trace(cluster: AwaitedCluster, params: TraceQuery) -> TraceTold:
    """Read the events of a trace, which goes on; as JSON, and as lines of text."""
    taken = await cluster.sandbox(params.id).read_trace(params.trace, params.since)
    return _told(params, taken, params.since, params.limit)


@operation(
    "DELETE",
    "/distributed/sandboxes/{id}/traces/{trace}",
    access="operate",
    timeout=15.0,
    errors=[*REACHED, NoTrace],
)
async def stop_trace(cluster: AwaitedCluster, params: OneTrace) -> TraceTold:
    """End a trace and forget it; answered with all its events."""
    return _told(params, await cluster.sandbox(params.id).stop_trace(params.trace), 0, MOST_EVENTS)


def _told(params: OneTrace, taken: Trace, since: int, limit: int) -> TraceTold:
    shown = list(taken.events[:limit])
    return TraceTold(
        id=params.id,
        trace=taken.id,
        running=taken.running,
        began=taken.began,
        ends=taken.ends,
        limit=taken.limit,
        total=taken.total,
        next=since + len(shown),
        events=shown,
        text="".join(f"{_line(event, taken.began)}\n" for event in shown),
    )


def _line(event: TraceEvent, began: float) -> str:
    """Write one event as a line.

    >>> print(_line(TraceEvent("send", 3, "<a.b.2>", "<a.b.3>", "cast", "'go'", 7, 10.5), 10.0))
       +0.500 s  [3] <a.b.2> sends to <a.b.3>: cast 'go' (7)
    """
    does = "sends to" if event.kind == "send" else "takes from"
    what = f"{event.form} {event.message} ({event.id})"
    return f"{event.at - began:+9.3f} s  [{event.clock}] {event.pid} {does} {event.peer}: {what}"
