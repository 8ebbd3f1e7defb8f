"""What the buttons may do now: each action with its target, and the reason where it cannot work.

This is the whole logic of the buttons, and it is pure: which are enabled, which ask twice, what they lead to.
Which click counts is decided in `superlearner.views.desk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from superlearner.core.alerts import Alert
from superlearner.core.faults import SCHEDULER
from superlearner.core.rebalance import Suggestion
from superlearner.core.snapshots import NodeInfo, SandboxInfo
from superlearner.views import format as fmt
from superlearner.views.alerts import active
from superlearner.views.faults import AnyFault, frozen, what
from superlearner.views.sandboxes import moving
from superlearner.views.tree import TreeNode

ActionName = Literal[
    "create", "kill_process", "restart", "move", "kill_sandbox", "destroy",
    "pause_node", "partition", "drain", "kill_node", "rebalance", "rebalance_now", "heal", "revert",
    "acknowledge",
]  # fmt: skip

#: In these states a sandbox's tree is what it is now, and not only the last one known.
SHOWS_ITSELF: frozenset[str] = frozenset({"running", "suspended", "migrating"})

#: Those that ask for a second click: what they end does not come back as it was.
DANGEROUS: frozenset[str] = frozenset({"destroy", "drain", "kill_node"})

#: Those that end what was broken, or say that somebody knows of it: they are taken at any time, whatever else runs,
#: and twice does no harm.
URGENT: frozenset[str] = frozenset({"heal", "revert", "acknowledge"})
#: The groups whose buttons do not stand in the row, but beside what they act on.
BESIDE: frozenset[str] = frozenset({"Fault", "Alert"})

#: For how long a node can be paused: what is sent, and how it reads; the first is offered first.
PAUSES = (("5", "for 5 s"), ("2", "for 2 s"), ("10", "for 10 s"), ("30", "for 30 s"), ("", "until healed"))


@dataclass(frozen=True, slots=True)
class Action:
    """One button."""

    name: ActionName
    #: The heading it stands under: Process, Sandbox, Node, Cluster, Fault or Alert.
    group: str
    label: str
    #: What it acts on, as the cluster knows it; empty for none.
    target: str
    #: What the status line says while it runs: "Killing node beta".
    doing: str
    #: What it will do, for the tool tip.
    title: str
    #: Why it cannot be used now; empty when it can.
    reason: str = ""
    #: How the target is called in the row, where that is not `target` itself.
    shown: str = ""
    #: What can be chosen beside the button: what is sent, and how it reads; the first is offered first.
    choices: tuple[tuple[str, str], ...] = ()

    @property
    def dangerous(self) -> bool:
        """Whether it asks for a second, confirming click."""
        return self.name in DANGEROUS

    @property
    def urgent(self) -> bool:
        """Whether it is taken while something else runs."""
        return self.name in URGENT


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is selected in the pictures: the process, the sandbox and the node; None for none."""

    process: TreeNode | None = None
    sandbox: SandboxInfo | None = None
    node: NodeInfo | None = None


def actions(
    chosen: Chosen,
    nodes: Sequence[NodeInfo],
    *,
    faults: Sequence[AnyFault] = (),
    alerts: Sequence[Alert] = (),
    unreachable: str = "",
) -> tuple[Action, ...]:
    """Return all buttons, in the order of the row, and one for each fault and each alert, which stands beside it.

    Parameters
    ----------
    chosen
        What is selected.
    nodes
        All nodes, to see where a sandbox may move.
    faults
        The faults in force.
    alerts
        All alerts; one that is over, or that somebody knows of, has no button.
    unreachable
        Why the cluster cannot be asked at all; empty when it can. What is broken can be healed all the same.
    """
    up = sorted((node for node in nodes if node.status == "up"), key=lambda node: node.name)
    made = (
        *_process_actions(chosen),
        *_sandbox_actions(chosen.sandbox, up),
        *_node_actions(chosen.node, nodes, faults),
        *_cluster_actions(nodes, up, faults),
    )
    if unreachable:
        made = tuple(action if action.urgent else replace(action, reason=unreachable) for action in made)
    reverts = (
        Action("revert", "Fault", "End", fault.id, f"Ending {fault.id}", f"What ends: {what(fault)}")
        for fault in faults
    )
    knows = (
        Action("acknowledge", "Alert", "Acknowledge", alert.id, f"Acknowledging {alert.id}", alert.summary)
        for alert in active(alerts)
        if alert.acknowledged is None
    )
    return (*made, *reverts, *knows)


