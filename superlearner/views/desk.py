"""Which click counts, and what the status line says: the state of the buttons, apart from the cluster's.

A click names the `turn` of the picture it was made on; the first click on a turn is taken and starts the next
turn, so a double click, or two windows, never do a thing twice. Only what heals is taken at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from superlearner.views.actions import BESIDE, URGENT, Action
from superlearner.views.marks import Tone


@dataclass(frozen=True, slots=True)
class StatusLine:
    """What the buttons last did: what happened, whether it took effect, and what to do."""

    text: str = "Ready."
    tone: Tone = "quiet"


@dataclass(frozen=True, slots=True)
class Press:
    """A click as the browser reports it."""

    name: str
    target: str
    turn: int
    #: What was chosen beside the button, such as the node to move to; empty for nothing.
    choice: str = ""
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
                "choice": str(choice),
                "answer": str(said),
            }:
                answer: Literal["", "yes", "no"] = "yes" if said == "yes" else "no" if said == "no" else ""
                return cls(name, target, turn, choice, answer)
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
    #: The actions that run: one, and beside it those that heal.
    running: tuple[Action, ...] = ()
    status: StatusLine = field(default_factory=StatusLine)

    def press(self, press: Press, offered: Sequence[Action]) -> tuple[Desk, Action | None]:
        """Take a click; return the next state, and the action to carry out now, if any."""
        if press.name not in URGENT and (press.turn != self.turn or self.running):
            return self, None
        on = replace(self, turn=self.turn + 1, armed=None)
        known = (*offered, self.armed) if self.armed else offered
        action = next((a for a in known if (a.name, a.target) == (press.name, press.target)), None)
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
        status = StatusLine(f"{action.doing} …", "busy")
        return replace(on, running=(*self.running, action), status=status), action

    def done(self, action: Action, status: StatusLine, *, then: Action | None = None) -> Desk:
        """Return the state after a running action has ended as `status` says, or has led to a question.

        Parameters
        ----------
        action
            The one that has ended.
        status
            How, or the question.
        then
            What is done on yes.
        """
        running = tuple(other for other in self.running if other != action)
        if running:
            status = StatusLine(f"{status.text} {running[0].doing} …", "busy")
        return replace(self, running=running, armed=then, turn=self.turn + 1, status=status)


def as_dict(desk: Desk, offered: Sequence[Action], *, real: bool, so_far: str = "") -> dict[str, Any]:
    """Return the buttons as plain data, for a widget's trait.

    Parameters
    ----------
    desk
        The state of the buttons.
    offered
        What `actions` returned.
    real
        Whether the buttons act on a real cluster.
    so_far
        How far what runs is, see `progress`.
    """
    status = f"{desk.status.text} {so_far}".rstrip() if desk.running else desk.status.text
    return {
        "real": real,
        "turn": desk.turn,
        "busy": bool(desk.running),
        "buttons": [_button(action) for action in offered if action.group not in BESIDE],
        "armed": None if desk.armed is None else _button(desk.armed),
        "status": {"text": status, "tone": desk.status.tone},
        "text": text(status, offered),
    }


def _button(action: Action) -> dict[str, Any]:
    choices = [list(choice) for choice in action.choices]
    more = {"choices": choices, "dangerous": action.dangerous, "urgent": action.urgent}
    return asdict(action) | more


def text(status: str, offered: Sequence[Action]) -> str:
    """Return the buttons and the status line as text."""
    lines = [
        f"[{action.group}: {action.label}{' ' + action.target if action.target else ''}]"
        + (f" not now: {action.reason}" if action.reason else "")
        for action in offered
    ]
    return "\n".join([*lines, status])
