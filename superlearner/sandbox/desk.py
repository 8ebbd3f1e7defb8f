"""The requests of one instance: in flight to its host, waiting while the host comes up, or refused."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from superlearner.sandbox.frames import FrameError
from superlearner.sandbox.link import Link
from superlearner.sandbox.services import Answer

logger = logging.getLogger(__name__)

#: Requests that may wait, or be in flight, before more are refused.
MOST_REQUESTS = 200_000
#: Bytes that may wait for a host that does not read before more requests are refused.
MOST_BYTES = 256 * 2**20
_OVERLOADED = ["overloaded", True, "Too many requests wait for this sandbox: nothing was done."]


class Desk:
    """Takes requests, in order, and sees to it that each call is answered exactly once.

    It is made holding: requests wait until `open` is called with a host.

    Parameters
    ----------
    sandbox, epoch
        Whose requests these are; those for another epoch are refused.
    """

    def __init__(self, sandbox: str, epoch: int) -> None:
        self._sandbox = sandbox
        self._epoch = epoch
        self._link: Link | None = None
        self._closed: str | None = None
        self._numbers = itertools.count(1)
        self._inflight: dict[int, tuple[Any, Answer, Any]] = {}
        #: Watches of other sandboxes' processes, answered when what they watch has ended: nothing waits for that.
        self._watches: dict[int, tuple[Any, Answer, Any]] = {}
        self._waiting: deque[_Waiting] = deque()
        self._idle: asyncio.Event | None = None
        #: How many of its own requests it has refused since it was last open: those who made them ask elsewhere.
        self.turned_away = 0

    @property
    def in_flight(self) -> int:
        """How many requests the host has not answered yet."""
        return len(self._inflight)

    @property
    def waiting(self) -> int:
        """How many requests wait for the host to come up."""
        return len(self._waiting)

    # -- Its state

    def open(self, link: Link) -> None:
        """Let the requests that have waited go to the host, in order, and those that come after them."""
        self._link, self._closed, self.turned_away = link, None, 0
        waiting, self._waiting = self._waiting, deque()
        for entry in waiting:
            self._pass(link, entry.release(), entry.answer)

    def hold(self) -> None:
        """Let new requests wait."""
        self._link, self._closed = None, None

    def close(self, word: str) -> None:
        """Refuse new requests and those that wait; `word` says why: ``moving``, ``stopped``, ``failed``."""
        self._link, self._closed = None, word
        waiting, self._waiting = self._waiting, deque()
        for entry in waiting:
            self._refuse(entry.release(), entry.answer, self._stale(entry.frame, word))

    def fail(self, reason: Any) -> None:
        """Answer the requests in flight, and the watches: their host has died."""
        unanswered, self._inflight, self._watches = {**self._inflight, **self._watches}, {}, {}
        for call_id, answer, target in unanswered.values():
            _deliver(answer, [call_id, 2, ["process_died", False, reason, target]])
        if self._idle is not None:
            self._idle.set()

    async def idle(self, timeout: float) -> bool:
        """Wait until nothing is in flight; return whether that came about in time."""
        if self._inflight:
            self._idle = asyncio.Event()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), timeout)
            self._idle = None
        return not self._inflight

    # -- Requests

    def request(self, frame: list[Any], answer: Answer) -> None:
        """Take one request, or calls that came together; see `Instance.request`."""
        if frame[0] == "calls":
            self._request_together(frame, answer)
        elif frame[2] != self._epoch or self._closed is not None:
            self.turned_away += frame[2] == self._epoch
            self._refuse(frame, answer, self._stale(frame, self._closed or "another epoch"))
        elif self._link is not None:
            self._pass(self._link, frame, answer)
        elif len(self._waiting) >= MOST_REQUESTS:
            self._refuse(frame, answer, _OVERLOADED)
        else:
            self._waiting.append(_Waiting(frame, answer, self._expire))

    def _request_together(self, frame: list[Any], answer: Answer) -> None:
        """Take calls that came together: as one where nothing is in their way, else one after the other."""
        _, ids, epoch, target, payloads, timeout = frame
        free = epoch == self._epoch and self._closed is None
        if not (free and self._link is not None and self._pass_together(self._link, frame, answer)):
            for id, payload in zip(ids, payloads, strict=True):
                self.request(["call", id, epoch, target, payload, timeout], answer)

    def _pass_together(self, link: Link, frame: list[Any], answer: Answer) -> bool:
        _, ids, _, target, payloads, timeout = frame
        if link.queued > MOST_BYTES or len(self._inflight) + len(ids) > MOST_REQUESTS:
            return False
        numbers = list(itertools.islice(self._numbers, len(ids)))
        try:
            link.write(["calls", numbers[0], target, payloads, timeout])
        except FrameError:
            return False
        self._inflight.update(zip(numbers, ((id, answer, target) for id in ids), strict=True))
        return True

    def _pass(self, link: Link, frame: list[Any], answer: Answer) -> None:
        verb, call_id, _, target, payload, timeout = frame
        if link.queued > MOST_BYTES or len(self._inflight) >= MOST_REQUESTS:
            self._refuse(frame, answer, _OVERLOADED)
            return
        number = 0
        if verb == "call" or verb == "ask" or verb == "command":  # noqa: PLR1714 - the hot path: a tuple costs more
            number = next(self._numbers)
            self._inflight[number] = (call_id, answer, target)
        elif verb == "watch":
            number = next(self._numbers)
            self._watches[number] = (call_id, answer, target)
        elif verb == "once":
            number = next(self._numbers)
            self._inflight[number] = (call_id, answer, target)
        try:
            link.write([verb, number, target, payload, timeout])
        except FrameError as error:
            self._inflight.pop(number, None)
            self._watches.pop(number, None)
            self._refuse(frame, answer, ["not_serializable", True, "the request", str(error)])

    def reply(self, number: int, status: int, payload: Any) -> None:
        """Hand on an answer of the host."""
        found = self._inflight.pop(number, None)
        if found is None and (found := self._watches.pop(number, None)) is None:
            return
        if self._idle is not None and not self._inflight:
            self._idle.set()
        _deliver(found[1], [found[0], status, payload])

    def reply_together(self, numbers: list[int], payloads: list[bytes]) -> None:
        """Hand on answers of the host to calls that came together, as many at once as have the same way."""
        ids: list[Any] = []
        bodies: list[bytes] = []
        way: Answer | None = None
        for number, payload in zip(numbers, payloads, strict=True):
            found = self._inflight.pop(number, None)
            if found is None:
                continue
            if found[1] is not way:
                if way is not None:
                    _deliver(way, [ids, 0, bodies])
                ids, bodies, way = [], [], found[1]
            ids.append(found[0])
            bodies.append(payload)
        if way is not None:
            _deliver(way, [ids, 0, bodies])
        if self._idle is not None and not self._inflight:
            self._idle.set()

    def forget(self, answer: Answer) -> None:
        """Drop the request that was made with `answer`; its host may still handle it."""
        for entry in self._waiting:
            if entry.answer is answer:
                entry.release()
                self._waiting.remove(entry)
                return
        for number, (_, owed, _) in self._inflight.items():
            if owed is answer:
                del self._inflight[number]
                break
        if self._idle is not None and not self._inflight:
            self._idle.set()

    def _refuse(self, frame: list[Any], answer: Answer, why: list[Any]) -> None:
        if frame[0] in ("call", "command") or frame[1] is not None:
            _deliver(answer, [frame[1], 2, why])

    def _stale(self, frame: list[Any], word: str) -> list[Any]:
        return ["stale_epoch", True, word, self._sandbox, frame[2], self._epoch]

    def _expire(self, entry: _Waiting) -> None:
        self._waiting.remove(entry)
        # It never left the node, so it certainly did not happen.
        why = ["call_timeout", True, "the sandbox was still starting", entry.frame[3], entry.frame[5]]
        self._refuse(entry.frame, entry.answer, why)


def _deliver(answer: Answer, frame: list[Any]) -> None:
    try:
        answer(frame)
    except Exception:
        # One client's broken connection must not cost the others their host.
        logger.exception("An answer could not be delivered.")


class _Waiting:
    """A request that waits for its host to come up, no longer than its own timeout."""

    __slots__ = ("_deadline", "_timer", "answer", "frame")

    def __init__(self, frame: list[Any], answer: Answer, expire: Callable[[_Waiting], None]) -> None:
        self.frame = frame
        self.answer = answer
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        if frame[5] is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.time() + frame[5]
            self._timer = loop.call_at(self._deadline, expire, self)

    def release(self) -> list[Any]:
        """Return the frame with the time that is left to it."""
        if self._timer is None or self._deadline is None:
            return self.frame
        self._timer.cancel()
        return [*self.frame[:5], max(0.0, self._deadline - asyncio.get_running_loop().time())]
