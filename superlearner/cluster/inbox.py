"""The other end of a node's couriers: takes what they bring, and hands it to the sandboxes of this node.

===========================================================================  ======================================
what comes                                                                   what goes back
===========================================================================  ======================================
``(verb, 0, lane, generation, seq, source, sandbox, epoch, target, ...)``    ``("answer", lane, seq, status, body)``
the same as a ``cast`` or ``send``                                           ``("accepted", lane, seq)``, now and then
any of them where the sandbox is not                                         ``("refused", lane, generation, seq)``
``("forget", 0, lane, seq)``: nobody waits for that answer any more          nothing that is waited for
``("leave", 0, lane)``: nothing comes on this lane any more                  nothing
===========================================================================  ======================================

Behind the first refusal everything of its lane and generation is dropped, as it comes again in order.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
from collections.abc import Callable
from typing import Any

from superlearner.errors import StaleEpoch
from superlearner.sandbox.instance import Instance
from superlearner.sandbox.services import Answer

#: The refusal of an answer that comes past the lease: whether it was handled is not known.
FENCED = ["no_connection", False, "the lease of its node ran out"]
#: By which the hosts of this OS process know the watches that are put on their processes.
_keys = itertools.count(1)


class Inbox:
    """Serves the couriers of one node.

    Parameters
    ----------
    find
        Returns the instance of a sandbox and epoch, while there is one that may answer.
    may_answer
        Whether this node may still answer.
    push
        Sends to the couriers.
    """

    def __init__(
        self,
        find: Callable[[str, int], Instance | None],
        may_answer: Callable[[], bool],
        push: Callable[[tuple[Any, ...]], None],
    ) -> None:
        self._find, self._may_answer, self._push = find, may_answer, push
        self._loop = asyncio.get_running_loop()
        #: The generation of each lane of which something was refused.
        self._refused: dict[int, int] = {}
        #: The last accepted of each lane, to be told at the end of this turn of the loop.
        self._accepted: dict[int, int] = {}
        #: By lane and number: what is not answered yet, and the key of each watch.
        self._open: dict[tuple[int, int], tuple[Instance, Answer]] = {}
        self._watches: dict[tuple[int, int], int] = {}

    def handle(self, message: tuple[Any, ...]) -> None:
        """Take one message."""
        match message:
            case ("forget", _, lane, seq):
                self._forget((lane, seq))
            case ("leave", _, lane):
                self._refused.pop(lane, None)
            case (verb, _, *fields):
                self._take(verb, *fields)

    def _take(
        self,
        verb: str,
        lane: int,
        generation: int,
        seq: int,
        source: str,
        sandbox: str,
        epoch: int,
        target: Any,
        body: Any,
        timeout: float | None,
    ) -> None:
        if self._is_over(lane, generation):
            return
        instance = self._find(sandbox, epoch)
        if instance is None:
            self._refuse(lane, generation, seq)
            return
        post = verb in ("cast", "send")
        if verb == "watch":
            body = self._watches[lane, seq] = next(_keys)
        answer = functools.partial(self._answer, instance, source, lane, generation)
        if not post:
            self._open[lane, seq] = (instance, answer)
        instance.request([verb, seq, epoch, target, body, timeout], answer)
        if post and not self._is_over(lane, generation):
            if not self._accepted:
                self._loop.call_soon(self._tell_accepted)
            self._accepted[lane] = seq

    def _is_over(self, lane: int, generation: int) -> bool:
        return generation <= self._refused.get(lane, 0)

    def _refuse(self, lane: int, generation: int, seq: int) -> None:
        if not self._is_over(lane, generation):
            self._refused[lane] = generation
            self._push(("refused", lane, generation, seq))

    def _tell_accepted(self) -> None:
        accepted, self._accepted = self._accepted, {}
        for lane, seq in accepted.items():
            self._push(("accepted", lane, seq))

    def _answer(self, instance: Instance, source: str, lane: int, generation: int, answer: list[Any]) -> None:
        seq, status, body = answer
        self._open.pop((lane, seq), None)
        self._watches.pop((lane, seq), None)
        if not self._may_answer():
            status, body = 2, FENCED
        if status == 2 and body[0] == StaleEpoch.code:
            self._refuse(lane, generation, seq)
            return
        # An answer, or the news of an end, does not overtake what the same process has sent before it.
        tell = functools.partial(self._push, ("answer", lane, seq, status, body))
        if instance.outlet is None:
            tell()
        else:
            instance.outlet.after(source, tell)

    def _forget(self, which: tuple[int, int]) -> None:
        instance, answer = self._open.get(which, (None, None))
        if instance is None or answer is None:
            return  # answered meanwhile
        if which in self._watches:
            # Its host knows it too, and answers it by that.
            instance.request(
                ["unwatch", None, instance.epoch, self._watches[which], b"", None], _nobody_waits
            )
        else:
            del self._open[which]
            instance.forget(answer)

    def close(self) -> None:
        """Forget what a node that is gone has asked and watched."""
        for which in list(self._open):
            self._forget(which)


def _nobody_waits(answer: list[Any]) -> None:
    """Take a refusal: where the instance is closed there is nothing to end."""
