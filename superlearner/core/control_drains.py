"""Drains: a node gives all its sandboxes away, a few at a time, before it is retired.

From the moment that it is asked for the node gets nothing new. Sandboxes that are starting or restarting are
waited for, then moved like the others. A sandbox that cannot be moved ends the drain: the node takes
sandboxes again, and nothing was lost.
"""

from __future__ import annotations

from dataclasses import replace

from superlearner.core.control_events import ControlEvent, DrainRequested, MoveRequested
from superlearner.core.control_instructions import Answer, Refuse
from superlearner.core.control_leases import Leases
from superlearner.core.control_records import Drain
from superlearner.errors import DrainFailed

#: How many sandboxes of one node move at once.
TOGETHER = 4
#: How often one sandbox is tried.
TRIES = 3


class Drains(Leases):
    """What becomes of nodes that are to be emptied."""

    def drain_asked(self, event: DrainRequested) -> None:
        """Begin to empty a node, or refuse while nothing has changed."""
        node = self.nodes.get(event.node)
        if node is None:
            self._say(Refuse(event.cause, self._not_there(event.node)))
        elif event.node in self._drains:
            self._say(Refuse(event.cause, DrainFailed(event.node, "it is being drained already")))
        elif (refusal := self.no_quorum) is not None:
            self._say(Refuse(event.cause, refusal))
        else:
            self._set_node(replace(node, load=replace(node.load, draining=True)))
            self._drains[event.node] = Drain(event.cause)
            here = len(self._by_node.at(event.node))
            self._note("node_draining", event, node=event.node, detail={"sandboxes": here})

    def _go_on_draining(self, event: ControlEvent) -> None:
        """Move what can be moved next, for each node that is being emptied."""
        for name, drain in list(self._drains.items()):
            here = self._by_node.at(name)
            if name not in self.nodes:
                self._end_drain(name, event, "it was lost meanwhile")
            elif not here and not self._by_target.at(name):
                del self._drains[name]
                self._note("node_drained", event, node=name, detail={"moved": list(drain.tries)})
                self._say(Answer(drain.cause, tuple(drain.tries)))
            else:
                self._move_away(name, drain, here, event)

    def _move_away(self, name: str, drain: Drain, here: list[str], event: ControlEvent) -> None:
        moving = sum(self._work[sandbox].move is not None for sandbox in here)
        for sandbox in here:
            work = self._work[sandbox]
            if moving >= TOGETHER or work.phase != "running":
                continue
            drain.tries[sandbox] = drain.tries.get(sandbox, 0) + 1
            if drain.tries[sandbox] <= TRIES:
                cause = f"{drain.cause} {sandbox}#{drain.tries[sandbox]}"
                self._ask_move(work, MoveRequested(sandbox, "auto", cause=cause, at=event.at))
                moving += 1
            if work.move is None:
                self._end_drain(
                    name, event, f"its sandbox {sandbox!r} could not be moved away: {work.setback}"
                )
                return

    def _end_drain(self, name: str, event: ControlEvent, reason: str) -> None:
        drain = self._drains.pop(name)
        node = self.nodes.get(name)
        if node is not None:
            self._set_node(replace(node, load=replace(node.load, draining=False)))
        self._note("drain_failed", event, node=name, reason=reason)
        self._say(Refuse(drain.cause, DrainFailed(name, reason, node is not None)))
