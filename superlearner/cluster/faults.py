"""The control plane's part in breaking things on purpose: the faults that are active, and how they reach the nodes.

Each fault is recorded before it acts and undone by its id, by `FaultControl.heal`, or when its time is over.
Rules and signals go to the nodes over connections of their own that every fault spares, so that healing
always works.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from superlearner.cluster.commands import InstanceGone, NodeDoor
from superlearner.cluster.rulebook import Rulebook
from superlearner.core.faults import (
    CLEAR,
    FaultRecord,
    Link,
    LinkRule,
    link_fault,
    number,
    rules_of,
)
from superlearner.core.history import Event
from superlearner.errors import InvalidSpec, NoConnection, NoSandbox, Unsupported

if TYPE_CHECKING:
    from superlearner.cluster.pump import Pump

#: Seconds that a node may take to signal one of its sandboxes.
SIGNAL_TIMEOUT = 10.0


@dataclass(eq=False)
class _Active:
    """A fault that acts now."""

    record: FaultRecord
    links: tuple[Link, ...] = ()
    rule: LinkRule = CLEAR
    #: What ends it, beside its links.
    undo: Callable[[], Coroutine[Any, Any, None]] | None = None
    #: What it does, or waits for, in time.
    task: asyncio.Task[None] | None = None


class FaultControl:
    """The faults of one cluster.

    Parameters
    ----------
    plane
        Its control plane.
    nodes
        Commands to the nodes, over connections that every fault spares.
    prefix
        What the ids of the faults begin with.
    """

    def __init__(self, plane: Pump, nodes: NodeDoor, *, prefix: str = "") -> None:
        self._plane = plane
        self._nodes = nodes
        self._prefix = prefix
        self._active: dict[str, _Active] = {}
        self._ids = itertools.count(1)
        self.rules = Rulebook(plane, nodes)

    # -- Verbs ---------------------------------------------------------------------------------------

    async def inject(self, kind: str, detail: dict[str, Any]) -> FaultRecord:
        """Make a fault; answered when it acts."""
        match kind:
            case "pause_node":
                active = await self._pause_node(**detail)
            case "pause_sandbox":
                active = await self._pause_sandbox(**detail)
            case _:
                active = await self._break(kind, detail)
        return active.record

    async def revert(self, id: str) -> bool:
        """End one fault; answered when it does not act any more: False where it did not."""
        active = self._active.get(id)
        if active is None:
            return False
        record = active.record
        self._note("fault_reverted", record.id, record.kind, record.detail)
        del self._active[id]
        await self._undo([active])
        return True

    async def heal(self) -> list[str]:
        """End every fault, and return their ids; answered when none acts any more."""
        ended = list(self._active.values())
        ids = [active.record.id for active in ended]
        self._plane.record(
            Event("healed", at=self._plane.now(), cause=self._plane.new_cause("heal"), detail={"faults": ids})
        )
        self._active.clear()
        await self._undo(ended)
        return ids

    def active(self) -> list[FaultRecord]:
        """Return the faults that act now, oldest first."""
        return [active.record for active in self._active.values()]

    # -- For the control plane -----------------------------------------------------------------------

    async def signal_node(self, node: str, number: int) -> None:
        """Send a signal to a node's worker process: from outside where its platform allows it, else from within.

        A frozen process can only be signalled from outside.
        """
        if self._plane.launcher is not None:
            self._plane.launcher.signal(node, number)
            return
        with suppress(OSError):  # it may die before it can answer
            await self._nodes.ask(self._plane.known[node]["address"], "signal", number)

    async def signal_sandbox(self, address: str, sandbox: str, epoch: int, number: int) -> None:
        """Send a signal to a sandbox's OS process, by its node; one that kills waits until that is noticed."""
        try:
            async with asyncio.timeout(SIGNAL_TIMEOUT):
                await self._nodes.ask(address, "signal", number, sandbox, epoch)
        except (OSError, InstanceGone) as error:
            raise NoConnection(sandbox, "its node does not answer") from error

    def ended(self, node: str, address: str, tell: Callable[[], None]) -> None:
        """Learn that a node's process has ended, and call `tell` when the scheduler may know it."""
        for id, active in list(self._active.items()):
            if active.record.kind == "pause_node" and active.record.detail["node"] == node:
                del self._active[id]  # nothing is left to wake
                _cancel(active)
        self.rules.ended(node, address, tell)

    async def close(self) -> None:
        """End what is left of the faults, so that everything can be stopped."""
        if self._active:
            await self.heal()
        await self.rules.close()

    # -- Links ---------------------------------------------------------------------------------------

    async def _break(self, kind: str, detail: dict[str, Any]) -> _Active:
        known = self._plane.known
        links, rule = link_fault(kind, detail, sorted(known))
        self.rules.refuse_where_unbreakable()
        active = self._begin(kind, {**detail, "links": [list(link) for link in links]})
        active.links, active.rule = links, rule
        named = await self._publish()
        if strangers := sorted(node for node, name in named.items() if name != node):
            await self.revert(active.record.id)
            raise Unsupported(
                f"The nodes {', '.join(strangers)} do not know their names, so their links could not be told apart; "
                "the fault was taken back. Start scheduler and workers with --preload superlearner.cluster.preload."
            )
        if kind == "flap":
            active.task = self.rules.spawn(self._flap(active, detail["cut_for"], detail["open_for"]))
        return active

    async def _flap(self, active: _Active, cut_for: float, open_for: float) -> None:
        """Open and cut links in turn; they are cut when this begins."""
        cut = active.rule
        while True:
            for rule, lasts in ((cut, cut_for), (CLEAR, open_for)):
                if active.rule != rule:
                    active.rule = rule
                    await self._publish()
                await asyncio.sleep(lasts)

    async def _publish(self, waking: str | None = None) -> dict[str, str]:
        """Have every end follow the rules of the active faults."""
        rules = rules_of((active.links, active.rule) for active in self._active.values())
        frozen = {a.record.detail["node"] for a in self._active.values() if a.record.kind == "pause_node"}
        return await self.rules.publish(rules, frozen=frozen, waking=waking)

    # -- Pauses --------------------------------------------------------------------------------------

    async def _pause_node(self, node: str, seconds: float | None = None) -> _Active:
        _check_seconds(seconds)
        facts = self._plane.known.get(node)
        if facts is None or not facts["up"]:
            raise self._plane.not_up(node)
        if self._plane.launcher is None:
            raise Unsupported(
                "A frozen node can only be woken from outside, and this cluster's nodes were started by somebody else; "
                "nothing was paused. Pause nodes of a cluster made by superlearner.Cluster()."
            )
        for active in self._active.values():
            if active.record.kind == "pause_node" and active.record.detail["node"] == node:
                raise InvalidSpec(
                    f"The node {node!r} is paused already, by {active.record.id}; nothing was done."
                )
        active = self._begin("pause_node", {"node": node, "seconds": seconds, "pid": facts["pid"]}, node=node)
        launcher = self._plane.launcher

        async def resume() -> None:
            launcher.signal(node, signal.SIGCONT)
            await self._publish(waking=node)  # rules that were made meanwhile may not have reached it

        active.undo = resume
        launcher.signal(node, signal.SIGSTOP)
        await _stopped(facts["pid"])
        self._end_after(active, seconds)
        return active

    async def _pause_sandbox(self, sandbox: str, seconds: float | None = None) -> _Active:
        _check_seconds(seconds)
        found = self._plane.state.sandboxes.get(sandbox)
        if found is None or found.address is None or found.node is None:
            raise NoSandbox(sandbox)
        address, epoch = found.address, found.epoch
        detail = {"sandbox": sandbox, "seconds": seconds, "pid": found.pid}
        active = self._begin("pause_sandbox", detail, node=found.node, sandbox=sandbox)

        async def resume() -> None:
            with suppress(NoConnection):  # one that has ended needs no waking
                await self.signal_sandbox(address, sandbox, epoch, signal.SIGCONT)

        active.undo = resume
        try:
            await self.signal_sandbox(address, sandbox, epoch, signal.SIGSTOP)
        except NoConnection:
            await self.revert(active.record.id)
            raise
        self._end_after(active, seconds)
        return active

    def _end_after(self, active: _Active, seconds: float | None) -> None:
        if seconds is None:
            return

        async def end() -> None:
            await asyncio.sleep(seconds)
            await self.revert(active.record.id)

        active.task = self.rules.spawn(end())

    # -- Helpers -------------------------------------------------------------------------------------

    def _begin(
        self, kind: str, detail: dict[str, Any], *, node: str | None = None, sandbox: str | None = None
    ) -> _Active:
        """Record a fault before it acts."""
        record = FaultRecord(f"{self._prefix}{kind}-{next(self._ids)}", kind, detail, self._plane.now())
        self._note("fault_injected", record.id, kind, detail, node=node, sandbox=sandbox)
        active = self._active[record.id] = _Active(record)
        return active

    def _note(
        self,
        event: str,
        id: str,
        kind: str,
        detail: dict[str, Any],
        node: str | None = None,
        sandbox: str | None = None,
    ) -> None:
        self._plane.record(
            Event(
                event,
                at=self._plane.now(),
                node=node or detail.get("node"),
                sandbox=sandbox or detail.get("sandbox"),
                cause=id,
                detail={"fault": kind, "id": id, **detail},
            )
        )

    async def _undo(self, ended: list[_Active]) -> None:
        """End what faults do; it is done even if whoever asked for it goes away."""
        work: list[asyncio.Task[Any]] = []
        for active in ended:
            _cancel(active)
            if active.undo is not None:
                work.append(self.rules.spawn(active.undo()))
        if any(active.links for active in ended):
            work.append(self.rules.spawn(self._publish()))
        if work:
            await asyncio.wait(work)


def _cancel(active: _Active) -> None:
    """End what a fault does in time, unless it is that which ends it."""
    if active.task is not None and active.task is not asyncio.current_task():
        active.task.cancel()


async def _stopped(pid: int) -> None:
    """Wait until a process that was told to stop has done so; the kernel tells that to its parent alone."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for _ in range(1000):  # it takes a turn of the machine's own scheduler, not more
            if process.status() == psutil.STATUS_STOPPED:
                return
            await asyncio.sleep(0.001)


def _check_seconds(seconds: float | None) -> None:
    if seconds is not None:
        number("seconds", seconds, "a time in seconds, or None for until it is healed", low=0.0)