def _process_actions(chosen: Chosen) -> tuple[Action, ...]:
    process, sandbox = chosen.process, chosen.sandbox
    if sandbox is None:
        why = "Select a sandbox first."
    elif process is None:
        why = "Select a process in the tree first."
    elif sandbox.status not in SHOWS_ITSELF:
        why = f"{sandbox.id} is {sandbox.status}."
    elif process.pid is None:
        why = f"{process.label} does not run: it is {process.word}."
    else:
        why = ""
    target = (process.pid or "") if process else ""
    name = process.label if process else ""
    doing = f"Killing process {name} {target}".rstrip()
    return (
        Action(
            "kill_process", "Process", "Kill", target, doing, "End this process with reason kill", why, name
        ),
    )


def _sandbox_actions(sandbox: SandboxInfo | None, up: Sequence[NodeInfo]) -> tuple[Action, ...]:
    target = sandbox.id if sandbox else ""
    none = "" if sandbox else "Select a sandbox first."
    idle = none or (
        "" if sandbox and sandbox.status == "running" else f"{target} is {sandbox and sandbox.status}."
    )
    others = [node for node in up if sandbox is None or node.name != sandbox.node]
    return (
        Action("create", "Sandbox", "Create", "", "Creating a sandbox", "Start the sample shop in a new sandbox",
               "" if up else "No node is up."),
        Action("restart", "Sandbox", "Restart", target, f"Restarting {target}",
               "Its OS process starts again from its newest checkpoint", none),
        Action("move", "Sandbox", "Move", target, f"Moving {target}", "It goes to another node, with its state",
               idle or ("" if others else ALONE),
               choices=(("auto", "to any"), *((node.name, f"to {node.name}") for node in others))),
        Action("kill_sandbox", "Sandbox", "Kill", target, f"Killing sandbox {target}",
               "Its OS process ends at once; the cluster starts it again", idle),
        Action("destroy", "Sandbox", "Destroy", target, f"Destroying {target}",
               "It ends for good, with its state and its checkpoints", none),
    )  # fmt: skip


def _node_actions(
    node: NodeInfo | None, nodes: Sequence[NodeInfo], faults: Sequence[AnyFault]
) -> tuple[Action, ...]:
    target = node.name if node else ""
    down = f"{target} is down already." if node and node.status == "down" else ""
    why = down if node else "Select a node first."
    paused = f"{target} is paused already." if node and frozen(target, faults) else ""
    others = [other for other in nodes if other.name != target]
    alone = "" if others else ALONE
    draining = f"{target} is being drained already." if node and node.status == "draining" else ""
    free = "" if any(other.status == "up" for other in others) else ALONE
    return (
        Action("pause_node", "Node", "Pause", target, f"Pausing node {target}",
               "Its worker process freezes (SIGSTOP); past its lease it is replaced", paused or why,
               choices=PAUSES),
        Action("partition", "Node", "Partition", target, f"Cutting node {target} off",
               "The links between the two groups stop carrying anything, until healed", why or alone,
               choices=sides(target)),
        Action("drain", "Node", "Drain", target, f"Draining node {target}",
               f"{_gives(node)}; then its worker retires for good", why or draining or free),
        Action("kill_node", "Node", "Kill", target, f"Killing node {target}",
               "Its OS process ends at once; its sandboxes start elsewhere", why),
    )  # fmt: skip


