"""What all lists have in common: a limit, a cursor, and who did not answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from superlearner.arsenal.operation import Field, Params, Result

T = TypeVar("T")
#: The most that one answer holds.
MOST = 1000


class Page(Params):
    """Which part of a list is wanted."""

    limit: int = Field(100, ge=1, le=MOST, description="How many at most.")
    cursor: str | None = Field(
        None, max_length=200, description="Only what comes after this: `next` of the answer before."
    )


class NodeFailure(Result):
    """One node that did not answer, or could not do it."""

    node: str
    code: str = Field(description="A stable name for programs.")
    message: str = Field(description="Why.")


def page(items: Iterable[T], params: Page, key: Callable[[T], str]) -> tuple[list[T], str | None, int]:
    """Return one page of what is sorted by `key`, the cursor of the next one, and how many there are in all.

    What is added or goes between two pages moves nothing: a cursor names the last one that was told.

    >>> page("abc", Page(limit=2), key=str), page("abc", Page(limit=2, cursor="b"), key=str)
    ((['a', 'b'], 'b', 3), (['c'], None, 3))
    """
    known: Sequence[T] = sorted(items, key=key)
    rest = [item for item in known if params.cursor is None or key(item) > params.cursor]
    shown = rest[: params.limit]
    return shown, key(shown[-1]) if len(rest) > len(shown) else None, len(known)
