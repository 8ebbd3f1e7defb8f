"""The memory that makes a request with an id take effect once, however often it is sent.

It belongs to a sandbox's state: a checkpoint has both in one piece. So a request whose effect is in the state is
answered from memory, and one whose effect was lost with the memory of it is carried out again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from superlearner.errors import InvalidSpec

#: The longest request id.
LONGEST_ID = 200
#: A request is ``new``; it is ``running``, so that one only waits for its answer; or the id is that of ``another``.
Verdict = Literal["new", "running", "another"]


def validate_request_id(id: Any) -> str:
    """Return `id` if it may name a request, else raise `InvalidSpec`.

    >>> validate_request_id("order-17")
    'order-17'
    >>> validate_request_id(17)
    Traceback (most recent call last):
        ...
    superlearner.errors.InvalidSpec: request_id=17 is no id; nothing was sent. Write a text of 1 to 200 ...
    """
    if isinstance(id, str) and 0 < len(id) <= LONGEST_ID:
        return id
    raise InvalidSpec(
        f"request_id={id!r} is no id; nothing was sent. Write a text of 1 to {LONGEST_ID} characters that no other "
        "request has, such as str(uuid.uuid4()), and the same one when you repeat this request."
    )


class Kept(NamedTuple):
    """A request that has had its effect."""

    #: What tells it from others.
    digest: bytes
    #: When, by the clock of the machine that it runs on.
    at: float
    #: As in a frame: 0 and the value, 1 and the error; None while its answer is still owed, as after ``NoReply``.
    status: int | None = None
    body: bytes = b""


#: The fields of a `Kept` as a plain tuple, which a checkpoint carries in a sixth of the time.
Plain = tuple[bytes, float, int | None, bytes]
#: The time of a checkpoint, by a clock of its own, and the requests that have had their effect by then.
Remembered = tuple[float, Mapping[str, Plain]]


class RequestMemory:
    """The requests with ids of one sandbox: those under way, and the last ones that have had their effect.

    >>> memory = RequestMemory(limit=2, age=60.0)
    >>> memory.ask("a", b"increment", now=0.0)
    'new'
    >>> memory.ask("a", b"increment", now=1.0), memory.ask("a", b"reset", now=1.0)
    ('running', 'another')
    >>> memory.answered("a", 0, b"1", now=2.0)
    >>> memory.ask("a", b"increment", now=3.0).body
    b'1'

    Parameters
    ----------
    limit
        How many that have had their effect are remembered; the oldest go first.
    age
        For how many seconds, while the sandbox runs.
    """

    def __init__(self, limit: int, age: float) -> None:
        self._limit, self._age = limit, age
        #: Under way, without any effect yet: id -> digest.
        self._running: dict[str, bytes] = {}
        #: In the order of their effects.
        self._kept: dict[str, Plain] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def ask(self, id: str, digest: bytes, now: float) -> Verdict | Kept:
        """Tell what is to be done about a request; a `Kept` is its answer, from memory."""
        self._forget_old(now)
        plain = self._kept.get(id)
        kept = None if plain is None else Kept(*plain)
        known = self._running.get(id) if kept is None else kept.digest
        if known is None:
            self._running[id] = digest
            return "new"
        if known != digest:
            return "another"
        return "running" if kept is None or kept.status is None else kept

    def owed(self, id: str, now: float) -> None:
        """Note that a request has had its effect, and is answered later."""
        digest = self._running.pop(id, None)
        if digest is not None:
            self._kept[id] = (digest, now, None, b"")
            self._forget_old(now)

    def answered(self, id: str, status: int, body: bytes, now: float) -> None:
        """Note the answer to a request, with which it has had its effect; the first one counts."""
        digest = self._running.pop(id, None)
        if digest is None:
            owed = self._kept.get(id)
            if owed is None or owed[2] is not None:
                return
            del self._kept[id]  # the order is that of the answers
            digest = owed[0]
        self._kept[id] = (digest, now, status, body)
        self._forget_old(now)

    def undone(self, id: str) -> None:
        """Note that a request under way will certainly have no effect: the next one with its id is new."""
        self._running.pop(id, None)

    def _forget_old(self, now: float) -> None:
        while self._kept:
            id, (_, at, *_) = next(iter(self._kept.items()))
            if len(self._kept) <= self._limit and at >= now - self._age:
                return
            del self._kept[id]

    # -- In a checkpoint

    def snapshot(self, now: float) -> Remembered:
        """Return what a checkpoint keeps; what is under way has no effect yet, and is left out."""
        return now, dict(self._kept)

    def restore(self, remembered: Remembered, now: float) -> None:
        """Go on with the memory of a checkpoint.

        The clock may be another machine's, which shows anything: the time between the two does not count, so that
        nothing is forgotten early.
        """
        then, kept = remembered
        later = now - then
        self._kept = {
            id: (digest, at + later, status, body) for id, (digest, at, status, body) in kept.items()
        }
