"""What all lists have in common: a limit, a cursor, and who did not answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from superlearner.arsenal.operation import Field, Params, Result
from superlearner.core.snapshots import NodeSurvey

T = TypeVar("T")
#: The most that one answer holds.
MOST = 1000
#: Seconds that nodes and sandboxes have to answer, so that a list is there within 5 s whatever happens.
PATIENCE = 3.0

Total = Annotated[int, Field(description="How many there are, on all pages.")]
Next = Annotated[str | None, Field(description="The cursor of the next page; null on the last one.")]


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


def node_failures(failed: Mapping[str, str]) -> list[NodeFailure]:
    """Return the rows of the nodes that did not answer, of which the reason is known."""
    return [NodeFailure(node=name, code="node_not_available", message=why) for name, why in failed.items()]


def who_answered(survey: Mapping[str, NodeSurvey]) -> dict[str, Any]:
    """Return what a list says of the nodes that were asked.

    >>> told = who_answered({"alpha": NodeSurvey(), "beta": NodeSurvey(failure="it is down")})
    >>> told["nodes_queried"], told["nodes_successful"], told["nodes_failed"]
    (['alpha', 'beta'], ['alpha'], ['beta'])
    """
    failed = {name: told.failure for name, told in survey.items() if told.failure is not None}
    return {
        "nodes_queried": list(survey),
        "nodes_successful": [name for name in survey if name not in failed],
        "nodes_failed": list(failed),
        "failures": node_failures(failed),
    }


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
