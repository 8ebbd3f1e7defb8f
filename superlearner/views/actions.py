"""What the buttons may do now: each action with its target, and the reason where it cannot work.

This is the whole logic of the buttons, and it is pure: which are enabled, which ask twice, and which
click counts. A click names the `turn` of the picture it was made on; the first click on a turn is
taken and starts the next turn, so a double click, or two windows, never do a thing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from superlearner.core.snapshots import NodeInfo, SandboxInfo
from superlearner.views.marks import Tone
from superlearner.views.tree import TreeNode

ActionName = Literal["create", "kill_process", "restart", "move", "kill_sandbox", "destroy", "kill_node"]

#: In these states a sandbox's tree is what it is now, and not only the last one known.
SHOWS_ITSELF: frozenset[str] = frozenset({"running", "suspended", "migrating"})

#: Those that ask for a second click: what they end does not come back as it was.
DANGEROUS: frozenset[str] = frozenset({"destroy", "kill_node"})


@dataclass(frozen=True, slots=True)
class Action:
    """One button."""

    name: ActionName
    #: The heading it stands under: Process, Sandbox or Node.
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

    @property
    def dangerous(self) -> bool:
        """Whether it asks for a second, confirming click."""
        return self.name in DANGEROUS


@dataclass(frozen=True, slots=True)
class StatusLine:
    """What the buttons last did: what happened, whether it took effect, and what to do."""

    text: str = "Ready."
    tone: Tone = "quiet"


@dataclass(frozen=True, slots=True)
class Chosen:
    """What is selected in the pictures: the process, the sandbox and the node; None for none."""

    process: TreeNode | None = None
    sandbox: SandboxInfo | None = None
    node: NodeInfo | None = None


def actions(chosen: Chosen, nodes: Sequence[NodeInfo], *, unreachable: str = "") -> tuple[Action, ...]:
    """Return all buttons, in the order of the row.

    Parameters
    ----------
    chosen
        What is selected.
    nodes
        All nodes, to see where a sandbox may move.
    unreachable
        Why the cluster cannot be asked at all; empty when it can.
    """
    up = [node for node in nodes if node.status == "up"]
    made = (
        *_process_actions(chosen),
        *_sandbox_actions(chosen.sandbox, up),
        *_node_actions(chosen.node),
    )
    return tuple(replace(action, reason=unreachable) for action in made) if unreachable else made


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
               idle or ("" if others else "There is no other node that is up.")),
        Action("kill_sandbox", "Sandbox", "Kill", target, f"Killing sandbox {target}",
               "Its OS process ends at once; the cluster starts it again", idle),
        Action("destroy", "Sandbox", "Destroy", target, f"Destroying {target}",
               "It ends for good, with its state and its checkpoints", none),
    )  # fmt: skip


def _node_actions(node: NodeInfo | None) -> tuple[Action, ...]:
    target = node.name if node else ""
    down = f"{target} is down already." if node and node.status == "down" else ""
    why = down if node else "Select a node first."
    return (
        Action("kill_node", "Node", "Kill", target, f"Killing node {target}",
               "Its OS process ends at once; its sandboxes start elsewhere", why),
    )  # fmt: skip


# -- Which click counts ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Press:
    """A click as the browser reports it."""

    name: str
    target: str
    turn: int
    #: For a move: the node to move to, or "auto".
    to: str = "auto"
    #: Whether it is the second, confirming click, or its refusal.
    answer: Literal["", "yes", "no"] = ""

    @classmethod
    def from_message(cls, message: Any) -> Press | None:
        """Read a message from the browser; None when it is not one of ours."""
        match message:
            case {
                "press": str(name),
                "target": str(target),
                "turn": int(turn),
                "to": str(to),
                "answer": str(said),
            }:
                answer: Literal["", "yes", "no"] = "yes" if said == "yes" else "no" if said == "no" else ""
                return cls(name, target, turn, to, answer)
            case _:
                return None


@dataclass(frozen=True, slots=True)
class Desk:
    """The state of the buttons, apart from the cluster's; frozen, each step returns a new one.

    >>> kill = Action("kill_node", "Node", "Kill", "beta", "Killing node beta", "")
    >>> desk, todo = Desk().press(Press("kill_node", "beta", turn=0), [kill]); todo is None, desk.armed.target
    (True, 'beta')
    >>> desk, todo = desk.press(Press("kill_node", "beta", turn=1, answer="yes"), [kill]); todo.doing
    'Killing node beta'
    >>> desk, todo = desk.press(Press("kill_node", "beta", turn=1, answer="yes"), [kill]); todo is None
    True
    """

    turn: int = 0
    #: The action that waits for its confirming click.
    armed: Action | None = None
    #: The action that runs.
    busy: Action | None = None
    status: StatusLine = field(default_factory=StatusLine)

    def press(self, press: Press, offered: Sequence[Action]) -> tuple[Desk, Action | None]:
        """Take a click; return the next state, and the action to carry out now, if any."""
        if press.turn != self.turn or self.busy is not None:
            return self, None
        on = replace(self, turn=self.turn + 1, armed=None)
        action = next((a for a in offered if (a.name, a.target) == (press.name, press.target)), None)
        if action is None:
            return replace(
                on, status=StatusLine("Nothing was done: what you clicked is no longer there.", "warn")
            ), None
        if press.answer == "no":
            return replace(on, status=StatusLine(f"{action.doing}: not done.", "quiet")), None
        if action.reason:
            return replace(on, status=StatusLine(action.reason, "warn")), None
        if action.dangerous and not (press.answer == "yes" and self.armed == action):
            question = StatusLine(
                f"{action.label} {action.group.lower()} {action.target}? {action.title}.", "warn"
            )
            return replace(on, armed=action, status=question), None
        return replace(on, busy=action, status=StatusLine(f"{action.doing} …", "busy")), action

    def done(self, status: StatusLine) -> Desk:
        """Return the state after the running action has ended as `status` says."""
        return replace(self, busy=None, armed=None, turn=self.turn + 1, status=status)


def as_dict(desk: Desk, offered: Sequence[Action], targets: Sequence[str], *, real: bool) -> dict[str, Any]:
    """Return the buttons as plain data, for a widget's trait.

    Parameters
    ----------
    desk
        The state of the buttons.
    offered
        What `actions` returned.
    targets
        The nodes a sandbox may move to.
    real
        Whether the buttons act on a real cluster.
    """
    return {
        "real": real,
        "turn": desk.turn,
        "busy": desk.busy is not None,
        "buttons": [asdict(action) | {"dangerous": action.dangerous} for action in offered],
        "targets": ["auto", *targets],
        "armed": None if desk.armed is None else asdict(desk.armed),
        "status": {"text": desk.status.text, "tone": desk.status.tone},
        "text": text(desk, offered),
    }


def text(desk: Desk, offered: Sequence[Action]) -> str:
    """Return the buttons and the status line as text."""
    lines = [
        f"[{action.group}: {action.label}{' ' + action.target if action.target else ''}]"
        + (f" not now: {action.reason}" if action.reason else "")
        for action in offered
    ]
    return "\n".join([*lines, desk.status.text])
