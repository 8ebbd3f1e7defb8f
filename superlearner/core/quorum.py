"""Whether enough of the cluster can be reached to decide safely."""

from __future__ import annotations


def needed(known: int) -> int:
    """Return how many of `known` nodes are more than half.

    >>> [needed(known) for known in (1, 3, 4)]
    [1, 2, 3]
    """
    return known // 2 + 1


def has_quorum(alive: int, known: int) -> bool:
    """Tell whether `alive` of `known` nodes are more than half, so that no other part of the cluster has as many.

    Half is not enough: a cluster of four that is cut in two would decide twice.

    >>> [has_quorum(alive, 4) for alive in (2, 3)], has_quorum(0, 0)
    ([False, True], False)
    """
    return alive >= needed(known)
