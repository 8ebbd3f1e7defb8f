"""When an answer may leave a sandbox with ``durability="reply"``: once a checkpoint with its effect is stored.

Checkpoints are taken in groups, as a database commits its log (DeWitt et al., "Implementation techniques for main
memory database systems", SIGMOD 1984): while one is on its way, answers gather, and they go with the next.

The host decides by `GroupCommit` when it takes one, and hands its answers over before it. Its instance holds them
in a `ReplyGate`, tells by `why_not_durable` whether a checkpoint counts as stored, and by `Holders` whether the
registry has to hear of it before anybody else.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class GroupCommit:
    """When the next checkpoint is to be taken: one is under way at a time.

    >>> commit = GroupCommit()
    >>> commit.answered(), commit.answered()          # the first of a group asks for a checkpoint
    (True, False)
    >>> commit.taken()
    >>> commit.answered(), commit.ended()             # one that came meanwhile asks for the next
    (False, True)
    >>> commit.taken()
    >>> commit.ended()
    False
    """

    def __init__(self) -> None:
        self._due = False
        self._under_way = False

    def answered(self) -> bool:
        """Note an answer that waits; tell whether a checkpoint is to be taken now."""
        now = not (self._due or self._under_way)
        self._due = True
        return now

    def taken(self) -> None:
        """Note that a checkpoint has been taken: it has the effects of everything answered so far."""
        self._due, self._under_way = False, True

    def ended(self) -> bool:
        """Note what became of it, well or not; tell whether the next one is to be taken now."""
        was_under_way, self._under_way = self._under_way, False
        return was_under_way and self._due


class ReplyGate(Generic[T]):
    """Holds answers until a checkpoint that was taken after them is stored.

    Checkpoints have marks, in the order in which they were taken; a later one has everything that an earlier one has.

    >>> gate = ReplyGate()
    >>> gate.hold("one")
    >>> mark = gate.mark()
    >>> gate.hold("two")                              # its effect may have missed that checkpoint
    >>> gate.stored(mark)
    >>> gate.due()
    ['one']
    """

    def __init__(self) -> None:
        self._uncovered: list[T] = []
        #: By mark, in order: what its checkpoint is the first to have.
        self._covered: deque[tuple[int, list[T]]] = deque()
        self._mark = self._stored = 0
        self._frozen = False

    def hold(self, answer: T) -> None:
        """Keep an answer back."""
        self._uncovered.append(answer)

    def mark(self) -> int:
        """Note that a checkpoint has been taken, with the effects of all that is held; return its mark."""
        self._mark += 1
        if self._uncovered:
            self._covered.append((self._mark, self._uncovered))
            self._uncovered = []
        return self._mark

    def stored(self, mark: int) -> None:
        """Note that a checkpoint is stored where it has to be."""
        self._stored = max(self._stored, mark)

    def due(self) -> list[T]:
        """Return the answers that may leave, in order; they are held no longer."""
        return [] if self._frozen else self._take(self._stored)

    def lost(self, mark: int) -> list[T]:
        """Note that a checkpoint could not be stored; return those whom that leaves without any, held no longer."""
        return self._take(mark)

    def _take(self, mark: int) -> list[T]:
        taken: list[T] = []
        while self._covered and self._covered[0][0] <= mark:
            taken += self._covered.popleft()[1]
        return taken

    def freeze(self) -> None:
        """Let nothing leave: another instance begins from a checkpoint that may miss what is answered from now on."""
        self._frozen = True

    def thaw(self) -> None:
        """Let answers leave again: no other instance begins."""
        self._frozen = False

    @property
    def wants_more(self) -> bool:
        """Whether something is held that no checkpoint has yet."""
        return bool(self._uncovered)

    def clear(self) -> None:
        """Hold nothing any more: who waited has been told that the process died."""
        self._uncovered.clear()
        self._covered.clear()


@dataclass(frozen=True, slots=True)
class Copies:
    """What came of storing a checkpoint beside its own node."""

    #: The peers that have it.
    nodes: tuple[str, ...] = ()
    #: Whether it is in the state directory; None where there is none.
    in_directory: bool | None = None
    #: Why the directory or a peer does not have it, where they said so.
    trouble: str = ""
    #: Whether somebody knows a newer epoch.
    stale: bool = False


def why_not_durable(peers: Collection[str], copies: Copies) -> str | None:
    """Tell why a checkpoint does not count as stored; None when it does.

    It has to be in the state directory, where there is one, and else on one peer at least, where there are any:
    with those that cannot be reached the control plane deals. Without either its own node has to do.

    >>> why_not_durable(["beta"], Copies(("beta",))), why_not_durable([], Copies())
    (None, None)
    >>> why_not_durable(["beta", "gamma"], Copies())
    'none of the nodes for its copies could take it (beta, gamma)'
    """
    if copies.stale:
        return copies.trouble or "another instance has taken over"
    if copies.in_directory is False:
        return copies.trouble
    if peers and not copies.nodes and copies.in_directory is None:
        return f"none of the nodes for its copies could take it ({', '.join(sorted(peers))})"
    return None


#: Seconds that a peer may take to store a checkpoint: where answers wait that another copy lets go, and else.
WELCOME, NEEDED = 0.5, 5.0
#: Bytes in a second that a slow network carries, which is waited for in addition.
_SLOW = 10 * 2**20


def patience(size: int, *, needed: bool) -> float:
    """Return how many seconds to wait until a peer has confirmed a checkpoint of `size` bytes.

    One that says nothing, as over a link that is cut, must not keep answers waiting whose effects are stored elsewhere.

    >>> patience(1000, needed=False), patience(1000, needed=True), patience(100 * 2**20, needed=False)
    (0.5, 5.0, 10.5)
    """
    return (NEEDED if needed else WELCOME) + size // _SLOW


class Holders:
    """Whether the registry has to hear of a checkpoint before anybody is answered.

    The registry knows the newest checkpoint that it was told of, and starts the next instance from any node that has
    that one or a newer one. Telling it of each would cost more than storing it. So it is told first only when some
    node may have one that the registry would take, and not this one: a node that was asked to store one of those, be it
    one that gets no copies any more, and has not confirmed this one.

    >>> holders = Holders()
    >>> holders.must_tell(1, asked={"alpha", "beta"}, confirmed={"alpha", "beta"})   # of an earlier epoch, perhaps
    True
    >>> holders.told(1)
    >>> holders.must_tell(2, asked={"alpha", "beta"}, confirmed={"alpha", "beta"})
    False
    >>> holders.must_tell(3, asked={"alpha", "gamma"}, confirmed={"alpha", "gamma"})  # beta has the first two
    True
    """

    def __init__(self) -> None:
        #: The newest that each node was asked to store, of those that the registry would take.
        self._asked: dict[str, int] = {}
        #: Whether the registry was told of any for certain.
        self._told = False

    def must_tell(self, seq: int, asked: Collection[str], confirmed: Collection[str]) -> bool:
        """Note who was asked to store the newest checkpoint, and who has it; tell whether the registry comes first."""
        self._asked.update(dict.fromkeys(asked, seq))
        return not self._told or not self._asked.keys() <= set(confirmed)

    def told(self, seq: int) -> None:
        """Note that the registry knows of this checkpoint: it takes no older one any more."""
        self._told = True
        self._asked = {node: newest for node, newest in self._asked.items() if newest >= seq}
