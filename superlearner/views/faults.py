"""What was broken on purpose, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from superlearner.views import format as fmt


def made(detail: Mapping[str, Any], whom: str = "") -> str:
    """Say what a fault does, and to whom.

    >>> made({"signal": "SIGKILL"}, "shop"), made({"fault": "pause_node", "seconds": 2.0}, "node alpha")
    ('SIGKILL to shop', 'node alpha is frozen for 2 s')
    >>> made({"fault": "cut", "a": "alpha", "b": "beta", "one_way": True})
    'from alpha to beta nothing passes'
    """
    kind, seconds = str(detail.get("fault")), detail.get("seconds")
    if "signal" in detail:
        return f"{detail['signal']} to {whom}"
    if kind in {"pause_node", "pause_sandbox"}:
        lasts = "" if seconds is None else f" for {seconds:g} s"
        return f"{whom} is frozen{lasts}"
    if kind == "partition":
        groups = " | ".join(", ".join(map(str, group)) for group in detail.get("groups") or ())
        return f"the cluster falls apart into {groups}"
    ends = (
        _between(detail) if not detail.get("one_way") else f"from {_end(detail, 'a')} to {_end(detail, 'b')}"
    )
    match kind:
        case "cut":
            return f"{ends} nothing passes"
        case "delay":
            return f"{ends} messages travel {seconds:g} s longer"
        case "slow":
            return f"{ends} only {fmt.size(detail.get('bytes_per_second'))} pass per second"
        case "drop":
            return f"{ends} {detail.get('probability'):.0%} of the messages break their connection"
        case "flap":
            cut, open_ = detail.get("cut_for"), detail.get("open_for")
            return f"{ends} nothing passes for {cut:g} s, then all for {open_:g} s, and so on"
        case _:
            return f"{kind} {whom}".rstrip()


def ended(detail: Mapping[str, Any]) -> str:
    """Say which fault has ended."""
    if detail.get("fault") == "partition":
        return "The partition is over."
    return f"The fault {_between(detail)} is over ({detail.get('fault')})."


def _between(detail: Mapping[str, Any]) -> str:
    return f"between {_end(detail, 'a')} and {_end(detail, 'b')}"


def _end(detail: Mapping[str, Any], which: str) -> str:
    return "all others" if detail.get(which) == "*" else str(detail.get(which))
