"""What was broken on purpose: in words, and as the list of the faults that are in force.

>>> from datetime import UTC
>>> from superlearner.core.faults import FaultRecord
>>> frozen = FaultRecord("pause_node-1", "pause_node", {"node": "alpha", "seconds": 5.0}, at=43_384.12)
>>> print(faults([frozen], real=True, tz=UTC).text())
1 fault in force (real)
12:03:04.120 ▲ node alpha is frozen for 5 s [pause_node-1]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import tzinfo
from typing import Any, Protocol

from superlearner.core.faults import CLIENT, SCHEDULER
from superlearner.views import format as fmt
from superlearner.views.marks import origin


class AnyFault(Protocol):
    """What `superlearner.cluster.chaos.Fault` and `superlearner.core.faults.FaultRecord` have in common."""

    @property
    def id(self) -> str:
        """Its id among the faults of the cluster."""

    @property
    def kind(self) -> str:
        """What it is, such as ``"cut"``."""

    @property
    def detail(self) -> dict[str, Any]:
        """What it was made with, and what it concerns."""

    @property
    def at(self) -> float:
        """When it was made: Unix time in seconds."""


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One fault; every field is ready-made text."""

    key: str
    kind: str
    #: What it does and to whom, as the start of a sentence.
    what: str
    #: The time of day when it was made.
    since: str


@dataclass(frozen=True, slots=True)
class FaultsView:
    """The faults in force, oldest first."""

    real: bool
    rows: tuple[FaultRow, ...]
    note: str = ""

    def text(self) -> str:
        """Return the list as lines of text."""
        heading = f"{fmt.count(len(self.rows), 'fault')} in force ({origin(self.real)})"
        lines = [f"{row.since} ▲ {row.what} [{row.key}]" for row in self.rows]
        return "\n".join([heading, *([self.note] if self.note else []), *lines])

    def as_dict(self) -> dict[str, Any]:
        """Return the view as plain data, for a widget's trait."""
        return {
            "real": self.real,
            "note": self.note,
            "rows": [asdict(row) for row in self.rows],
            "text": self.text(),
        }


def faults(active: Iterable[AnyFault], *, real: bool, tz: tzinfo | None = None, note: str = "") -> FaultsView:
    """Turn ``cluster.chaos.faults()`` into rows.

    Parameters
    ----------
    active
        The faults that act now, oldest first.
    real
        Whether they really act. There is no default: a picture must know.
    tz
        The time zone of the clock; the reader's own unless given.
    note
        A remark on the picture itself, shown with it.
    """
    rows = tuple(FaultRow(fault.id, fault.kind, what(fault), fmt.clock(fault.at, tz)) for fault in active)
    return FaultsView(real, rows, note)


def what(fault: AnyFault) -> str:
    """Say what a fault does, and to whom."""
    sandbox, node = fault.detail.get("sandbox"), fault.detail.get("node")
    return made({"fault": fault.kind, **fault.detail}, str(sandbox) if sandbox else f"node {node}")


def frozen(node: str, active: Iterable[AnyFault]) -> bool:
    """Tell whether one of the faults has frozen a node."""
    return any(fault.kind == "pause_node" and fault.detail.get("node") == node for fault in active)


def cut_off(node: str, active: Iterable[AnyFault]) -> tuple[str, ...]:
    """Return the ends with which a node exchanges nothing, or only one way, at least for a while; sorted.

    >>> from superlearner.core.faults import FaultRecord
    >>> links = [["alpha", "beta"], ["beta", "alpha"], ["alpha", "scheduler"], ["scheduler", "alpha"]]
    >>> cut_off("alpha", [FaultRecord("partition-1", "partition", {"links": links}, at=0.0)])
    ('beta', 'scheduler')
    """
    others = {
        b if a == node else a
        for fault in active
        if fault.kind in {"cut", "flap", "partition"}
        for a, b in fault.detail.get("links") or ()
        if node in (a, b)
    }
    return tuple(sorted(others, key=lambda end: (end in {SCHEDULER, CLIENT}, end)))


def ends(names: Sequence[str]) -> str:
    """Name the ends of links, as a sentence does.

    >>> ends(("beta", "scheduler", "client"))
    'beta, the scheduler and the clients'
    """
    told = [{SCHEDULER: "the scheduler", CLIENT: "the clients"}.get(name, name) for name in names]
    return " and ".join(filter(None, [", ".join(told[:-1]), *told[-1:]]))


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
