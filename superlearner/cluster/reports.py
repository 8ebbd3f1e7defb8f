"""What the nodes report, as events of the control machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from superlearner.core import control as c
from superlearner.errors import InvalidTransition


def control_event(kind: str, fields: Mapping[str, Any], cause: str, at: float) -> c.ControlEvent:
    """Return the event that a report stands for.

    >>> told = {"sandbox": "shop", "epoch": 1, "reason": "normal", "gave_up": False}
    >>> control_event("instance_exited", told, cause="c1", at=2.0)
    InstanceExited(cause='c1', at=2.0, sandbox='shop', epoch=1, reason='normal', gave_up=False)
    """

    def of(*names: str) -> list[Any]:
        return [fields[name] for name in names]

    match kind:
        case "node_ready":
            who = of("node", "address", "memory", "cpus", "labels", "incarnation")
            return c.NodeJoined(*who, cause=cause, at=at)
        case "node_heard":
            return c.NodeHeard(*of("node", "address", "incarnation", "number"), cause=cause, at=at)
        case "instance_started":
            who = of("sandbox", "node", "epoch", "pid")
            return c.InstanceStarted(*[*who, version(fields["restored"])], cause=fields["cause"], at=at)
        case "instance_restarted":
            who = of("sandbox", "epoch", "pid", "reason")
            return c.InstanceRestarted(*[*who, version(fields["restored"])], cause=cause, at=at)
        case "instance_exited":
            return c.InstanceExited(*of("sandbox", "epoch", "reason", "gave_up"), cause=cause, at=at)
        case "checkpoint_stored":
            what = of("sandbox", "epoch", "seq", "size")
            return c.CheckpointStored(*[*what, tuple(fields["nodes"])], cause=cause, at=fields["at"])
        case "application_replaced":
            return c.ApplicationReplaced(*of("sandbox", "epoch", "application"), cause=cause, at=at)
    raise InvalidTransition(f"No event stands for the report {kind!r}.")


def version(restored: Sequence[int] | None) -> tuple[int, int] | None:
    """Return the (epoch, seq) of a checkpoint; a wire turns tuples into lists."""
    return None if restored is None else (restored[0], restored[1])
