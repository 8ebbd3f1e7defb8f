"""What a client does about a request that was not simply answered: one table, for real and simulated links."""

from __future__ import annotations

from typing import Literal, assert_never

from superlearner.errors import NoConnection, SuperlearnerError

#: ``closed``: the connection broke after it was sent; ``stale``: refused, as the sandbox does not live there (any
#: more); ``died``: its OS process died under it; ``refused``: refused for any other reason.
Outcome = Literal["closed", "stale", "died", "refused"]
#: ``elsewhere``: again, where the registry says that it lives now; ``again``: again at the same place;
#: ``unknown``: tell the caller that it is not known whether it happened; ``tell``: tell the caller what was said.
Decision = Literal["elsewhere", "again", "unknown", "tell"]


def decide(outcome: Outcome, *, idempotent: bool) -> Decision:
    """Tell what becomes of a request: one that may have happened is made again only if that does no harm.

    >>> [decide(outcome, idempotent=False) for outcome in ("closed", "stale", "died", "refused")]
    ['unknown', 'elsewhere', 'tell', 'tell']
    >>> [decide(outcome, idempotent=True) for outcome in ("closed", "stale", "died", "refused")]
    ['elsewhere', 'elsewhere', 'again', 'tell']
    """
    match outcome:
        case "stale":
            return "elsewhere"
        case "closed":
            return "elsewhere" if idempotent else "unknown"
        case "died":
            return "again" if idempotent else "tell"
        case "refused":
            return "tell"
    assert_never(outcome)


def leaves_doubt(outcome: Outcome) -> bool:
    """Tell whether a request that ended like this may have happened.

    From then on nothing that is said of it when it is made again can be definite; see `doubted`.

    >>> [leaves_doubt(outcome) for outcome in ("closed", "died", "stale", "refused")]
    [True, True, False, False]
    """
    return outcome in ("closed", "died")


def doubted(error: SuperlearnerError, target: str) -> NoConnection:
    """Return what to tell of a request that may have happened and was refused when it was made again.

    The refusal speaks of the last time alone.

    >>> from superlearner.errors import NoQuorum
    >>> refusal = NoQuorum(alive=1, known=3)
    >>> refusal.definite, doubted(refusal, "shop/counter").definite
    (True, False)
    """
    return NoConnection(target, f"it was made again, and then: {error.what()}")
