"""What the nemesis torments: a register and a counter in sandboxes, and clients that use them and note everything.

Both remember the number of every operation that changed them, so their final state tells what was lost and
what was doubled, and every answer says which incarnation gave it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from typing import Any

from superlearner.core.operations import Operation
from superlearner.core.spec import Checkpoint
from superlearner.errors import SuperlearnerError
from superlearner.otp import GenServer, Reply, child, self_, supervisor

REGISTER, COUNTER = "register", "counter"
#: What each sandbox may be asked, each as often as it stands there.
KINDS = {REGISTER: ("read", "write", "write", "cas"), COUNTER: ("read", "increment", "increment")}
#: The kinds that change a state.
CHANGES = ("write", "cas", "increment")
#: Seconds that a client waits for an answer, and rests after it.
PATIENCE, PAUSE = 2.0, 0.01


class Remembering(GenServer):
    """Its state is ``(value, numbers of the operations that changed it)``; an answer is ``(value, who)``."""

    def init(self, value: Any) -> Any:
        """Begin with a value that nobody has changed."""
        return value, ()

    def handle_call(self, request: Any, sender: Any, state: Any) -> Any:
        """Carry out ``(kind, number, argument)``."""
        kind, number, argument = request
        value, applied = state
        who = f"{str(self_())[1:].partition('.')[0]} {os.getpid()}"
        changed = (*applied, number)
        match kind:
            case "read":
                return Reply((value, who), state)
            case "write":
                return Reply((None, who), (argument, changed))
            case "increment":
                return Reply((value + 1, who), (value + 1, changed))
            case "cas" if value == argument[0]:
                return Reply((True, who), (argument[1], changed))
            case "cas":
                return Reply((False, who), state)
            case "applied":
                return Reply((applied, who), state)
            case _:
                raise ValueError(f"There is no operation {kind!r}.")


def application(name: str) -> Any:
    """Return the supervision tree of one of the two."""
    value = None if name == REGISTER else 0
    # A process that its supervisor starts again begins anew, as in OTP. This one must not forget, so its end
    # is its sandbox's, which begins with the newest checkpoint.
    return supervisor([child(Remembering, value, id=name, name=name)], max_restarts=0)


#: Each is named to the cluster by its import path.
register, counter = application(REGISTER), application(COUNTER)


async def create(cluster: Any, name: str) -> None:
    """Create one of the two sandboxes: what it answers is stored before the answer leaves."""
    await cluster.create_sandbox(
        name,
        f"{__name__}:{name}",
        # Copies that are made by time meet those that answers wait for, in one of the two.
        checkpoint=Checkpoint(every=None if name == REGISTER else 0.1, durability="reply"),
        max_restarts=1000,
        max_seconds=1.0,
    )


async def ask(sandbox: Any, kind: str, number: int, argument: Any) -> tuple[Any, str | None]:
    """Carry out one operation; return its value, and which incarnation answered, where that is known.

    The counter is asked with ids, so that a request which was not answered is made again: its answer may be
    that of an incarnation which is over.
    """
    if sandbox.id == REGISTER:
        value, who = await sandbox.call(REGISTER, (kind, number, argument), timeout=PATIENCE)
        return value, who
    request = (kind, number, argument)
    value, _ = await sandbox.call(COUNTER, request, timeout=PATIENCE, request_id=f"request-{number}")
    return value, None


class Client:
    """One client: it asks one thing after the other, and notes how that ended.

    Parameters
    ----------
    name
        Its name in the history.
    cluster
        Its own connection, whose methods are awaited.
    seed
        What it asks follows from this and its name.
    numbers
        Gives each operation its number.
    note
        Takes each operation when it has ended for the client.
    """

    def __init__(
        self,
        name: str,
        cluster: Any,
        seed: int,
        numbers: Callable[[], int],
        note: Callable[[Operation], None],
    ) -> None:
        self.name = name
        self._cluster = cluster
        self._chance = random.Random(f"{seed} {name}")
        self._numbers = numbers
        self._note = note

    async def work(self, stop: asyncio.Event) -> None:
        """Ask until it is told to stop."""
        while not stop.is_set():
            subject = self._chance.choice((REGISTER, COUNTER))
            kind = self._chance.choice(KINDS[subject])
            await self.once(subject, kind, self._argument(kind))
            await asyncio.sleep(PAUSE * self._chance.uniform(0.5, 1.5))

    async def once(self, subject: str, kind: str, argument: Any = None) -> Operation:
        """Ask one thing."""
        number, invoked = self._numbers(), time.monotonic()
        asked = {"kind": kind, "argument": argument, "subject": subject, "number": number}
        try:
            async with asyncio.timeout(2 * PATIENCE):
                value, who = await ask(self._cluster.sandbox(subject), kind, number, argument)
        except (SuperlearnerError, TimeoutError) as error:
            definite = isinstance(error, SuperlearnerError) and error.definite
            reason = getattr(error, "code", "call_timeout")
            operation = Operation(
                self.name,
                invoked=invoked,
                outcome="failed" if definite else "unknown",
                reason=reason,
                **asked,
            )
        else:
            operation = Operation(
                self.name, invoked=invoked, completed=time.monotonic(), value=value, by=who, **asked
            )
        self._note(operation)
        return operation

    def _argument(self, kind: str) -> Any:
        few = self._chance.randrange(5)
        match kind:
            case "write":
                return few
            case "cas":
                return few, self._chance.randrange(5)
        return None
