"""What the event log tells of one supervisor: its restarts with their reasons, and how often its children fail.

Pure: from events to rows. A supervisor is known by its place in the tree, which its own restarts do not change.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from superlearner.arsenal.operation import Field, Result
from superlearner.arsenal.plain import in_one_line
from superlearner.core.history import Event
from superlearner.core.restart import is_normal

Outcome = Literal["pending", "restarted", "start_failed", "gave_up"]


class RestartRow(Result):
    """One decision to start a child again, or to give up."""

    seq: int = Field(description="Of its event; `since` of the next look.")
    at: float = Field(description="Unix time in seconds.")
    node: str | None
    epoch: int | None
    child: str = Field(description="The id of the child that had ended.")
    pid: str | None = Field(description="Its pid until then.")
    reason: str = Field(description="Why it had ended; start_failed: a restart had failed before.")
    cause: str | None = Field(
        description="The number of the event that led to this, in the sandbox's own log."
    )
    restart: int | None = Field(description="Which restart of the child.")
    budget_left: int | None = Field(description="How many restarts were left after it.")
    strategy: str | None
    stopped: list[str] = Field(description="The other children that were stopped for it.")
    started: list[str] = Field(description="The children that were started.")
    outcome: Outcome
    failure: str | None = Field(description="Why the start failed, where it did.")
    new_pid: str | None
    seconds: float | None = Field(description="From the decision until it ran again.")


def place_of(event: Event) -> tuple[str, ...] | None:
    """Return the place in the tree of the process that an event is about."""
    path = event.detail.get("path")
    return tuple(map(str, path)) if isinstance(path, list | tuple) else None


def restarts(events: Iterable[Event], place: Sequence[str]) -> list[RestartRow]:
    """Return the restarts that the supervisor at a place has decided on, oldest first.

    >>> path = {"path": ["desk", "printer"]}
    >>> told = [Event("restart_scheduled", seq=7, at=1.0, reason="jam", detail=path),
    ...         Event("process_restarted", seq=9, at=1.5, pid="<a.b.9>", detail=path)]
    >>> [(row.child, row.reason, row.outcome, row.seconds) for row in restarts(told, ["desk"])]
    [('printer', 'jam', 'restarted', 0.5)]
    """
    here = tuple(place)
    rows: list[dict[str, Any]] = []
    latest: dict[str, dict[str, Any]] = {}
    for event in events:
        where = place_of(event)
        if where is None:
            continue
        if event.kind == "supervisor_gave_up" and where == here:
            rows.append(_row(event, str(event.detail.get("child")), "gave_up"))
        elif where[:-1] != here or not where:
            continue
        elif event.kind == "restart_scheduled":
            rows.append(_row(event, where[-1], "pending"))
            latest[where[-1]] = rows[-1]
        elif (known := latest.get(where[-1])) is not None and known["outcome"] == "pending":
            if event.kind == "process_restarted":
                known |= {"outcome": "restarted", "new_pid": event.pid, "seconds": event.at - known["at"]}
            elif event.kind == "start_failed":
                known |= {"outcome": "start_failed", "failure": in_one_line(event.reason)}
    return [RestartRow(**row) for row in rows]


def _row(event: Event, child: str, outcome: Outcome) -> dict[str, Any]:
    detail = event.detail
    return {
        "seq": event.seq,
        "at": event.at,
        "node": event.node,
        "epoch": event.epoch,
        "child": child,
        "pid": event.pid if outcome == "pending" else None,
        "reason": in_one_line(event.reason),
        "cause": event.cause,
        "restart": detail.get("restart"),
        "budget_left": detail.get("budget_left"),
        "strategy": detail.get("strategy"),
        "stopped": [str(key) for key in detail.get("stops", ())],
        "started": [str(key) for key in detail.get("starts", ())],
        "outcome": outcome,
        "failure": None,
        "new_pid": None,
        "seconds": None,
    }


class Failures(Result):
    """How often the children of a supervisor have failed."""

    failures: int = Field(description="Ends with a reason that is not normal, and starts that failed.")
    per_minute: float
    restarts: int = Field(description="What the supervisor has started again for it.")
    by_child: dict[str, int]
    by_reason: dict[str, int]


def failures(events: Iterable[Event], place: Sequence[str], since: float, until: float) -> Failures:
    """Count what has failed below a supervisor in a time; what it has stopped itself has not failed.

    >>> gone = Event("process_exited", at=9.0, reason="jam", detail={"path": ["desk", "printer"]})
    >>> failures([gone], ["desk"], since=0.0, until=60.0).by_reason
    {'jam': 1}
    """
    here = tuple(place)
    own: set[str | None] = set()
    by_child: dict[str, int] = {}
    by_reason: dict[str, int] = {}
    scheduled = 0
    for event in events:
        where = place_of(event)
        if where is None:
            continue
        if where == here and event.kind == "process_started":
            own.add(event.pid)
        if not where or where[:-1] != here or not since <= event.at <= until:
            continue
        if event.kind == "restart_scheduled":
            scheduled += 1
        ended = event.kind == "process_exited" and not is_normal(event.reason)
        if event.kind == "start_failed" or (ended and event.detail.get("who") not in own):
            reason = in_one_line(event.reason)
            by_child[where[-1]] = by_child.get(where[-1], 0) + 1
            by_reason[reason] = by_reason.get(reason, 0) + 1
    count = sum(by_child.values())
    return Failures(
        failures=count,
        per_minute=round(count * 60.0 / (until - since), 6),
        restarts=scheduled,
        by_child=by_child,
        by_reason=by_reason,
    )
