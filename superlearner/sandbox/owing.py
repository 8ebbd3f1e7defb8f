"""The desk of a sandbox with ``durability="reply"``: it holds answers until their effects are stored."""

from __future__ import annotations

from typing import Any

from superlearner.core.durability import ReplyGate
from superlearner.sandbox.desk import Desk
from superlearner.sandbox.link import Link
from superlearner.sandbox.services import Answer


class OwingDesk(Desk):
    """Holds each answer until a checkpoint that was taken after it is stored; see `superlearner.core.durability`.

    Parameters
    ----------
    sandbox, epoch
        As for `Desk`.
    """

    def __init__(self, sandbox: str, epoch: int) -> None:
        super().__init__(sandbox, epoch)
        #: Number, status and payload.
        self._gate: ReplyGate[tuple[int, int, bytes]] = ReplyGate()
        #: Whether the host is to be told, with what it is sent next, that its last checkpoint has been dealt with.
        self._news = False

    def owed(self, link: Link, number: int, status: int, payload: bytes) -> None:
        """Hold an answer of the host."""
        self._gate.hold((number, status, payload))
        if self._news:
            self._tell(link)

    def mark(self) -> int:
        """Note that the host has taken a checkpoint: it has the effects of what was answered before."""
        return self._gate.mark()

    def hand_over(self, mark: int, trouble: str | None) -> None:
        """Let the answers go that the checkpoint of this mark has, or refuse them for `trouble`."""
        if trouble is None:
            self._gate.stored(mark)
            self._let_go()
            return
        for number, _, _ in self._gate.lost(mark):
            _, _, target = self._inflight.get(number, (None, None, None))
            self.reply(number, 2, ["not_durable", False, trouble, target])

    def _let_go(self) -> None:
        for answer in self._gate.due():
            self.reply(*answer)

    def go_on(self, link: Link) -> None:
        """Let the host take the next checkpoint: now, if answers wait for it, else with the next request."""
        if self._gate.wants_more:
            self._tell(link)
        else:
            self._news = True

    def _tell(self, link: Link) -> None:
        self._news = False
        link.write(["stored"])

    def _pass(self, link: Link, frame: list[Any], answer: Answer) -> None:
        if self._news:
            self._tell(link)
        super()._pass(link, frame, answer)

    def _pass_together(self, link: Link, frame: list[Any], answer: Answer) -> bool:
        if self._news:
            self._tell(link)
        return super()._pass_together(link, frame, answer)

    def freeze(self) -> None:
        """Let nothing leave: another instance is to begin from a checkpoint, and what comes after that is not in it."""
        self._gate.freeze()

    def thaw(self) -> None:
        """Let answers leave again: no other instance begins."""
        self._gate.thaw()
        self._let_go()

    def fail(self, reason: Any) -> None:
        """Answer the requests in flight, and those that are held: their host has died."""
        self._gate.clear()
        super().fail(reason)
