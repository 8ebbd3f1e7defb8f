"""A courier carries what one sandbox sends to another: in order, and each message at most once.

It sends to the place that it knows until that place refuses (the sandbox has moved, or was started again elsewhere)
or is lost. A refused message certainly did not happen, and neither did those after it, since the other side refuses
everything behind the first refusal, by its *generation*, the number of this attachment. They are taken back and sent
again, in order, to where the sandbox lives now. What was sent on a connection that broke may have happened: a call
fails with `NoConnection`, a message without answer is left to its fate, and neither is sent again. A call with an id
takes effect once however often it comes, so it is sent again, also when its OS process has died under it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from superlearner.cluster.channel import ChannelClosed
from superlearner.core.retry import decide, leaves_doubt
from superlearner.sandbox.answers import outcome
from superlearner.sandbox.payload import dumps_error
from superlearner.sandbox.services import Answer

Place = tuple[str, int]  # (address, epoch)

#: Messages that may wait for a sandbox to be found before more are refused.
MOST_WAITING = 100_000
#: Bytes that one courier may hold of calls, or of what waits for a sandbox to be found, before more are refused.
MOST_BYTES = 256 * 2**20
#: Bytes without answer to come that may be under way before their host has to wait.
HIGH_WATER = 16 * 2**20
_OVERLOADED = ["overloaded", True, "Too many messages wait for that sandbox: nothing was sent."]
_LOST = ["no_connection", False, "its node is gone"]


class Route(Protocol):
    """What leads to one node."""

    def post(self, verb: str, *fields: Any) -> None:
        """Send; raise `ChannelClosed` when that cannot arrive."""


#: Finds where a sandbox lives, other than at the given place, within a time that the control plane may wait for a
#: quorum, and the open route to its node.
Reach = Callable[[str, Place | None, float | None], Awaitable[tuple[Place, Route]]]


class Message:
    """One message on its way."""

    __slots__ = ("body", "deadline", "doubt", "number", "route", "seq", "target", "verb")

    def __init__(self, verb: str, number: int, target: Any, body: bytes, deadline: float | None) -> None:
        self.verb = verb
        #: By which its host knows it; 0 when there is no answer.
        self.number = number
        self.target = target
        self.body = body
        self.deadline = deadline
        #: Its place in the order of its courier.
        self.seq = 0
        #: What it was sent on.
        self.route: Route | None = None
        #: Whether it was sent before and may have happened: no later refusal is definite then.
        self.doubt = False

    def left(self, now: float) -> float | None:
        """Return the seconds that its sender still waits; None: for ever."""
        return None if self.deadline is None else max(0.0, self.deadline - now)


class Courier:
    """Carries the messages of one host to one sandbox; see the module.

    Parameters
    ----------
    lane
        The number by which both sides know it.
    source, sandbox
        Where from, and where to.
    reach
        How to get there.
    answer
        Takes ``[number, status, payload]``, once for each message with a number that was not cancelled.
    ended
        Called when it has nothing to do and never will.
    """

    def __init__(
        self,
        lane: int,
        source: str,
        sandbox: str,
        reach: Reach,
        answer: Answer,
        ended: Callable[[Courier], None],
    ) -> None:
        self.lane = lane
        self._source = source
        self.sandbox = sandbox
        self._reach, self._answer, self._on_end = reach, answer, ended
        self._loop = asyncio.get_running_loop()
        self._seqs = itertools.count(1)
        #: Not sent yet, in order; empty while there is a route.
        self._queue: dict[int, Message] = {}
        #: Sent, and not answered.
        self._sent: dict[int, Message] = {}
        #: Sent without an answer to come, and not known to have been accepted.
        self._posts: deque[Message] = deque()
        self._generation = 0
        self._place: Place | None = None
        self._route: Route | None = None
        self._stale: Place | None = None
        self._runner: asyncio.Task[None] | None = None
        self._closed = False
        #: Bytes that it holds of messages without answer to come, and of the others.
        self.posted = 0
        self._asked = 0
        #: Called once when `posted` has fallen under half of the high water.
        self.on_room: Callable[[], None] | None = None
        #: What is to follow the message of that number, in order.
        self._followers: deque[tuple[int, Callable[[], None]]] = deque()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self._queue or self._sent or self._posts or self._runner)

    # -- What its host wants

    def take(self, message: Message) -> None:
        """Send a message, behind all those before it."""
        message.seq = next(self._seqs)
        waiting = self._asked if self._route is not None else self._asked + self.posted
        if len(self._queue) >= MOST_WAITING or (waiting > MOST_BYTES and (message.number or not self._route)):
            self._give(message, 2, _OVERLOADED)
            return
        self._weigh(message, len(message.body))
        if self._route is not None:
            self._send(message)
        else:
            self._wait(message)

    @property
    def pressed(self) -> bool:
        """Whether its host should wait until what is under way has arrived."""
        return self._route is not None and self.posted > HIGH_WATER

    def _weigh(self, message: Message, size: int) -> None:
        if message.number:
            self._asked += size
        else:
            self.posted += size
            self._tell_room()
            if self._followers:
                self._follow()

    def after(self, then: Callable[[], None]) -> None:
        """Call `then` when every message without answer to come that was taken so far has arrived, or is lost."""
        # What waits in the queue was taken after what is under way.
        queued = (message.seq for message in reversed(self._queue.values()) if not message.number)
        last = next(queued, self._posts[-1].seq if self._posts else None)
        if last is None:
            then()
        else:
            self._followers.append((last, then))

    def _follow(self) -> None:
        queued = (message.seq for message in self._queue.values() if not message.number)
        first = self._posts[0].seq if self._posts else next(queued, None)
        while self._followers and (first is None or self._followers[0][0] < first):
            self._followers.popleft()[1]()

    def _tell_room(self) -> None:
        """Let the host go on, when there is room, or when nobody knows how long it would have to wait."""
        if self.on_room is not None and (self.posted < HIGH_WATER / 2 or self._route is None):
            on_room, self.on_room = self.on_room, None
            on_room()

    def cancel(self, message: Message) -> None:
        """Forget a message: nobody waits for its answer any more."""
        if self._queue.pop(message.seq, None) is not None:
            self._weigh(message, -len(message.body))
        elif self._sent.pop(message.seq, None) is not None:
            self._weigh(message, -len(message.body))
            self._tell(message.route, "forget", message.seq)
        self._end_if_over()

    def close(self) -> None:
        """Forget all that wants an answer, as its host has died; the rest still leaves."""
        self._closed = True
        self._queue = {seq: message for seq, message in self._queue.items() if not message.number}
        sent, self._sent, self._asked = self._sent, {}, 0
        for message in sent.values():
            self._tell(message.route, "forget", message.seq)
        if not self._queue:
            self.stop()
        self._end_if_over()

    def stop(self) -> asyncio.Task[None] | None:
        """Look no further for the way: the node itself is closing, or nothing waits. Return what is ending."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.cancel()
        return runner

    def _tell(self, route: Route | None, verb: str, *fields: Any) -> None:
        if route is not None:
            try:
                route.post(verb, self.lane, *fields)
            except ChannelClosed:
                return  # the other side forgets by itself what came over it

    # -- The way

    def _wait(self, message: Message) -> None:
        self._queue[message.seq] = message
        if self._runner is None:
            self._runner = self._loop.create_task(self._find(), name=f"superlearner-way-to-{self.sandbox}")

    async def _find(self) -> None:
        """Find the way, and send on it what has waited."""
        try:
            while self._queue:
                first = next(iter(self._queue.values())).left(self._loop.time())
                patience = None if first is None else 0.8 * first
                self._place, self._route = await self._reach(self.sandbox, self._stale, patience)
                self._stale = None
                self._generation += 1
                queue, self._queue = self._queue, {}
                for message in queue.values():
                    if self._route is None:
                        self._queue[message.seq] = message
                    else:
                        self._send(message, finding=True)
        except Exception as error:  # told to whoever waits for an answer
            self._stale = None
            body = dumps_error(error)
            refused, self._queue = self._queue, {}
            for message in refused.values():
                if message.doubt:
                    self._done(message, 2, _LOST)
                else:
                    self._done(message, 1, body)
        self._runner = None
        self._end_if_over()

    def _send(self, message: Message, *, finding: bool = False) -> None:
        assert self._route is not None
        assert self._place is not None
        left = message.left(self._loop.time())
        fields = (message.seq, self._source, self.sandbox, self._place[1], message.target, message.body, left)
        try:
            self._route.post(message.verb, self.lane, self._generation, *fields)
        except ChannelClosed:
            # Certainly not sent; what was sent before is settled when the loss is told, in a moment.
            self._route = None
            if finding:
                self._queue[message.seq] = message
            else:
                self._wait(message)
            return
        message.route = self._route
        if message.number:
            self._sent[message.seq] = message
        else:
            self._posts.append(message)

    # -- What comes back

    def answered(self, seq: int, status: int, body: Any) -> None:
        """Take an answer, or a refusal that is final."""
        message = self._sent.pop(seq, None)
        if message is None or (message.verb == "once" and self._sent_again(message, status, body)):
            return
        if message.doubt and status == 2 and body[1]:
            status, body = 2, _LOST
        self._done(message, status, body)

    def _sent_again(self, message: Message, status: int, body: Any) -> bool:
        """Send a call with an id again, if it was not simply answered."""
        ended = outcome(status, body)
        message.doubt = message.doubt or leaves_doubt(ended)
        match decide(ended, idempotent=True):
            case "again" if self._route is not None:
                self._send(message)
            case "again":
                self._wait(message)
            case "elsewhere":
                self._route, self._stale = None, self._place
                self._wait(message)
            case _:
                return False
        return True

    def accepted(self, seq: int) -> None:
        """Learn that the messages without answer, up to this one, are at their sandbox."""
        while self._posts and self._posts[0].seq <= seq:
            message = self._posts.popleft()
            self._weigh(message, -len(message.body))
        self._end_if_over()

    def refused(self, generation: int, seq: int) -> None:
        """Take back a message that was sent to where the sandbox is not, and all after it."""
        if generation != self._generation or self._route is None:
            return
        back = [m for m in (*self._posts, *self._sent.values()) if m.seq >= seq]
        self._posts = deque(m for m in self._posts if m.seq < seq)
        self._route, self._stale = None, self._place
        for message in sorted(back, key=lambda m: m.seq):
            self._sent.pop(message.seq, None)
            self._wait(message)
        self._tell_room()
        self._end_if_over()

    def broken(self, route: Route) -> None:
        """Learn that a route was lost: what was sent on it and not answered may have happened."""
        lost = [message for message in self._sent.values() if message.route is route]
        for message in lost:
            del self._sent[message.seq]
        lost += [message for message in self._posts if message.route is route]
        self._posts = deque(message for message in self._posts if message.route is not route)
        if self._route is route:
            self._route = None
        for message in sorted(lost, key=lambda message: message.seq):
            if message.verb == "once":
                message.doubt = True
                self._wait(message)
            else:
                self._done(message, 2, _LOST)
        self._end_if_over()

    def _done(self, message: Message, status: int, body: Any) -> None:
        self._weigh(message, -len(message.body))
        self._give(message, status, body)

    def _give(self, message: Message, status: int, body: Any) -> None:
        if message.number:
            self._answer([message.number, status, body])

    def _end_if_over(self) -> None:
        if self._closed and self.idle:
            self._tell(self._route, "leave")
            self._on_end(self)
