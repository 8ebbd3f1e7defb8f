"""Leases: a node may answer while it is heard of; past its lease it has stopped by itself, and is replaced.

A node asks for its lease again and again; each answer extends it. The node counts from when it *asked*, the
machine from when it heard: so the machine's reckoning always ends last, however long a message was under way
and whatever the two clocks show. That is the whole fence; only the rates of clocks have to agree, to within 1 %.

======================  =============================================================================
silent for              what happens
======================  =============================================================================
half of the lease       it is suspected: it gets nothing new
a little more than it   it has stopped all its sandboxes by itself: they start elsewhere
longer, then it speaks  it is told to join anew, with nothing on it
======================  =============================================================================

(Gray and Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency",
SOSP 1989.)
"""

from __future__ import annotations

from dataclasses import replace

from superlearner.core.control_events import ControlEvent, NodeForgotten, NodeHeard, TimerFired
from superlearner.core.control_instructions import GrantLease, Rejoin, SetTimer
from superlearner.core.control_records import NodeRecord
from superlearner.core.control_reports import Reports
from superlearner.core.snapshots import LeaseInfo

#: Seconds by which a lease is outwaited: for a process that ends.
MARGIN = 0.05
#: The share of a lease by which it is outwaited: for clocks that are up to 1 % fast or slow, each.
DRIFT = 0.025
#: Seconds in which a control plane that was held up, for that long or longer, reads what it has been told meanwhile.
STALL = 0.5


def surely_over(lease: float) -> float:
    """Return after how many seconds of silence a lease of that length has surely ended.

    >>> round(surely_over(2.0), 3)
    2.1
    """
    return lease * (1 + DRIFT) + MARGIN


class Leases(Reports):
    """Who is heard of."""

    def _lose_node(
        self, node: NodeRecord, event: ControlEvent, why: str
    ) -> None: ...  # the machine's, on top

    def node_forgotten(self, event: NodeForgotten) -> None:
        """Let a node that is gone count for the quorum no longer."""
        if event.node in self.members and event.node not in self.nodes:
            del self.members[event.node]
            self._note("node_forgotten", event, node=event.node)
            self._take_up(event, len(self._lost))

    def node_heard(self, event: NodeHeard) -> None:
        """Extend a node's lease, or tell it that it was given up."""
        node = self.nodes.get(event.node)
        if node is None or (node.address, node.incarnation) != (event.address, event.incarnation):
            self._say(Rejoin(event.node, event.address, event.incarnation))
            return
        if node.suspected:
            silent = event.at - node.heard_at
            self._note("node_recovered", event, node=node.name, detail={"silent": round(silent, 3)})
        self._set_node(replace(node, heard_at=event.at, load=replace(node.load, suspected=False)))
        self._say(GrantLease(node.name, node.address, event.number))
        if node.suspected:
            self._take_up(event, len(self._lost))  # it may be the one that was missing for the quorum

    def lease_of(self, node: str) -> LeaseInfo | None:
        """Return how a node's lease stands; None where it has none."""
        record, lease = self.nodes.get(node), self.policy.lease
        if record is None or lease is None:
            return None
        return LeaseInfo(record.heard_at, record.heard_at + surely_over(lease), record.suspected)

    def _watch(self, node: NodeRecord) -> None:
        """Begin to look at a node that has just joined."""
        if self.policy.lease is not None:
            self._look_again(node.name, node.heard_at, self.policy.lease / 2)

    def _look_again(self, node: str, at: float, delay: float) -> None:
        self._timers_made += 1
        token = f"lease of {node}#{self._timers_made}"
        self._looks[token] = (node, at + delay)
        self._say(SetTimer(token, delay))

    def _unwatch(self, node: str) -> None:
        for token in [token for token, (name, _due) in self._looks.items() if name == node]:
            del self._looks[token]

    def timer_fired(self, event: TimerFired) -> None:
        """Look at a node, or start a sandbox whose back-off is over."""
        name, due = self._looks.pop(event.token, (None, 0.0))
        if name is None:
            super().timer_fired(event)
            return
        if event.at - due > MARGIN:
            # The control plane itself was held up: what the node has said meanwhile lies unread, and is read first.
            self._look_again(name, event.at, min(event.at - due, STALL))
            return
        node, lease = self.nodes[name], self.policy.lease
        assert lease is not None
        silent = event.at - node.heard_at
        over = surely_over(lease)
        if silent >= over:
            self._lose_node(node, event, f"it was silent for {silent:.1f} s, longer than its lease")
            return
        if silent >= lease / 2 and not node.suspected:
            self._set_node(replace(node, load=replace(node.load, suspected=True)))
            self._note("node_suspected", event, node=name, detail={"silent": round(silent, 3)})
        left = (over if silent >= lease / 2 else lease / 2) - silent
        self._look_again(name, event.at, left)