def _gives(node: NodeInfo | None) -> str:
    carried = node.sandboxes if node else ()
    moves = "move" if len(carried) > 1 else "moves"
    return f"{', '.join(carried) or 'It carries nothing, so nothing'} {moves} to other nodes"


def _cluster_actions(
    nodes: Sequence[NodeInfo], up: Sequence[NodeInfo], faults: Sequence[AnyFault]
) -> tuple[Action, ...]:
    return (
        Action("rebalance", "Cluster", "Rebalance", "", "Planning moves",
               "Shows which sandboxes should move so that the nodes carry equal shares; then asks",
               "" if len(up) > 1 else ALONE, shown=fmt.count(len(nodes), "node")),
        Action("heal", "Cluster", "Heal", "", "Healing", "Ends every fault, whoever made it",
               "" if faults else "No fault is in force."),
    )  # fmt: skip


#: Why nothing can be moved.
ALONE = "There is no other node that is up."


def sides(node: str) -> tuple[tuple[str, str], ...]:
    """Return the ways to cut the cluster apart at a node: what is sent, and how it reads."""
    return (
        ("alone", f"{node or 'node'} | the rest"),
        ("scheduler", f"{node or 'node'}, scheduler | the rest"),
        ("each", "each node alone"),
    )


def groups(side: str, node: str, nodes: Sequence[str]) -> list[list[str]]:
    """Return the groups of a partition, as ``chaos.partition`` takes them.

    Parameters
    ----------
    side
        One of `sides`: the node alone, so that it is the minority; with the scheduler, so that the cluster has no
        quorum; or every node for itself, the given one with the scheduler.
    node
        The node at which it is cut.
    nodes
        The names of all nodes.

    >>> groups("alone", "beta", ["alpha", "beta", "gamma"])
    [['beta'], ['scheduler', 'alpha', 'gamma']]
    >>> groups("scheduler", "beta", ["alpha", "beta", "gamma"])
    [['beta', 'scheduler'], ['alpha', 'gamma']]
    >>> groups("each", "beta", ["alpha", "beta", "gamma"])
    [['beta', 'scheduler'], ['alpha'], ['gamma']]
    """
    others = [name for name in nodes if name != node]
    match side:
        case "scheduler":
            return [[node, SCHEDULER], others]
        case "each":
            return [[node, SCHEDULER], *([name] for name in others)]
        case _:
            return [[node], [SCHEDULER, *others]]


class Question(NamedTuple):
    """What an action has led to: something that is asked first."""

    text: str
    #: What is done on yes.
    then: Action


def moves(plan: Sequence[Suggestion]) -> str:
    """Name the moves of a plan.

    >>> moves([Suggestion("shop", "alpha", "beta", "alpha is 20% full and beta 0%")])
    'shop from alpha to beta'
    """
    return ", ".join(f"{move.sandbox} from {move.source} to {move.target}" for move in plan) or "nothing"


def plan(action: Action, suggested: Sequence[Suggestion]) -> str | Question:
    """Ask whether the moves of a dry run are to be made; say so when there are none."""
    if not suggested:
        return "The nodes carry equal shares; nothing needs to move."
    now = replace(action, name="rebalance_now", label="Move", target="", doing="Rebalancing")
    return Question(f"Move {moves(suggested)}? {suggested[0].reason}.", now)


def progress(action: Action, nodes: Sequence[NodeInfo], sandboxes: Sequence[SandboxInfo]) -> str:
    """Say how far a running action is; empty where that cannot be seen from outside."""
    match action.name:
        case "drain":
            left = [len(node.sandboxes) for node in nodes if node.name == action.target]
            return (
                f"{fmt.count(left[0], 'sandbox', 'sandboxes')} still there" if left else "its worker is gone"
            )
        case "move":
            return "".join(moving(info.move) for info in sandboxes if info.id == action.target and info.move)
        case "rebalance_now":
            return "; ".join(f"{info.id} {moving(info.move)}" for info in sandboxes if info.move)
        case _:
            return ""
