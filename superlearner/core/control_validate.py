# ruff: noqa: SLF001 - it looks into the registry on purpose
"""Every invariant of the registry, re-checked from scratch; the machine itself never calls it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from superlearner.core.control_group_records import Group
from superlearner.core.control_groups import Groups
from superlearner.core.control_records import OWNED, Work
from superlearner.core.loads import Ranking

#: A sandbox's id, or None for the cluster, with what is wrong.
Complaint = tuple[str | None, str]


def check(registry: Groups) -> Iterator[Complaint]:
    """Yield each broken invariant."""
    for work in registry._work.values():
        for complaint in (*_check_record(registry, work), *_check_work(work)):
            yield work.id, f"Sandbox {work.id!r} {complaint}."
    yield from _check_indexes(registry)
    yield from _check_loads(registry)
    yield from _check_members(registry)
    for group in registry._groups.values():
        for complaint in _check_group(registry, group):
            yield None, f"Group {group.spec.id!r} {complaint}."


def _check_record(registry: Groups, work: Work) -> Iterator[str]:
    record = work.record
    if registry.sandboxes.get(work.id) is not record:
        yield "has another record in the registry"
    if record.status != work.status:
        yield f"shows status {record.status!r} in the phase {work.phase!r}"
    if work.phase in OWNED:
        node = registry.nodes.get(str(record.node))
        if node is None or node.address != record.address:
            yield f"is owned by {record.node!r} at {record.address!r}, which is not there"
    elif (record.node, record.address, record.pid) != (None, None, None):
        yield f"has no owner in the phase {work.phase!r}, and yet a place"
    if record.checkpoint != registry._newest(work):
        yield "shows a checkpoint that is not its newest"
    if work.id in registry._tombstones:
        yield "lives and has a tombstone"


def _check_work(work: Work) -> Iterator[str]:
    least = 0 if work.fresh and work.phase in ("held", "destroying") else 1
    if not least <= work.record.epoch <= work.highest:
        yield f"has epoch {work.record.epoch}, above {work.highest}"
    if work.phase in OWNED and work.record.epoch in work.stopping:
        yield "has an owner that is being stopped"
    if (work.phase == "waiting") != (work.timer is not None):
        yield f"has timer {work.timer!r} in the phase {work.phase!r}"
    if (work.phase in ("quiescing", "moving") and work.move is None) or (
        work.phase not in ("quiescing", "moving", "starting") and work.move is not None
    ):
        yield f"has the move {work.move!r} in the phase {work.phase!r}"
    if work.phase == "destroying" and not work.stopping:
        yield "is being destroyed, with nothing left to wait for"
    if work.early and work.phase not in ("starting", "moving"):
        yield f"keeps early reports in the phase {work.phase!r}"
    if work.waiters and work.phase in ("running", "stopped", "failed"):
        yield f"owes answers in the phase {work.phase!r}"
    if work.fresh and work.phase not in ("starting", "held", "destroying"):
        yield f"has never served and is in the phase {work.phase!r}"


def _check_indexes(registry: Groups) -> Iterator[Complaint]:
    works = registry._work.values()
    moving = [(w.move.target, w.id) for w in works if w.move and w.phase in ("quiescing", "moving")]
    expected: dict[str, list[tuple[str, Any]]] = {
        "by_node": [(str(w.record.node), w.id) for w in works if w.phase in OWNED],
        "by_target": moving,
        "by_peer": [(peer, w.id) for w in works for peer in w.peers],
        "by_holder": [(node, w.id) for w in works for node in w.copies],
        "by_stop": [(node, (w.id, epoch)) for w in works for epoch, node in w.stopping.items()],
    }
    for name, pairs in expected.items():
        found: list[tuple[str, Any]] = getattr(registry, f"_{name}").pairs()
        if found != sorted(pairs):
            yield None, f"The index {name} holds {found}, not {sorted(pairs)}."
        if gone := {node for node, _key in found} - set(registry.nodes):
            yield None, f"The index {name} names nodes that are not there: {sorted(gone)}."
    ranking = Ranking(node.load for node in registry.nodes.values())
    short = {w.id for w in works if w.phase in OWNED and len(w.peers) < w.record.spec.checkpoint.copies}
    rows: dict[str, tuple[Any, Any]] = {
        "short": (set(registry._short), short),
        "count of starts": ({registry.starting}, {sum(w.phase == "starting" for w in works)}),
        "ranks": (list(registry._ranking), list(ranking)),
        "suspected": (registry._suspected, {name for name, node in registry.nodes.items() if node.suspected}),
        "lost": (set(registry._lost), {w.id for w in works if w.phase == "lost"}),
        "timers": (set(registry._timers.items()), {(w.timer, w.id) for w in works if w.timer}),
        "sandboxes": (set(registry.sandboxes), {w.id for w in works}),
    }
    for name, (has, wants) in rows.items():
        if has != wants:
            yield None, f"The registry's {name} are {has}, not {wants}."


def _check_loads(registry: Groups) -> Iterator[Complaint]:
    if gone := {node for node, _ in registry._labels.entries()} - set(registry.nodes):
        yield None, f"There are labels on nodes that are not there: {sorted(gone)}."
    for name, node in registry.nodes.items():
        here = [*registry._by_node.at(name), *registry._by_target.at(name)]
        specs = [registry.sandboxes[sandbox].spec for sandbox in here]
        labelled = {(name, spec.id) for spec in specs if spec.labels or spec.anti_affinity}
        known = {entry for entry in registry._labels.entries() if entry[0] == name}
        if known != labelled:
            yield None, f"Node {name!r} carries labels of {sorted(known)}, not of {sorted(labelled)}."
        memory = sum(spec.resources.memory_bytes or 0 for spec in specs)
        cpu = sum(spec.resources.cpu for spec in specs)
        load = node.load
        if (load.sandboxes, load.reserved_memory) != (len(here), memory) or abs(
            load.reserved_cpu - cpu
        ) > 1e-6:
            yield (
                None,
                f"Node {name!r} reserves {load}, not {len(here)} sandboxes, {memory} bytes, {cpu} cores.",
            )


def _check_members(registry: Groups) -> Iterator[Complaint]:
    for work in registry._work.values():
        group = registry._groups.get(work.group or "")
        is_member = group is not None and work.id in group.members
        if is_member != (work.group is not None and work.phase != "destroying"):
            yield work.id, f"Sandbox {work.id!r} in the phase {work.phase!r} names the group {work.group!r}."
        if work.phase == "held" and not is_member:
            yield work.id, f"Sandbox {work.id!r} waits for a group that it is not in."


#: What a supervisor that is at ease thinks of a member in each phase.
_THINKS = {
    "starting": "starting",
    "waiting": "restarting",
    "lost": "restarting",
    "stopped": "stopped",
    "failed": "stopped",
} | dict.fromkeys(("running", "rebooting", "quiescing", "moving"), "running")


def _check_group(registry: Groups, group: Group) -> Iterator[str]:
    phases = {id: registry._work[id].phase for id in group.members if id in registry._work}
    if strangers := set(group.members) - set(phases):
        yield f"has members that are not there: {strangers}"
    if (group.todo or group.inbox) and not group.ending and not group.starts:
        yield "has something to do and does not do it"
    if wrong := [id for id in group.starts if phases.get(id) != "starting"]:
        yield f"waits for starts that are not under way: {wrong}"
    if group.todo or group.inbox or group.ending or group.starts or group.dying:
        return
    if group.restarters:
        yield "owes answers"
    if group.status == "failed":
        if up := {id: phase for id, phase in phases.items() if phase not in ("failed", "stopped")}:
            yield f"has failed, with members that are not down: {up}"
    elif set(group.sup.children) != set(phases):
        yield f"supervises {list(group.sup.children)}, not its members {list(phases)}"
    else:
        yield from _check_thoughts(group, phases)


def _check_thoughts(group: Group, phases: Mapping[str, str]) -> Iterator[str]:
    """Yield where the supervisor of a group at ease is mistaken about a member."""
    # One whose turn is to come with that of another is held, or waits for nothing that counts.
    pending = "waiting" in phases.values() or "lost" in phases.values()
    for id, phase in phases.items():
        status = group.sup.children[id].status
        if status != _THINKS.get(phase) and not (pending and phase in ("held", "waiting", "lost")):
            yield f"thinks that {id!r} is {status} in the phase {phase!r}"
