"""How the start of an instance is ordered, and what its events tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from superlearner.core.control_events import ControlEvent
from superlearner.core.control_instructions import StartInstance
from superlearner.core.control_records import NodeRecord, Work
from superlearner.core.placement import Placement
from superlearner.core.spec import SandboxSpec

#: Serial numbers of pids that one instance may use up.
SERIALS = 1_000_000
#: How many nodes' scores an event shows.
ROWS = 10


def explain(placement: Placement, spec: SandboxSpec | None = None) -> dict[str, Any]:
    """Return a placement as plain values, for an event's detail; a pinned sandbox's exile is said in words."""
    rows = [{"node": row.node, "total": round(row.total, 4), "reason": row.reason} for row in placement.rows]
    detail: dict[str, Any] = {"placement": rows[:ROWS]}
    if spec is not None and spec.node not in ("auto", placement.node):
        detail["note"] = f"its own node {spec.node!r} cannot take it now, so it runs on {placement.node!r}"
    return detail


def restored(version: tuple[int, int] | None) -> dict[str, Any]:
    """Return the checkpoint that an instance began with, for an event's detail."""
    return {"restored": None if version is None else list(version)}


def start_instance(
    work: Work,
    node: NodeRecord,
    epoch: int,
    sources: Any,
    peers: Any,
    event: ControlEvent,
    *,
    expects: tuple[int, int] | None,
    on_trial: bool = False,
) -> StartInstance:
    """Return the order to start an instance of a sandbox."""
    serial = (epoch - 1) * SERIALS + 1
    spec = work.record.spec
    if spec.group is not None:
        # Its siblings are to learn of it when its OS process ends: the instance reports, the group decides.
        spec = replace(spec, max_restarts=0)
    return StartInstance(
        spec,
        node.name,
        node.address,
        epoch,
        sources,
        peers,
        serial,
        event.cause,
        work.seed,
        on_trial,
        node.incarnation,
        work.above,
        expects,
    )
